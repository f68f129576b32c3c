//! Rooms and events as rows: interned numbers and the look-ups that everything else here is made of.
//!
//! Every interned number is a fresh position: unique, growing, and given out by the writer alone.

use std::sync::Arc;

use millpond_matrix::Pdu;
use millpond_store::{
    Error, View, WriteTxn,
    rows::{EventHead, EventRow, EventShort, Room, RoomShort, StateKeyName, StateKeyShort},
    tables,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};

/// The number of a room that we know.
pub fn room_short(view: View<'_>, room_id: &RoomId) -> Result<Option<RoomShort>, Error> {
    view.get(tables::ROOM_IDS, room_id)
}

/// A room that we know, by its id.
pub fn room(view: View<'_>, room_id: &RoomId) -> Result<Option<(RoomShort, Room)>, Error> {
    let Some(short) = room_short(view, room_id)? else { return Ok(None) };
    Ok(view.get(tables::ROOMS, short)?.map(|room| (short, room)))
}

/// The id of a room.
pub fn room_id(view: View<'_>, room: RoomShort) -> Result<OwnedRoomId, Error> {
    let row = view.get(tables::ROOMS, room)?;
    row.map(|row| row.room_id).ok_or_else(|| dangling("ROOMS", room.0))
}

/// A room's row, which must be there.
pub fn room_row(view: View<'_>, room: RoomShort) -> Result<Room, Error> {
    view.get(tables::ROOMS, room)?.ok_or_else(|| dangling("ROOMS", room.0))
}

/// The number of a room, made if it is new.
pub(crate) fn intern_room(txn: &mut WriteTxn<'_>, room: &Room) -> Result<RoomShort, Error> {
    if let Some(short) = room_short(txn.view(), &room.room_id)? {
        return Ok(short);
    }
    let short = RoomShort(txn.next_position().0);
    txn.put(tables::ROOM_IDS, &*room.room_id, &short)?;
    txn.put(tables::ROOMS, short, room)?;
    Ok(short)
}

/// The number of an event that we know.
pub fn event_short(view: View<'_>, event_id: &EventId) -> Result<Option<EventShort>, Error> {
    view.get(tables::EVENT_IDS, event_id)
}

/// An event's row, which must be there.
pub fn event(view: View<'_>, event: EventShort) -> Result<EventRow, Error> {
    view.get(tables::EVENTS, event)?.ok_or_else(|| dangling("EVENTS", event.0))
}

/// An event's row by its id.
pub fn event_by_id(view: View<'_>, event_id: &EventId) -> Result<Option<(EventShort, EventRow)>, Error> {
    let Some(short) = event_short(view, event_id)? else { return Ok(None) };
    Ok(Some((short, event(view, short)?)))
}

/// An event by its id if it belongs to the room; one of another room is not there.
pub fn event_in_room(
    view: View<'_>,
    room: RoomShort,
    event_id: &EventId,
) -> Result<Option<(EventShort, EventRow)>, Error> {
    Ok(event_by_id(view, event_id)?.filter(|(_, row)| row.meta.room == room))
}

/// What is known of an event, which must be there, without its JSON.
pub fn head(view: View<'_>, event: EventShort) -> Result<EventHead, Error> {
    find_head(view, event)?.ok_or_else(|| dangling("EVENTS", event.0))
}

/// What is known of an event without its JSON.
pub fn find_head(view: View<'_>, event: EventShort) -> Result<Option<EventHead>, Error> {
    let head = view.with(tables::EVENTS, event, EventHead::decode)?.transpose();
    head.map_err(|why| Error::Corrupt { table: "EVENTS", why })
}

/// What is known of an event of a room without its JSON; one of another room is not there.
pub fn head_in_room(
    view: View<'_>,
    room: RoomShort,
    event_id: &EventId,
) -> Result<Option<(EventShort, EventHead)>, Error> {
    let Some(short) = event_short(view, event_id)? else { return Ok(None) };
    let head = head(view, short)?;
    Ok((head.meta.room == room).then_some((short, head)))
}

/// The event id of a numbered event.
pub fn event_id(view: View<'_>, short: EventShort) -> Result<OwnedEventId, Error> {
    Ok(head(view, short)?.header.event_id)
}

/// The event of a row, ready for the pure functions.
pub fn pdu(room_id: &RoomId, row: EventRow) -> Result<Arc<Pdu>, Error> {
    let EventRow { header, json, .. } = row;
    let pdu = Pdu::from_stored(room_id.to_owned(), header, json);
    pdu.map(Arc::new).map_err(|e| Error::Corrupt { table: "EVENTS", why: e.to_string() })
}

/// The number of a (type, state key) pair that was seen before.
pub fn state_key_short(view: View<'_>, kind: &str, state_key: &str) -> Result<Option<StateKeyShort>, Error> {
    view.get(tables::STATE_KEYS, (kind, state_key))
}

/// The number of a (type, state key) pair, made if it is new.
pub(crate) fn intern_state_key(txn: &mut WriteTxn<'_>, kind: &str, state_key: &str) -> Result<StateKeyShort, Error> {
    if let Some(short) = state_key_short(txn.view(), kind, state_key)? {
        return Ok(short);
    }
    let short = StateKeyShort(txn.next_position().0);
    txn.put(tables::STATE_KEYS, (kind, state_key), &short)?;
    let name = StateKeyName { kind: kind.to_owned(), state_key: state_key.to_owned() };
    txn.put(tables::STATE_KEY_NAMES, short, &name)?;
    Ok(short)
}

/// The pair of a number.
pub fn state_key_name(view: View<'_>, short: StateKeyShort) -> Result<StateKeyName, Error> {
    view.get(tables::STATE_KEY_NAMES, short)?.ok_or_else(|| dangling("STATE_KEY_NAMES", short.0))
}

/// A row that another row points to is not there: the database is damaged.
pub(crate) fn dangling(table: &'static str, key: u64) -> Error {
    Error::Corrupt { table, why: format!("row {key} is referred to and missing") }
}
