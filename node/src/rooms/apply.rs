//! The one funnel: what a verdict says about an event, written with everything that follows from it, in one transaction.
//! Local and remote events meet here; nothing else writes events.
//!
//! ```text
//! CheckedPdu + Verdict -> states -> event row -> timeline, extremities, current state
//!                                            -> relations, redactions -> outbox rows -> wake-ups
//! ```

use millpond_matrix::{
    CheckedPdu, Pdu, Verdict,
    decide::{Append, Given, Placement, StateSource, decide},
    reader::ReadError,
    rules::rules,
};
use millpond_store::{
    Error, Topic, View, WriteTxn,
    rows::{EventMeta, EventRow, EventShort, Room, RoomHead, RoomShort, StateGroup},
    tables,
};
use ruma::{
    OwnedEventId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use super::{current, groups, inherit, reader::StoredRoom, rows, stripped};
use crate::identity::Identity;

mod fanout;
mod gaps;
mod newcomer;
mod redactions;
mod relations;
mod soft_failed;

pub(crate) use fanout::Owed;
pub(crate) use gaps::place;
pub(crate) use relations::remove as forget_relation;

/// What the caller knows about an event beside the event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// `device id NUL transaction id` of the client that sent it.
    pub(crate) txn: Option<Box<str>>,
    /// To whom we owe it.
    pub(crate) owed: Owed,
    /// It is history, and goes to this place in the timeline: in a gap, or at the old end.
    pub(crate) backfill: Option<i64>,
    /// When it came, in milliseconds since the epoch, if others are owed it.
    pub(crate) now_ms: u64,
}

/// Where an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Its number.
    pub(crate) event: EventShort,
    /// It is part of the timeline.
    pub(crate) appended: bool,
}

/// Decides on an event over the open transaction and writes the outcome. For events that are part of a sequence whose
/// outcome was tried before (createRoom), and for those whose decision needs no resolution.
///
/// # Errors
/// Storage errors, and a verdict that cannot be written: then the caller's own check was wrong.
pub(crate) fn decide_and_write(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    room: (RoomShort, &Room),
    pdu: &CheckedPdu,
    context: &Context,
) -> Result<Applied, Error> {
    let given = Given { backfill: context.backfill.is_some(), ..Given::default() };
    let verdict = verdict(txn.view(), room, pdu, &given).map_err(store_error)?;
    write(txn, identity, room, pdu, verdict, context)
}

/// The verdict on an event in a stored room.
///
/// # Errors
/// Storage errors.
pub(crate) fn verdict(
    view: View<'_>,
    (short, room): (RoomShort, &Room),
    pdu: &CheckedPdu,
    given: &Given<'_>,
) -> Result<Verdict, ReadError> {
    let rules = rules(&room.version).map_err(ReadError::new)?;
    decide(pdu, &StoredRoom::new(view, short, room), rules, given)
}

/// The store's own error inside a read error of the pure functions.
pub(crate) fn store_error(error: ReadError) -> Error {
    match error.into_inner().downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::Corrupt { table: "EVENTS", why: other.to_string() },
    }
}

/// Writes a verdict with all that follows from it.
///
/// # Errors
/// Storage errors. `Park`, `Resolve` and `Duplicate` write nothing and must be handled before.
pub(crate) fn write(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    (short, room): (RoomShort, &Room),
    pdu: &CheckedPdu,
    verdict: Verdict,
    context: &Context,
) -> Result<Applied, Error> {
    let flags = verdict.flags();
    let stored = pdu.with_flags(flags);
    match verdict {
        Verdict::Append(append) => append_event(txn, identity, (short, room), &stored, append, context),
        Verdict::SoftFail { placement, .. } | Verdict::Reject { placement, .. } => {
            let event = number(txn, &stored)?;
            let (before, after) = states(txn, event, &placement)?;
            put(txn, short, event, &stored, Place { position: None, before, after, txn: None })?;
            // It is here, though nobody sees it: no one need be asked for it again.
            gaps::close(txn, short, pdu.event_id())?;
            if flags.soft_failed {
                soft_failed::pass_on(txn, identity, (short, room), &stored, event, context)?;
            }
            Ok(Applied { event, appended: false })
        }
        Verdict::Duplicate => match rows::event_short(txn.view(), pdu.event_id())? {
            Some(event) => Ok(Applied { event, appended: false }),
            None => Err(unwritable("a duplicate of an event that is not stored")),
        },
        Verdict::Park(_) => Err(unwritable("an event that waits for others")),
        Verdict::Resolve(_) => Err(unwritable("an event whose state is not resolved")),
    }
}

/// Stores an event of an auth chain or of a state whose place in the DAG is not known.
///
/// # Errors
/// Storage errors.
pub(crate) fn write_outlier(txn: &mut WriteTxn<'_>, room: RoomShort, pdu: &Pdu) -> Result<EventShort, Error> {
    if let Some(event) = rows::event_short(txn.view(), pdu.event_id())? {
        return Ok(event);
    }
    let event = number(txn, pdu)?;
    put(txn, room, event, pdu, Place::default())?;
    Ok(event)
}

fn append_event(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    (short, room): (RoomShort, &Room),
    pdu: &Pdu,
    append: Append,
    context: &Context,
) -> Result<Applied, Error> {
    let newest = txn.position().0;
    let event = number(txn, pdu)?;
    let (before, after) = states(txn, event, &append.placement)?;
    let missing = gaps::missing(txn.view(), pdu)?;
    let position = match context.backfill {
        Some(position) => position,
        None => gaps::next_position(txn, short, &missing)?,
    };
    put(txn, short, event, pdu, Place { position: Some(position), before, after, txn: context.txn.clone() })?;
    txn.put(tables::TIMELINE, (short, position), &event)?;
    gaps::close(txn, short, pdu.event_id())?;
    gaps::open(txn, short, (event, position), pdu, missing)?;
    move_extremities(txn, short, event, pdu, &append.extremities)?;
    if let Some(current) = append.current {
        for change in current.changes {
            let (kind, state_key) = change.key;
            let changed = change.event.map(|id| own_or_stored(txn.view(), pdu, event, &id)).transpose()?;
            current::change(txn, short, &kind.to_string(), &state_key, changed)?;
        }
        let head = match current.to {
            StateSource::AfterThis => after,
            other => group(txn, other)?,
        };
        let group = head.ok_or_else(|| unwritable("an empty current state"))?;
        let bump = bump(txn.view(), short, pdu, position)?;
        txn.put(tables::ROOM_HEADS, short, &RoomHead { group, bump })?;
    }
    show_outside(txn, identity, short, pdu, event)?;
    inherit::on_join(txn, identity, short, pdu, event)?;
    relations::write(txn, pdu, event, position)?;
    if event.0 <= newest {
        // The indexer has passed its number while it was an outlier.
        crate::search::index::add_late(txn, event)?;
    }
    redactions::write(txn, (short, room), pdu, event)?;
    fanout::write(txn, identity, (short, room), pdu, event, &context.owed)?;
    newcomer::write(txn, identity, short, pdu, event)?;
    txn.touch(Topic::Room(short));
    Ok(Applied { event, appended: true })
}

/// Where the newest event stands that bumps the room in a list of rooms (MSC4186), with this one.
fn bump(view: View<'_>, room: RoomShort, pdu: &Pdu, position: i64) -> Result<Option<u64>, Error> {
    const BUMPS: [&str; 8] = [
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "org.matrix.msc3381.poll.start",
        "m.beacon_info",
    ];
    let own = u64::try_from(position).ok().filter(|_| BUMPS.contains(&&*pdu.kind().to_string()));
    match own {
        Some(position) => Ok(Some(position)),
        None => Ok(view.get(tables::ROOM_HEADS, room)?.and_then(|head| head.bump)),
    }
}

/// A user of ours who is invited, or knocks, is shown stripped state.
fn show_outside(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    room: RoomShort,
    pdu: &Pdu,
    event: EventShort,
) -> Result<(), Error> {
    if *pdu.kind() != TimelineEventType::RoomMember {
        return Ok(());
    }
    let Some(Ok(target)) = pdu.state_key().map(<&UserId>::try_from) else { return Ok(()) };
    let row = current::membership(txn.view(), room, target)?.filter(|row| row.event == Some(event));
    let outside = row.is_some_and(|row| matches!(row.membership, MembershipState::Invite | MembershipState::Knock));
    if !outside || !identity.is_our_user(target) {
        return Ok(());
    }
    let shown = stripped::state(txn.view(), room, Some(pdu.sender()), Some(event))?;
    txn.put(tables::STRIPPED, (target, room), &shown)
}

/// The number of an event: the one it has as an outlier, or a new one.
fn number(txn: &mut WriteTxn<'_>, pdu: &Pdu) -> Result<EventShort, Error> {
    if let Some(event) = rows::event_short(txn.view(), pdu.event_id())? {
        return Ok(event);
    }
    let event = EventShort(txn.next_position().0);
    txn.put(tables::EVENT_IDS, pdu.event_id(), &event)?;
    Ok(event)
}

#[derive(Default)]
struct Place {
    position: Option<i64>,
    before: Option<StateGroup>,
    after: Option<StateGroup>,
    txn: Option<Box<str>>,
}

fn put(txn: &mut WriteTxn<'_>, room: RoomShort, event: EventShort, pdu: &Pdu, place: Place) -> Result<(), Error> {
    let replaces = match (pdu.state_entry(), place.before) {
        (Some((kind, state_key)), Some(before)) if !pdu.flags().rejected => {
            entry_of(txn.view(), room, before, &kind.to_string(), &state_key)?
        }
        _ => None,
    };
    let meta = EventMeta {
        room,
        position: place.position,
        state_after: place.after,
        redacted_by: None,
        replaces,
        purged: false,
        txn: place.txn,
    };
    txn.put(tables::EVENTS, event, &EventRow { meta, header: pdu.header().clone(), json: pdu.json().into() })
}

fn entry_of(
    view: View<'_>,
    room: RoomShort,
    group: StateGroup,
    kind: &str,
    state_key: &str,
) -> Result<Option<EventShort>, Error> {
    if view.get(tables::ROOM_HEADS, room)?.is_some_and(|head| head.group == group) {
        return current::entry(view, room, kind, state_key);
    }
    match rows::state_key_short(view, kind, state_key)? {
        Some(key) => groups::entry(view, group, key),
        None => Ok(None),
    }
}

/// The groups of the state before and after an event.
fn states(
    txn: &mut WriteTxn<'_>,
    event: EventShort,
    placement: &Placement,
) -> Result<(Option<StateGroup>, Option<StateGroup>), Error> {
    let before = group(txn, placement.before.clone())?;
    let after = match &placement.sets {
        Some((kind, state_key)) => {
            let key = rows::intern_state_key(txn, &kind.to_string(), state_key)?;
            Some(groups::derive(txn, before, vec![(key, Some(event))])?)
        }
        None => Some(groups::derive(txn, before, Vec::new())?),
    };
    Ok((before, after))
}

fn group(txn: &mut WriteTxn<'_>, source: StateSource) -> Result<Option<StateGroup>, Error> {
    match source {
        StateSource::Empty => Ok(None),
        StateSource::Group(group) => Ok(Some(group)),
        StateSource::Map { near, state } => groups::store(txn, near, &state).map(Some),
        StateSource::AfterThis => Err(unwritable("a state that refers to itself")),
    }
}

fn own_or_stored(view: View<'_>, pdu: &Pdu, event: EventShort, id: &OwnedEventId) -> Result<EventShort, Error> {
    if *id == pdu.event_id() {
        return Ok(event);
    }
    rows::event_short(view, id)?.ok_or_else(|| unwritable("a state with an event that is not stored"))
}

fn move_extremities(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    event: EventShort,
    pdu: &Pdu,
    wanted: &[OwnedEventId],
) -> Result<(), Error> {
    let mut kept = Vec::with_capacity(wanted.len());
    for id in wanted {
        kept.push(own_or_stored(txn.view(), pdu, event, id)?);
    }
    let before: Vec<_> = txn.view().scan(tables::EXTREMITIES, (room,))?.collect::<Result<_, _>>()?;
    for ((_, old), ()) in &before {
        if !kept.contains(old) {
            txn.remove(tables::EXTREMITIES, (room, old))?;
        }
    }
    for new in kept {
        if !before.iter().any(|((_, old), ())| *old == new) {
            txn.put(tables::EXTREMITIES, (room, new), &())?;
        }
    }
    Ok(())
}

fn unwritable(what: &str) -> Error {
    Error::Corrupt { table: "EVENTS", why: format!("refusing to write {what}") }
}
