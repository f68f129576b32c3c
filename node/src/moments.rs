//! Serials for what is of the moment and in memory only: who types, who is there. They start at the time of the node's start
//! in milliseconds, so that a serial in a sync token of an earlier run is older than every serial of this one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Gives out serials. Cloning is cheap; clones share the count.
///
/// Whoever takes a serial for a change holds the lock that readers of the change need: then a reader who has seen the serial
/// sees the change.
#[derive(Clone)]
pub struct Moments(Arc<AtomicU64>);

impl Moments {
    /// Serials from a time on.
    pub(crate) fn since(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    /// The next serial.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The last one that was given out.
    pub(crate) fn last(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
