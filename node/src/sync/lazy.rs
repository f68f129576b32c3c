//! Which members each device has been sent (client-server spec, "Lazy-loading room members"). In memory and bounded: what is
//! forgotten is sent once more.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use millpond_store::rows::{EventShort, RoomShort};
use ruma::{OwnedDeviceId, OwnedUserId};

use super::token::Token;

/// A device of a user.
pub(crate) type Owner = (OwnedUserId, OwnedDeviceId);

/// The member events that were sent to devices. Cloning is cheap.
#[derive(Clone, Default)]
pub(crate) struct SentMembers(Arc<Mutex<Sent>>);

#[derive(Default)]
struct Sent {
    devices: HashMap<Owner, Device>,
    count: usize,
}

#[derive(Default)]
struct Device {
    /// The token of the last answer.
    token: Token,
    rooms: HashMap<RoomShort, HashSet<EventShort>>,
}

impl SentMembers {
    /// Called before an answer. A device that does not go on from our last answer may not have got it: then it is sent
    /// everything again.
    pub(crate) fn go_on(&self, device: &Owner, since: Option<Token>) {
        let mut sent = self.lock();
        if sent.devices.get(device).is_some_and(|known| Some(known.token) != since)
            && let Some(known) = sent.devices.remove(device)
        {
            sent.count -= known.rooms.values().map(HashSet::len).sum::<usize>();
        }
    }

    /// Called with the token of each answer.
    pub(crate) fn answered(&self, device: &Owner, token: Token) {
        if let Some(known) = self.lock().devices.get_mut(device) {
            known.token = token;
        }
    }

    /// Whether a device was sent a member event.
    pub(crate) fn contains(&self, device: &Owner, room: RoomShort, event: EventShort) -> bool {
        let sent = self.lock();
        sent.devices.get(device).and_then(|known| known.rooms.get(&room)).is_some_and(|events| events.contains(&event))
    }

    /// Notes what a device is sent.
    pub(crate) fn insert(&self, device: &Owner, room: RoomShort, events: impl IntoIterator<Item = EventShort>) {
        let mut sent = self.lock();
        if sent.count > EVENTS_MAX {
            sent.devices.clear();
            sent.count = 0;
        }
        let known = sent.devices.entry(device.clone()).or_default().rooms.entry(room).or_default();
        let before = known.len();
        known.extend(events);
        let added = known.len() - before;
        sent.count += added;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sent> {
        // Counts and sets change together, and nothing between them can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Member events remembered for all devices together: 16 bytes or so each.
const EVENTS_MAX: usize = 200_000;
