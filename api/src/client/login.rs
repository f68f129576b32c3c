//! `GET` and `POST /_matrix/client/v3/login`

use http::StatusCode;
use millpond_node::{
    Core, Error,
    accounts::{Accounts, Credential, NewDevice},
};
use ruma::api::{
    IncomingRequest, Metadata,
    client::{
        session::{
            get_login_types::v3::{self as types, LoginType, PasswordLoginType, SsoLoginType, TokenLoginType},
            login::v3::{self as login, LoginInfo, Password, Response},
        },
        uiaa::UserIdentifier,
    },
    error::{DeserializationError, ErrorKind},
};
use serde::Deserialize;

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(flows);
    routes.add(log_in);
}

async fn flows(core: Core, _: Args<types::Request>) -> Result<types::Response, Error> {
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    let mut flows = vec![LoginType::Password(PasswordLoginType::new()), LoginType::Token(token)];
    if core.config().single_sign_on {
        let mut sso = SsoLoginType::new();
        // Clients that know OAuth 2.0 use that, which is the same page.
        sso.oauth_aware_preferred = true;
        flows.push(LoginType::Sso(sso));
    }
    Ok(types::Response::new(flows))
}

async fn log_in(accounts: Accounts, args: Args<Request>) -> Result<Response, Error> {
    let Args { request: Request(request), address, .. } = args;
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        address,
        refreshed: request.refresh_token,
        client: None,
    };
    let credential = match request.login_info {
        LoginInfo::Password(password) => {
            Credential::Password { user: named(&accounts, &password)?, password: password.password }
        }
        LoginInfo::Token(token) => Credential::Token(token.token),
        other => {
            let message = format!("This homeserver has no login of type {:?}", other.login_type());
            return Err(Error::unknown(message));
        }
    };
    let session = accounts.log_in(credential, device).await?;
    let mut response = Response::new(session.user_id, session.access_token, session.device_id);
    response.refresh_token = session.refresh_token;
    response.expires_in = session.expires_in;
    Ok(response)
}

/// The user whom a password login names, in the spelling of today or in that before r0.4.
#[allow(deprecated, reason = "some clients still name the user the old way")]
fn named(accounts: &Accounts, password: &Password) -> Result<String, Error> {
    match (&password.identifier, &password.user) {
        (Some(UserIdentifier::Matrix(named)), _) => Ok(named.user.clone()),
        (None, Some(user)) => Ok(user.clone()),
        (None, None) => {
            let message = "The login names no user: send `identifier` with `type` m.id.user and `user`";
            Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message))
        }
        // Who has an account stays unknown: a name that nobody has takes as long as a wrong password.
        (Some(identifier), _) => {
            Ok(accounts.identified(identifier)?.map_or_else(Accounts::random_name, |user_id| user_id.to_string()))
        }
    }
}

/// ruma's request, whose parser (0.25.2) panics on a body without `type`: so that is looked for first.
struct Request(login::Request);

impl Metadata for Request {
    const METHOD: http::Method = <login::Request as Metadata>::METHOD;
    const RATE_LIMITED: bool = <login::Request as Metadata>::RATE_LIMITED;
    type Authentication = <login::Request as Metadata>::Authentication;
    type PathBuilder = <login::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = <login::Request as Metadata>::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <login::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            _type: String,
        }
        serde_json::from_slice::<Typed>(request.body())?;
        login::Request::try_from_http_request_inner(request, path_args).map(Self)
    }
}
