//! Proofs that an address is somebody's: the identity server sends a token to the address, and says later whether it came
//! back. Which token it is asked with is remembered for as long as a validation lasts.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use http::{Method, StatusCode};
use ruma::{ClientSecret, SessionId, api::error::ErrorKind, thirdparty::Medium};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Address, in_use};
use crate::{
    Error,
    accounts::{Accounts, token},
    identity_service::{As, IdentityServer, matrix_error},
};

/// What a validation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new account.
    Registration,
    /// An account that is there.
    Addition,
    /// Another password for an account.
    Password,
}

/// A client asks that a token be sent to an address.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What for.
    pub purpose: Purpose,
    /// `email` or `msisdn`.
    pub medium: Medium,
    /// The e-mail address, or the phone number as the user writes it.
    pub address: String,
    /// Of phone numbers: the country where it is written like that, two letters.
    pub country: Option<String>,
    /// The client's secret of this validation.
    pub client_secret: String,
    /// Grows when the message should be sent again.
    pub send_attempt: u64,
    /// Where the browser goes after the validation.
    pub next_link: Option<String>,
    /// The identity server by its host and the user's token for it, where the client names them.
    pub id_server: Option<(String, String)>,
    /// Where the request comes from.
    pub from: Option<IpAddr>,
}

/// A message is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The id of the validation.
    pub sid: String,
    /// Where the client sends the token of the message; none: the message leads there.
    pub submit_url: Option<String>,
}

/// An address that is somebody's for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The address.
    pub address: Address,
    /// When it was validated, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// Tokens of users for validations under way: by the hash of session and secret, with the end of each. In memory only: after
/// a restart the user begins anew, or the node's own token does.
#[derive(Default)]
pub(in crate::accounts) struct Validations(Mutex<HashMap<[u8; 32], (String, u64)>>);

impl Accounts {
    /// Has a token sent to an address. Dropping the future may leave the message on its way.
    ///
    /// # Errors
    /// 403 `M_THREEPID_DENIED` without a configured identity server; 400 `M_SERVER_NOT_TRUSTED` for another one,
    /// `M_INVALID_PARAM`, `M_THREEPID_IN_USE`, `M_THREEPID_NOT_FOUND`, `M_THREEPID_MEDIUM_NOT_SUPPORTED`; 429; what the identity server refuses; 504.
    pub async fn request_token(&self, request: TokenRequest) -> Result<Sent, Error> {
        #[derive(Deserialize)]
        struct Session {
            sid: String,
        }
        let server = match &request.id_server {
            Some((host, _)) => IdentityServer::named(&self.0.core, host, StatusCode::BAD_REQUEST)?,
            None => IdentityServer::configured(&self.0.core)?,
        };
        // A message costs its receiver attention and often the owner money: it counts as an attempt that failed.
        let _counts = self.0.limits.attempt(None, request.from)?;
        self.check_purpose(&request)?;
        let own = self.0.core.config().identity_token.clone();
        let users = request.id_server.as_ref().map(|(_, token)| token.clone());
        let token = users.clone().or(own).ok_or_else(|| {
            let message = "the identity server is asked with a token: send `id_server` and `id_access_token`";
            Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message)
        })?;
        let path = format!("/validate/{}/requestToken", request.medium.as_str());
        let asked = server.pass(Method::POST, &path, As::Holder(&token), Some(body(&request)));
        let Session { sid } = asked.await.map_err(as_homeserver)?;
        if SessionId::parse(sid.as_str()).is_err() {
            return Err(Error::unreachable("the identity server gave no session id"));
        }
        if let Some(token) = users {
            self.0.validations.keep((&sid, &request.client_secret), token, self.0.core.clock().now_ms());
        }
        // A message to a phone holds no link that could be followed.
        let submit_url = (request.medium == Medium::Msisdn)
            .then(|| format!("{}/_matrix/client/unstable/millpond/3pid/msisdn/submitToken", self.base_url()));
        Ok(Sent { sid, submit_url })
    }

    /// Passes the token of a message on to the identity server; gives its answer.
    ///
    /// # Errors
    /// 403 without a configured identity server; 429; what the identity server refuses; 504.
    pub async fn submit_token(
        &self,
        medium: &Medium,
        (sid, client_secret): (&SessionId, &ClientSecret),
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<Value, Error> {
        let server = IdentityServer::configured(&self.0.core)?;
        let attempt = self.0.limits.attempt(None, from)?;
        let path = format!("/validate/{}/submitToken", medium.as_str());
        let body = json!({ "sid": sid, "client_secret": client_secret, "token": token });
        let bearer = self.validation_token(sid, client_secret);
        let answer: Value = server.pass(Method::POST, &path, who(bearer.as_deref()), Some(body)).await?;
        if answer["success"] == true {
            attempt.succeeded();
        }
        Ok(answer)
    }

    /// The address that was validated in a session of the identity server.
    ///
    /// # Errors
    /// 400 `M_THREEPID_AUTH_FAILED` if none was, 403 without a configured identity server; 504.
    pub async fn validated(&self, sid: &SessionId, client_secret: &ClientSecret) -> Result<Validated, Error> {
        #[derive(Deserialize)]
        struct Found {
            medium: Medium,
            address: String,
            validated_at: u64,
        }
        let server = IdentityServer::configured(&self.0.core)?;
        let bearer = self.validation_token(sid, client_secret);
        // Both consist of letters that a query takes as they are.
        let path = format!("/3pid/getValidated3pid?sid={sid}&client_secret={client_secret}");
        let url = format!("{}/_matrix/identity/v2{path}", server.base());
        let answer = server.send(Method::GET, &url, who(bearer.as_deref()), None).await?;
        if !answer.status().is_success() {
            let why = matrix_error(&answer).ok_or_else(|| {
                Error::unreachable(format!("the identity server answers with status {}", answer.status()))
            })?;
            return Err(not_validated(&why.to_string()));
        }
        let found: Found = serde_json::from_slice(answer.body())
            .map_err(|e| Error::unreachable(format!("the identity server does not answer as it should: {e}")))?;
        Ok(Validated { address: Address::parse(&found.medium, &found.address)?, at_ms: found.validated_at })
    }

    /// The token with which the identity server is asked about a session.
    fn validation_token(&self, sid: &SessionId, client_secret: &ClientSecret) -> Option<String> {
        let now_ms = self.0.core.clock().now_ms();
        let users = self.0.validations.find((sid.as_str(), client_secret.as_str()), now_ms);
        users.or_else(|| self.0.core.config().identity_token.clone())
    }

    /// That the address fits what the token is for. What is written for a country is only known after the validation.
    fn check_purpose(&self, request: &TokenRequest) -> Result<(), Error> {
        let local = request.country.is_some() && !request.address.starts_with('+');
        let address = Address::parse(&request.medium, &request.address)?;
        let known = match local {
            true => self.is_end_of_number(&address.address)?,
            false => self.threepid_owner(&address)?.is_some(),
        };
        match request.purpose {
            Purpose::Registration | Purpose::Addition if known && !local => Err(in_use()),
            Purpose::Password if !known => {
                let message = "no account here has this address";
                Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::ThreepidNotFound, message))
            }
            _ => Ok(()),
        }
    }

    fn is_end_of_number(&self, digits: &str) -> Result<bool, Error> {
        let digits = digits.trim_start_matches('0');
        for row in self.0.core.snapshot()?.view().scan(millpond_store::tables::THREEPID_OWNERS, ("msisdn",))? {
            if row?.0.1.ends_with(digits) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn body(request: &TokenRequest) -> Value {
    let mut body = json!({ "client_secret": request.client_secret, "send_attempt": request.send_attempt });
    match &request.country {
        Some(country) => {
            body["country"] = json!(country);
            body["phone_number"] = json!(request.address);
        }
        None => body["email"] = json!(request.address.trim()),
    }
    if let Some(next_link) = &request.next_link {
        body["next_link"] = json!(next_link);
    }
    body
}

/// As the client-server API calls what the identity service calls otherwise.
fn as_homeserver(error: Error) -> Error {
    let code = error.kind().map(|kind| kind.errcode().to_string()).unwrap_or_default();
    match code.as_str() {
        "M_INVALID_EMAIL" | "M_INVALID_ADDRESS" => Error::invalid_param(error.to_string()),
        // A server that sends no messages of this kind has no such endpoint.
        "M_UNRECOGNIZED" => {
            let message = "the identity server of this homeserver does not do addresses of this kind";
            Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::ThreepidMediumNotSupported, message)
        }
        _ => error,
    }
}

fn not_validated(why: &str) -> Error {
    let message = format!("the address is not validated: {why}");
    Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::ThreepidAuthFailed, message)
}

fn who(token: Option<&str>) -> As<'_> {
    token.map_or(As::Anybody, As::Holder)
}

impl Validations {
    fn keep(&self, (sid, secret): (&str, &str), token: String, now_ms: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CAPACITY {
            known.retain(|_, (_, until_ms)| *until_ms > now_ms);
        }
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(name(sid, secret), (token, now_ms + LIFETIME_MS));
    }

    fn find(&self, (sid, secret): (&str, &str), now_ms: u64) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&name(sid, secret)).filter(|(_, until_ms)| *until_ms > now_ms).map(|(token, _)| token.clone())
    }
}

fn name(sid: &str, secret: &str) -> [u8; 32] {
    token::hash(&format!("{sid} {secret}"))
}

/// How long a session of the identity server lives at most ("Establishing associations").
const LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;
/// Validations at once.
const CAPACITY: usize = 1024;
