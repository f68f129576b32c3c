//! Who may knock, and how often: streams that have not proven anything yet, and attempts in the last hour.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::transport::Source;

/// Counts streams without proof, over all sources and for each.
#[derive(Clone)]
pub(crate) struct Gate {
    counts: Arc<Mutex<Counts>>,
    total: usize,
    per_source: usize,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// A place inside the gate; leaving is dropping it.
pub(crate) struct Place {
    counts: Arc<Mutex<Counts>>,
    source: Source,
}

impl Gate {
    pub(crate) fn new(total: usize, per_source: usize) -> Self {
        Self { counts: Arc::default(), total, per_source }
    }

    /// A place for one more stream, unless its source or all together have too many.
    pub(crate) fn enter(&self, source: &Source) -> Option<Place> {
        let mut counts = self.counts.lock();
        if counts.all >= self.total || counts.by_source.get(source).is_some_and(|count| *count >= self.per_source) {
            return None;
        }
        counts.all += 1;
        *counts.by_source.entry(source.clone()).or_default() += 1;
        Some(Place { counts: self.counts.clone(), source: source.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.all -= 1;
        if let Some(count) = counts.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// Attempts of the last hour, by who makes them. Holds at most `limit` times per key, and forgets keys that fell silent.
pub(crate) struct Hourly<K> {
    limit: usize,
    attempts: HashMap<K, VecDeque<Instant>>,
}

impl<K: Eq + Hash> Hourly<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, attempts: HashMap::new() }
    }

    /// Counts one attempt; `false`: it is one too many.
    pub(crate) fn allow(&mut self, key: K, now: Instant) -> bool {
        self.attempts.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < HOUR);
            !times.is_empty()
        });
        let times = self.attempts.entry(key).or_default();
        if times.len() >= self.limit {
            return false;
        }
        times.push_back(now);
        true
    }
}

const HOUR: Duration = Duration::from_secs(3600);
