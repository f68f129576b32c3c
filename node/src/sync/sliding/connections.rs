//! What each connection has been told, as rows and in memory. An answer may be lost, so a connection has up to two states:
//! the one that its client has shown to have, and the one after the last answer. Which one is meant, `pos` says.
//!
//! ```text
//! no pos      -> epoch e, state 1                    pos e.1
//! pos e.1     -> nothing new to remember             pos e.1, a later position
//! pos e.1     -> a room was told first: 1 and 2      pos e.2
//! pos e.1     -> (that answer was lost): 1 and 3     pos e.3; 2 is forgotten
//! pos e.3     -> 3 is shown to have arrived: 3 and 4 pos e.4
//! ```

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use lru::LruCache;
use millpond_store::{
    View, job,
    rows::{EventShort, RoomShort, SentRoom, SlidingConnection, SlidingState},
    tables,
};
use ruma::{OwnedDeviceId, OwnedUserId};
use tokio::sync::Notify;

use super::{
    kept::Kept,
    pos::{Pos, unknown_pos},
};
use crate::{Core, Error};

/// User, device, connection id.
pub(super) type Name = (OwnedUserId, OwnedDeviceId, String);

/// The connections. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Mutex<LruCache<Name, Arc<Connection>>>>);

impl Default for Connections {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(KEPT))))
    }
}

/// A connection in memory.
#[derive(Default)]
pub(super) struct Connection {
    /// Counts its requests: only the newest one may change it.
    requests: Arc<AtomicU64>,
    /// Wakes a request that a newer one has replaced.
    replaced: Notify,
    held: Mutex<Held>,
}

/// What is known of a connection without a look at its row.
#[derive(Default)]
struct Held {
    epoch: u64,
    states: Vec<Arc<State>>,
    members: SentMembers,
    kept: Option<Kept>,
}

/// The member events that were sent for the timeline's sake. In memory only: what is forgotten is sent once more.
#[derive(Default)]
struct SentMembers {
    /// The `pos` of the last answer; a client that goes on from another one may not have got it.
    pos: Option<String>,
    rooms: HashMap<RoomShort, HashSet<EventShort>>,
    count: usize,
}

/// What a client has got, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) rooms: HashMap<RoomShort, SentRoom>,
    /// As JSON, see [`super::required::Combined`].
    pub(super) required: Vec<String>,
}

impl State {
    fn read(row: SlidingState) -> Self {
        Self { version: row.version, rooms: row.rooms.into_iter().collect(), required: row.required }
    }

    fn row(&self) -> SlidingState {
        let mut rooms: Vec<_> = self.rooms.iter().map(|(room, sent)| (*room, *sent)).collect();
        rooms.sort_by_key(|(room, _)| *room);
        SlidingState { version: self.version, rooms, required: self.required.clone() }
    }

    /// The number of a set of required state, a new one if need be.
    pub(super) fn number(&mut self, required: &str) -> u32 {
        let at = self.required.iter().position(|known| known == required).unwrap_or_else(|| {
            self.required.push(required.to_owned());
            self.required.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Forgets the sets that no room was sent with, once they are many.
    fn tidy(&mut self) {
        if self.required.len() <= REQUIRED_KEPT {
            return;
        }
        let old = std::mem::take(&mut self.required);
        let mut rooms = std::mem::take(&mut self.rooms);
        for sent in rooms.values_mut() {
            let required = old.get(sent.required as usize).map_or("[]", String::as_str);
            sent.required = self.number(required);
        }
        self.rooms = rooms;
    }
}

/// One request of a connection.
pub(super) struct Turn {
    connection: Arc<Connection>,
    name: Name,
    number: u64,
    /// What it goes on from; none: it starts the connection.
    pub(super) pos: Option<Pos>,
    /// What the client has got.
    pub(super) base: Arc<State>,
}

impl Connections {
    /// Begins a request; an earlier one of the same connection ends.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN_POS`; storage errors.
    pub(super) fn begin(&self, view: View<'_>, name: Name, pos: Option<Pos>) -> Result<Turn, Error> {
        let connection = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_or_insert(name.clone(), Arc::default).clone()
        };
        let number = connection.requests.fetch_add(1, Ordering::AcqRel) + 1;
        connection.replaced.notify_waiters();
        let base = match pos {
            Some(pos) => connection.state(view, &name, pos)?.ok_or_else(unknown_pos)?,
            None => Arc::default(),
        };
        let mut held = connection.held();
        if held.members.pos != pos.map(|pos| pos.to_string()) {
            held.members = SentMembers::default();
        }
        if pos.is_none() {
            held.kept = None;
        }
        drop(held);
        Ok(Turn { connection, name, number, pos, base })
    }
}

impl Connection {
    fn held(&self) -> MutexGuard<'_, Held> {
        // States are replaced whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, view: View<'_>, name: &Name, pos: Pos) -> Result<Option<Arc<State>>, Error> {
        if pos.position > view.position()? {
            return Ok(None);
        }
        let mut held = self.held();
        if held.epoch != pos.epoch || held.states.is_empty() {
            let Some(row) = view.get(tables::SLIDING, (&name.0, &name.1, name.2.as_str()))? else { return Ok(None) };
            held.epoch = row.epoch;
            held.states = row.states.into_iter().map(|state| Arc::new(State::read(state))).collect();
        }
        let known = held.states.iter().find(|state| held.epoch == pos.epoch && state.version == pos.version);
        Ok(known.cloned())
    }
}

impl Turn {
    /// Whether a newer request has taken over.
    pub(super) fn is_over(&self) -> bool {
        self.connection.requests.load(Ordering::Acquire) != self.number
    }

    /// Waits until a newer request takes over.
    pub(super) async fn over(&self) {
        let replaced = self.connection.replaced.notified();
        tokio::pin!(replaced);
        replaced.as_mut().enable();
        if !self.is_over() {
            replaced.await;
        }
    }

    /// The state that the request goes on from: epoch and version.
    pub(super) fn state(&self) -> Option<(u64, u64)> {
        self.pos.map(|pos| (pos.epoch, pos.version))
    }

    /// Takes what the last sweep of the connection found; whoever comes at the same time does without.
    pub(super) fn take_kept(&self) -> Option<Kept> {
        self.connection.held().kept.take()
    }

    /// Keeps what a sweep found for the next one.
    pub(super) fn put_kept(&self, kept: Kept) {
        let kept = kept.is_small().then_some(kept);
        let mut held = self.connection.held();
        if !self.is_over() {
            held.kept = kept;
        }
    }

    /// Whether the client has been sent a member event.
    pub(super) fn has_member(&self, room: RoomShort, event: EventShort) -> bool {
        self.connection.held().members.rooms.get(&room).is_some_and(|events| events.contains(&event))
    }

    /// Keeps what the client will have got with this answer, and gives the state's epoch and version. Returns when it is
    /// durable.
    ///
    /// # Errors
    /// 400 `M_UNKNOWN_POS` if the connection was forgotten or a newer request has taken over; storage errors.
    pub(super) async fn keep(&self, core: &Core, state: Option<State>) -> Result<(u64, u64), Error> {
        let state = match (state, self.pos) {
            (None, Some(pos)) => return Ok((pos.epoch, pos.version)),
            (state, _) => state.unwrap_or_default(),
        };
        let (name, now_ms) = (self.name.clone(), core.clock().now_ms());
        let (base, pos) = (self.base.clone(), self.pos);
        let (requests, number) = (self.connection.requests.clone(), self.number);
        let (read, mut state) = (name.clone(), state);
        state.tidy();
        let keep = job(
            move |view| {
                if requests.load(Ordering::Acquire) != number {
                    return Err(unknown_pos());
                }
                let known = view.get(tables::SLIDING, (&read.0, &read.1, read.2.as_str()))?;
                let row = match (pos, known) {
                    (None, _) => SlidingConnection::default(),
                    (Some(pos), Some(row)) if row.epoch == pos.epoch => row,
                    _ => return Err(unknown_pos()),
                };
                Ok((row, view.contains(tables::DEVICES, (&read.0, &read.1))?))
            },
            move |(mut row, is_device): (SlidingConnection, bool), txn| {
                if row.epoch == 0 {
                    row.epoch = txn.next_position().0;
                    make_room(txn, &name)?;
                }
                let version = row.states.iter().map(|state| state.version).max().unwrap_or(0) + 1;
                row.states.retain(|state| state.version == base.version);
                let state = State { version, ..state.clone() };
                row.states.push(state.row());
                row.written_at_ms = now_ms;
                // A device that was logged out in the meantime leaves nothing behind.
                if is_device {
                    txn.put(tables::SLIDING, (&name.0, &name.1, name.2.as_str()), &row)?;
                }
                Ok((row.epoch, Arc::new(state)))
            },
        );
        let ((epoch, state), _) = core.write(keep).await?;
        let version = state.version;
        let mut held = self.connection.held();
        if !self.is_over() {
            let base = self.pos.map(|_| self.base.clone());
            held.epoch = epoch;
            held.states = base.into_iter().chain([state]).collect();
        }
        Ok((epoch, version))
    }

    /// Notes the member events that an answer with this `pos` holds.
    pub(super) fn sent(&self, pos: &Pos, members: Vec<(RoomShort, EventShort)>) {
        let mut held = self.connection.held();
        let sent = &mut held.members;
        sent.pos = Some(pos.to_string());
        if sent.count + members.len() > MEMBERS_KEPT {
            sent.rooms.clear();
            sent.count = 0;
        }
        for (room, event) in members {
            sent.count += usize::from(sent.rooms.entry(room).or_default().insert(event));
        }
    }
}

/// A device has a few connections; the oldest goes when there are more.
fn make_room(txn: &mut millpond_store::WriteTxn<'_>, (user, device, id): &Name) -> Result<(), millpond_store::Error> {
    let mut others = Vec::new();
    for row in txn.view().scan(tables::SLIDING, (user, device))? {
        let ((_, _, other), row) = row?;
        if other != *id {
            others.push((row.written_at_ms, other));
        }
    }
    others.sort();
    let too_many = (others.len() + 1).saturating_sub(PER_DEVICE);
    for (_, other) in others.into_iter().take(too_many) {
        txn.remove(tables::SLIDING, (user, device, other.as_str()))?;
    }
    Ok(())
}

/// Connections kept in memory; 2,000 rooms take some 300 kB.
const KEPT: std::num::NonZeroUsize = std::num::NonZeroUsize::new(32).expect("not zero");
/// Connections of a device: clients have two or three.
const PER_DEVICE: usize = 8;
/// Sets of required state: clients use two or three at a time.
const REQUIRED_KEPT: usize = 32;
/// Member events remembered per connection, 16 bytes or so each.
const MEMBERS_KEPT: usize = 50_000;
