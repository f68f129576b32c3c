//! One sweep over what a request is about, on one snapshot: which rooms have news for this connection, and what the client
//! will have got with the answer.

use std::collections::{BTreeMap, HashSet};

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
    lists::{Asked, Asker, Selected},
    required::Combined,
    room,
};
use crate::{
    Error,
    json::{any_key, key, object_member, plain_member},
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
    request: &Request,
) -> Result<Swept, Error> {
    // Typing first: what changes between the two is then told twice rather than never.
    let typing = sync.typing.serial();
    let snapshot = sync.core.snapshot()?;
    let (view, notifier) = (snapshot.view(), sync.core.notifier());
    let position = view.position()?;
    let rooms = sync.heads.of(notifier, view, user)?;
    let since = turn.pos.map(|pos| pos.position.0);
    let numbers = rooms.all.iter().map(|(room, _)| *room);
    let touched = since.and_then(|since| notifier.touched_rooms((Position(since), position), numbers));
    let sweep = Sweep {
        sync,
        view,
        who: Who::new(&sync.core, view, user, Some(device))?,
        device,
        turn,
        rooms: &rooms,
        position,
        since,
        touched: touched.map(|rooms| rooms.into_iter().collect()),
        account_data: account_data::changes(view, user, since)?,
        open: RoomEventFilter::default(),
    };
    let asker = Asker { sync, view, user, rooms: &rooms, base: &turn.base, since };
    let selected = asker.select(request)?;
    let mut swept = Swept {
        body: Vec::with_capacity(if since.is_some() { 512 } else { 64 << 10 }),
        news: false,
        state: None,
        members: Vec::new(),
        position,
        typing,
        rooms: rooms.joined.clone(),
    };
    sweep.write(&mut swept, request, &selected)?;
    Ok(swept)
}

impl Sweep<'_> {
    fn write(&self, swept: &mut Swept, request: &Request, selected: &Selected) -> Result<(), Error> {
        let mut body = std::mem::take(&mut swept.body);
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
            for (room, asked) in &selected.rooms {
                if let Some(visit) = self.visit(out, swept, &mut sent, *room, (*asked, &selected.asked[*asked]))? {
                    visited.push(visit);
                }
            }
            Ok::<_, Error>(())
        })?;
        self.note_missed(&mut sent, selected)?;
        key(&mut body, "extensions");
        body.push(b'{');
        swept.news |= extensions::write(self, &mut body, request, selected, &visited)?;
        body.push(b'}');
        swept.body = body;
        swept.state = sent.state;
        Ok(())
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
            Some(before) => room::Known::Before(before, self.required(before)),
            None => room::Known::Never,
        };
        let ask = room::Ask { room, row, asked, told, written, known: &known };
        let after = match row.membership {
            MembershipState::Invite | MembershipState::Knock => room::write_stripped(self, out, &ask)?,
            _ => room::write(self, out, &ask, &mut visited.events, &mut swept.members)?,
        };
        if let Some(after) = after {
            sent.set(room, after, &asked.required);
        }
        Ok(Some(visited))
    }

    /// The required state that a room was sent with.
    fn required(&self, before: SentRoom) -> Combined {
        self.turn.base.required.get(before.required as usize).map_or_else(Combined::new, |json| Combined::parse(json))
    }

    fn may_be_touched(&self, room: RoomShort) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.contains(&room))
    }

    /// Rooms that the client knows and does not ask for now: what happened in them is owed.
    fn note_missed(&self, sent: &mut Outcome<'_>, selected: &Selected) -> Result<(), Error> {
        let Some(since) = self.since else { return Ok(()) };
        let with_data = self.account_data.keys().filter(|id| !id.is_empty());
        let with_data: HashSet<&str> = with_data.map(String::as_str).collect();
        for (room, before) in &self.turn.base.rooms {
            if before.up_to.is_some() || selected.rooms.contains_key(room) {
                continue;
            }
            let mut missed = self.may_be_touched(*room) && room::is_written(self.view, *room, since)?;
            if !missed && !with_data.is_empty() {
                let nature = self.sync.heads.nature(self.view, *room)?;
                missed = with_data.contains(nature.room_id.as_str());
            }
            if missed {
                sent.owe(*room, since);
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
        for room in touched {
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
    /// Numbers of the sets of required state, by what they were made from.
    numbers: BTreeMap<String, u32>,
}

impl<'b> Outcome<'b> {
    fn new(base: &'b State) -> Self {
        Self { base, state: None, numbers: BTreeMap::new() }
    }

    fn set(&mut self, room: RoomShort, mut sent: SentRoom, required: &Combined) {
        let json = required.to_json();
        let known = self.base.required.iter().position(|known| *known == json);
        if let Some(at) = known {
            sent.required = u32::try_from(at).unwrap_or(u32::MAX);
            if self.state.is_none() && self.base.rooms.get(&room) == Some(&sent) {
                return;
            }
        }
        let state = self.state.get_or_insert_with(|| self.base.clone());
        sent.required = match self.numbers.get(&json) {
            Some(number) => *number,
            None => {
                let number = state.number(&json);
                self.numbers.insert(json, number);
                number
            }
        };
        state.rooms.insert(room, sent);
    }

    fn owe(&mut self, room: RoomShort, since: u64) {
        let state = self.state.get_or_insert_with(|| self.base.clone());
        if let Some(sent) = state.rooms.get_mut(&room) {
            sent.up_to = Some(since);
        }
    }
}
