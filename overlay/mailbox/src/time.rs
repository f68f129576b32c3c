//! Points in time as the protocol counts them. The clock is the caller's: nothing here reads one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This moment and `span` more; the end of time when that overflows.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span_ms))
    }

    /// The UTC day of this moment.
    #[must_use]
    pub fn day(self) -> UtcDay {
        UtcDay(u32::try_from(self.0 / MILLIS_PER_DAY).unwrap_or(u32::MAX))
    }
}

/// Whole days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDay(pub u32);

impl UtcDay {
    /// Yesterday, today and tomorrow: clocks of two nodes may be a day apart.
    #[must_use]
    pub fn window(self) -> [UtcDay; 3] {
        [UtcDay(self.0.saturating_sub(1)), self, UtcDay(self.0.saturating_add(1))]
    }
}

const MILLIS_PER_DAY: u64 = 86_400_000;
