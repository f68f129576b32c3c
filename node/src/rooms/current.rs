//! The current state of a room as rows, and what is counted from it: memberships, member counts, servers. The commit that
//! changes the state updates them, so nobody ever walks a room to know who is in it.

use millpond_store::{
    Error, Topic, View, WriteTxn,
    rows::{EventRow, EventShort, Membership, RoomCounts, RoomShort, StateChange},
    tables,
};
use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use super::rows;
use crate::user_directory;

/// The event of an entry of the current state.
pub fn entry(view: View<'_>, room: RoomShort, kind: &str, state_key: &str) -> Result<Option<EventShort>, Error> {
    view.get(tables::ROOM_STATE, (room, kind, state_key))
}

/// The row of an entry of the current state.
pub fn entry_row(view: View<'_>, room: RoomShort, kind: &str, state_key: &str) -> Result<Option<EventRow>, Error> {
    entry(view, room, kind, state_key)?.map(|event| rows::event(view, event)).transpose()
}

/// Reads the content of an entry of the current state; content that does not fit counts as absent.
pub fn content<T: for<'de> Deserialize<'de>>(
    view: View<'_>,
    room: RoomShort,
    kind: &str,
    state_key: &str,
) -> Result<Option<T>, Error> {
    let row = entry_row(view, room, kind, state_key)?;
    Ok(row.and_then(|row| serde_json::from_str(row.header.content.of(&row.json)).ok()))
}

/// The membership of a user.
pub fn membership(view: View<'_>, room: RoomShort, user_id: &UserId) -> Result<Option<Membership>, Error> {
    view.get(tables::MEMBERSHIPS, (user_id, room))
}

/// Whether a user is joined.
pub fn is_joined(view: View<'_>, room: RoomShort, user_id: &UserId) -> Result<bool, Error> {
    Ok(membership(view, room, user_id)?.is_some_and(|row| row.membership == MembershipState::Join))
}

/// The users with a membership in the room's current state, in the order of their ids.
pub fn members(
    view: View<'_>,
    room: RoomShort,
    wanted: impl Fn(&MembershipState) -> bool,
) -> Result<Vec<OwnedUserId>, Error> {
    let mut users = Vec::new();
    for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))? {
        let ((_, _, state_key), _) = row?;
        let Ok(user_id) = OwnedUserId::try_from(state_key) else { continue };
        if membership(view, room, &user_id)?.is_some_and(|row| wanted(&row.membership)) {
            users.push(user_id);
        }
    }
    Ok(users)
}

/// Changes one entry of the current state. Does nothing if it is that already.
pub(crate) fn change(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    kind: &str,
    state_key: &str,
    event: Option<EventShort>,
) -> Result<(), Error> {
    let replaces = entry(txn.view(), room, kind, state_key)?;
    if replaces == event {
        return Ok(());
    }
    match &event {
        Some(event) => txn.put(tables::ROOM_STATE, (room, kind, state_key), event)?,
        None => drop(txn.remove(tables::ROOM_STATE, (room, kind, state_key))?),
    }
    let key = rows::intern_state_key(txn, kind, state_key)?;
    let position = txn.next_position().0;
    txn.put(tables::ROOM_STATE_LOG, (room, position, key), &StateChange { event, replaces })?;
    if kind == "m.room.member"
        && let Ok(user_id) = OwnedUserId::try_from(state_key)
    {
        change_member(txn, room, &user_id, event, position)?;
    }
    Ok(())
}

fn change_member(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    user_id: &UserId,
    event: Option<EventShort>,
    position: u64,
) -> Result<(), Error> {
    // A row without an event is an invite or a knock that we heard of outside the room: it was never counted.
    let before = membership(txn.view(), room, user_id)?.filter(|row| row.event.is_some());
    let before = before.map_or(MembershipState::Leave, |row| row.membership);
    let after = match event {
        Some(event) => {
            let row = rows::event(txn.view(), event)?;
            let after = membership_of(&row);
            if after == MembershipState::Join {
                user_directory::note(txn, user_id, display_name(&row).as_deref())?;
            }
            after
        }
        None => MembershipState::Leave,
    };
    let row = Membership { membership: after.clone(), event, position, forgotten: false };
    txn.put(tables::MEMBERSHIPS, (user_id, room), &row)?;
    txn.touch(Topic::User(user_id.to_owned()));
    txn.touch(Topic::UserRooms(user_id.to_owned()));
    txn.remove(tables::STRIPPED, (user_id, room))?;
    if before == after {
        return Ok(());
    }
    let mut counts = txn.view().get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
    count(&mut counts, &before, false);
    count(&mut counts, &after, true);
    txn.put(tables::ROOM_COUNTS, room, &counts)?;
    let joins = u64::from(after == MembershipState::Join);
    let leaves = u64::from(before == MembershipState::Join);
    if joins != leaves {
        let key = (room, user_id.server_name());
        let members = txn.view().get(tables::ROOM_SERVERS, key)?.unwrap_or(0);
        match (members + joins).saturating_sub(leaves) {
            // Others of its users may be among the members that are not here yet.
            0 if txn.view().get(tables::PARTIAL, room)?.is_some_and(|partial| partial.us != *key.1) => {
                txn.put(tables::ROOM_SERVERS, key, &0)?
            }
            0 => drop(txn.remove(tables::ROOM_SERVERS, key)?),
            members => txn.put(tables::ROOM_SERVERS, key, &members)?,
        }
    }
    Ok(())
}

fn count(counts: &mut RoomCounts, membership: &MembershipState, up: bool) {
    let number = match membership {
        MembershipState::Join => &mut counts.joined,
        MembershipState::Invite => &mut counts.invited,
        _ => return,
    };
    *number = if up { *number + 1 } else { number.saturating_sub(1) };
}

/// The name that a member event shows.
fn display_name(row: &EventRow) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<String>,
    }
    serde_json::from_str::<Content>(row.header.content.of(&row.json)).ok()?.displayname
}

/// The membership that a member event says; what does not parse is no membership.
pub fn membership_of(row: &EventRow) -> MembershipState {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let content = serde_json::from_str::<Content>(row.header.content.of(&row.json));
    content.map_or(MembershipState::Leave, |content| content.membership)
}
