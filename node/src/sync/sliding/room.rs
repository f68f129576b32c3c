//! A room in an answer of sliding sync: whole the first time, later what is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use millpond_matrix::client::write_string;
use millpond_store::{
    View,
    rows::{EventRow, EventShort, Membership, RoomShort, SentRoom},
    tables,
};
use ruma::{OwnedEventId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{
    in_timeline,
    lists::Asked,
    request::MEMBER,
    required::{self, Combined, Entries},
    sweep::Sweep,
};
use crate::{
    Error,
    json::{comma, key, plain_member, raw, text_member, unquote},
    rooms::{current, rows},
    sync::{
        away, joined,
        state::{self, Side, Span},
        summary,
    },
    timeline::{
        Point,
        reader::{Form, RoomReader, sender},
        select::Select,
        window::{self, Window},
    },
};

/// What the client has of a room.
pub(super) enum Known {
    /// Nothing.
    Never,
    /// This, sent with this required state.
    Before(SentRoom, Combined),
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

/// Whether a change of the state was made by an event of the timeline, or by none: members who come with a room's description
/// are not told to clients that load them lazily.
fn was_said(view: View<'_>, event: Option<EventShort>) -> Result<bool, Error> {
    let Some(event) = event else { return Ok(true) };
    Ok(rows::head(view, event)?.meta.position.is_some())
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

/// A room of which nothing is to be told may still be asked for with less than before, which is what counts from now on.
fn shrunk(ask: &Ask<'_>) -> Option<SentRoom> {
    let Known::Before(before, required) = ask.known else { return None };
    (!required.is_within(&ask.asked.required)).then_some(*before)
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

/// Which part of a room is told.
struct Part {
    initial: bool,
    /// More of the timeline is asked for than the client has.
    expands: bool,
    /// More of the state is asked for than before.
    widens: bool,
    joined: bool,
    /// It became a direct chat, or is none any more.
    turned: bool,
    direct: bool,
    /// Up to where the client knows it, unless it is told all.
    told: Option<u64>,
}

impl Part {
    fn window(&self, sweep: &Sweep<'_>, ask: &Ask<'_>, reader: &RoomReader<'_>) -> Result<Window, Error> {
        let end = match ask.row.event.filter(|_| !self.joined) {
            // What came after the user left is not his to see.
            Some(event) => rows::event(sweep.view, event)?.meta.position.map_or(Point::END, Point),
            None => Point::END,
        };
        let bound = self.told.filter(|_| !self.expands).map(|told| Point(in_timeline(told)));
        let limit = usize::try_from(ask.asked.timeline_limit).unwrap_or(usize::MAX);
        let mut window = window::backward(reader, end, bound, limit, &Select::new(&sweep.open))?;
        window.events.reverse();
        Ok(window)
    }

    /// Appends the members of the room's object; says whether there was anything to tell.
    fn write(
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
            || tells_of_room(&changes);
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
            self.write_summary(sweep, out, ask, &changes)?;
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

    fn write_summary(
        &self,
        sweep: &Sweep<'_>,
        out: &mut Vec<u8>,
        ask: &Ask<'_>,
        changes: &Entries,
    ) -> Result<(), Error> {
        let (view, room) = (sweep.view, ask.room);
        let changed = |kind: &str| changes.keys().any(|(changed, _)| changed == kind);
        for (name, kind, field) in [("name", NAME, "name"), ("avatar", AVATAR, "url")] {
            if self.initial || changed(kind) {
                match content_text(view, room, kind, field)? {
                    Some(text) => text_member(out, name, &text),
                    None if self.initial => {}
                    None => plain_member(out, name, "null"),
                }
            }
        }
        if self.initial || changed(MEMBER) {
            let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
            plain_member(out, "joined_count", counts.joined);
            plain_member(out, "invited_count", counts.invited);
        }
        if self.initial || changed(MEMBER) || changed(NAME) || changed("m.room.canonical_alias") {
            write_heroes(sweep, out, room)?;
        }
        let unread = sweep.sync.push.unread(view, sweep.who.user, room)?.main;
        plain_member(out, "notification_count", unread.notification);
        plain_member(out, "highlight_count", unread.highlight);
        let heads = sweep.sync.heads.heads(sweep.sync.core.notifier(), view, std::iter::once(room))?;
        plain_member(out, "bump_stamp", heads[0].bump);
        Ok(())
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

/// Whether a change of the state shows in the room's own fields.
fn tells_of_room(changes: &Entries) -> bool {
    changes.keys().any(|(kind, _)| matches!(kind.as_str(), NAME | AVATAR | MEMBER | "m.room.canonical_alias"))
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

/// A text in the content of an entry of the state; none if it is empty or something else.
fn content_text(view: View<'_>, room: RoomShort, kind: &str, field: &str) -> Result<Option<String>, Error> {
    let content = current::content::<serde_json::Map<String, serde_json::Value>>(view, room, kind, "")?;
    let text = content.and_then(|content| content.get(field)?.as_str().map(str::to_owned));
    Ok(text.filter(|text| !text.is_empty()))
}

fn write_heroes(sweep: &Sweep<'_>, out: &mut Vec<u8>, room: RoomShort) -> Result<(), Error> {
    #[derive(Default, Deserialize)]
    struct Member {
        #[serde(default)]
        displayname: Option<String>,
        #[serde(default)]
        avatar_url: Option<String>,
    }
    let heroes = summary::heroes(sweep.view, room, sweep.who.user)?;
    if heroes.is_empty() {
        return Ok(());
    }
    key(out, "heroes");
    out.push(b'[');
    for hero in heroes {
        let member = current::content::<Member>(sweep.view, room, MEMBER, hero.as_str())?.unwrap_or_default();
        comma(out);
        out.push(b'{');
        text_member(out, "user_id", hero.as_str());
        for (name, value) in [("displayname", member.displayname), ("avatar_url", member.avatar_url)] {
            if let Some(value) = value {
                text_member(out, name, &value);
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

const NAME: &str = "m.room.name";
const AVATAR: &str = "m.room.avatar";
