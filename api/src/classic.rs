//! The classic door: requests of homeservers that are found by the DNS. Whoever signs a request (`X-Matrix`) is proven here,
//! before the one federation router sees it; what needs no signature passes as it is.
//!
//! The signature covers the body, so it must be read before its sender is known: all bodies together are bounded.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use millpond_node::{
    Error, NodeHandle,
    classic::Claim,
    federation::{Door, Origin},
};
use ruma::api::error::{ErrorKind, LimitExceededErrorData};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::glue::JSON_LIMIT;

/// Bytes of a transaction: 50 PDUs of 64 KiB, and EDUs of a few MiB.
const TRANSACTION_LIMIT: usize = 12 << 20;
/// KiB of bodies of all requests together whose sender is not known yet, or that are being answered.
const ALL_BODIES_KIB: usize = 96 << 10;
/// KiB that even a request without a body takes, so that their number is bounded as well.
const LEAST_KIB: u32 = 256;
/// How long a body may take, and how long a request waits for its turn.
const DEADLINE: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_secs(10);

/// What all requests through the door share.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    room: Arc<Semaphore>,
}

/// The room that a request's body takes, given back with the request.
#[derive(Clone)]
struct Held(#[allow(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>);

impl Default for Doorkeeper {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ALL_BODIES_KIB)) }
    }
}

impl Doorkeeper {
    /// Proves who sent a request that says so. Dropping the future abandons it.
    ///
    /// # Errors
    /// 401 for a claim that does not hold, 413, 408 and 429 for bodies.
    pub(crate) async fn admit(&self, node: &NodeHandle, request: Request<Body>) -> Result<Request<Body>, Error> {
        // Some servers sign what needs no signature, and cannot be proven before they have our keys, nor we before we have theirs.
        if is_for_everybody(request.uri().path()) {
            return Ok(request);
        }
        let Some(claim) = Claim::read(request.headers())? else { return Ok(request) };
        let classic = node.peers.classic();
        classic.check_claim(&claim)?;
        let limit = if request.uri().path().contains("/send/") { TRANSACTION_LIMIT } else { JSON_LIMIT };
        let held = self.room_for(request.headers(), limit).await?;
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, read(body, limit).await?);
        let caller = classic.authenticate(&claim, &request).await?;
        node.peers.heard_from(&caller.0);
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(held);
        request.extensions_mut().insert(Origin { server: caller.0, door: Door::Classic });
        Ok(request)
    }

    async fn room_for(&self, headers: &HeaderMap, limit: usize) -> Result<Held, Error> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.unwrap_or(if headers.contains_key(header::TRANSFER_ENCODING) { limit } else { 0 });
        if length > limit {
            return Err(too_large(limit));
        }
        let kib = u32::try_from(length.div_ceil(1024)).expect("the limit has few KiB").max(LEAST_KIB);
        let turn = tokio::time::timeout(TURN, self.room.clone().acquire_many_owned(kib)).await;
        match turn {
            Ok(Ok(permit)) => Ok(Held(Arc::new(permit))),
            _ => {
                let kind = ErrorKind::LimitExceeded(LimitExceededErrorData::new());
                let message = "Too many requests at once: send it again later";
                Err(Error::matrix(StatusCode::TOO_MANY_REQUESTS, kind, message))
            }
        }
    }
}

/// What is answered to whoever asks: keys, the version, where the server is.
fn is_for_everybody(path: &str) -> bool {
    path.starts_with("/_matrix/key/") || path == "/_matrix/federation/v1/version" || path.starts_with("/.well-known/")
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    match tokio::time::timeout(DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(Error::unknown("The request body broke off")),
        Err(_) => {
            let message = "The request body did not arrive in time";
            Err(Error::matrix(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unknown, message))
        }
    }
}

fn too_large(limit: usize) -> Error {
    Error::too_large(format!("The request body has more than {limit} bytes"))
}
