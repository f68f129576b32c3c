//! The time of day, asked for in one place so that tests can set it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// Tells the time. Cloning is cheap.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The computer's clock.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        }))
    }

    /// A clock that says what `now_ms` says: milliseconds since the epoch.
    pub fn from_fn(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }

    /// Now, as Matrix writes it.
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.now_ms()))
    }
}
