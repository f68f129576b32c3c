//! The identity server that the owner has configured (identity service API): it says whose an e-mail address or a phone number
//! is. Without one nobody is asked, and no other is ever asked.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use ruma::{
    OwnedServerName,
    api::{
        error::ErrorKind,
        federation::authentication::{XMatrix, XMatrixSigningInput},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Core, Error, egress::Limits};

/// The configured identity server.
#[derive(Clone)]
pub(crate) struct IdentityServer {
    core: Core,
    /// Its URL, without a slash at its end.
    base: String,
}

/// As whom it is asked.
#[derive(Clone, Copy)]
pub(crate) enum As<'a> {
    /// As anybody.
    Anybody,
    /// As who has this token.
    Holder(&'a str),
    /// As this homeserver, by its signature.
    Homeserver,
}

impl IdentityServer {
    /// The one that is configured.
    ///
    /// # Errors
    /// 403 `M_THREEPID_DENIED` if there is none.
    pub(crate) fn configured(core: &Core) -> Result<Self, Error> {
        let base = core.config().identity_server.as_deref().ok_or_else(|| {
            let message =
                "no identity server is configured here: nobody can be known by an e-mail address or a phone number";
            Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message)
        })?;
        Ok(Self { core: core.clone(), base: base.trim_end_matches('/').to_owned() })
    }

    /// The one that a client names by its host.
    ///
    /// # Errors
    /// As [`IdentityServer::configured`]; `M_SERVER_NOT_TRUSTED` with `status` for any other.
    pub(crate) fn named(core: &Core, host: &str, status: StatusCode) -> Result<Self, Error> {
        let configured = Self::configured(core)?;
        if host.trim_start_matches("https://").trim_end_matches('/') == configured.host() {
            return Ok(configured);
        }
        let message = format!("this homeserver goes through the identity server {} only", configured.host());
        Err(Error::matrix(status, ErrorKind::ServerNotTrusted, message))
    }

    /// Its host, with the port if it has one.
    pub(crate) fn host(&self) -> &str {
        self.base.split_once("://").map_or(&*self.base, |(_, host)| host)
    }

    /// Its URL, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks it, and reads the answer. `path` comes after `/_matrix/identity/v2`. Dropping the future may leave it with the
    /// request.
    ///
    /// # Errors
    /// 403 for a token that it does not take; 504 for every other answer than the one that was asked for.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        who: As<'_>,
        body: Option<Value>,
    ) -> Result<T, Error> {
        self.ask_at(method, &format!("{}/_matrix/identity/v2{path}", self.base), who, body).await
    }

    /// As [`IdentityServer::ask`], by a whole URL.
    ///
    /// # Errors
    /// As [`IdentityServer::ask`].
    pub(crate) async fn ask_at<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        who: As<'_>,
        body: Option<Value>,
    ) -> Result<T, Error> {
        let answer = self.send(method, url, who, body).await?;
        match answer.status() {
            status if status.is_success() => read(&answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refuses()),
            status => Err(failed(format!("status {status}"))),
        }
    }

    /// As [`IdentityServer::ask`]; what it refuses with a Matrix error, the client is refused with the same.
    ///
    /// # Errors
    /// Its own errors; 403 for a token that it does not take; 504 for what is no answer.
    pub(crate) async fn pass<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        who: As<'_>,
        body: Option<Value>,
    ) -> Result<T, Error> {
        let answer = self.send(method, &format!("{}/_matrix/identity/v2{path}", self.base), who, body).await?;
        if answer.status().is_success() {
            return read(&answer);
        }
        Err(matrix_error(&answer).unwrap_or_else(|| failed(format!("status {}", answer.status()))))
    }

    /// Asks it; gives the answer whatever it is.
    ///
    /// # Errors
    /// 504 when there is none.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        who: As<'_>,
        body: Option<Value>,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = Request::builder().method(method).uri(url);
        if let As::Holder(token) = who {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = request.body(body).map_err(|e| Error::invalid_param(format!("not a request: {e}")))?;
        if let As::Homeserver = who {
            self.sign(&mut request)?;
        }
        let limits = Limits { time: TIME, body: BODY_MAX, redirects: 0, https_only: url.starts_with("https:") };
        self.core.egress().send(request, limits).await.map_err(|e| failed(e.to_string()))
    }

    fn sign(&self, request: &mut Request<Bytes>) -> Result<(), Error> {
        let identity = self.core.identity();
        let to = OwnedServerName::try_from(self.host()).map_err(|e| failed(e.to_string()))?;
        let input = XMatrixSigningInput::new(identity.server_name().to_owned(), to, identity.signing_key());
        let signed = XMatrix::sign_http_request(request, input).map_err(|e| Error::internal(e.to_string()))?;
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from(&signed));
        Ok(())
    }
}

/// The Matrix error in an answer of it, if that is what it is. A missing token is ours and not the client's.
pub(crate) fn matrix_error(answer: &Response<Bytes>) -> Option<Error> {
    #[derive(Deserialize)]
    struct Body {
        errcode: String,
        #[serde(default)]
        error: String,
    }
    let body: Body = serde_json::from_slice(answer.body()).ok()?;
    let status = match answer.status() {
        StatusCode::UNAUTHORIZED => return Some(refuses()),
        status if status.is_client_error() => status,
        _ => return None,
    };
    let kind = serde_json::from_value(serde_json::json!({ "errcode": body.errcode })).unwrap_or(ErrorKind::Unknown);
    let message: String = body.error.chars().take(MESSAGE_MAX).collect();
    Some(Error::matrix(status, kind, format!("the identity server says: {message}")))
}

fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, Error> {
    serde_json::from_slice(answer.body()).map_err(|e| failed(e.to_string()))
}

fn refuses() -> Error {
    Error::forbidden("the identity server refuses the token, or asks for its terms to be accepted")
}

fn failed(what: String) -> Error {
    Error::unreachable(format!("the identity server does not answer as it should: {what}"))
}

/// How long it has for an answer.
const TIME: Duration = Duration::from_secs(20);
/// Bytes of an answer of it.
const BODY_MAX: u64 = 64 << 10;
/// Characters of what it says that are passed on.
const MESSAGE_MAX: usize = 500;
