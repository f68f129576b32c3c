//! Rooms whose staged PDUs wait: the ones that are being joined. A resident server sends us the room's events from the
//! moment it takes our join, which is before we have the room they belong to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use millpond_store::Topic;
use ruma::{OwnedRoomId, RoomId};

use crate::Core;

/// The rooms, each with the number of its guards.
#[derive(Clone)]
pub(super) struct HeldRooms {
    core: Core,
    rooms: Arc<Mutex<HashMap<OwnedRoomId, usize>>>,
}

impl HeldRooms {
    pub(super) fn new(core: Core) -> Self {
        Self { core, rooms: Arc::default() }
    }

    pub(super) fn hold(&self, room_id: &RoomId) -> Held {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        *rooms.entry(room_id.to_owned()).or_default() += 1;
        Held { held: self.clone(), room_id: room_id.to_owned() }
    }

    pub(super) fn contains(&self, room_id: &RoomId) -> bool {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).contains_key(room_id)
    }
}

/// Holds a room; dropping it lets go, and what has come is judged.
pub struct Held {
    held: HeldRooms,
    room_id: OwnedRoomId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut rooms = self.held.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guards) = rooms.get_mut(&self.room_id) {
            *guards -= 1;
            if *guards == 0 {
                rooms.remove(&self.room_id);
            }
        }
        drop(rooms);
        self.held.core.notifier().wake(&[Topic::Inbox]);
    }
}
