//! Rate limits of login attempts: a token bucket per user and per address, in memory and bounded.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::UserId;

use crate::{Error, clock::Clock};

/// Wrong passwords in a row for one user, then one more every `PER_USER_MS`: slow enough that guessing is hopeless.
const USER_BURST: u64 = 8;
const PER_USER_MS: u64 = 15_000;
/// The same for an address, which may be that of a whole household.
const ADDRESS_BURST: u64 = 30;
const PER_ADDRESS_MS: u64 = 2_000;
/// Buckets kept; full ones are dropped first, for a full bucket is as good as none.
const CAPACITY: usize = 10_000;

/// The buckets.
pub(super) struct Limits {
    clock: Clock,
    on: bool,
    /// When each bucket will be full again, in milliseconds since the epoch.
    full_at_ms: Mutex<HashMap<String, u64>>,
}

impl Limits {
    pub(super) fn new(clock: Clock, on: bool) -> Self {
        Self { clock, on, full_at_ms: Mutex::default() }
    }

    /// Takes an attempt from the buckets of a user and an address.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` with the time to wait.
    pub(super) fn attempt(&self, user_id: Option<&UserId>, address: Option<IpAddr>) -> Result<Attempt<'_>, Error> {
        let user = user_id.map(|id| (id.as_str().to_owned(), PER_USER_MS, USER_BURST));
        let address = address.map(|ip| (ip.to_string(), PER_ADDRESS_MS, ADDRESS_BURST));
        let buckets: Vec<_> = user.into_iter().chain(address).collect();
        if !self.on {
            return Ok(Attempt { limits: self, taken: Vec::new() });
        }
        let now_ms = self.clock.now_ms();
        let mut full_at_ms = self.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut full_at_ms, now_ms);
        let wait_ms = buckets.iter().map(|(key, per_ms, burst)| {
            let full = full_at_ms.get(key).copied().unwrap_or(0).max(now_ms);
            (full + per_ms).saturating_sub(now_ms + per_ms * burst)
        });
        if let Some(wait_ms) = wait_ms.max().filter(|ms| *ms > 0) {
            return Err(limit_exceeded(wait_ms));
        }
        for (key, per_ms, _) in &buckets {
            let full = full_at_ms.entry(key.clone()).or_insert(0);
            *full = (*full).max(now_ms) + per_ms;
        }
        let taken = buckets.into_iter().map(|(key, per_ms, _)| (key, per_ms)).collect();
        Ok(Attempt { limits: self, taken })
    }
}

/// An attempt that counts as failed until it is known to be good.
pub(super) struct Attempt<'a> {
    limits: &'a Limits,
    taken: Vec<(String, u64)>,
}

impl Attempt<'_> {
    /// The credential was right: the attempt does not count.
    pub(super) fn succeeded(self) {
        let mut full_at_ms = self.limits.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, per_ms) in self.taken {
            if let Some(full) = full_at_ms.get_mut(&key) {
                *full = full.saturating_sub(per_ms);
            }
        }
    }
}

fn make_room(full_at_ms: &mut HashMap<String, u64>, now_ms: u64) {
    if full_at_ms.len() < CAPACITY {
        return;
    }
    full_at_ms.retain(|_, full| *full > now_ms);
    // All of them in use: an attack from very many addresses. Forgetting is better than growing without bound.
    if full_at_ms.len() >= CAPACITY {
        full_at_ms.clear();
    }
}

fn limit_exceeded(wait_ms: u64) -> Error {
    let message = format!("Too many failed attempts: wait {} seconds", wait_ms.div_ceil(1000));
    Error::limit_exceeded(Duration::from_millis(wait_ms), message)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use ruma::api::error::ErrorKind;

    use super::*;

    #[test]
    fn failed_attempts_run_out_and_come_back_with_time() {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = now.clone();
        let limits = Limits::new(Clock::from_fn(move || clock.load(Ordering::Relaxed)), true);
        let alice = ruma::user_id!("@alice:b.c");
        for _ in 0..100 {
            limits.attempt(Some(alice), None).unwrap().succeeded();
        }
        for _ in 0..USER_BURST {
            limits.attempt(Some(alice), None).unwrap();
        }
        let refused = limits.attempt(Some(alice), None).err().unwrap();
        assert!(matches!(refused.kind(), Some(ErrorKind::LimitExceeded(data)) if data.retry_after.is_some()));
        assert!(limits.attempt(Some(ruma::user_id!("@bob:b.c")), None).is_ok(), "one user's limit is not another's");
        now.fetch_add(PER_USER_MS, Ordering::Relaxed);
        assert!(limits.attempt(Some(alice), None).is_ok());
        assert!(limits.attempt(Some(alice), None).is_err());
    }

    #[test]
    fn switched_off_nothing_is_limited() {
        let limits = Limits::new(Clock::system(), false);
        for _ in 0..1000 {
            assert!(limits.attempt(Some(ruma::user_id!("@a:b.c")), None).is_ok());
        }
    }
}
