//! Rate limits of the endpoints that the specification marks: token buckets per device, per user and, without an account,
//! per address; in memory and bounded. Wide enough that no person at a client meets them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use ruma::{
    DeviceId, UserId,
    api::error::{ErrorKind, LimitExceededErrorData, RetryAfter},
};

use crate::{Error, clock::Clock};

/// The buckets. Cloning is cheap.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    clock: Clock,
    on: bool,
    /// Buckets are known by the hash of whose they are.
    hasher: RandomState,
    /// When each bucket will be full again, in milliseconds since the epoch.
    full_at_ms: Mutex<HashMap<u64, u64>>,
}

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Downloads and thumbnails.
    Download,
    /// Everything else.
    Action,
}

/// A bucket's size, and how long one token takes to come back.
#[derive(Clone, Copy)]
struct Bucket {
    burst: u64,
    per_ms: u64,
}

impl Limits {
    /// Empty buckets; `on` says whether they count.
    pub fn new(clock: Clock, on: bool) -> Self {
        let (hasher, full_at_ms) = Default::default();
        Self(Arc::new(Inner { clock, on, hasher, full_at_ms }))
    }

    /// Counts one request of a user's device, or of an address without an account.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` with the time to wait; the request then does not count.
    pub fn take(&self, kind: Kind, sender: Option<(&UserId, &DeviceId)>, address: Option<IpAddr>) -> Result<(), Error> {
        if !self.0.on {
            return Ok(());
        }
        let hash = |of: (Option<&UserId>, Option<&DeviceId>, Option<IpAddr>)| self.0.hasher.hash_one((kind, of));
        let buckets = match (sender, address) {
            (Some((user, device)), _) => {
                let (of_device, of_user) = kind.buckets();
                vec![(hash((Some(user), Some(device), None)), of_device), (hash((Some(user), None, None)), of_user)]
            }
            (None, Some(address)) => vec![(hash((None, None, Some(address))), ADDRESS)],
            (None, None) => return Ok(()),
        };
        let now_ms = self.0.clock.now_ms();
        let mut full_at_ms = self.0.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut full_at_ms, now_ms);
        let wait_ms = buckets.iter().map(|(key, Bucket { burst, per_ms })| {
            let full = full_at_ms.get(key).copied().unwrap_or(0).max(now_ms);
            (full + per_ms).saturating_sub(now_ms + per_ms * burst)
        });
        if let Some(wait_ms) = wait_ms.max().filter(|ms| *ms > 0) {
            return Err(limit_exceeded(wait_ms));
        }
        for (key, Bucket { per_ms, .. }) in buckets {
            let full = full_at_ms.entry(key).or_insert(0);
            *full = (*full).max(now_ms) + per_ms;
        }
        Ok(())
    }
}

impl Kind {
    /// The buckets of a device and of its user.
    fn buckets(self) -> (Bucket, Bucket) {
        match self {
            Self::Action => (Bucket { burst: 200, per_ms: 50 }, Bucket { burst: 400, per_ms: 25 }),
            Self::Download => (Bucket { burst: 1_000, per_ms: 20 }, Bucket { burst: 2_000, per_ms: 10 }),
        }
    }
}

/// Full buckets are dropped first, for a full bucket is as good as none.
fn make_room(full_at_ms: &mut HashMap<u64, u64>, now_ms: u64) {
    if full_at_ms.len() < CAPACITY {
        return;
    }
    full_at_ms.retain(|_, full| *full > now_ms);
    // All of them in use: requests from very many addresses. Forgetting is better than growing without bound.
    if full_at_ms.len() >= CAPACITY {
        full_at_ms.clear();
    }
}

fn limit_exceeded(wait_ms: u64) -> Error {
    let mut data = LimitExceededErrorData::new();
    data.retry_after = Some(RetryAfter::Delay(Duration::from_millis(wait_ms)));
    let message = format!("Too many requests: wait {wait_ms} ms");
    Error::matrix(StatusCode::TOO_MANY_REQUESTS, ErrorKind::LimitExceeded(data), message)
}

/// Requests of an address without an account: logins, registrations.
const ADDRESS: Bucket = Bucket { burst: 100, per_ms: 200 };
/// Buckets kept.
const CAPACITY: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn limits() -> (Limits, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let told = now.clone();
        (Limits::new(Clock::from_fn(move || told.load(Ordering::Relaxed)), true), now)
    }

    /// Requests that are taken before one is refused.
    fn burst(limits: &Limits, kind: Kind, sender: Option<(&str, &str)>, address: Option<IpAddr>) -> usize {
        let user = sender.map(|(user, device)| (<&UserId>::try_from(user).unwrap(), <&DeviceId>::from(device)));
        (0..10_000).take_while(|_| limits.take(kind, user, address).is_ok()).count()
    }

    #[test]
    fn a_device_a_user_and_an_address_have_buckets_of_their_own_that_fill_again() {
        let (limits, now) = limits();
        assert_eq!(burst(&limits, Kind::Action, Some(("@a:b", "ONE")), None), 200);
        assert_eq!(burst(&limits, Kind::Action, Some(("@a:b", "TWO")), None), 200);
        assert_eq!(burst(&limits, Kind::Action, Some(("@a:b", "THREE")), None), 0, "the user's own bucket is empty");
        assert_eq!(burst(&limits, Kind::Action, Some(("@c:b", "ONE")), None), 200);
        assert_eq!(burst(&limits, Kind::Download, Some(("@a:b", "ONE")), None), 1_000);
        let address = Some("127.0.0.1".parse().unwrap());
        assert_eq!(burst(&limits, Kind::Action, None, address), 100);
        assert_eq!(limits.take(Kind::Action, None, None).ok(), Some(()), "in the same process");
        now.fetch_add(1_000, Ordering::Relaxed);
        assert_eq!(burst(&limits, Kind::Action, Some(("@a:b", "ONE")), None), 20);
        assert_eq!(burst(&limits, Kind::Action, None, address), 5);
    }

    #[test]
    fn buckets_are_bounded_and_switched_off_there_are_none() {
        let (limits, _) = limits();
        for n in 0..3 * CAPACITY as u32 {
            limits.take(Kind::Action, None, Some(IpAddr::from(n.to_be_bytes()))).unwrap();
        }
        assert!(limits.0.full_at_ms.lock().unwrap().len() <= CAPACITY);
        let off = Limits::new(Clock::system(), false);
        assert_eq!(burst(&off, Kind::Action, Some(("@a:b", "ONE")), None), 10_000);
    }
}
