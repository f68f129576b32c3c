//! Who asks through the classic door: the `X-Matrix` header of a request, checked against the keys of the server that it
//! names (server-server spec, "Request Authentication").

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use millpond_matrix::signing::PublicKeyMap;
use ruma::{OwnedServerName, api::error::ErrorKind, api::federation::authentication::XMatrix};
use tokio::sync::Semaphore;

use super::{Classic, keys::Needed};
use crate::Error;

/// Callers whose keys are being fetched at once: each makes us ask a server that it names.
const MAX_UNKNOWN: usize = 16;

pub(super) struct Callers {
    unknown: Semaphore,
}

impl Default for Callers {
    fn default() -> Self {
        Self { unknown: Semaphore::new(MAX_UNKNOWN) }
    }
}

/// Who a request says it is from.
pub struct Claim(XMatrix);

/// A server that has proven to be the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub OwnedServerName);

impl Claim {
    /// Reads the header; none without one.
    ///
    /// # Errors
    /// 401 for a header that cannot be read.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
            return Err(refused("a request has one Authorization header"));
        }
        let claim = value.to_str().map_err(|_| refused("the Authorization header is not text"))?;
        let claim =
            XMatrix::parse(claim).map_err(|e| refused(format!("the Authorization header is not valid: {e}")))?;
        Ok(Some(Self(claim)))
    }
}

impl Classic {
    /// That the claim can be true at all: said before the body is read.
    ///
    /// # Errors
    /// 401 when it is for another server, or from one that cannot be.
    pub fn check_claim(&self, claim: &Claim) -> Result<(), Error> {
        let identity = self.0.core.identity();
        if claim.0.destination.as_deref().is_some_and(|destination| !identity.is_ours(destination)) {
            return Err(refused("the request is signed for another server"));
        }
        self.0.core.guard().check_server(self.0.core.snapshot()?.view(), &claim.0.origin)?;
        if !self.reaches(&claim.0.origin) {
            return Err(refused("the origin is not a server of the DNS, or is this one"));
        }
        Ok(())
    }

    /// That the claim is true: the origin's key has signed method, URI, both names and body. Dropping the future is safe.
    ///
    /// # Errors
    /// 401 when it is not, or the origin's key cannot be had; 429 while too many keys are being fetched.
    pub async fn authenticate(&self, claim: &Claim, request: &Request<Bytes>) -> Result<Caller, Error> {
        self.check_claim(claim)?;
        let origin = &claim.0.origin;
        let keys = self.caller_keys(claim).await?;
        let verified = claim.0.verify_http_request(request, self.0.core.identity().server_name(), &keys);
        verified.map_err(|e| refused(format!("the signature of {origin} does not hold: {e}")))?;
        Ok(Caller(origin.clone()))
    }

    async fn caller_keys(&self, claim: &Claim) -> Result<PublicKeyMap, Error> {
        let origin = &claim.0.origin;
        let now_ms = self.0.core.clock().now_ms();
        let needed = Needed { ids: vec![claim.0.key.to_string()], at_ms: now_ms };
        let good = |row: Option<millpond_store::rows::ServerKeys>| {
            let key = row.and_then(|mut row| row.keys.remove(claim.0.key.as_str()));
            let key = key.filter(|key| key.until_ms >= now_ms);
            key.and_then(|key| ruma::serde::Base64::parse(key.key).ok())
        };
        let key = match good(self.held_keys(origin)?) {
            Some(key) => Some(key),
            None => {
                let Ok(_turn) = self.0.callers.unknown.try_acquire() else {
                    let kind = ErrorKind::LimitExceeded(ruma::api::error::LimitExceededErrorData::new());
                    let message = "too many servers that are new here ask at once: send it again later";
                    return Err(Error::matrix(StatusCode::TOO_MANY_REQUESTS, kind, message));
                };
                self.keys(vec![(origin.clone(), needed)]).await?;
                good(self.held_keys(origin)?)
            }
        };
        let key = key.ok_or_else(|| refused(format!("the key {} of {origin} cannot be had", claim.0.key)))?;
        Ok([(origin.to_string(), [(claim.0.key.to_string(), key)].into())].into())
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, message)
}
