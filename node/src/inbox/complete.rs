//! Rooms that were joined with a part of their state (server-server spec, `omit_members` of `send_join`; MSC3902): they are
//! in use at once, and their members come behind. A room keeps its row until then, so that a restart goes on with it.
//!
//! ```text
//! PARTIAL row -> /state_ids and /state before our join, of one member server after the other -> checked like any description
//!   -> outliers, then members, in slices -> states since the join worked out anew, the row goes: one commit
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millpond_matrix::{
    StateMap,
    check::RawPdu,
    join::AcceptedState,
    resettle::is_allowed,
    rules::{RoomRules, rules},
    state::StateSet,
};
use millpond_store::{
    job,
    rows::{Partial, Room, RoomShort},
    tables,
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, ServerName,
    api::federation::event::{get_room_state, get_room_state_ids},
    events::StateEventType,
};
use serde_json::value::RawValue;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

mod part;

pub(crate) use self::part::Entered;
use self::part::{fill_slice, finish, forget_named_servers, is_still};
use super::{
    Inbox,
    fetch::{MAX_STATE, OUTLIER_SLICE, known_pdu},
};
use crate::{
    Error,
    peers::{Route, route},
    rooms::{local, reader::StoredRoom, rows},
};

/// Rooms that are completed at once.
const AT_ONCE: usize = 2;
/// How long a server may take to describe a room: some hold hundreds of thousands of events of state.
const PATIENCE: Duration = Duration::from_secs(120);
/// Servers that are asked in one attempt.
const SERVERS: usize = 5;
/// The wait after the first attempt that failed, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How often a room may move under our hands in one attempt.
const TRIES: usize = 20;

/// The rooms that are being completed.
#[derive(Clone, Default)]
pub(super) struct Completing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    noted: Notify,
    progress: Mutex<BTreeMap<RoomShort, Progress>>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    asked: Option<OwnedServerName>,
    done: usize,
    of: usize,
    failed: u32,
}

/// How far a room is that was joined with a part of its state.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Since when it is in use, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Who was asked last for the rest.
    pub asked: Option<OwnedServerName>,
    /// Events that are written, and how many there are; 0 until a server has named them.
    pub events: (usize, usize),
    /// Attempts that failed since the start.
    pub failed: u32,
}

impl Completing {
    pub(super) fn note(&self) {
        self.0.noted.notify_one();
    }

    fn progress(&self) -> MutexGuard<'_, BTreeMap<RoomShort, Progress>> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, room: RoomShort, change: impl FnOnce(&mut Progress)) {
        change(self.progress().entry(room).or_default());
    }
}

impl Inbox {
    /// The rooms that were joined with a part of their state and lack the rest.
    ///
    /// # Errors
    /// Storage errors.
    pub fn completions(&self) -> Result<Vec<Completion>, Error> {
        let snapshot = self.core.snapshot()?;
        let progress = self.completing.progress().clone();
        let mut shown = Vec::new();
        for row in snapshot.view().scan(tables::PARTIAL, ())? {
            let (room, mark) = row?;
            let Progress { asked, done, of, failed } = progress.get(&room).cloned().unwrap_or_default();
            let room_id = rows::room_id(snapshot.view(), room)?;
            shown.push(Completion { room_id, since_ms: mark.since_ms, asked, events: (done, of), failed });
        }
        Ok(shown)
    }

    /// Completes rooms until told to stop. What is left goes on at the next start.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn complete_rooms(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut running = JoinSet::new();
        let mut busy: HashSet<RoomShort> = HashSet::new();
        let mut waits: BTreeMap<RoomShort, Instant> = BTreeMap::new();
        loop {
            let rooms = self.partial_rooms()?;
            self.completing.progress().retain(|room, _| rooms.contains(room));
            waits.retain(|room, _| rooms.contains(room));
            for room in rooms {
                let due = waits.get(&room).is_none_or(|at| *at <= Instant::now());
                if due && busy.len() < AT_ONCE && busy.insert(room) {
                    let inbox = self.clone();
                    running.spawn(async move { (room, inbox.complete(room).await) });
                }
            }
            let next = waits.iter().filter(|(room, _)| !busy.contains(room)).map(|(_, at)| *at).min();
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.completing.0.noted.notified() => {}
                Some(ended) = running.join_next() => {
                    let (room, done) = ended.map_err(|e| Error::internal(format!("completing a room died: {e}")))?;
                    busy.remove(&room);
                    if !self.ended(room, done)? {
                        let failed = self.completing.progress().get(&room).map_or(1, |progress| progress.failed);
                        let wait = FIRST_WAIT.saturating_mul(1 << failed.clamp(1, 16) >> 1).min(LONGEST_WAIT);
                        waits.insert(room, Instant::now() + wait);
                    }
                }
                () = at(next) => {}
            }
        }
        running.shutdown().await;
        Ok(())
    }

    /// Tries to complete every such room once; says whether none is left.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn complete_once(&self) -> Result<bool, Error> {
        let mut all = true;
        for room in self.partial_rooms()? {
            let done = self.complete(room).await;
            all &= self.ended(room, done)?;
        }
        Ok(all)
    }

    /// Whether a room is done with; storage errors end the loop, all else is tried again.
    fn ended(&self, room: RoomShort, done: Result<bool, Error>) -> Result<bool, Error> {
        let done = match done {
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a room that was joined in part could not be completed; trying again later");
                false
            }
            Ok(done) => done,
        };
        if !done {
            self.completing.show(room, |progress| progress.failed = progress.failed.saturating_add(1));
        }
        Ok(done)
    }

    fn partial_rooms(&self) -> Result<BTreeSet<RoomShort>, Error> {
        let snapshot = self.core.snapshot()?;
        let rows = snapshot.view().scan(tables::PARTIAL, ())?;
        Ok(rows.map(|row| row.map(|(room, _)| room)).collect::<Result<_, _>>()?)
    }

    /// Asks for the rest of a room and writes it; says whether there is nothing left to do.
    async fn complete(&self, short: RoomShort) -> Result<bool, Error> {
        let (room, mark) = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let Some(mark) = view.get(tables::PARTIAL, short)? else { return Ok(true) };
            (rows::room_row(view, short)?, mark)
        };
        let room = (short, &room);
        let Some(told) = self.before(room, &mark.join)?.filter(|_| self.is_ours(short).unwrap_or(true)) else {
            self.leave_off(short, mark).await?;
            return Ok(true);
        };
        let Ok(rules) = rules(&room.1.version) else { return Ok(false) };
        let mut otherwise: Option<StateMap> = None;
        for server in self.members_to_ask(room, &mark)? {
            self.completing.show(short, |progress| progress.asked = Some(server.clone()));
            let Some(whole) = self.whole_state(room, rules, &server, &mark.join).await? else { continue };
            self.write_with_progress(short, &whole).await?;
            if !self.lets_us_in(room, rules, &mark.join, &whole.state)? {
                continue;
            }
            if told.iter().all(|(key, id)| whole.state.get(key) == Some(id)) {
                return self.take_whole(room, &mark, Arc::new(whole.state)).await;
            }
            otherwise.get_or_insert(whole.state);
        }
        // Who let us in said something else than everybody whom we could ask: what both say counts.
        let Some(otherwise) = otherwise else { return Ok(false) };
        let both = {
            let snapshot = self.core.snapshot()?;
            let reader = StoredRoom::new(snapshot.view(), short, room.1);
            let sets = vec![StateSet::Map(told), StateSet::Map(Arc::new(otherwise))];
            let resolve = || millpond_matrix::state::resolve(&reader, rules, sets, None);
            tokio::task::block_in_place(resolve).map_err(local::state_error)?.state
        };
        self.take_whole(room, &mark, both).await
    }

    fn is_ours(&self, room: RoomShort) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let ours = snapshot.view().get(tables::ROOM_SERVERS, (room, self.core.identity().server_name()))?;
        Ok(ours.is_some_and(|members| members > 0))
    }

    /// Who described the room, then others, at each attempt some others.
    fn members_to_ask(&self, (short, room): (RoomShort, &Room), mark: &Partial) -> Result<Vec<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let (view, us) = (snapshot.view(), self.core.identity());
        let mut others = Vec::new();
        for row in view.scan(tables::ROOM_SERVERS, (short,))? {
            let ((_, server), _) = row?;
            let way = route(view, us, &server)?.filter(|way| way.carries(room));
            if server != mark.from && matches!(way, Some(Route::Link | Route::Classic)) {
                others.push(server);
            }
        }
        let failed = self.completing.progress().get(&short).map_or(0, |progress| progress.failed) as usize;
        if !others.is_empty() {
            let first = failed * (SERVERS - 1) % others.len();
            others.rotate_left(first);
        }
        others.truncate(SERVERS - 1);
        Ok([mark.from.clone()].into_iter().chain(others).collect())
    }

    /// The state before our join as a server says, checked; `None` where it cannot be had or is no state.
    async fn whole_state(
        &self,
        room: (RoomShort, &Room),
        rules: &'static RoomRules,
        from: &ServerName,
        join: &EventId,
    ) -> Result<Option<AcceptedState>, Error> {
        let room_id = &room.1.room_id;
        let request = get_room_state_ids::v1::Request::new(join.to_owned(), room_id.clone());
        let named = match self.peers.ask(from, request, PATIENCE).await {
            Ok(named) if named.pdu_ids.len().max(named.auth_chain_ids.len()) <= MAX_STATE => named,
            Ok(_) => return Ok(None),
            Err(error) => {
                tracing::debug!(%error, "the rest of a room cannot be had from one of its servers");
                return Ok(None);
            }
        };
        let missing = self.missing(room.0, named.pdu_ids.iter().chain(&named.auth_chain_ids))?;
        let events = match missing.is_empty() {
            true => Vec::new(),
            false => {
                let request = get_room_state::v1::Request::new(join.to_owned(), room_id.clone());
                let Ok(answer) = self.peers.ask(from, request, PATIENCE).await else { return Ok(None) };
                self.completing.show(room.0, |progress| progress.of = named.pdu_ids.len());
                let pdus = answer.pdus.into_iter().chain(answer.auth_chain).take(2 * MAX_STATE);
                let given = those_of(rules, pdus, &missing);
                if !missing.iter().all(|id| given.contains_key(id)) {
                    tracing::debug!("a server names events of a room that it does not give");
                    return Ok(None);
                }
                self.check_all(rules, from, given.into_values().collect()).await?
            }
        };
        let snapshot = self.core.snapshot()?;
        let known = |id: &EventId| known_pdu(snapshot.view(), room.0, room_id, id);
        let accept = || millpond_matrix::join::accept_ids(rules, room_id, named.pdu_ids, events, known);
        match tokio::task::block_in_place(accept) {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) => {
                tracing::debug!(%error, "a server describes a room in a way that is not valid");
                Ok(None)
            }
        }
    }

    /// Those of the events that are not here; what is was checked when it came.
    fn missing<'a>(
        &self,
        room: RoomShort,
        ids: impl Iterator<Item = &'a OwnedEventId>,
    ) -> Result<HashSet<OwnedEventId>, Error> {
        let snapshot = self.core.snapshot()?;
        let mut missing = HashSet::new();
        for id in ids {
            if rows::head_in_room(snapshot.view(), room, id)?.is_none() {
                missing.insert(id.clone());
            }
        }
        Ok(missing)
    }

    async fn write_with_progress(&self, room: RoomShort, accepted: &AcceptedState) -> Result<(), Error> {
        let new = accepted.outliers.len();
        self.completing.show(room, |progress| {
            progress.of = progress.of.max(accepted.state.len());
            progress.done = progress.of.saturating_sub(new);
        });
        for slice in accepted.outliers.chunks(OUTLIER_SLICE) {
            self.write_outlier_slice(room, slice.to_vec()).await?;
            self.completing.show(room, |progress| progress.done = (progress.done + slice.len()).min(progress.of));
        }
        Ok(())
    }

    /// Whether a state allows the join by which we are in the room.
    fn lets_us_in(
        &self,
        (short, room): (RoomShort, &Room),
        rules: &RoomRules,
        join: &EventId,
        state: &StateMap,
    ) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(join) = known_pdu(view, short, &room.room_id, join) else { return Ok(false) };
        let reader = StoredRoom::new(view, short, room);
        is_allowed(&reader, rules, &join, state).map_err(local::state_error)
    }

    /// Writes the whole state, and works out anew what followed the join. `false` when the room moves too fast for that.
    async fn take_whole(&self, room: (RoomShort, &Room), mark: &Partial, state: Arc<StateMap>) -> Result<bool, Error> {
        if !self.fill(room.0, mark, &state).await? {
            self.leave_off(room.0, mark.clone()).await?;
            return Ok(true);
        }
        for _ in 0..TRIES {
            let settled = match self.settled(room, &mark.join, state.clone())? {
                Some(settled) => settled,
                None => self.settled_ends(room, &mark.join, state.clone())?,
            };
            let (short, mark) = (room.0, mark.clone());
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    if is_still(txn.view(), short, &mark)? {
                        if !settled.write(txn, short)? {
                            return Ok(false);
                        }
                        finish(txn, short)?;
                    }
                    Ok(true)
                },
            );
            if self.core.write(write).await?.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the members that are missing into the current state, some in each commit; says whether we are in the room still.
    async fn fill(&self, room: RoomShort, mark: &Partial, state: &StateMap) -> Result<bool, Error> {
        let members: Vec<(String, OwnedEventId)> = state
            .iter()
            .filter(|((kind, _), _)| *kind == StateEventType::RoomMember)
            .map(|((_, user), id)| (user.clone(), id.clone()))
            .collect();
        for slice in members.chunks(OUTLIER_SLICE) {
            let (slice, mark) = (slice.to_vec(), mark.clone());
            let write = job(
                |_| Ok::<_, Error>(()),
                move |(), txn| {
                    if !is_still(txn.view(), room, &mark)? {
                        return Ok(false);
                    }
                    fill_slice(txn, room, &slice).map(|()| true)
                },
            );
            if !self.core.write(write).await?.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// We are not in the room any more, or not by that join: nothing is to be completed.
    async fn leave_off(&self, room: RoomShort, mark: Partial) -> Result<(), Error> {
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                if txn.view().get(tables::PARTIAL, room)?.is_some_and(|now| now.join == mark.join) {
                    txn.remove(tables::PARTIAL, room)?;
                    forget_named_servers(txn, room)?;
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        Ok(())
    }
}

/// Those of the events that are wanted, by their ids.
fn those_of(
    rules: &RoomRules,
    pdus: impl Iterator<Item = Box<RawValue>>,
    wanted: &HashSet<OwnedEventId>,
) -> BTreeMap<OwnedEventId, Box<RawValue>> {
    let with_id = |pdu: Box<RawValue>| Some((RawPdu::parse(pdu.get()).ok()?.event_id(rules).ok()?, pdu));
    pdus.filter_map(with_id).filter(|(id, _)| wanted.contains(id)).collect()
}

async fn at(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
