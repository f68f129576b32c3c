//! The lists of a request: the rooms of a user by activity, filtered, and those of them that the ranges take.

use std::collections::{BTreeMap, HashMap, HashSet};

use millpond_store::{
    View,
    rows::{Membership, RoomShort},
    tables,
};
use ruma::{OwnedRoomId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{
    connections::State,
    request::{Filters, MEMBER, OfRooms, Request, RoomConfig},
    required::Combined,
};
use crate::{
    Error,
    rooms::{current, rows},
    sync::{Sync, heads::UserRooms},
};

/// What is asked of a room by all rules that it matches.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) timeline_limit: u64,
    pub(super) required: Combined,
    pub(super) extensions: Wanted,
    /// The lists that it is in.
    pub(super) lists: Vec<String>,
}

/// For which extensions a room counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) account_data: bool,
    pub(super) receipts: bool,
    pub(super) typing: bool,
}

/// The rooms that a request is about.
pub(super) struct Selected {
    /// By number, each with an index into `asked`.
    pub(super) rooms: BTreeMap<RoomShort, usize>,
    pub(super) asked: Vec<Asked>,
    /// The lists with the number of their rooms.
    pub(super) counts: Vec<(String, usize)>,
}

/// Who asks, and about what.
pub(super) struct Asker<'v> {
    pub(super) sync: &'v Sync,
    pub(super) view: View<'v>,
    pub(super) user: &'v UserId,
    pub(super) rooms: &'v UserRooms,
    /// What the client has got, and the position of its token.
    pub(super) base: &'v State,
    pub(super) since: Option<u64>,
}

impl Asker<'_> {
    /// Applies the rules of a request.
    pub(super) fn select(&self, request: &Request) -> Result<Selected, Error> {
        let listed = if request.lists.is_empty() { Vec::new() } else { self.by_activity()? };
        // Most rooms match the same rules as others: what is asked of them is put together once.
        let mut matches: BTreeMap<RoomShort, Vec<usize>> = BTreeMap::new();
        let mut counts = Vec::with_capacity(request.lists.len());
        for (number, (name, list)) in request.lists.iter().enumerate() {
            let mut count = 0;
            let filter = Filter::new(self, list.filters.as_ref())?;
            for (room, membership) in &listed {
                if !filter.takes(*room, membership)? {
                    continue;
                }
                if list.takes(count) {
                    matches.entry(*room).or_default().push(number);
                }
                count += 1;
            }
            counts.push((name.clone(), usize::try_from(count).unwrap_or(usize::MAX)));
        }
        let lists: Vec<_> = request.lists.iter().collect();
        let put_out = self.rooms.put_out(self.view, self.user)?;
        let mut subscribed = HashMap::new();
        for (room_id, config) in &request.room_subscriptions {
            if let Some(room) = rows::room_short(self.view, room_id)?
                && let Some(row) = self.rooms.of(room)
                && self.is_listed(room, row, put_out)
            {
                subscribed.insert(room, (room_id, config));
                matches.entry(room).or_default();
            }
        }
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut selected = Selected { rooms: BTreeMap::new(), asked: Vec::new(), counts };
        for (room, of_lists) in matches {
            let own = subscribed.get(&room);
            let at = match known.get(&of_lists).filter(|_| own.is_none()) {
                Some(at) => *at,
                None => {
                    selected.asked.push(asked(request, &of_lists, &lists, own.copied()));
                    selected.asked.len() - 1
                }
            };
            if own.is_none() {
                known.insert(of_lists, at);
            }
            selected.rooms.insert(room, at);
        }
        Ok(selected)
    }

    /// The rooms of the user that lists have, the newest activity first.
    fn by_activity(&self) -> Result<Vec<(RoomShort, &Membership)>, Error> {
        let put_out = self.rooms.put_out(self.view, self.user)?;
        let rooms: Vec<_> = self.rooms.all.iter().filter(|(room, row)| self.is_listed(*room, row, put_out)).collect();
        let numbers = rooms.iter().map(|(room, _)| *room);
        let heads = self.sync.heads.heads(self.sync.core.notifier(), self.view, numbers)?;
        let mut sorted: Vec<_> = rooms
            .into_iter()
            .zip(heads)
            .map(|((room, row), head)| {
                let active = if row.membership == MembershipState::Join { head.last } else { row.position };
                (active, *room, row)
            })
            .collect();
        sorted.sort_by_key(|(active, room, _)| (std::cmp::Reverse(*active), *room));
        Ok(sorted.into_iter().map(|(_, room, row)| (room, row)).collect())
    }

    /// Rooms that the user left are told once more, and only if the client knows them; those that he was put out of stay.
    fn is_listed(&self, room: RoomShort, row: &Membership, put_out: &HashSet<RoomShort>) -> bool {
        match row.membership {
            MembershipState::Join | MembershipState::Invite | MembershipState::Knock => true,
            _ if put_out.contains(&room) => true,
            _ => {
                let told = self.base.rooms.get(&room).and_then(|sent| sent.up_to.or(self.since));
                told.is_some_and(|told| row.position > told)
            }
        }
    }
}

fn asked(
    request: &Request,
    of_lists: &[usize],
    lists: &[(&String, &super::List)],
    own: Option<(&OwnedRoomId, &RoomConfig)>,
) -> Asked {
    let mut asked = Asked {
        timeline_limit: 0,
        required: Combined::new(),
        extensions: Wanted::default(),
        lists: of_lists.iter().map(|at| lists[*at].0.clone()).collect(),
    };
    let configs = of_lists.iter().map(|at| &lists[*at].1.config).chain(own.map(|(_, config)| config));
    for config in configs {
        asked.timeline_limit = asked.timeline_limit.max(config.timeline_limit);
        asked.required.add(&config.required_state);
    }
    let wanted = |extension: &OfRooms| {
        extension.is_on()
            && (asked.lists.iter().any(|name| extension.takes_list(name))
                || own.is_some_and(|(room_id, _)| extension.takes_subscribed(room_id.as_str())))
    };
    let of = &request.extensions;
    asked.extensions =
        Wanted { account_data: wanted(&of.account_data), receipts: wanted(&of.receipts), typing: wanted(&of.typing) };
    asked
}

/// The filter of a list, with what it compares rooms with.
struct Filter<'f> {
    asker: &'f Asker<'f>,
    filters: Option<&'f Filters>,
    in_spaces: HashSet<String>,
    name_like: Option<String>,
}

impl<'f> Filter<'f> {
    fn new(asker: &'f Asker<'f>, filters: Option<&'f Filters>) -> Result<Self, Error> {
        let spaces = filters.and_then(|filters| filters.spaces.as_deref()).unwrap_or_default();
        let mut in_spaces = HashSet::new();
        for space in spaces {
            in_spaces.extend(asker.children(space)?);
        }
        let name_like = filters.and_then(|filters| filters.room_name_like.as_ref()).map(|name| name.to_lowercase());
        Ok(Self { asker, filters, in_spaces, name_like })
    }

    fn takes(&self, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        let Some(filters) = self.filters else { return Ok(true) };
        if filters.is_invite.is_some_and(|wanted| wanted != (row.membership == MembershipState::Invite)) {
            return Ok(false);
        }
        Ok(self.takes_id(filters, room)?
            && self.takes_kind(filters, room, row)?
            && self.takes_encryption(filters, room, row)?
            && self.takes_name(room, row)?)
    }

    fn takes_id(&self, filters: &Filters, room: RoomShort) -> Result<bool, Error> {
        let asks = filters.is_dm.is_some()
            || filters.spaces.is_some()
            || filters.tags.is_some()
            || !filters.not_tags.is_empty();
        if !asks {
            return Ok(true);
        }
        let Asker { sync, view, user, rooms, .. } = self.asker;
        let nature = sync.heads.nature(*view, room)?;
        if let Some(wanted) = filters.is_dm
            && wanted != rooms.direct(*view, user)?.contains(&nature.room_id)
        {
            return Ok(false);
        }
        if filters.spaces.is_some() && !self.in_spaces.contains(nature.room_id.as_str()) {
            return Ok(false);
        }
        if filters.tags.is_none() && filters.not_tags.is_empty() {
            return Ok(true);
        }
        let tags = rooms.tags(*view, user)?.get(&nature.room_id);
        let has = |tag: &String| tags.is_some_and(|tags| tags.contains(tag));
        Ok(filters.tags.as_ref().is_none_or(|wanted| wanted.iter().any(has)) && !filters.not_tags.iter().any(has))
    }

    fn takes_kind(&self, filters: &Filters, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Create {
            #[serde(default, rename = "type")]
            kind: Option<String>,
        }
        if filters.room_types.is_none() && filters.not_room_types.is_empty() {
            return Ok(true);
        }
        let mut kind = self.asker.sync.heads.nature(self.asker.view, room)?.kind.clone();
        if kind.is_none() && row.membership != MembershipState::Join {
            kind = self.asker.stripped::<Create>(room, "m.room.create")?.and_then(|create| create.kind);
        }
        let wanted = filters.room_types.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        Ok(wanted && !filters.not_room_types.contains(&kind))
    }

    fn takes_encryption(&self, filters: &Filters, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        const ENCRYPTION: &str = "m.room.encryption";
        let Some(wanted) = filters.is_encrypted else { return Ok(true) };
        let mut found = current::entry(self.asker.view, room, ENCRYPTION, "")?.is_some();
        if !found && row.membership != MembershipState::Join {
            found = self.asker.stripped::<serde::de::IgnoredAny>(room, ENCRYPTION)?.is_some();
        }
        Ok(found == wanted)
    }

    fn takes_name(&self, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Name {
            #[serde(default)]
            name: String,
        }
        let Some(wanted) = &self.name_like else { return Ok(true) };
        let mut name = current::content::<Name>(self.asker.view, room, "m.room.name", "")?;
        if name.is_none() && row.membership != MembershipState::Join {
            name = self.asker.stripped::<Name>(room, "m.room.name")?;
        }
        Ok(name.is_some_and(|name| name.name.to_lowercase().contains(wanted)))
    }
}

impl Asker<'_> {
    /// The rooms that a space names as its children, if the user is in it.
    fn children(&self, space: &str) -> Result<HashSet<String>, Error> {
        #[derive(Deserialize)]
        struct Child {
            via: Vec<String>,
        }
        let Ok(space) = OwnedRoomId::try_from(space) else { return Ok(HashSet::new()) };
        let room = rows::room_short(self.view, &space)?.filter(|room| self.rooms.joined.contains(room));
        let Some(room) = room else { return Ok(HashSet::new()) };
        let mut children = HashSet::new();
        for row in self.view.scan(tables::ROOM_STATE, (room, "m.space.child"))? {
            let ((_, _, child), event) = row?;
            let row = rows::event(self.view, event)?;
            // One that was taken away has no `via` any more.
            let content = serde_json::from_str::<Child>(row.header.content.of(&row.json));
            if content.is_ok_and(|content| !content.via.is_empty()) {
                children.insert(child);
            }
        }
        Ok(children)
    }

    /// The content of an event that the user was shown with an invite or a knock.
    fn stripped<T: for<'de> Deserialize<'de>>(&self, room: RoomShort, kind: &str) -> Result<Option<T>, Error> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(rename = "type")]
            kind: String,
            #[serde(borrow)]
            content: &'a serde_json::value::RawValue,
        }
        let shown = self.view.get(tables::STRIPPED, (self.user, room))?.unwrap_or_default();
        let events = serde_json::from_str::<Vec<Event<'_>>>(&shown).unwrap_or_default();
        let event = events.into_iter().find(|event| event.kind == kind && kind != MEMBER);
        Ok(event.and_then(|event| serde_json::from_str(event.content.get()).ok()))
    }
}
