//! Rooms: creating them, sending into them, memberships. Everything is written through [`apply`], in one job a request.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use millpond_matrix::build::Signer;
use millpond_matrix::signing::Ed25519KeyPair;
use millpond_store::{Position, View};
use ruma::{DeviceId, EventId, OwnedEventId, RoomId, UserId};

use crate::{Core, Error};

pub(crate) mod apply;
mod create;
pub mod current;
mod endorse;
pub mod groups;
mod inherit;
pub(crate) mod local;
mod membership;
pub(crate) mod policy;
pub mod reader;
pub mod rows;
mod send;
pub(crate) mod stripped;
mod upgrade;
pub(crate) mod whole;

pub use endorse::Endorser;
pub(crate) use endorse::policy_server;
pub use membership::Action;
pub(crate) use membership::profile as profile_content;
pub(crate) use send::redacts;

/// Rooms of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Rooms {
    core: Core,
    last_created_ms: Arc<AtomicU64>,
    endorser: Arc<OnceLock<Arc<dyn Endorser>>>,
}

impl Rooms {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core, last_created_ms: Arc::default(), endorser: Arc::default() }
    }

    /// The rooms that a user is joined to.
    ///
    /// # Errors
    /// Storage errors.
    pub fn joined(&self, user_id: &UserId) -> Result<Vec<ruma::OwnedRoomId>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut rooms = Vec::new();
        for row in view.scan(millpond_store::tables::MEMBERSHIPS, (user_id,))? {
            let ((_, room), row) = row?;
            if row.membership == ruma::events::room::member::MembershipState::Join {
                rooms.push(rows::room_id(view, room)?);
            }
        }
        Ok(rooms)
    }
}

impl Rooms {
    /// The rooms that a user is in, invited to, or knocks at.
    ///
    /// # Errors
    /// Storage errors.
    pub fn entered(&self, user_id: &UserId) -> Result<Vec<ruma::OwnedRoomId>, Error> {
        use ruma::events::room::member::MembershipState::{Invite, Join, Knock};
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut rooms = Vec::new();
        for row in view.scan(millpond_store::tables::MEMBERSHIPS, (user_id,))? {
            let ((_, room), row) = row?;
            if matches!(row.membership, Join | Invite | Knock) {
                rooms.push(rows::room_id(view, room)?);
            }
        }
        Ok(rooms)
    }

    /// The rooms that two users are joined to.
    ///
    /// # Errors
    /// Storage errors.
    pub fn shared(&self, one: &UserId, other: &UserId) -> Result<Vec<ruma::OwnedRoomId>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut shared = Vec::new();
        for room in crate::shared_rooms::joined_rooms(view, one)? {
            if current::is_joined(view, room, other)? {
                shared.push(rows::room_id(view, room)?);
            }
        }
        Ok(shared)
    }
}

/// Who signs for this node.
pub(crate) fn signer(core: &Core) -> Signer<'_, Ed25519KeyPair> {
    Signer { server: core.identity().server_name(), key: core.identity().signing_key() }
}

/// The answer to a write into a room: the event, and the position from which a sync sees it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The event.
    pub event_id: OwnedEventId,
    /// The position of its commit.
    pub position: Position,
}

/// A client's transaction: which device sent which id, so that a repetition gets the first answer.
#[derive(Clone, Copy, Debug)]
pub struct ClientTxn<'a> {
    /// The device.
    pub device_id: &'a DeviceId,
    /// The transaction id.
    pub txn_id: &'a ruma::TransactionId,
}

/// The room, or 403: to a stranger a room that is not here and one that he is not in look alike.
pub(crate) fn known_room(
    view: View<'_>,
    room_id: &RoomId,
) -> Result<(millpond_store::rows::RoomShort, millpond_store::rows::Room), Error> {
    rows::room(view, room_id)?.ok_or_else(|| Error::forbidden(format!("you are not in room {room_id}")))
}

/// An event of a room, or 404.
pub(crate) fn known_event(
    view: View<'_>,
    room: millpond_store::rows::RoomShort,
    event_id: &EventId,
) -> Result<(millpond_store::rows::EventShort, millpond_store::rows::EventRow), Error> {
    let found = rows::event_in_room(view, room, event_id)?;
    found.ok_or_else(|| Error::not_found(format!("event {event_id} is not known in this room")))
}

/// Whether the content of a create event makes the room an overlay room.
pub(crate) fn is_overlay_content(content: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "org.millpond.federation")]
        federation: String,
    }
    serde_json::from_str::<Content>(content).is_ok_and(|content| content.federation == "overlay")
}
