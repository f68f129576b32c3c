//! Who is served when: a pure machine. One delivery at a time per destination; after a failure the next one waits, longer
//! each time and with jitter; contact with the peer clears the wait.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, ServerName};

use crate::classic::is_of_the_dns;

/// What happened.
#[derive(Clone, Debug)]
pub enum InEvent {
    /// Something is owed to a destination.
    Work(OwnedServerName),
    /// A stream with it has come up.
    LinkUp(OwnedServerName),
    /// It has taken a batch; there may be more.
    Delivered(OwnedServerName),
    /// There was nothing for it.
    Idle(OwnedServerName),
    /// It could not be reached, or did not take the batch.
    Failed(OwnedServerName),
    /// This device has slept: nobody was reached, which says nothing of anybody.
    Woken,
}

#[derive(Debug, Default)]
struct Destination {
    work: bool,
    sending: bool,
    failures: u32,
    not_before_ms: u64,
}

/// The schedule of all destinations. Times are milliseconds since the epoch.
#[derive(Debug)]
pub struct Schedule {
    destinations: BTreeMap<OwnedServerName, Destination>,
    /// The longest wait for a classic server, of which there may be thousands, some gone for good. One that comes back is
    /// heard of when it sends us something.
    longest_classic_wait_ms: u64,
}

/// Deliveries at once.
const MAX_SENDING: usize = 16;
/// The wait after the first failure.
const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait. A peer that comes back says so by itself, so this only matters when that was missed.
const LONGEST_WAIT_MS: u64 = 5 * 60_000;
/// The same for a classic server, unless the settings say otherwise.
const LONGEST_CLASSIC_WAIT_MS: u64 = 60 * 60_000;

impl Default for Schedule {
    fn default() -> Self {
        Self::new(LONGEST_CLASSIC_WAIT_MS)
    }
}

impl Schedule {
    /// Nobody is owed anything yet.
    pub fn new(longest_classic_wait_ms: u64) -> Self {
        Self { destinations: BTreeMap::new(), longest_classic_wait_ms }
    }

    fn longest_wait_ms(&self, server: &ServerName) -> u64 {
        if is_of_the_dns(server) { self.longest_classic_wait_ms } else { LONGEST_WAIT_MS }
    }

    /// Takes an event; `random` is any number, for the jitter.
    pub fn handle(&mut self, event: InEvent, now_ms: u64, random: u64) {
        match event {
            InEvent::Work(server) => self.destinations.entry(server).or_default().work = true,
            InEvent::LinkUp(server) => {
                let destination = self.destinations.entry(server).or_default();
                destination.failures = 0;
                destination.not_before_ms = now_ms;
            }
            InEvent::Delivered(server) => {
                let destination = self.destinations.entry(server).or_default();
                *destination = Destination { work: true, ..Destination::default() };
            }
            InEvent::Idle(server) => drop(self.destinations.remove(&server)),
            InEvent::Woken => {
                for destination in self.destinations.values_mut() {
                    (destination.failures, destination.not_before_ms) = (0, now_ms);
                }
            }
            InEvent::Failed(server) => {
                let longest_wait_ms = self.longest_wait_ms(&server);
                let destination = self.destinations.entry(server).or_default();
                destination.sending = false;
                destination.work = true;
                let longest = (FIRST_WAIT_MS << destination.failures.min(22)).min(longest_wait_ms);
                // Between half of the wait and all of it, so that peers that fell together do not come back together.
                let wait = longest / 2 + random % (longest / 2 + 1);
                destination.failures = destination.failures.saturating_add(1);
                destination.not_before_ms = now_ms + wait;
            }
        }
    }

    /// The destinations to serve now; they count as being served until an event says otherwise.
    pub fn start(&mut self, now_ms: u64) -> Vec<OwnedServerName> {
        let sending = self.destinations.values().filter(|d| d.sending).count();
        let due = self.destinations.iter_mut().filter(|(_, d)| d.work && !d.sending && d.not_before_ms <= now_ms);
        due.take(MAX_SENDING.saturating_sub(sending))
            .map(|(server, destination)| {
                destination.sending = true;
                destination.work = false;
                server.clone()
            })
            .collect()
    }

    /// The destinations that were tried in vain since they were last heard: what is owed to them may go another way.
    pub fn away(&self) -> Vec<OwnedServerName> {
        self.destinations.iter().filter(|(_, d)| d.failures > 0).map(|(server, _)| server.clone()).collect()
    }

    /// When to ask again although nothing has happened.
    pub fn next_wake_ms(&self) -> Option<u64> {
        let waiting = self.destinations.values().filter(|d| d.work && !d.sending);
        waiting.map(|d| d.not_before_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;

    fn peer() -> OwnedServerName {
        owned_server_name!("b.onion")
    }

    #[test]
    fn one_delivery_at_a_time_and_the_next_after_it() {
        let mut schedule = Schedule::default();
        schedule.handle(InEvent::Work(peer()), 0, 0);
        assert_eq!(schedule.start(0), [peer()]);
        schedule.handle(InEvent::Work(peer()), 1, 0);
        assert!(schedule.start(1).is_empty());
        schedule.handle(InEvent::Delivered(peer()), 2, 0);
        assert_eq!(schedule.start(2), [peer()]);
        schedule.handle(InEvent::Idle(peer()), 3, 0);
        assert!(schedule.start(3).is_empty());
        assert_eq!(schedule.next_wake_ms(), None);
    }

    #[test]
    fn failures_wait_longer_each_time_and_contact_clears_the_wait() {
        let mut schedule = Schedule::default();
        schedule.handle(InEvent::Work(peer()), 0, 0);
        let (mut now, mut last) = (0, 0);
        for _ in 0..30 {
            assert_eq!(schedule.start(now), [peer()]);
            schedule.handle(InEvent::Failed(peer()), now, u64::MAX);
            let wake = schedule.next_wake_ms().unwrap();
            assert!(wake - now >= last.min(LONGEST_WAIT_MS / 2) && wake - now <= LONGEST_WAIT_MS);
            assert!(schedule.start(wake - 1).is_empty());
            (last, now) = (wake - now, wake);
        }
        assert_eq!(schedule.start(now), [peer()]);
        schedule.handle(InEvent::Failed(peer()), now, 0);
        schedule.handle(InEvent::LinkUp(peer()), now, 0);
        assert_eq!(schedule.start(now), [peer()]);
    }

    #[test]
    fn work_that_comes_while_sending_is_not_forgotten() {
        let mut schedule = Schedule::default();
        schedule.handle(InEvent::Work(peer()), 0, 0);
        schedule.start(0);
        schedule.handle(InEvent::Work(peer()), 0, 0);
        schedule.handle(InEvent::Idle(peer()), 0, 0);
        // The pump asks the store again after every event, so what was committed meanwhile comes as new work.
        schedule.handle(InEvent::Work(peer()), 0, 0);
        assert_eq!(schedule.start(0), [peer()]);
    }

    #[test]
    fn a_device_that_wakes_waits_for_nobody() {
        let mut schedule = Schedule::default();
        schedule.handle(InEvent::Work(peer()), 0, 0);
        for now_ms in 0..20 {
            assert!(!schedule.start(now_ms * 1_000_000).is_empty());
            schedule.handle(InEvent::Failed(peer()), now_ms * 1_000_000, u64::MAX);
        }
        let now_ms = 19_000_001;
        assert!(schedule.start(now_ms).is_empty());
        schedule.handle(InEvent::Woken, now_ms, 0);
        assert_eq!(schedule.start(now_ms), [peer()]);
        assert!(schedule.away().is_empty());
    }
}
