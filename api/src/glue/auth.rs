//! Authentication by the scheme that the request's metadata names.

use std::net::IpAddr;

use http::{Method, Request, StatusCode};
use millpond_node::{Error, NodeHandle, accounts::Sender, federation::Origin, limits::Kind};
use ruma::api::{
    Metadata,
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, ExtractTokenError, NoAccessToken,
        NoAuthentication,
    },
    error::ErrorKind,
    federation::authentication::ServerSignatures,
};

/// The address that a connection comes from: an extension of its requests.
#[derive(Clone, Copy)]
pub struct ClientAddr(pub IpAddr);

/// An authentication scheme that we can check.
pub trait Scheme: AuthScheme {
    /// Who it says the sender is.
    type Who: Send;

    /// Checks the request's credentials.
    ///
    /// # Errors
    /// 401 `M_MISSING_TOKEN` or `M_UNKNOWN_TOKEN`.
    fn who<B>(node: &NodeHandle, request: &Request<B>) -> Result<Self::Who, Error>;

    /// The user's device that asks, for rate limits.
    fn sender(_: &Self::Who) -> Option<&Sender> {
        None
    }
}

impl Scheme for AccessToken {
    type Who = Sender;
    fn who<B>(node: &NodeHandle, request: &Request<B>) -> Result<Sender, Error> {
        let token = Self::extract_authentication(request).map_err(|e| missing(&e))?;
        authenticate(node, request, &token)
    }
    fn sender(who: &Sender) -> Option<&Sender> {
        Some(who)
    }
}

impl Scheme for AccessTokenOptional {
    type Who = Option<Sender>;
    fn who<B>(node: &NodeHandle, request: &Request<B>) -> Result<Option<Sender>, Error> {
        let token = Self::extract_authentication(request).map_err(|e| missing(&e))?;
        token.map(|token| authenticate(node, request, &token)).transpose()
    }
    fn sender(who: &Option<Sender>) -> Option<&Sender> {
        who.as_ref()
    }
}

/// Inside a link there is no signature: the link has proven who asks, and what the request itself says about its origin
/// is not looked at. Through the classic door the signature was checked before ([`crate::classic`]).
impl Scheme for ServerSignatures {
    type Who = Origin;
    fn who<B>(_: &NodeHandle, request: &Request<B>) -> Result<Origin, Error> {
        request.extensions().get::<Origin>().cloned().ok_or_else(not_linked)
    }
}

/// 401 for a request of which nobody knows who sent it.
fn not_linked() -> Error {
    let message = "This endpoint is for other servers: linked ones, or such that sign their requests (X-Matrix)";
    Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, message)
}

macro_rules! nobody {
    ($($scheme:ty),*) => {$(
        impl Scheme for $scheme {
            type Who = ();
            fn who<B>(_: &NodeHandle, _: &Request<B>) -> Result<(), Error> { Ok(()) }
        }
    )*};
}
nobody!(NoAuthentication, NoAccessToken, AppserviceTokenOptional);

/// Counts a request where the specification marks its endpoint as rate limited.
///
/// # Errors
/// 429 `M_LIMIT_EXCEEDED` with the time to wait.
pub(super) fn limit<R: Metadata<Authentication: Scheme>, B>(
    node: &NodeHandle,
    request: &Request<B>,
    who: &<R::Authentication as Scheme>::Who,
) -> Result<(), Error> {
    if !R::RATE_LIMITED {
        return Ok(());
    }
    let sender = R::Authentication::sender(who).map(|sender| (&*sender.user_id, &*sender.device_id));
    // A room full of pictures is hundreds of downloads at once, and no abuse.
    let download = R::METHOD == Method::GET && request.uri().path().contains("/media/");
    let kind = if download { Kind::Download } else { Kind::Action };
    node.limits.take(kind, sender, address(request))
}

/// Whom a token stands for. Those of locked accounts are good for logging out only.
fn authenticate<B>(node: &NodeHandle, request: &Request<B>, token: &str) -> Result<Sender, Error> {
    let sender = node.accounts.authenticate(token, address(request))?;
    if !logs_out(request.uri().path()) {
        sender.unlocked()?;
    }
    Ok(sender)
}

/// Whether a path is that of a logout, in any spelling.
fn logs_out(path: &str) -> bool {
    let rest = path.strip_prefix("/_matrix/client/").unwrap_or_default();
    let rest = ["v3/", "r0/", "api/v1/"].into_iter().find_map(|version| rest.strip_prefix(version));
    matches!(rest, Some("logout" | "logout/all"))
}

fn address<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get::<ClientAddr>().map(|address| address.0)
}

pub(super) fn missing(error: &ExtractTokenError) -> Error {
    let message = match error {
        ExtractTokenError::MissingAccessToken => {
            "This endpoint needs an access token: send `Authorization: Bearer TOKEN`".to_owned()
        }
        other => format!("The access token cannot be read: {other}"),
    };
    Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, message)
}
