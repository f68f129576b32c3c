//! One sweep over what a request is about, on one snapshot: which rooms have news for this connection, and what the client
//! will have got with the answer.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use millpond_store::{
    Position, View,
    rows::{EventShort, RoomShort, SentRoom},
};
use ruma::{
    DeviceId, OwnedEventId, UserId, api::client::filter::RoomEventFilter, events::room::member::MembershipState,
};

use super::{
    Joined, Request,
    connections::{State, Turn},
    extensions,
    kept::Kept,
    lists::{Asked, Asker, Selected},
    required::Combined,
    room,
};
use crate::{
    Error,
    json::{any_key, key, object_member, plain_member},
    rooms::rows,
    sync::{Sync, account_data, heads::UserRooms, state},
    timeline::reader::Who,
};

/// What a sweep found.
pub(super) struct Swept {
    /// The answer without its end.
    pub(super) body: Vec<u8>,
    /// There is something in it for which a waiting client should be woken.
    pub(super) news: bool,
    /// What the client has got with it, if that is not what it had before.
    pub(super) state: Option<State>,
    /// The member events in it.
    pub(super) members: Vec<(RoomShort, EventShort)>,
    pub(super) position: Position,
    pub(super) typing: u64,
    /// The rooms that the user is joined to.
    pub(super) rooms: Joined,
    /// What the next sweep of the connection can use.
    pub(super) kept: Kept,
}

/// What the parts of an answer are made from.
pub(super) struct Sweep<'v> {
    pub(super) sync: &'v Sync,
    pub(super) view: View<'v>,
    pub(super) who: Who<'v>,
    pub(super) device: &'v DeviceId,
    pub(super) turn: &'v Turn,
    pub(super) rooms: &'v UserRooms,
    pub(super) position: Position,
    /// The position of the token.
    pub(super) since: Option<u64>,
    /// Rooms that a commit touched since then, if that is known.
    touched: Option<HashSet<RoomShort>>,
    /// Account data that changed, by room.
    pub(super) account_data: account_data::Changes,
    /// A filter that takes everything.
    pub(super) open: RoomEventFilter,
    /// The sets of required state that rooms were sent with, by number, as they are needed.
    required: RefCell<HashMap<u32, Rc<Combined>>>,
}

/// A room that the request is about.
pub(super) struct Visited {
    pub(super) room: RoomShort,
    pub(super) asked: usize,
    /// Up to where the client knows it; none: it does not.
    pub(super) told: Option<u64>,
    /// Something was written there since.
    pub(super) written: bool,
    /// The user is joined to it.
    pub(super) joined: bool,
    /// The events that were sent.
    pub(super) events: Vec<OwnedEventId>,
}

/// Answers on a fresh snapshot.
pub(super) fn run(
    sync: &Sync,
    user: &UserId,
    device: &DeviceId,
    turn: &Turn,
    request: &Arc<Request>,
) -> Result<Swept, Error> {
    // Typing first: what changes between the two is then told twice rather than never.
    let typing = sync.typing.serial();
    let snapshot = sync.core.snapshot()?;
    let (view, notifier) = (snapshot.view(), sync.core.notifier());
    let position = view.position()?;
    let rooms = sync.heads.of(notifier, view, user)?;
    let since = turn.pos.map(|pos| pos.position.0);
    let sweep = Sweep {
        sync,
        view,
        who: Who::new(&sync.core, view, user, Some(device))?,
        device,
        turn,
        rooms: &rooms,
        position,
        since,
        touched: since.and_then(|since| notifier.touched_rooms((Position(since), position))),
        account_data: account_data::changes(view, user, since)?,
        open: RoomEventFilter::default(),
        required: RefCell::default(),
    };
    let asker = Asker { sync, view, position, user, rooms: &rooms, base: &turn.base, since };
    let mut kept = turn.take_kept();
    if let Some(before) = &mut kept
        && !before.follow(&asker, request)?
    {
        kept = None;
    }
    let kept = kept.map_or_else(|| Kept::new(&asker, request), Ok)?;
    let mut swept = Swept {
        body: Vec::with_capacity(if since.is_some() { 512 } else { 64 << 10 }),
        news: false,
        state: None,
        members: Vec::new(),
        position,
        typing,
        rooms: rooms.joined.clone(),
        kept,
    };
    sweep.write(&mut swept, request)?;
    Ok(swept)
}

impl Sweep<'_> {
    fn write(&self, swept: &mut Swept, request: &Request) -> Result<(), Error> {
        let mut body = std::mem::take(&mut swept.body);
        let selected = std::mem::take(&mut swept.kept.selected);
        body.push(b'{');
        object_member(&mut body, "lists", |out| {
            for (name, count) in &selected.counts {
                any_key(out, name);
                out.push(b'{');
                plain_member(out, "count", count);
                out.push(b'}');
            }
            Ok::<_, Error>(())
        })?;
        let mut sent = Outcome::new(&self.turn.base);
        let mut visited = Vec::new();
        swept.news |= object_member(&mut body, "rooms", |out| {
            for (room, asked) in self.due(&swept.kept, &selected)? {
                if let Some(visit) = self.visit(out, swept, &mut sent, room, (asked, &selected.asked[asked]))? {
                    visited.push(visit);
                }
            }
            Ok::<_, Error>(())
        })?;
        self.note_missed(&mut sent, &selected)?;
        key(&mut body, "extensions");
        body.push(b'{');
        swept.news |= extensions::write(self, &mut body, request, &selected, &visited)?;
        body.push(b'}');
        swept.body = body;
        self.note_open(&mut swept.kept, &sent, &selected, &visited);
        swept.kept.selected = selected;
        swept.state = sent.state;
        Ok(())
    }

    /// The selected rooms of which there may be anything to tell: all, unless what was kept says of which there cannot be.
    fn due(&self, kept: &Kept, selected: &Selected) -> Result<Vec<(RoomShort, usize)>, Error> {
        let all = || selected.rooms.iter().map(|(room, asked)| (*room, *asked)).collect();
        let typing = self.turn.pos.and_then(|pos| self.sync.typing.changed_rooms(pos.typing));
        let (Some(touched), Some(typing)) = (&self.touched, typing) else { return Ok(all()) };
        if !kept.holds(self.since, self.turn.state()) || self.direct_changed() {
            return Ok(all());
        }
        let mut due: BTreeSet<RoomShort> = kept.open.clone();
        due.extend(touched.iter().chain(&typing));
        due.extend(self.rooms_with_data()?);
        let asked = |room: RoomShort| Some((room, *selected.rooms.get(&room)?));
        Ok(due.into_iter().filter_map(asked).collect())
    }

    /// Rooms of which account data changed.
    fn rooms_with_data(&self) -> Result<Vec<RoomShort>, Error> {
        let mut found = Vec::new();
        for id in self.account_data.keys().filter(|id| !id.is_empty()) {
            let Ok(id) = ruma::RoomId::parse(id.as_str()) else { continue };
            found.extend(rows::room_short(self.view, &id)?);
        }
        Ok(found)
    }

    /// Notes which of the visited rooms the next request has to look at in any case.
    fn note_open(&self, kept: &mut Kept, sent: &Outcome<'_>, selected: &Selected, visited: &[Visited]) {
        let (state, whole) = (sent.after(), self.turn.state());
        // After a look at all of them nothing else is open.
        if kept.told.is_none() || kept.told != whole {
            kept.open.clear();
        }
        kept.told = whole.filter(|_| sent.state.is_none());
        for visit in visited {
            if self.has_all(state, visit, &selected.asked[visit.asked]) {
                kept.open.remove(&visit.room);
            } else {
                kept.open.insert(visit.room);
            }
        }
    }

    /// Whether the client has, by a state of the connection, all that it asks of a room.
    fn has_all(&self, state: &State, visit: &Visited, asked: &Asked) -> bool {
        let Some(sent) = state.rooms.get(&visit.room).filter(|sent| sent.up_to.is_none()) else { return false };
        let required = state.required.get(sent.required as usize);
        let same = || required.is_some_and(|json| *json == asked.json);
        match self.rooms.of(visit.room).map(|row| &row.membership) {
            Some(MembershipState::Invite | MembershipState::Knock) => !sent.full,
            Some(MembershipState::Join) => sent.full && asked.timeline_limit <= u64::from(sent.depth) && same(),
            _ => sent.full && same(),
        }
    }

    /// Writes a room if there is anything to tell of it.
    fn visit(
        &self,
        out: &mut Vec<u8>,
        swept: &mut Swept,
        sent: &mut Outcome<'_>,
        room: RoomShort,
        (number, asked): (usize, &Asked),
    ) -> Result<Option<Visited>, Error> {
        let Some(row) = self.rooms.of(room) else { return Ok(None) };
        let before = self.turn.base.rooms.get(&room).copied();
        let told = before.and_then(|before| before.up_to.or(self.since));
        let written = match told {
            Some(told) if Some(told) == self.since && !self.may_be_touched(room) => false,
            Some(told) => room::is_written(self.view, room, told)? || row.position > told,
            None => true,
        };
        let joined = row.membership == MembershipState::Join;
        let mut visited = Visited { room, asked: number, told, written, joined, events: Vec::new() };
        let known = match before {
            Some(before) => room::Known::Before(before, self.required_of(before)),
            None => room::Known::Never,
        };
        let ask = room::Ask { room, row, asked, told, written, known: &known };
        let after = match row.membership {
            MembershipState::Invite | MembershipState::Knock => room::write_stripped(self, out, &ask)?,
            _ => room::write(self, out, &ask, &mut visited.events, &mut swept.members)?,
        };
        if let Some(after) = after {
            sent.set(room, after, &asked.json);
        }
        Ok(Some(visited))
    }

    /// The required state that a room was sent with.
    fn required_of(&self, before: SentRoom) -> Rc<Combined> {
        let json = self.turn.base.required.get(before.required as usize);
        let parse = || Rc::new(json.map_or_else(Combined::new, |json| Combined::parse(json)));
        self.required.borrow_mut().entry(before.required).or_insert_with(parse).clone()
    }

    fn may_be_touched(&self, room: RoomShort) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.contains(&room))
    }

    /// Rooms that the client knows and does not ask for now: what happened in them is owed.
    fn note_missed(&self, sent: &mut Outcome<'_>, selected: &Selected) -> Result<(), Error> {
        let Some(since) = self.since else { return Ok(()) };
        let known = &self.turn.base.rooms;
        let with_data: HashSet<RoomShort> = self.rooms_with_data()?.into_iter().collect();
        let candidates: Vec<RoomShort> = match &self.touched {
            Some(touched) => touched.union(&with_data).copied().collect(),
            None => known.keys().copied().collect(),
        };
        for room in candidates {
            let told = known.get(&room).is_some_and(|before| before.up_to.is_none());
            if !told || selected.rooms.contains_key(&room) {
                continue;
            }
            if with_data.contains(&room) || room::is_written(self.view, room, since)? {
                sent.owe(room, since);
            }
        }
        Ok(())
    }

    /// Whether a room is a direct chat of the user's.
    pub(super) fn is_direct(&self, room_id: &ruma::RoomId) -> Result<bool, Error> {
        Ok(self.rooms.direct(self.view, self.who.user)?.contains(room_id))
    }

    /// Whether who shares rooms with the user may have changed since the token.
    pub(super) fn company_changed(&self) -> Result<bool, Error> {
        let (Some(since), Some(touched)) = (self.since, &self.touched) else { return Ok(true) };
        if self.rooms.all.iter().any(|(_, row)| row.position > since) {
            return Ok(true);
        }
        for room in touched.iter().filter(|room| self.rooms.of(**room).is_some()) {
            if state::logged(self.view, *room, (since, u64::MAX))?.next().transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the user's list of direct chats changed since the token.
    pub(super) fn direct_changed(&self) -> bool {
        self.account_data.get("").into_iter().flatten().any(|(kind, _)| kind == "m.direct")
    }
}

/// What the client will have got: a copy of what it has, made at the first difference.
struct Outcome<'b> {
    base: &'b State,
    state: Option<State>,
}

impl<'b> Outcome<'b> {
    fn new(base: &'b State) -> Self {
        Self { base, state: None }
    }

    /// What the client has after the answer.
    fn after(&self) -> &State {
        self.state.as_ref().unwrap_or(self.base)
    }

    /// Notes what a room was sent with, `required` being the set of required state as JSON.
    fn set(&mut self, room: RoomShort, mut sent: SentRoom, required: &str) {
        let known = self.after().required.iter().position(|known| known == required);
        if let Some(at) = known {
            sent.required = u32::try_from(at).unwrap_or(u32::MAX);
            if self.after().rooms.get(&room) == Some(&sent) {
                return;
            }
        }
        let state = self.state.get_or_insert_with(|| self.base.clone());
        sent.required = state.number(required);
        state.rooms.insert(room, sent);
    }

    fn owe(&mut self, room: RoomShort, since: u64) {
        let state = self.state.get_or_insert_with(|| self.base.clone());
        if let Some(sent) = state.rooms.get_mut(&room) {
            sent.up_to = Some(since);
        }
    }
}
