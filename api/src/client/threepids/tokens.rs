//! `.../requestToken`: a token is sent to an address for a new account, for one that is there, or for a forgotten password;
//! and where the token of a message to a phone is given back.

use http::{Method, StatusCode};
use millpond_node::{
    Error,
    accounts::{Accounts, Purpose, Sent, TokenRequest},
};
use ruma::{
    OwnedClientSecret, OwnedSessionId,
    api::{auth_scheme::NoAccessToken, error::ErrorKind},
    thirdparty::Medium,
};
use serde::Deserialize;
use serde_json::json;

use crate::glue::{Http, Plain, Routes};

pub(super) fn routes(routes: &mut Routes) {
    macro_rules! token {
        ($path:literal, $purpose:ident, $medium:ident) => {
            let paths = [
                concat!("/_matrix/client/v3/", $path, "/requestToken"),
                concat!("/_matrix/client/r0/", $path, "/requestToken"),
            ];
            let handler = async |accounts: Accounts, plain: Plain<NoAccessToken>| {
                request_token(accounts, plain, Purpose::$purpose, Medium::$medium).await
            };
            routes.add_at(Method::POST, &paths, handler);
        };
    }
    token!("account/3pid/email", Addition, Email);
    token!("account/3pid/msisdn", Addition, Msisdn);
    token!("account/password/email", Password, Email);
    token!("account/password/msisdn", Password, Msisdn);
    token!("register/email", Registration, Email);
    token!("register/msisdn", Registration, Msisdn);
    routes.add_at(Method::POST, &["/_matrix/client/unstable/millpond/3pid/{medium}/submitToken"], submit);
}

/// The bodies for both kinds of addresses, of all three purposes.
#[derive(Deserialize)]
struct Body {
    client_secret: OwnedClientSecret,
    send_attempt: u64,
    email: Option<String>,
    country: Option<String>,
    phone_number: Option<String>,
    next_link: Option<String>,
    id_server: Option<String>,
    id_access_token: Option<String>,
}

async fn request_token(
    accounts: Accounts,
    plain: Plain<NoAccessToken>,
    purpose: Purpose,
    medium: Medium,
) -> Result<Http, Error> {
    accounts.may_have_threepids()?;
    let body: Body = plain.body()?;
    let (address, country) = match medium {
        Medium::Email => (body.email.ok_or_else(|| missing("email"))?, None),
        _ => {
            let country = body.country.ok_or_else(|| missing("country"))?;
            (body.phone_number.ok_or_else(|| missing("phone_number"))?, Some(country))
        }
    };
    let id_server = match (body.id_server, body.id_access_token) {
        (None, _) => None,
        (Some(server), Some(token)) => Some((server, token)),
        (Some(_), None) => return Err(missing("id_access_token")),
    };
    let request = TokenRequest {
        purpose,
        medium,
        address,
        country,
        client_secret: body.client_secret.to_string(),
        send_attempt: body.send_attempt,
        next_link: body.next_link,
        id_server,
        from: plain.address,
    };
    let Sent { sid, submit_url } = accounts.request_token(request).await?;
    let mut answer = json!({ "sid": sid });
    if let Some(url) = submit_url {
        answer["submit_url"] = json!(url);
    }
    Http::of(&answer)
}

#[derive(Deserialize)]
struct Token {
    sid: OwnedSessionId,
    client_secret: OwnedClientSecret,
    token: String,
}

async fn submit(accounts: Accounts, plain: Plain<NoAccessToken>) -> Result<Http, Error> {
    let medium = match plain.path::<String>(0)?.as_str() {
        "email" => Medium::Email,
        "msisdn" => Medium::Msisdn,
        _ => return Err(Error::not_found("tokens are for email and msisdn")),
    };
    let Token { sid, client_secret, token } = plain.body()?;
    Http::of(&accounts.submit_token(&medium, (&sid, &client_secret), &token, plain.address).await?)
}

fn missing(field: &str) -> Error {
    Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, format!("The request lacks `{field}`"))
}
