//! Rooms that the user is not in: invites, knocks, and those that he left.

use millpond_store::{
    rows::{Membership, RoomShort},
    tables,
};
use serde::Deserialize;

use super::{
    account_data,
    answer::{Sweep, open_room, write_timeline},
    joined::{TIMELINE_DEFAULT, TIMELINE_MAX, write_entries},
    state::{self, Side, Span},
};
use crate::{
    Error,
    json::{events_member, key, raw},
    rooms::rows,
    timeline::{
        Point, gaps,
        reader::{RoomReader, Who},
        sight::JoinedUntil,
    },
};

/// Appends an invite, unless it was told before or comes from somebody whom the user ignores.
pub(super) fn write_invite(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    membership: &Membership,
) -> Result<(), Error> {
    write_stripped(sweep, out, room, membership, "invite_state")
}

/// Appends a knock, unless it was told before.
pub(super) fn write_knock(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    membership: &Membership,
) -> Result<(), Error> {
    write_stripped(sweep, out, room, membership, "knock_state")
}

fn write_stripped(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    membership: &Membership,
    name: &str,
) -> Result<(), Error> {
    if membership.position <= sweep.position() && !sweep.request.full_state {
        return Ok(());
    }
    let room_id = rows::room_id(sweep.view, room)?;
    let state = sweep.view.get(tables::STRIPPED, (sweep.who.user, room))?.unwrap_or_else(|| "[]".to_owned());
    if !sweep.takes_room(&room_id) || is_from_ignored(&sweep.who, &state) {
        return Ok(());
    }
    open_room(out, &room_id);
    key(out, name);
    raw(out, "{\"events\":");
    raw(out, &state);
    raw(out, "}}");
    Ok(())
}

/// Whether the reader's own member event in a stripped state comes from somebody whom he ignores.
pub(super) fn is_from_ignored(who: &Who<'_>, stripped: &str) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        state_key: Option<String>,
        sender: String,
    }
    if who.ignored.is_empty() {
        return false;
    }
    let events = serde_json::from_str::<Vec<Event>>(stripped).unwrap_or_default();
    let mut own = events
        .iter()
        .filter(|event| event.kind == state::MEMBER && event.state_key.as_deref() == Some(who.user.as_str()));
    own.any(|event| who.ignored.iter().any(|user| *user == *event.sender))
}

/// Appends a room that the user left since the token; without one, those that he has not forgotten, if the filter asks.
pub(super) fn write_left(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    membership: &Membership,
) -> Result<(), Error> {
    let asked = sweep.request.filter.room.include_leave && (sweep.since.is_none() || sweep.request.full_state);
    if !asked && (sweep.since.is_none() || membership.position <= sweep.position()) {
        return Ok(());
    }
    let room_id = rows::room_id(sweep.view, room)?;
    if !sweep.takes_room(&room_id) {
        return Ok(());
    }
    open_room(out, &room_id);
    let reader = RoomReader::new(sweep.view, sweep.who.clone(), room, room_id)?;
    write_parts(sweep, out, &reader, membership)?;
    out.push(b'}');
    Ok(())
}

fn write_parts(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    reader: &RoomReader<'_>,
    membership: &Membership,
) -> Result<(), Error> {
    // An invite into a room that is not here was taken back or refused: there is nothing to show.
    let end = membership.event.map(|event| rows::event(sweep.view, event)).transpose()?;
    let Some(end) = end.and_then(|row| row.meta.position) else { return Ok(()) };
    let was_joined = reader.sight.joined_until() != JoinedUntil::Never;
    let filter = sweep.timeline_filter();
    let limit = if filter.takes_room(&reader.room_id) { filter.limit(TIMELINE_DEFAULT, TIMELINE_MAX) } else { 0 };
    let bound = sweep.since.map(|since| Point(since.position.as_timeline()));
    let (mut window, _) = gaps::backward(reader, Point(end), bound, limit, &filter)?;
    window.events.reverse();
    let prev_batch = window.events.first().map_or(window.reached, |first| Point::before(first.position));
    let state = sweep.state_filter();
    if was_joined && state.takes_room(&reader.room_id) {
        let span = sweep.since.map_or(Span::Full, |since| Span::Since(since.position.0));
        let side = if sweep.request.use_state_after { Side::After } else { Side::Before };
        let name = if side == Side::After { "state_after" } else { "state" };
        let entries = state::entries_left(reader, (span, side), &window.events)?;
        events_member(out, name, |out| write_entries(reader, out, &entries, &state))?;
    }
    write_timeline(out, reader, &window.events, window.more, prev_batch)?;
    account_data::write_room(sweep, out, &reader.room_id, false)?;
    Ok(())
}
