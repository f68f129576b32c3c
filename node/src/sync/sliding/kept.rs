//! What a connection's last request was about, kept so that the next one looks only at what changed since: its lists in their
//! order, the rooms that its rules take, and which of these need a look even when nothing happens in them.
//!
//! In memory only. Whatever does not fit (other rules, another answer gone on from, rooms that the user came into or left)
//! is put together anew from the rows.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use millpond_store::{Position, rows::RoomShort};

use super::{
    Request,
    filter::Filter,
    lists::{Asker, Selected},
    order::Order,
};
use crate::{Error, sync::heads::UserRooms};

/// The memory of a connection.
pub(super) struct Kept {
    request: Arc<Request>,
    rooms: Arc<UserRooms>,
    /// Up to where the lists are known.
    position: Position,
    /// Where they were put together: what happened before, a look at single rooms may not show.
    made_at: Position,
    /// When something happened last in each room that lists have.
    activity: HashMap<RoomShort, u64>,
    orders: Vec<Order>,
    pub(super) selected: Selected,
    /// A room is listed for the last time: the lists do not hold for the next request.
    passing: bool,
    /// The state of the connection, epoch and version, by which `open` is right.
    pub(super) told: Option<(u64, u64)>,
    /// Rooms that are to be looked at again: the client has not got all that it asks of them.
    pub(super) open: BTreeSet<RoomShort>,
}

impl Kept {
    /// Puts the lists together from all rooms of the user.
    pub(super) fn new(asker: &Asker<'_>, request: &Arc<Request>) -> Result<Self, Error> {
        let listed = if request.lists.is_empty() { Vec::new() } else { asker.listed()? };
        let mut orders = Vec::with_capacity(request.lists.len());
        for list in request.lists.values() {
            let filter = Filter::new(asker, list.filters.as_ref())?;
            let mut taken = Vec::with_capacity(listed.len());
            for (room, row, active) in &listed {
                if filter.takes(*room, row)? {
                    taken.push((*room, *active));
                }
            }
            orders.push(Order::new(taken.into_iter()));
        }
        Ok(Self {
            selected: asker.select(request, &orders)?,
            request: request.clone(),
            rooms: asker.rooms.clone(),
            position: asker.position,
            made_at: asker.position,
            activity: listed.into_iter().map(|(room, _, active)| (room, active)).collect(),
            orders,
            passing: asker.tells_of_leaving()?,
            told: None,
            open: BTreeSet::new(),
        })
    }

    /// Brings the lists up to date with what happened; says whether that was possible.
    pub(super) fn follow(&mut self, asker: &Asker<'_>, request: &Arc<Request>) -> Result<bool, Error> {
        let same = Arc::ptr_eq(&self.rooms, asker.rooms)
            && (Arc::ptr_eq(&self.request, request) || self.request.has_rules_of(request));
        if !same || self.passing || asker.tells_of_leaving()? {
            return Ok(false);
        }
        self.request = request.clone();
        if self.position >= asker.position {
            return Ok(true);
        }
        let Some(touched) = asker.sync.core.notifier().touched_rooms((self.position, asker.position)) else {
            return Ok(false);
        };
        let touched: Vec<_> = touched.into_iter().filter(|room| self.activity.contains_key(room)).collect();
        if !touched.is_empty() && !self.follow_rooms(asker, &touched)? {
            return Ok(false);
        }
        self.position = asker.position;
        Ok(true)
    }

    fn follow_rooms(&mut self, asker: &Asker<'_>, touched: &[RoomShort]) -> Result<bool, Error> {
        let request = self.request.clone();
        // What a space says decides about other rooms than itself.
        if request.lists.values().any(super::List::asks_for_spaces) {
            for room in touched {
                if asker.sync.heads.nature(asker.view, *room)?.kind.is_some() {
                    return Ok(false);
                }
            }
        }
        let filters = request.lists.values().map(|list| Filter::new(asker, list.filters.as_ref()));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let mut others = false;
        for room in touched {
            let Some(row) = asker.rooms.of(*room) else { return Ok(false) };
            let active = asker.activity(*room, row)?;
            let before = self.activity.insert(*room, active);
            for ((list, order), filter) in request.lists.values().zip(&mut self.orders).zip(&filters) {
                let now = filter.takes(*room, row)?.then_some(active);
                others |= order.place(*room, before, now, list);
            }
        }
        if others {
            self.selected = asker.select(&request, &self.orders)?;
            self.told = None;
        }
        Ok(true)
    }

    /// Whether a client that goes on from `since` and this state of the connection has got all that it asks, except of rooms
    /// that are open and of those in which something happened since.
    pub(super) fn holds(&self, since: Option<u64>, state: Option<(u64, u64)>) -> bool {
        state.is_some() && state == self.told && since.is_some_and(|since| since >= self.made_at.0)
    }

    /// Whether this is small enough to be kept.
    pub(super) fn is_small(&self) -> bool {
        self.orders.iter().map(Order::len).sum::<usize>() <= ENTRIES_MAX
    }
}

/// Entries of all lists of a connection that are kept, 16 bytes each: clients have a few lists of some thousand rooms at
/// most.
const ENTRIES_MAX: usize = 50_000;
