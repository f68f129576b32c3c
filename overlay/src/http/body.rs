//! Reading a peer's body: bounded in bytes, in time, and by what all peers together may have in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What all bodies in reception may take together. Clones share it.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a share if there is one now. Waiting instead could leave several half-read bodies waiting for each other.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// A body in memory, and its share of the budget for as long as it lives.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// The bytes without their share: for a response that the caller asked for.
    pub(crate) fn into_bytes(self) -> Bytes {
        drop(self.share);
        self.bytes
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    NoMemory,
    Timeout,
    Broken,
}

/// Reads a body whole. Dropping the future gives it up.
pub(crate) async fn read(body: Incoming, max: usize, within: Duration, budget: &Budget) -> Result<Received, BodyError> {
    timeout(within, read_all(body, max, budget)).await.map_err(|_| BodyError::Timeout)?
}

async fn read_all(mut body: Incoming, max: usize, budget: &Budget) -> Result<Received, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).map_err(|_| BodyError::TooLarge)?;
    if announced > max {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if data.len() > max - bytes.len() {
            return Err(BodyError::TooLarge);
        }
        let more = budget.take(data.len()).ok_or(BodyError::NoMemory)?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes: bytes.freeze(), share })
}
