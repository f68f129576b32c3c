//! Who is in which room with whom: questions of the services that are not about rooms themselves.

use millpond_store::{View, rows::RoomShort, tables};
use ruma::{RoomId, UserId, events::room::member::MembershipState};

use crate::{
    Error,
    rooms::{current, rows},
};

/// The number of a room that a user is joined to.
///
/// # Errors
/// 403 `M_FORBIDDEN` if the user is not in the room, known to us or not; storage errors.
pub fn joined_room(view: View<'_>, user: &UserId, room_id: &RoomId) -> Result<RoomShort, Error> {
    if let Some(room) = rows::room_short(view, room_id)?
        && current::is_joined(view, room, user)?
    {
        return Ok(room);
    }
    Err(Error::forbidden(format!("you are not in room {room_id}")))
}

/// The rooms that a user is joined to.
///
/// # Errors
/// Storage errors.
pub fn joined_rooms(view: View<'_>, user: &UserId) -> Result<Vec<RoomShort>, millpond_store::Error> {
    let mut rooms = Vec::new();
    for row in view.scan(tables::MEMBERSHIPS, (user,))? {
        let ((_, room), row) = row?;
        if row.membership == MembershipState::Join {
            rooms.push(room);
        }
    }
    Ok(rooms)
}

/// Whether two users are joined to a room together.
///
/// # Errors
/// Storage errors.
pub fn share_room(view: View<'_>, one: &UserId, other: &UserId) -> Result<bool, millpond_store::Error> {
    for room in joined_rooms(view, one)? {
        if current::is_joined(view, room, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}
