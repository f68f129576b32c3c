//! Which part of a room is told, and its object: state, timeline, and what it says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use millpond_store::{
    View,
    rows::{EventRow, EventShort, RoomShort},
    tables,
};

use super::{Ask, Known, about};
use crate::{
    Error,
    json::{comma, key, plain_member, text_member, unquote},
    rooms::rows,
    sync::{
        sliding::{
            in_timeline,
            request::MEMBER,
            required::{self, Entries},
            sweep::Sweep,
        },
        state::{self, Side, Span},
    },
    timeline::{
        Point, gaps,
        reader::{Form, RoomReader, sender},
        select::Select,
        window::Window,
    },
};

/// Which part of a room is told.
pub(super) struct Part {
    pub(super) initial: bool,
    /// More of the timeline is asked for than the client has.
    pub(super) expands: bool,
    /// More of the state is asked for than before.
    pub(super) widens: bool,
    pub(super) joined: bool,
    /// It became a direct chat, or is none any more.
    pub(super) turned: bool,
    pub(super) direct: bool,
    /// Up to where the client knows it, unless it is told all.
    pub(super) told: Option<u64>,
}

impl Part {
    /// The part of the timeline.
    pub(super) fn window(&self, sweep: &Sweep<'_>, ask: &Ask<'_>, reader: &RoomReader<'_>) -> Result<Window, Error> {
        let end = match ask.row.event.filter(|_| !self.joined) {
            // What came after the user left is not his to see.
            Some(event) => rows::event(sweep.view, event)?.meta.position.map_or(Point::END, Point),
            None => Point::END,
        };
        let bound = self.told.filter(|_| !self.expands).map(|told| Point(in_timeline(told)));
        let limit = usize::try_from(ask.asked.timeline_limit).unwrap_or(usize::MAX);
        let (mut window, _) = gaps::backward(reader, end, bound, limit, &Select::new(&sweep.open))?;
        window.events.reverse();
        if let Some(told) = self.told {
            window.more |= gaps::was_filled(sweep.view, ask.room, told)?;
        }
        Ok(window)
    }

    /// Appends the members of the room's object; says whether there was anything to tell.
    pub(super) fn write(
        &self,
        sweep: &Sweep<'_>,
        out: &mut Vec<u8>,
        ask: &Ask<'_>,
        reader: &RoomReader<'_>,
        window: &Window,
        members: &mut Vec<(RoomShort, EventShort)>,
    ) -> Result<bool, Error> {
        let view = sweep.view;
        let changes = match self.told {
            Some(told) if self.joined => logged(view, ask.room, told)?,
            _ => BTreeMap::new(),
        };
        let entries = self.entries(sweep, ask, reader, window, &changes)?;
        let own_receipts = self.joined && self.told.is_some_and(|_| ask.written) && has_read(sweep, ask)?;
        let news = !window.events.is_empty() && (!self.expands || self.has_more(ask, window));
        let told = self.initial
            || news
            || window.more && !self.expands
            || !entries.is_empty()
            || self.turned
            || own_receipts
            || about::tells(&changes);
        if !told {
            return Ok(false);
        }
        if self.initial {
            plain_member(out, "initial", true);
        }
        if self.turned {
            plain_member(out, "is_dm", self.direct);
        }
        if self.joined {
            about::write(sweep, out, ask.room, self.initial, &changes)?;
        }
        self.write_state(out, ask, reader, &entries, members)?;
        self.write_timeline(sweep, out, reader, window)?;
        Ok(true)
    }

    /// Whether an expanded timeline has anything that the client may not have.
    fn has_more(&self, ask: &Ask<'_>, window: &Window) -> bool {
        let depth = ask.before().map_or(0, |before| before.depth);
        let new = |told: u64| window.events.last().is_some_and(|last| last.position > in_timeline(told));
        window.events.len() as u64 > u64::from(depth) || self.told.is_some_and(new)
    }

    /// The state events to send.
    fn entries(
        &self,
        sweep: &Sweep<'_>,
        ask: &Ask<'_>,
        reader: &RoomReader<'_>,
        window: &Window,
        changes: &Entries,
    ) -> Result<Entries, Error> {
        let (view, required) = (sweep.view, &ask.asked.required);
        if !self.joined {
            return self.entries_left(sweep, ask, reader, window);
        }
        let mut entries = match ask.known {
            _ if self.told.is_none() => required.entries(view, ask.room)?,
            Known::Before(_, known) if self.widens => required.beyond(view, ask.room, known)?,
            _ => Entries::new(),
        };
        for (name, event) in changes {
            let lazy = required.lazy_members() && name.0 == MEMBER && !window.more;
            if required.takes(&name.0, &name.1) || (lazy && was_said(view, *event)?) {
                entries.insert(name.clone(), *event);
            }
        }
        if required.lazy_members() {
            for (user, event) in required::members(view, ask.room, &of_timeline(window))? {
                let name = (MEMBER.to_owned(), user);
                if !entries.contains_key(&name) && (self.initial || !sweep.turn.has_member(ask.room, event)) {
                    entries.insert(name, Some(event));
                }
            }
        }
        Ok(entries)
    }

    /// The state of a room that the user is out of, as it was when he left, and his own membership.
    fn entries_left(
        &self,
        sweep: &Sweep<'_>,
        ask: &Ask<'_>,
        reader: &RoomReader<'_>,
        window: &Window,
    ) -> Result<Entries, Error> {
        if self.told.is_some_and(|told| ask.row.position <= told) && !self.widens {
            return Ok(Entries::new());
        }
        let found = state::entries_left(reader, (Span::Full, Side::After), &window.events)?;
        let taken = found.into_iter().filter(|entry| ask.asked.required.takes(&entry.kind, &entry.state_key));
        let mut entries: Entries = taken.map(|entry| ((entry.kind, entry.state_key), Some(entry.event))).collect();
        entries.insert((MEMBER.to_owned(), sweep.who.user.to_string()), ask.row.event);
        Ok(entries)
    }

    fn write_state(
        &self,
        out: &mut Vec<u8>,
        ask: &Ask<'_>,
        reader: &RoomReader<'_>,
        entries: &Entries,
        members: &mut Vec<(RoomShort, EventShort)>,
    ) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        key(out, "required_state");
        out.push(b'[');
        for ((kind, state_key), event) in entries {
            match event {
                Some(event) => {
                    reader.write_state(out, &rows::event(reader.view, *event)?, Form::Sync)?;
                    if kind == MEMBER {
                        members.push((ask.room, *event));
                    }
                }
                None => {
                    comma(out);
                    out.push(b'{');
                    text_member(out, "type", kind);
                    text_member(out, "state_key", state_key);
                    out.push(b'}');
                }
            }
        }
        out.push(b']');
        Ok(())
    }

    fn write_timeline(
        &self,
        sweep: &Sweep<'_>,
        out: &mut Vec<u8>,
        reader: &RoomReader<'_>,
        window: &Window,
    ) -> Result<(), Error> {
        if self.expands {
            plain_member(out, "unstable_expanded_timeline", true);
        }
        if !window.events.is_empty() {
            key(out, "timeline");
            out.push(b'[');
            for placed in &window.events {
                reader.write(out, &placed.row, Form::Sync)?;
            }
            out.push(b']');
            let live = |since: u64| window.events.iter().filter(|placed| placed.position > in_timeline(since)).count();
            plain_member(out, "num_live", sweep.since.map_or(0, live));
        }
        if !window.events.is_empty() || window.more {
            let prev_batch = match window.events.first() {
                Some(first) => Point::before(first.position),
                None if window.reached == Point::END => Point(sweep.position.as_timeline()),
                None => window.reached,
            };
            plain_member(out, "limited", window.more);
            text_member(out, "prev_batch", &prev_batch.to_string());
        }
        Ok(())
    }
}

/// Whether the user read on since the client was told, here or elsewhere: the counts are others then.
fn has_read(sweep: &Sweep<'_>, ask: &Ask<'_>) -> Result<bool, Error> {
    let Some(told) = ask.told else { return Ok(false) };
    let (from, to) = (Bound::Excluded((ask.room, told)), Bound::Included((ask.room, u64::MAX)));
    for entry in sweep.view.range(tables::RECEIPT_LOG, from, to)? {
        if entry?.1.user_id == sweep.who.user {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What changed of the state after a position; none for what was removed.
fn logged(view: View<'_>, room: RoomShort, since: u64) -> Result<Entries, Error> {
    let mut changes = Entries::new();
    for row in state::logged(view, room, (since, u64::MAX))? {
        let ((_, _, key), change) = row?;
        let name = rows::state_key_name(view, key)?;
        changes.insert((name.kind, name.state_key), change.event);
    }
    Ok(changes)
}

/// Who matters for a stretch of timeline: the senders, and whose membership changes.
fn of_timeline(window: &Window) -> BTreeSet<String> {
    let mut users = BTreeSet::new();
    for placed in &window.events {
        let row: &EventRow = &placed.row;
        users.insert(sender(row).into_owned());
        if let Some(state_key) = row.header.state_key
            && unquote(row.header.kind.of(&row.json)) == MEMBER
        {
            users.insert(unquote(state_key.of(&row.json)).into_owned());
        }
    }
    users
}

/// Whether a change of the state was made by an event of the timeline, or by none: members who come with a room's description
/// are not told to clients that load them lazily.
fn was_said(view: View<'_>, event: Option<EventShort>) -> Result<bool, Error> {
    let Some(event) = event else { return Ok(true) };
    Ok(rows::head(view, event)?.meta.position.is_some())
}
