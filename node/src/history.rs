//! The end of history, where its owner wants one: `millpond purge`, and rooms that say how long messages live
//! (`m.room.retention`, MSC1763). And its way out: `millpond export`.
//!
//! Purging empties messages; it does not take them out of the DAG. State events stay whole, because auth and state
//! resolution read them for ever; so do redactions, which say what must stay hidden. What is left of a message is its
//! redacted form, enough for its successors and for other servers, and shown to nobody.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Core, Error, media::Media};

mod export;
mod media;
mod purge;
pub mod retention;

/// Purging and exporting. Cloning is cheap.
#[derive(Clone)]
pub struct History {
    core: Core,
    media: Media,
}

/// What a purge took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Messages that were emptied.
    pub events: u64,
    /// Files that nothing refers to any more.
    pub media: u64,
}

impl History {
    /// The service over `core`.
    pub fn new(core: Core, media: Media) -> Self {
        Self { core, media }
    }

    /// Purges the messages and files that rooms and settings do not keep, at start and every hour, until it is stopped.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.expire(&stop).await?;
            self.media.evict(self.core.config().keep_remote_media).await?;
            let _ = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
        Ok(())
    }
}

/// How often lifetimes are looked at. In between what has expired is hidden.
const EVERY: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests;
