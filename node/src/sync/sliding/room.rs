//! A room in an answer of sliding sync: whole the first time, later what is new.

mod about;
mod part;

use std::{ops::Bound, rc::Rc};

use millpond_matrix::client::write_string;
use millpond_store::{
    View,
    rows::{EventShort, Membership, RoomShort, SentRoom},
    tables,
};
use ruma::{OwnedEventId, events::room::member::MembershipState};

use self::part::Part;
use super::{in_timeline, lists::Asked, required::Combined, sweep::Sweep};
use crate::{
    Error,
    json::{comma, key, plain_member, raw, text_member},
    sync::{away, joined, state},
    timeline::{gaps, reader::RoomReader},
};

/// What the client has of a room.
pub(super) enum Known {
    /// Nothing.
    Never,
    /// This, sent with this required state.
    Before(SentRoom, Rc<Combined>),
}

/// What is asked of a room.
pub(super) struct Ask<'a> {
    pub(super) room: RoomShort,
    pub(super) row: &'a Membership,
    pub(super) asked: &'a Asked,
    /// Up to where the client knows it.
    pub(super) told: Option<u64>,
    /// Something was written there since.
    pub(super) written: bool,
    pub(super) known: &'a Known,
}

impl Ask<'_> {
    fn before(&self) -> Option<&SentRoom> {
        match self.known {
            Known::Never => None,
            Known::Before(sent, _) => Some(sent),
        }
    }
}

/// Whether a room has rows that are newer than a position: looks at the ends of three ranges.
pub(super) fn is_written(view: View<'_>, room: RoomShort, since: u64) -> Result<bool, Error> {
    if state::logged(view, room, (since, u64::MAX))?.next().transpose()?.is_some() {
        return Ok(true);
    }
    let (from, to) = (Bound::Excluded((room, in_timeline(since))), Bound::Included((room, i64::MAX)));
    if view.range(tables::TIMELINE, from, to)?.next().transpose()?.is_some() {
        return Ok(true);
    }
    if gaps::was_filled(view, room, since)? {
        return Ok(true);
    }
    let (from, to) = (Bound::Excluded((room, since)), Bound::Included((room, u64::MAX)));
    Ok(view.range(tables::RECEIPT_LOG, from, to)?.next().transpose()?.is_some())
}

/// Appends an invite or a knock, unless the client knows it. Gives what the client has then, if that may differ.
pub(super) fn write_stripped(sweep: &Sweep<'_>, out: &mut Vec<u8>, ask: &Ask<'_>) -> Result<Option<SentRoom>, Error> {
    let sent = SentRoom { up_to: None, depth: 0, required: 0, direct: false, full: false };
    if let (Some(before), Some(told)) = (ask.before(), ask.told)
        && !before.full
        && ask.row.position <= told
    {
        return Ok(before.up_to.is_some().then_some(sent));
    }
    let shown = sweep.view.get(tables::STRIPPED, (sweep.who.user, ask.room))?.unwrap_or_else(|| "[]".to_owned());
    if away::is_from_ignored(&sweep.who, &shown) {
        return Ok(None);
    }
    open(sweep, out, ask)?;
    plain_member(out, "initial", true);
    plain_member(out, "bump_stamp", ask.row.position);
    key(out, "invite_state");
    raw(out, &shown);
    close(out, ask);
    Ok(Some(sent))
}

/// Appends a room that the user is in or was in, if there is anything to tell. `events` and `members` get what was sent.
/// Gives what the client has then, if that may differ.
pub(super) fn write(
    sweep: &Sweep<'_>,
    out: &mut Vec<u8>,
    ask: &Ask<'_>,
    events: &mut Vec<OwnedEventId>,
    members: &mut Vec<(RoomShort, EventShort)>,
) -> Result<Option<SentRoom>, Error> {
    let joined = ask.row.membership == MembershipState::Join;
    // Somebody who has left a room that is not here can be told nothing of it.
    if !joined && ask.row.event.is_none() {
        return Ok(None);
    }
    let initial = is_initial(sweep, ask)?;
    let depth = if initial { 0 } else { ask.before().map_or(0, |before| before.depth) };
    let expands = !initial && joined && ask.asked.timeline_limit > u64::from(depth);
    let widens = match ask.known {
        Known::Before(_, required) if !initial => !ask.asked.required.is_within(required),
        _ => false,
    };
    let pending = ask.before().is_some_and(|before| before.up_to.is_some());
    let may_turn = sweep.direct_changed() || pending || initial || ask.written;
    if !initial && !ask.written && !expands && !widens && !may_turn {
        return Ok(shrunk(ask));
    }
    let room_id = sweep.sync.heads.nature(sweep.view, ask.room)?.room_id.clone();
    let direct = sweep.is_direct(&room_id)?;
    let part = Part {
        initial,
        expands,
        widens,
        joined,
        turned: direct != ask.before().is_some_and(|before| !initial && before.direct),
        told: ask.told.filter(|_| !initial),
        direct,
    };
    let reader = RoomReader::new(sweep.view, sweep.who.clone(), ask.room, room_id)?;
    let start = out.len();
    open(sweep, out, ask)?;
    let window = part.window(sweep, ask, &reader)?;
    let wrote = part.write(sweep, out, ask, &reader, &window, members)?;
    if wrote {
        close(out, ask);
        events.extend(window.events.iter().map(|placed| placed.row.header.event_id.clone()));
    } else {
        out.truncate(start);
    }
    let depth = match (initial || expands, window.more) {
        (true, false) => u32::MAX,
        (_, true) => u32::try_from(ask.asked.timeline_limit).unwrap_or(u32::MAX),
        (false, false) => depth,
    };
    Ok(Some(SentRoom { up_to: None, depth, required: 0, direct, full: true }))
}

/// A room of which nothing is to be told may still be asked for with less than before, or in other words: that is what
/// counts from now on.
fn shrunk(ask: &Ask<'_>) -> Option<SentRoom> {
    let Known::Before(before, required) = ask.known else { return None };
    (**required != ask.asked.required).then_some(*before)
}

/// Whether the client is told of a room as if it had never heard of it: it has not, or only of an invite, or the user was
/// out of it in the meantime.
fn is_initial(sweep: &Sweep<'_>, ask: &Ask<'_>) -> Result<bool, Error> {
    let (Some(before), Some(told)) = (ask.before(), ask.told) else { return Ok(true) };
    if !before.full {
        return Ok(true);
    }
    let joined = ask.row.membership == MembershipState::Join;
    Ok(joined
        && ask.row.position > told
        && joined::arrival(sweep.view, sweep.who.user, ask.room, told)? != joined::Arrival::Stayed)
}

fn open(sweep: &Sweep<'_>, out: &mut Vec<u8>, ask: &Ask<'_>) -> Result<(), Error> {
    let nature = sweep.sync.heads.nature(sweep.view, ask.room)?;
    crate::json::any_key(out, nature.room_id.as_str());
    out.push(b'{');
    Ok(())
}

fn close(out: &mut Vec<u8>, ask: &Ask<'_>) {
    text_member(out, "membership", ask.row.membership.as_str());
    if !ask.asked.lists.is_empty() {
        key(out, "lists");
        out.push(b'[');
        for list in &ask.asked.lists {
            comma(out);
            write_string(out, list);
        }
        out.push(b']');
    }
    out.push(b'}');
}
