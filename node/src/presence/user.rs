//! The presence of one user: of ours what his devices say and do, of others what their server says. Pure; time is in
//! milliseconds since the epoch.

use std::collections::HashMap;

use ruma::{OwnedDeviceId, presence::PresenceState};

/// What is known of a user.
#[derive(Default)]
pub(super) struct Known {
    /// Of a local user, by device.
    seats: HashMap<OwnedDeviceId, Seat>,
    /// Of a user of another server: its word, and until when it holds.
    told: Option<(PresenceState, u64)>,
    /// When the user did something last.
    pub(super) active_ms: Option<u64>,
    pub(super) status: Option<String>,
    /// What others see.
    pub(super) shown: Shown,
    /// The serial of the last change of that.
    pub(super) changed: u64,
}

/// What others see of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) state: PresenceState,
    pub(super) status: Option<String>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { state: PresenceState::Offline, status: None }
    }
}

/// A device that was heard of lately.
struct Seat {
    says: PresenceState,
    /// Syncs under way.
    polls: u32,
    /// Until when it is there without one.
    until_ms: u64,
}

impl Seat {
    fn is_there(&self, now_ms: u64) -> bool {
        self.polls > 0 || self.until_ms > now_ms
    }
}

impl Known {
    /// A user of whom only is known what he wrote.
    pub(super) fn saying(status: Option<String>) -> Self {
        Self { status, ..Self::default() }
    }

    /// A device asks for news, and says how its user is.
    pub(super) fn poll(&mut self, device: OwnedDeviceId, says: PresenceState, now_ms: u64) {
        let was_away = self.of_seats(now_ms) == PresenceState::Offline;
        if was_away && says == PresenceState::Online {
            self.active_ms = Some(now_ms);
        }
        let seat = self.seat(device, now_ms);
        seat.says = says;
        seat.polls += 1;
    }

    /// That question is answered.
    pub(super) fn polled(&mut self, device: &ruma::DeviceId, now_ms: u64) {
        if let Some(seat) = self.seats.get_mut(device) {
            seat.polls = seat.polls.saturating_sub(1);
            seat.until_ms = now_ms + GONE_AFTER_MS;
        }
    }

    /// The user says how he is, at a device.
    pub(super) fn say(&mut self, device: OwnedDeviceId, says: PresenceState, now_ms: u64) {
        if says == PresenceState::Online {
            self.active_ms = Some(now_ms);
        }
        let seat = self.seat(device, now_ms);
        seat.says = says;
        seat.until_ms = now_ms + GONE_AFTER_MS;
    }

    /// The user does something at a device: who is there is online by it.
    pub(super) fn act(&mut self, device: &ruma::DeviceId, now_ms: u64) {
        self.active_ms = Some(now_ms);
        let there = self.seats.get_mut(device).filter(|seat| seat.is_there(now_ms));
        if let Some(seat) = there.filter(|seat| seat.says == PresenceState::Unavailable) {
            seat.says = PresenceState::Online;
        }
    }

    /// The user's server says how he is.
    pub(super) fn tell(&mut self, says: PresenceState, status: Option<String>, active_ms: u64, now_ms: u64) {
        self.told = Some((says, now_ms + FORGOTTEN_AFTER_MS));
        self.status = status;
        self.active_ms = Some(active_ms);
    }

    /// Settles what others see; says whether that is something else than before.
    pub(super) fn settle(&mut self, now_ms: u64) -> bool {
        self.seats.retain(|_, seat| seat.is_there(now_ms));
        if self.told.as_ref().is_some_and(|(_, until_ms)| *until_ms <= now_ms) {
            self.status = None;
        }
        let state = match &self.told {
            Some((state, until_ms)) if *until_ms > now_ms => state.clone(),
            Some(_) => PresenceState::Offline,
            None => match self.of_seats(now_ms) {
                PresenceState::Online if self.idle_at(now_ms) <= now_ms => PresenceState::Unavailable,
                state => state,
            },
        };
        let shown = Shown { state, status: self.status.clone() };
        let changed = shown != self.shown;
        self.shown = shown;
        changed
    }

    /// When it has to be settled again, if nothing happens.
    pub(super) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let told = self.told.iter().map(|(_, until_ms)| *until_ms);
        let gone = self.seats.values().filter(|seat| seat.polls == 0).map(|seat| seat.until_ms);
        let idle = (self.shown.state == PresenceState::Online && self.told.is_none()).then(|| self.idle_at(now_ms));
        told.chain(gone).chain(idle).filter(|at| *at > now_ms).min()
    }

    /// Nothing of it is worth keeping.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.shown == Shown::default()
    }

    fn of_seats(&self, now_ms: u64) -> PresenceState {
        let said = || self.seats.values().filter(|seat| seat.is_there(now_ms)).map(|seat| &seat.says);
        let best = [PresenceState::Online, PresenceState::Unavailable];
        best.into_iter().find(|state| said().any(|said| said == state)).unwrap_or(PresenceState::Offline)
    }

    fn idle_at(&self, now_ms: u64) -> u64 {
        self.active_ms.unwrap_or(now_ms) + IDLE_AFTER_MS
    }

    fn seat(&mut self, device: OwnedDeviceId, now_ms: u64) -> &mut Seat {
        let new = Seat { says: PresenceState::Offline, polls: 0, until_ms: now_ms + GONE_AFTER_MS };
        self.seats.entry(device).or_insert(new)
    }
}

/// A device that has not asked for news so long is gone: clients ask again at once.
const GONE_AFTER_MS: u64 = 30_000;
/// Who has done nothing for so long is idle (client-server spec, "Idle timeout").
const IDLE_AFTER_MS: u64 = 5 * 60_000;
/// A server's word holds so long: servers repeat it before.
const FORGOTTEN_AFTER_MS: u64 = 30 * 60_000;

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::*;

    fn state(known: &mut Known, now_ms: u64) -> PresenceState {
        known.settle(now_ms);
        known.shown.state.clone()
    }

    #[test]
    fn who_syncs_is_there_until_the_sync_is_long_over() {
        let (phone, mut known) = (device_id!("PHONE"), Known::default());
        known.poll(phone.to_owned(), PresenceState::Online, 1000);
        assert_eq!(state(&mut known, 1000), PresenceState::Online);
        known.polled(phone, 60_000);
        assert_eq!(state(&mut known, 60_000 + GONE_AFTER_MS - 1), PresenceState::Online);
        assert_eq!(known.next_ms(60_000), Some(60_000 + GONE_AFTER_MS));
        assert_eq!(state(&mut known, 60_000 + GONE_AFTER_MS), PresenceState::Offline);
        assert!(known.is_empty());
    }

    #[test]
    fn who_does_nothing_is_idle_and_who_acts_is_not() {
        let (phone, mut known) = (device_id!("PHONE"), Known::default());
        known.poll(phone.to_owned(), PresenceState::Online, 0);
        assert_eq!(state(&mut known, IDLE_AFTER_MS - 1), PresenceState::Online);
        assert_eq!(known.next_ms(1), Some(IDLE_AFTER_MS));
        assert_eq!(state(&mut known, IDLE_AFTER_MS), PresenceState::Unavailable);
        known.act(phone, IDLE_AFTER_MS);
        assert_eq!(state(&mut known, IDLE_AFTER_MS), PresenceState::Online);
        known.say(phone.to_owned(), PresenceState::Unavailable, IDLE_AFTER_MS);
        assert_eq!(state(&mut known, IDLE_AFTER_MS), PresenceState::Unavailable);
        known.act(phone, IDLE_AFTER_MS);
        assert_eq!(state(&mut known, IDLE_AFTER_MS), PresenceState::Online);
    }

    #[test]
    fn the_most_present_device_counts_and_a_hidden_one_does_not() {
        let (phone, desk, mut known) = (device_id!("PHONE"), device_id!("DESK"), Known::default());
        known.poll(phone.to_owned(), PresenceState::Offline, 0);
        assert_eq!(state(&mut known, 0), PresenceState::Offline);
        known.act(phone, 0);
        assert_eq!(state(&mut known, 0), PresenceState::Offline, "who hides stays hidden");
        known.poll(desk.to_owned(), PresenceState::Unavailable, 0);
        assert_eq!(state(&mut known, 0), PresenceState::Unavailable);
        known.poll(phone.to_owned(), PresenceState::Online, 0);
        assert_eq!(state(&mut known, 0), PresenceState::Online);
    }

    #[test]
    fn the_word_of_a_server_ends() {
        let mut known = Known::default();
        known.tell(PresenceState::Online, Some("here".to_owned()), 0, 1000);
        assert_eq!(state(&mut known, 1000), PresenceState::Online);
        assert_eq!(state(&mut known, 1000 + FORGOTTEN_AFTER_MS), PresenceState::Offline);
    }
}
