//! How often a peer may do what costs others something: invites and carried introductions (overlay.md section 2).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{Error, clock::Clock};

/// What is counted, each by itself and for who does it: a server, or a user of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// An invite for a user of ours, over a link.
    Invite,
    /// One by the classic route, counted by server, which may have many users.
    ClassicInvite,
    /// The same, counted by its sender.
    InviteOfUser,
    /// A knock on a room of ours.
    Knock,
    /// An introduction that we are asked to carry.
    Carry,
    /// An event that we are asked to sign as a policy server.
    Sign,
}

impl Act {
    /// How many one peer may do in [`WINDOW`].
    fn most(self) -> usize {
        match self {
            Self::Invite | Self::InviteOfUser => 20,
            Self::ClassicInvite | Self::Knock => 200,
            // A link takes two messages each way.
            Self::Carry => 80,
            // Everything that a server's users say, and what others have said without asking.
            Self::Sign => 10_000,
        }
    }
}

const WINDOW: Duration = Duration::from_secs(3600);
/// Peers that are counted at once; with more the oldest counts are forgotten. Linked peers are far fewer.
const CAPACITY: usize = 10_000;

/// The counts, in memory: a restart forgives.
pub(super) struct Limits {
    clock: Clock,
    on: bool,
    done_at_ms: Mutex<HashMap<(String, Act), VecDeque<u64>>>,
}

impl Limits {
    pub(super) fn new(clock: Clock, on: bool) -> Self {
        Self { clock, on, done_at_ms: Mutex::default() }
    }

    /// Counts an act.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` with the time to wait.
    pub(super) fn take(&self, who: impl AsRef<str>, act: Act) -> Result<(), Error> {
        if !self.on {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let window_ms = u64::try_from(WINDOW.as_millis()).expect("an hour has few milliseconds");
        let mut counts = self.done_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= CAPACITY {
            counts.retain(|_, done| done.back().is_some_and(|at| at + window_ms > now_ms));
        }
        let done = counts.entry((who.as_ref().to_owned(), act)).or_default();
        while done.front().is_some_and(|at| at + window_ms <= now_ms) {
            done.pop_front();
        }
        match done.front() {
            Some(first) if done.len() >= act.most() => Err(exceeded(first + window_ms - now_ms)),
            _ => {
                done.push_back(now_ms);
                Ok(())
            }
        }
    }
}

fn exceeded(wait_ms: u64) -> Error {
    let message = format!("too often within an hour: wait {} seconds", wait_ms.div_ceil(1000));
    Error::limit_exceeded(Duration::from_millis(wait_ms), message)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use ruma::{api::error::ErrorKind, server_name};

    use super::*;

    #[test]
    fn a_peer_invites_twenty_times_an_hour_and_others_are_not_held_up_by_it() {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = now.clone();
        let limits = Limits::new(Clock::from_fn(move || clock.load(Ordering::Relaxed)), true);
        let (one, other) = (server_name!("one.example"), server_name!("other.example"));
        for _ in 0..20 {
            limits.take(one, Act::Invite).unwrap();
            now.fetch_add(1_000, Ordering::Relaxed);
        }
        let refused = limits.take(one, Act::Invite).unwrap_err();
        assert!(matches!(refused.kind(), Some(ErrorKind::LimitExceeded(data)) if data.retry_after.is_some()));
        limits.take(other, Act::Invite).unwrap();
        limits.take(one, Act::Carry).unwrap();
        now.fetch_add(3_580_000, Ordering::Relaxed);
        limits.take(one, Act::Invite).unwrap();
        assert!(limits.take(one, Act::Invite).is_err(), "only the oldest one is an hour old");
    }
}
