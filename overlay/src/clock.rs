//! The clock and the randomness that the pure machines are given.

use std::time::{SystemTime, UNIX_EPOCH};

use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::time::UnixMillis;

/// The system's time; a clock before 1970 counts as 1970.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The system's randomness.
///
/// # Panics
/// When the system has none: nothing could be done safely then.
pub(crate) fn random() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}
