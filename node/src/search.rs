//! Full text search over the history that is here (client-server spec, "Server Side Search").
//!
//! The index is written by a loop of its own after the commits of the events, a little later and many at a time; a search
//! first brings it up to date. Redactions take their words out in the same commit. Encrypted events say nothing to us.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Core, Error};

mod answer;
mod count;
pub(crate) mod index;
mod lookup;
mod token;
pub(crate) mod words;

pub use self::answer::{Around, Order, Request};

/// Search. Cloning is cheap.
#[derive(Clone)]
pub struct Search {
    core: Core,
    /// One at a time writes the index: a second one would only wait for the writer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Search {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core, turn: Arc::default() }
    }

    /// Writes the index until it is stopped.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut commits = self.core.notifier().positions();
        loop {
            commits.mark_unchanged();
            if !index::is_behind(self.core.snapshot()?.view())? {
                match stop.run_until_cancelled(commits.changed()).await {
                    Some(Ok(())) => {}
                    _ => return Ok(()),
                }
            }
            // Many messages together cost the disk one commit.
            if stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_none() {
                return Ok(());
            }
            while !stop.is_cancelled() && self.step().await? {}
        }
    }

    /// Indexes what waits, for so long at most. Dropping the future is safe.
    async fn catch_up(&self, patience: Duration) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < patience && self.step().await? {}
        Ok(())
    }

    /// Indexes some events; whether there may be more.
    async fn step(&self) -> Result<bool, Error> {
        let _turn = self.turn.lock().await;
        if !index::is_behind(self.core.snapshot()?.view())? {
            return Ok(false);
        }
        let step = index::Step { now_ms: self.core.clock().now_ms() };
        match self.core.store().write(step).await {
            Ok(_) => Ok(true),
            Err(millpond_store::WriteError::Refused(index::Stop::UpToDate)) => Ok(false),
            Err(millpond_store::WriteError::Refused(index::Stop::Failed(error))) => Err(Error::Store(error)),
            Err(millpond_store::WriteError::Store(error)) => Err(Error::Store(error)),
        }
    }
}

/// How long the indexer lets events gather.
const GATHER: Duration = Duration::from_secs(3);
/// How long a search waits for the index; a history that was never indexed is found bit by bit.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
