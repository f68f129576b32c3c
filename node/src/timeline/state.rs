//! `/state` and `/members`: the state as one reader may see it, the present one for members and the one at their leaving for
//! those who left.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use millpond_store::{
    View,
    rows::{EventRow, EventShort, RoomShort, StateGroup, StateKeyShort},
    tables,
};
use ruma::{DeviceId, OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Timeline,
    reader::{Form, RoomReader},
    select::Select,
    sight::JoinedUntil,
    token::Point,
};
use crate::{
    Error,
    json::{any_key, key, raw},
    rooms::{current, groups, rows},
};

/// What `/members` asks.
#[derive(Clone, Debug)]
pub struct MembersRequest {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The members at this point and not the present ones.
    pub at: Option<String>,
    /// Only these.
    pub membership: Option<MembershipState>,
    /// None of these.
    pub not_membership: Option<MembershipState>,
}

/// Which state a reader sees.
enum Seen {
    Current,
    Group(StateGroup),
}

type Asker<'a> = (&'a UserId, &'a DeviceId);

impl Timeline {
    /// All state of a room, as a JSON array.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, storage errors.
    pub fn state(&self, asker: Asker<'_>, room_id: &RoomId) -> Result<Vec<u8>, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, room_id)?;
        let mut out = vec![b'['];
        for event in all(&reader)? {
            reader.write_state(&mut out, &rows::event(reader.view, event)?, Form::Full)?;
        }
        out.push(b']');
        Ok(out)
    }

    /// The content of one entry of the state, or (`whole`) its event.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 404 if there is no such entry, storage errors.
    pub fn state_entry(
        &self,
        asker: Asker<'_>,
        room_id: &RoomId,
        (kind, state_key): (&str, &str),
        whole: bool,
    ) -> Result<Vec<u8>, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, room_id)?;
        let event = match seen(&reader)? {
            Seen::Current => current::entry(reader.view, reader.room, kind, state_key)?,
            Seen::Group(group) => entry_of(reader.view, group, kind, state_key)?,
        };
        let event = event.ok_or_else(|| Error::not_found(format!("the room has no state of type {kind} there")))?;
        let row = rows::event(reader.view, event)?;
        if !whole {
            return Ok(row.header.content.of(&row.json).as_bytes().to_vec());
        }
        let mut out = Vec::new();
        reader.write_state(&mut out, &row, Form::Full)?;
        Ok(out)
    }

    /// The member events of a room.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 400 for a token that is not ours, storage errors.
    pub fn members(&self, asker: Asker<'_>, request: &MembersRequest) -> Result<Vec<u8>, Error> {
        let at = request.at.as_deref().map(|token| Point::parse("at", token)).transpose()?;
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, &request.room_id)?;
        let mut out = Vec::from(b"{\"chunk\":[");
        for event in member_events(&reader, at)? {
            let row = rows::event(reader.view, event)?;
            let membership = current::membership_of(&row);
            if request.membership.as_ref().is_none_or(|wanted| *wanted == membership)
                && request.not_membership.as_ref().is_none_or(|not| *not != membership)
            {
                reader.write_state(&mut out, &row, Form::Full)?;
            }
        }
        raw(&mut out, "]}");
        Ok(out)
    }

    /// The joined members of a room with what they show of themselves.
    ///
    /// # Errors
    /// 403 for those who are not in the room, storage errors.
    pub fn joined_members(&self, asker: Asker<'_>, room_id: &RoomId) -> Result<Vec<u8>, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, room_id)?;
        if reader.sight.joined_until() != JoinedUntil::Now {
            return Err(Error::forbidden("only those who are in the room see who is in it"));
        }
        let mut out = Vec::from(b"{\"joined\":{");
        for row in reader.view.scan(tables::ROOM_STATE, (reader.room, MEMBER))? {
            let ((.., user), event) = row?;
            let row = rows::event(reader.view, event)?;
            if current::membership_of(&row) == MembershipState::Join {
                write_member(&mut out, &user, &row);
            }
        }
        raw(&mut out, "}}");
        Ok(out)
    }
}

fn seen(reader: &RoomReader<'_>) -> Result<Seen, Error> {
    use ruma::events::room::history_visibility::HistoryVisibility;
    let JoinedUntil::Position(end) = reader.sight.joined_until() else { return Ok(Seen::Current) };
    if reader.sight.now()?.visibility == HistoryVisibility::WorldReadable {
        return Ok(Seen::Current);
    }
    let event = reader.view.get(tables::TIMELINE, (reader.room, end))?;
    let row = event.map(|event| rows::event(reader.view, event)).transpose()?;
    let group = row.and_then(|row| row.meta.state_after);
    group.map(Seen::Group).ok_or_else(|| Error::forbidden("you are not in this room"))
}

/// The events of the state that the reader sees.
pub(crate) fn all(reader: &RoomReader<'_>) -> Result<Vec<EventShort>, Error> {
    match seen(reader)? {
        Seen::Current => {
            let rows = reader.view.scan(tables::ROOM_STATE, (reader.room,))?;
            Ok(rows.map(|row| row.map(|(_, event)| event)).collect::<Result<_, _>>()?)
        }
        Seen::Group(group) => {
            let mut events: Vec<_> = groups::state(reader.view, group)?.into_values().collect();
            events.sort();
            Ok(events)
        }
    }
}

fn entry_of(view: View<'_>, group: StateGroup, kind: &str, state_key: &str) -> Result<Option<EventShort>, Error> {
    match rows::state_key_short(view, kind, state_key)? {
        Some(key) => Ok(groups::entry(view, group, key)?),
        None => Ok(None),
    }
}

/// The member events that the reader sees, at a point or now.
fn member_events(reader: &RoomReader<'_>, at: Option<Point>) -> Result<Vec<EventShort>, Error> {
    let (view, room) = (reader.view, reader.room);
    if let Seen::Group(group) = seen(reader)? {
        let mut events = Vec::new();
        for (key, event) in groups::state(view, group)? {
            if rows::state_key_name(view, key)?.kind == MEMBER {
                events.push(event);
            }
        }
        events.sort();
        return Ok(events);
    }
    let later = at.map(|at| changed_after(view, room, at)).transpose()?.unwrap_or_default();
    let mut events = Vec::new();
    for row in view.scan(tables::ROOM_STATE, (room, MEMBER))? {
        let ((.., user), event) = row?;
        match later.get(&user) {
            Some(before) => events.extend(before),
            None => events.push(event),
        }
    }
    Ok(events)
}

/// The members whose event changed after a point, each with the event before.
fn changed_after(view: View<'_>, room: RoomShort, at: Point) -> Result<BTreeMap<String, Option<EventShort>>, Error> {
    let after = u64::try_from(at.0).unwrap_or(0);
    let last = StateKeyShort(u64::MAX);
    let (low, high) = (Bound::Excluded((room, after, last)), Bound::Included((room, u64::MAX, last)));
    let mut changed = BTreeMap::new();
    for row in view.range(tables::ROOM_STATE_LOG, low, high)? {
        let ((.., key), change) = row?;
        let name = rows::state_key_name(view, key)?;
        if name.kind == MEMBER {
            changed.entry(name.state_key).or_insert(change.replaces);
        }
    }
    Ok(changed)
}

/// Appends the state after an event as an array, for `/context`; with lazy members only those of `senders`.
pub(super) fn write_at(
    reader: &RoomReader<'_>,
    out: &mut Vec<u8>,
    last: &EventRow,
    select: &Select<'_>,
    senders: &BTreeSet<String>,
) -> Result<(), Error> {
    out.push(b'[');
    let mut entries = Vec::new();
    match last.meta.state_after {
        Some(group) if reader.view.get(tables::ROOM_HEADS, reader.room)?.is_none_or(|head| head.group != group) => {
            for (key, event) in groups::state(reader.view, group)? {
                let name = rows::state_key_name(reader.view, key)?;
                entries.push((name.kind, name.state_key, event));
            }
            entries.sort_by_key(|(.., event)| *event);
        }
        _ => {
            for row in reader.view.scan(tables::ROOM_STATE, (reader.room,))? {
                let ((_, kind, state_key), event) = row?;
                entries.push((kind, state_key, event));
            }
        }
    }
    for (kind, state_key, event) in entries {
        if select.lazy_members() && kind == MEMBER && !senders.contains(&state_key) {
            continue;
        }
        reader.write_state(out, &rows::event(reader.view, event)?, Form::Full)?;
    }
    out.push(b']');
    Ok(())
}

fn write_member(out: &mut Vec<u8>, user: &str, row: &EventRow) {
    #[derive(Default, Deserialize)]
    struct Shown<'a> {
        #[serde(borrow, default)]
        displayname: Option<&'a RawValue>,
        #[serde(borrow, default)]
        avatar_url: Option<&'a RawValue>,
    }
    any_key(out, user);
    out.push(b'{');
    let shown = serde_json::from_str::<Shown<'_>>(row.header.content.of(&row.json)).unwrap_or_default();
    for (name, value) in [("display_name", shown.displayname), ("avatar_url", shown.avatar_url)] {
        // Others may write anything there; only texts are names.
        if let Some(value) = value.filter(|value| value.get().starts_with('"')) {
            key(out, name);
            raw(out, value.get());
        }
    }
    out.push(b'}');
}

const MEMBER: &str = "m.room.member";
