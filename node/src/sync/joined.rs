//! A joined room in `/sync`.

use std::{collections::BTreeSet, ops::Bound};

use millpond_store::{
    View,
    rows::{EventRow, EventShort, Membership, RoomShort, StateKeyShort},
    tables,
};
use ruma::{UserId, events::room::member::MembershipState};

use super::{
    account_data,
    answer::{Sweep, open_room, write_timeline},
    ephemeral,
    state::{self, Entry, MEMBER, Side, Span},
    summary, unread,
};
use crate::{
    Error,
    json::events_member,
    rooms::{current, rows, whole::is_partial},
    timeline::{
        Point, gaps,
        reader::{Form, RoomReader, sender},
        select::Select,
        window::{self, Placed},
    },
};

/// Appends a room if there is anything to tell of it.
pub(super) fn write(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    room: RoomShort,
    membership: &Membership,
) -> Result<(), Error> {
    let mut arrival = match sweep.since {
        None => Arrival::Joined,
        Some(since) if membership.position <= since.position.0 => Arrival::Stayed,
        Some(since) => arrival(sweep.view, sweep.who.user, room, since.position.0)?,
    };
    let fresh = arrival != Arrival::Stayed || sweep.request.full_state;
    let whole = came_whole(sweep, room)?;
    if !fresh && !whole && !is_touched(sweep, room)? {
        return Ok(());
    }
    let room_id = rows::room_id(sweep.view, room)?;
    if !sweep.takes_room(&room_id) {
        return Ok(());
    }
    if !sweep.state_filter().lazy_members() {
        // Who does not load members lazily is told of a room when all of them are here (MSC3902).
        if is_partial(sweep.view, room)? {
            return Ok(());
        }
        if whole {
            arrival = Arrival::Joined;
        }
    }
    let fresh = arrival != Arrival::Stayed || sweep.request.full_state;
    let start = out.len();
    open_room(out, &room_id);
    let reader = RoomReader::new(sweep.view, sweep.who.clone(), room, room_id)?;
    let told = write_parts(sweep, out, &reader, arrival)?;
    if told || fresh {
        out.push(b'}');
    } else {
        out.truncate(start);
    }
    Ok(())
}

/// Whether a room that was joined with a part of its state has been completed since the device last looked.
fn came_whole(sweep: &Sweep<'_>, room: RoomShort) -> Result<bool, Error> {
    let Some(since) = sweep.since.filter(|_| sweep.may_be_touched(room)) else { return Ok(false) };
    let whole = sweep.view.get(tables::WHOLE, room)?.is_some_and(|whole| since.position.0 < whole);
    if whole {
        sweep.company_changed.set(true);
    }
    Ok(whole)
}

/// How the user came to be in a room, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It knows.
    Stayed,
    /// It was never told of the room, or only that the user was out of it.
    Joined,
    /// The user was out of it since the device last looked.
    Rejoined,
}

/// How a user who is joined to a room came to be in it, for a device that was told up to a position.
pub(super) fn arrival(view: View<'_>, user: &UserId, room: RoomShort, since: u64) -> Result<Arrival, Error> {
    let Some(own) = rows::state_key_short(view, MEMBER, user.as_str())? else { return Ok(Arrival::Joined) };
    let is_join = |event: Option<EventShort>| -> Result<bool, Error> {
        let Some(event) = event else { return Ok(false) };
        Ok(current::membership_of(&rows::event(view, event)?) == MembershipState::Join)
    };
    let mut arrival = Arrival::Stayed;
    for (at, change) in log(view, room, since, own)?.into_iter().enumerate() {
        if at == 0 && !is_join(change.replaces)? {
            return Ok(Arrival::Joined);
        }
        if !is_join(change.event)? {
            arrival = Arrival::Rejoined;
        }
    }
    Ok(arrival)
}

/// The changes of one entry of the state since a position.
fn log(
    view: View<'_>,
    room: RoomShort,
    since: u64,
    key: StateKeyShort,
) -> Result<Vec<millpond_store::rows::StateChange>, Error> {
    let mut changes = Vec::new();
    for row in state::logged(view, room, (since, u64::MAX))? {
        let ((.., changed), change) = row?;
        if changed == key {
            changes.push(change);
        }
    }
    Ok(changes)
}

/// Whether anything of a room that the device knows is newer than its token.
fn is_touched(sweep: &Sweep<'_>, room: RoomShort) -> Result<bool, Error> {
    if sweep.may_be_touched(room) && is_written(sweep, room)? {
        return Ok(true);
    }
    if ephemeral::is_typing_news(sweep, room) {
        return Ok(true);
    }
    if sweep.account_data.keys().all(String::is_empty) {
        return Ok(false);
    }
    Ok(sweep.account_data.contains_key(rows::room_id(sweep.view, room)?.as_str()))
}

/// Whether a room has rows that are newer than the token: looks at the ends of three ranges.
fn is_written(sweep: &Sweep<'_>, room: RoomShort) -> Result<bool, Error> {
    let (view, since) = (sweep.view, sweep.position());
    if state::logged(view, room, (since, u64::MAX))?.next().transpose()?.is_some() {
        sweep.company_changed.set(true);
        return Ok(true);
    }
    let position = i64::try_from(since).unwrap_or(i64::MAX);
    let timeline =
        view.range(tables::TIMELINE, Bound::Excluded((room, position)), Bound::Included((room, i64::MAX)))?.next();
    if timeline.transpose()?.is_some() {
        return Ok(true);
    }
    if gaps::was_filled(view, room, since)? {
        return Ok(true);
    }
    let receipts =
        view.range(tables::RECEIPT_LOG, Bound::Excluded((room, since)), Bound::Included((room, u64::MAX)))?;
    Ok(receipts.into_iter().next().transpose()?.is_some())
}

fn write_parts(sweep: &Sweep<'_>, out: &mut Vec<u8>, reader: &RoomReader<'_>, arrival: Arrival) -> Result<bool, Error> {
    let (view, room) = (sweep.view, reader.room);
    let known = arrival == Arrival::Stayed;
    let timeline = sweep.timeline_filter();
    let bound = known.then(|| Point(i64::try_from(sweep.position()).unwrap_or(i64::MAX)));
    let limit = if timeline.takes_room(&reader.room_id) { timeline.limit(TIMELINE_DEFAULT, TIMELINE_MAX) } else { 0 };
    let (mut window, _) = gaps::backward(reader, Point::END, bound, limit, &timeline)?;
    window.events.reverse();
    let filled = known && gaps::was_filled(view, room, sweep.position())?;
    let limited = window.more || filled || arrival == Arrival::Rejoined;
    let prev_batch = prev_batch(sweep, &window);

    let span = if known && !sweep.request.full_state { Span::Since(sweep.position()) } else { Span::Full };
    let heroes = if span == Span::Full || members_changed(view, room, sweep.position())? {
        Some(summary::heroes(view, room, sweep.who.user)?)
    } else {
        None
    };
    if let Some(heroes) = &heroes {
        summary::write(out, view, room, heroes)?;
    }
    let side = if sweep.request.use_state_after { Side::After } else { Side::Before };
    let heroes = heroes.unwrap_or_default();
    let members =
        Members { senders: senders(&window.events), heroes: heroes.iter().map(ToString::to_string).collect() };
    let mut told = write_state(sweep, out, reader, (span, side), &window.events, &members)?;
    if !window.events.is_empty() || limited || !known {
        write_timeline(out, reader, &window.events, limited, prev_batch)?;
        told = true;
    }
    told |= ephemeral::write(sweep, out, reader, !known)?;
    told |= account_data::write_room(sweep, out, &reader.room_id, !known)?;
    unread::write(sweep, out, room)?;
    Ok(told)
}

fn prev_batch(sweep: &Sweep<'_>, window: &window::Window) -> Point {
    match window.events.first() {
        Some(first) => Point::before(first.position),
        None if window.reached == Point::END => Point(sweep.now.position.as_timeline()),
        None => window.reached,
    }
}

fn members_changed(view: View<'_>, room: RoomShort, since: u64) -> Result<bool, Error> {
    for row in state::logged(view, room, (since, u64::MAX))? {
        let ((.., key), _) = row?;
        if matches!(rows::state_key_name(view, key)?.kind.as_str(), MEMBER | "m.room.name" | "m.room.canonical_alias") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whose member events a lazy client needs.
struct Members {
    senders: BTreeSet<String>,
    heroes: BTreeSet<String>,
}

fn senders(events: &[Placed]) -> BTreeSet<String> {
    events.iter().map(|placed| sender(&placed.row).into_owned()).collect()
}

/// Appends `state` or `state_after`; says whether there was any.
fn write_state(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    reader: &RoomReader<'_>,
    (span, side): (Span, Side),
    timeline: &[Placed],
    members: &Members,
) -> Result<bool, Error> {
    let filter = sweep.state_filter();
    if !filter.takes_room(&reader.room_id) {
        return Ok(false);
    }
    let (view, room) = (sweep.view, reader.room);
    let mut wanted = members.senders.clone();
    wanted.extend(members.heroes.iter().cloned());
    wanted.insert(sweep.who.user.to_string());
    let lazy = filter.lazy_members();
    let mut entries = state::entries(view, room, (span, side), timeline, lazy.then_some(&wanted))?;
    if lazy && span != Span::Full {
        add_senders(sweep, &mut entries, reader, timeline, members, &filter)?;
    }
    let name = if side == Side::After { "state_after" } else { "state" };
    let told = events_member(out, name, |out| write_entries(reader, out, &entries, &filter))?;
    if lazy {
        let sent = entries.iter().filter(|entry| entry.kind == MEMBER).map(|entry| entry.event);
        sweep.sync.sent.insert(&sweep.owner, room, sent);
    }
    Ok(told)
}

/// Adds the member events of those whose events are shown, unless the device has them.
fn add_senders(
    sweep: &Sweep<'_>,
    entries: &mut Vec<Entry>,
    reader: &RoomReader<'_>,
    timeline: &[Placed],
    members: &Members,
    filter: &Select<'_>,
) -> Result<(), Error> {
    for user in members.senders.iter().chain(&members.heroes).collect::<BTreeSet<_>>() {
        let Some(event) = current::entry(sweep.view, reader.room, MEMBER, user)? else { continue };
        let known = timeline.iter().any(|placed| placed.event == event)
            || entries.iter().any(|entry| entry.event == event)
            || (!filter.redundant_members() && sweep.sync.sent.contains(&sweep.owner, reader.room, event));
        if !known {
            entries.push(Entry { kind: MEMBER.to_owned(), state_key: user.clone(), event });
        }
    }
    Ok(())
}

pub(super) fn write_entries(
    reader: &RoomReader<'_>,
    out: &mut Vec<u8>,
    entries: &[Entry],
    filter: &Select<'_>,
) -> Result<(), Error> {
    for entry in entries {
        let row: EventRow = rows::event(reader.view, entry.event)?;
        if filter.takes(&row) {
            reader.write_state(out, &row, Form::Sync)?;
        }
    }
    Ok(())
}

/// Timeline events of a room when the filter names no limit.
pub(super) const TIMELINE_DEFAULT: usize = 10;
/// And at most.
pub(super) const TIMELINE_MAX: usize = 1_000;
