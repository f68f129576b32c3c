//! What the rules of a request (lists and single rooms) ask of which rooms of a user.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use millpond_store::{
    Position, View,
    rows::{Membership, RoomShort},
};
use ruma::{OwnedRoomId, UserId, events::room::member::MembershipState};

use super::{
    connections::State,
    order::Order,
    request::{OfRooms, Request, RoomConfig},
    required::Combined,
};
use crate::{
    Error,
    rooms::rows,
    sync::{Sync, heads::UserRooms},
};

/// What is asked of a room by all rules that it matches.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) timeline_limit: u64,
    pub(super) required: Combined,
    /// `required` as JSON.
    pub(super) json: String,
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
#[derive(Default)]
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
    pub(super) position: Position,
    pub(super) user: &'v UserId,
    pub(super) rooms: &'v Arc<UserRooms>,
    /// What the client has got, and the position of its token.
    pub(super) base: &'v State,
    pub(super) since: Option<u64>,
}

impl Asker<'_> {
    /// Applies the rules of a request to its lists in their order.
    pub(super) fn select(&self, request: &Request, orders: &[Order]) -> Result<Selected, Error> {
        // Most rooms match the same rules as others: what is asked of them is put together once.
        let mut matches: BTreeMap<RoomShort, Vec<usize>> = BTreeMap::new();
        let mut selected = Selected::default();
        for (number, ((name, list), order)) in request.lists.iter().zip(orders).enumerate() {
            for room in list.spans(order.len()).flat_map(|span| order.within(span)) {
                let of_lists = matches.entry(room).or_default();
                if of_lists.last() != Some(&number) {
                    of_lists.push(number);
                }
            }
            selected.counts.push((name.clone(), order.len()));
        }
        let lists: Vec<_> = request.lists.iter().collect();
        let mut subscribed = HashMap::new();
        for (room_id, config) in &request.room_subscriptions {
            if let Some(room) = rows::room_short(self.view, room_id)?
                && let Some(row) = self.rooms.of(room)
                && self.is_listed(room, row)?
            {
                subscribed.insert(room, (room_id, config));
                matches.entry(room).or_default();
            }
        }
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
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

    /// The rooms of the user that lists have, and when something happened in each last.
    pub(super) fn listed(&self) -> Result<Vec<(RoomShort, &Membership, u64)>, Error> {
        let mut listed = Vec::with_capacity(self.rooms.all.len());
        for (room, row) in &self.rooms.all {
            if self.is_listed(*room, row)? {
                listed.push((*room, row, row.position));
            }
        }
        let numbers = listed.iter().map(|(room, ..)| *room);
        let heads = self.sync.heads.heads(self.sync.core.notifier(), self.view, numbers)?;
        for ((_, row, active), head) in listed.iter_mut().zip(heads) {
            if row.membership == MembershipState::Join {
                *active = head.last;
            }
        }
        Ok(listed)
    }

    /// When something happened last in a room of the user.
    pub(super) fn activity(&self, room: RoomShort, row: &Membership) -> Result<u64, Error> {
        if row.membership != MembershipState::Join {
            return Ok(row.position);
        }
        let heads = self.sync.heads.heads(self.sync.core.notifier(), self.view, std::iter::once(room))?;
        Ok(heads[0].last)
    }

    /// Rooms that the user left are told once more, and only if the client knows them; those that he was put out of stay.
    fn is_listed(&self, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        Ok(match row.membership {
            MembershipState::Join | MembershipState::Invite | MembershipState::Knock => true,
            _ if self.rooms.put_out(self.view, self.user)?.contains(&room) => true,
            _ => {
                let told = self.base.rooms.get(&room).and_then(|sent| sent.up_to.or(self.since));
                told.is_some_and(|told| row.position > told)
            }
        })
    }

    /// Whether a room is listed only because the client has not heard yet that the user left it.
    pub(super) fn tells_of_leaving(&self) -> Result<bool, Error> {
        let put_out = self.rooms.put_out(self.view, self.user)?;
        for room in self.rooms.left.iter().filter(|room| !put_out.contains(room)) {
            if let Some(row) = self.rooms.of(*room)
                && self.is_listed(*room, row)?
            {
                return Ok(true);
            }
        }
        Ok(false)
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
        json: String::new(),
        extensions: Wanted::default(),
        lists: of_lists.iter().map(|at| lists[*at].0.clone()).collect(),
    };
    let configs = of_lists.iter().map(|at| &lists[*at].1.config).chain(own.map(|(_, config)| config));
    for config in configs {
        asked.timeline_limit = asked.timeline_limit.max(config.timeline_limit);
        asked.required.add(&config.required_state);
    }
    asked.json = asked.required.to_json();
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
