//! The state part of a room in `/sync`: what a client must know before it applies the timeline part, or (`state_after`)
//! what it must know after it. Changes come from the log of the current state, so that one that a state resolution made,
//! without any event in the timeline, is told as well.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
};

use millpond_store::{
    Error, Rows, View,
    rows::{EventShort, RoomShort, StateChange, StateKeyShort},
    tables,
};

use crate::{
    rooms::{current, groups, rows},
    timeline::{reader::RoomReader, sight::JoinedUntil, window::Placed},
};

/// What the state part must cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Everything.
    Full,
    /// What changed after a position.
    Since(u64),
}

/// How the state part relates to the timeline part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It is applied before it (`state`).
    Before,
    /// The timeline changes no state (`state_after`).
    After,
}

/// One entry of the state part.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: String,
    pub(super) state_key: String,
    pub(super) event: EventShort,
}

/// The state events of a room that a client lacks. `members`: with lazy loading, the users whose member events a full state
/// needs.
pub(super) fn entries(
    view: View<'_>,
    room: RoomShort,
    (span, side): (Span, Side),
    timeline: &[Placed],
    members: Option<&BTreeSet<String>>,
) -> Result<Vec<Entry>, Error> {
    let shown: HashSet<EventShort> = timeline.iter().map(|placed| placed.event).collect();
    // Positions of backfilled events are negative: no logged change is older than they.
    let start = timeline.first().map_or(u64::MAX, |placed| u64::try_from(placed.position).unwrap_or(0));
    match span {
        Span::Since(since) => {
            let mut entries = delta(view, changes(view, room, (since, u64::MAX), start, &shown)?, side, &shown)?;
            if let Some(wanted) = members {
                leave_out_described(view, wanted, &mut entries)?;
            }
            Ok(entries)
        }
        Span::Full => {
            let mut entries = full(view, room, members)?;
            if side == Side::Before && start != u64::MAX {
                rewind(view, room, start, &shown, &mut entries)?;
            }
            Ok(entries)
        }
    }
}

/// As [`entries`], for a room that the reader has left: what happened since is not his to know.
pub(super) fn entries_left(
    reader: &RoomReader<'_>,
    (span, side): (Span, Side),
    timeline: &[Placed],
) -> Result<Vec<Entry>, Error> {
    let (view, room) = (reader.view, reader.room);
    let JoinedUntil::Position(end) = reader.sight.joined_until() else { return Ok(Vec::new()) };
    let shown: HashSet<EventShort> = timeline.iter().map(|placed| placed.event).collect();
    if let Span::Since(since) = span {
        let start = timeline.first().map_or(u64::MAX, |placed| u64::try_from(placed.position).unwrap_or(0));
        let until = own_change(reader, end)?;
        return delta(view, changes(view, room, (since, until), start, &shown)?, side, &shown);
    }
    let last = view.get(tables::TIMELINE, (room, end))?.map(|event| rows::event(view, event)).transpose()?;
    let Some(group) = last.and_then(|row| row.meta.state_after) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for (key, event) in groups::state(view, group)? {
        let mut event = Some(event);
        while let Some(this) = event.filter(|event| side == Side::Before && shown.contains(event)) {
            event = rows::event(view, this)?.meta.replaces;
        }
        let Some(event) = event else { continue };
        let name = rows::state_key_name(view, key)?;
        entries.push(Entry { kind: name.kind, state_key: name.state_key, event });
    }
    entries.sort_by_key(|entry| entry.event);
    Ok(entries)
}

/// Leaves members out that have just come with the room's description, of whom the timeline holds nothing: a client that loads
/// members lazily asks for them when it needs them.
fn leave_out_described(view: View<'_>, wanted: &BTreeSet<String>, entries: &mut Vec<Entry>) -> Result<(), Error> {
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let in_timeline = || Ok::<_, Error>(rows::head(view, entry.event)?.meta.position.is_some());
        if entry.kind != MEMBER || wanted.contains(&entry.state_key) || in_timeline()? {
            kept.push(entry);
        }
    }
    *entries = kept;
    Ok(())
}

/// The position at which the log says that the reader's membership ended, a little after the event that ended it.
fn own_change(reader: &RoomReader<'_>, end: i64) -> Result<u64, Error> {
    let end = u64::try_from(end).unwrap_or(0);
    let Some(own) = rows::state_key_short(reader.view, MEMBER, reader.who.user.as_str())? else { return Ok(end) };
    for row in logged(reader.view, reader.room, (end, u64::MAX))? {
        let ((_, position, key), _) = row?;
        if key == own {
            return Ok(position);
        }
    }
    Ok(end)
}

fn delta(
    view: View<'_>,
    changes: BTreeMap<StateKeyShort, Change>,
    side: Side,
    shown: &HashSet<EventShort>,
) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (key, change) in changes {
        let event = if side == Side::Before && change.shown { change.at_start } else { change.now };
        let Some(event) = event.filter(|event| side == Side::After || !shown.contains(event)) else { continue };
        let name = rows::state_key_name(view, key)?;
        entries.push(Entry { kind: name.kind, state_key: name.state_key, event });
    }
    Ok(entries)
}

/// The log of a room's state after one position and up to another.
pub(super) fn logged<'v>(
    view: View<'v>,
    room: RoomShort,
    (after, until): (u64, u64),
) -> Result<Rows<'v, (RoomShort, u64, StateKeyShort), StateChange>, Error> {
    let last = StateKeyShort(u64::MAX);
    view.range(tables::ROOM_STATE_LOG, Bound::Excluded((room, after, last)), Bound::Included((room, until, last)))
}

/// How one entry changed after a position.
#[derive(Default)]
struct Change {
    /// The value at the start of the timeline part, if it changed before that.
    at_start: Option<EventShort>,
    /// The value before the first change within the timeline part.
    replaced: Option<EventShort>,
    now: Option<EventShort>,
    /// The timeline part shows a change of it.
    shown: bool,
    within: bool,
}

fn changes(
    view: View<'_>,
    room: RoomShort,
    span: (u64, u64),
    start: u64,
    shown: &HashSet<EventShort>,
) -> Result<BTreeMap<StateKeyShort, Change>, Error> {
    let mut changes = BTreeMap::<StateKeyShort, Change>::new();
    for row in logged(view, room, span)? {
        let ((_, position, key), logged) = row?;
        let change = changes.entry(key).or_default();
        if position < start {
            change.at_start = logged.event;
        } else if !change.within {
            change.within = true;
            change.replaced = logged.replaces;
        }
        change.now = logged.event;
        change.shown |= logged.event.is_some_and(|event| shown.contains(&event));
    }
    Ok(changes)
}

fn full(view: View<'_>, room: RoomShort, members: Option<&BTreeSet<String>>) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut add = |row: Result<((RoomShort, String, String), EventShort), Error>| -> Result<(), Error> {
        let ((_, kind, state_key), event) = row?;
        entries.push(Entry { kind, state_key, event });
        Ok(())
    };
    let Some(members) = members else {
        view.scan(tables::ROOM_STATE, (room,))?.try_for_each(&mut add)?;
        return Ok(entries);
    };
    // Around the members, who may be many.
    let (first, after) = ((room, "", ""), (room, "m.room.member\0", ""));
    view.range(tables::ROOM_STATE, Bound::Included(first), Bound::Excluded((room, MEMBER, "")))?
        .try_for_each(&mut add)?;
    let end = (RoomShort(room.0 + 1), "", "");
    view.range(tables::ROOM_STATE, Bound::Included(after), Bound::Excluded(end))?.try_for_each(&mut add)?;
    for user in members {
        if let Some(event) = current::entry(view, room, MEMBER, user)? {
            entries.push(Entry { kind: MEMBER.to_owned(), state_key: user.clone(), event });
        }
    }
    Ok(entries)
}

/// Takes entries that the timeline part sets back to what they were before it.
fn rewind(
    view: View<'_>,
    room: RoomShort,
    start: u64,
    shown: &HashSet<EventShort>,
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    let mut before = BTreeMap::new();
    for (key, change) in changes(view, room, (start.saturating_sub(1), u64::MAX), start, shown)? {
        if change.shown {
            let name = rows::state_key_name(view, key)?;
            before.insert((name.kind, name.state_key), change.replaced);
        }
    }
    if before.is_empty() {
        return Ok(());
    }
    entries.retain_mut(|entry| {
        let key = (std::mem::take(&mut entry.kind), std::mem::take(&mut entry.state_key));
        let kept = match before.get(&key) {
            Some(Some(event)) => {
                entry.event = *event;
                true
            }
            Some(None) => false,
            None => true,
        };
        (entry.kind, entry.state_key) = key;
        kept
    });
    Ok(())
}

pub(super) const MEMBER: &str = "m.room.member";
