//! Servers that did not answer: each is left alone for a while, longer each time, by what can wait.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{OwnedServerName, ServerName};

/// The first wait, doubled with each failure up to the longest.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);
/// Servers that are remembered; with more, those whose wait is over go.
const MAX_KNOWN: usize = 10_000;

/// The servers, in memory: a restart forgives.
#[derive(Default)]
pub(super) struct Down(Mutex<HashMap<OwnedServerName, (u32, Instant)>>);

impl Down {
    /// Whether a server is to be left alone now.
    pub(super) fn contains(&self, server: &ServerName) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(server).is_some_and(|(_, until)| *until > Instant::now())
    }

    /// Notes whether a server answered.
    pub(super) fn note(&self, server: &ServerName, answered: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            known.remove(server);
            return;
        }
        let now = Instant::now();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| *until > now);
        }
        let failures = known.get(server).map_or(0, |(failures, _)| *failures);
        let wait = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
        known.insert(server.to_owned(), (failures.saturating_add(1), now + wait));
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_that_does_not_answer_is_left_alone_until_it_does() {
        let (down, one, other) = (Down::default(), server_name!("one.example"), server_name!("other.example"));
        down.note(one, false);
        assert!(down.contains(one) && !down.contains(other));
        down.note(one, true);
        assert!(!down.contains(one));
    }
}
