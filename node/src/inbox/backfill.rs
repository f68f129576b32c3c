//! Older history for a client that scrolls back: asked of a member that is linked, checked like everything that comes from
//! a peer, and put into the gap where the client reads, or before the oldest event that is here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use millpond_matrix::{
    CheckedPdu, StateMap, Verdict,
    decide::Given,
    rules::{RoomRules, rules},
    state::{Resolution, StateSet},
};
use millpond_store::{
    View, WriteTxn, job,
    rows::{Room, RoomShort},
    tables,
};
use ruma::{
    EventId, OwnedEventId, RoomId, ServerName, UInt,
    api::federation::{backfill::get_backfill, event::get_room_state_ids},
    events::StateEventType,
};

use super::{Inbox, fetch::known_pdu, parked};
use crate::{
    Error,
    identity::Identity,
    peers::{PATIENCE, PeerError},
    rooms::{
        apply::{self, Context},
        rows,
    },
    timeline::Backfill,
};

/// Events to start from in one question.
const MAX_STARTS: usize = 20;
/// Events asked for at once.
const MAX_EVENTS: usize = 100;
/// Members that sleep and are asked for the same over mailboxes.
const MAX_LATER: usize = 2;
/// States asked for in one go: history with more gaps in it takes more goes.
const MAX_STATES: usize = 4;
/// Events written in one commit.
const SLICE: usize = 32;

/// History that is ready to be written, the oldest first.
struct History {
    events: Vec<CheckedPdu>,
    /// The state before those of them whose prev events are not here.
    states: HashMap<OwnedEventId, Arc<StateMap>>,
    /// The position of the event after the gap that it is to fill.
    gap: Option<i64>,
    asked: Asked,
}

/// Who hears of history that fills a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A client waits for it at the gap.
    Now,
    /// Clients have gone past the gap: those that follow the room are shown it again.
    Before,
}

impl Backfill for Inbox {
    fn backfill<'a>(&'a self, room_id: &'a RoomId, gap: Option<i64>, limit: usize) -> BoxFuture<'a, Result<(), Error>> {
        self.fetch_history(room_id, gap, (limit, Asked::Now)).boxed()
    }
}

impl Inbox {
    /// Asks for history before a gap, or before the oldest event here, and writes what comes.
    pub(super) async fn fetch_history(
        &self,
        room_id: &RoomId,
        gap: Option<i64>,
        (limit, asked): (usize, Asked),
    ) -> Result<(), Error> {
        // One at a time: a second client would ask for the same.
        let _turn = self.backfilling.lock().await;
        let (short, room, from) = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let Some((short, room)) = rows::room(view, room_id)? else { return Ok(()) };
            let from = match gap {
                Some(edge) => view.get(tables::GAPS, (short, edge))?.map(|gap| gap.missing).unwrap_or_default(),
                None => before_the_oldest(view, short)?,
            };
            (short, room, from)
        };
        if from.is_empty() {
            return Ok(());
        }
        let rules = rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
        let limit = UInt::new_saturating(limit.clamp(1, MAX_EVENTS) as u64);
        let mut later = 0;
        for server in self.who_to_ask(short, self.core.identity().server_name())? {
            // Over mailboxes the question must be the same when its answer is read, whoever scrolls then.
            let limit = if self.peers.asks_by_mail(&server) { UInt::from(MAX_EVENTS as u32) } else { limit };
            let request = get_backfill::v1::Request::new(room_id.to_owned(), from.clone(), limit);
            let mut answer = match self.peers.ask(&server, request, PATIENCE).await {
                Ok(answer) => answer,
                Err(PeerError::Later) => {
                    later += 1;
                    if later == MAX_LATER {
                        break;
                    }
                    continue;
                }
                Err(_) => continue,
            };
            answer.pdus.truncate(MAX_EVENTS);
            let checked = self.check_all(rules, &server, answer.pdus).await?;
            let checked = match gap {
                Some(_) => self.within_gap(short, &from, checked)?,
                None => checked,
            };
            let mut history = self.prepare((short, &room), rules, &server, checked).await?;
            (history.gap, history.asked) = (gap, asked);
            if self.write_history((short, room.clone()), rules, history).await? > 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Orders the events, and gets the state before those that stand at the old end.
    async fn prepare(
        &self,
        room: (RoomShort, &Room),
        rules: &'static RoomRules,
        from: &ServerName,
        mut events: Vec<CheckedPdu>,
    ) -> Result<History, Error> {
        events.retain(|pdu| pdu.room_id() == &*room.1.room_id);
        events.sort_by_key(|pdu| (pdu.depth(), pdu.owned_event_id()));
        let mut history = History { events: Vec::new(), states: HashMap::new(), gap: None, asked: Asked::Now };
        let mut here: HashSet<OwnedEventId> = HashSet::new();
        let mut asked = 0;
        for pdu in events {
            let (placed, connected) = self.connected(room.0, &pdu, &here)?;
            if placed {
                continue;
            }
            if !connected {
                asked += 1;
                if asked > MAX_STATES {
                    break;
                }
                let Some(state) = self.state_before(room, rules, from, pdu.event_id()).await? else { continue };
                history.states.insert(pdu.owned_event_id(), Arc::new(state));
            }
            here.insert(pdu.owned_event_id());
            history.events.push(pdu);
        }
        Ok(history)
    }

    /// Those of the events that lead from the gap's newer side to what is here, and not beyond.
    fn within_gap(
        &self,
        room: RoomShort,
        from: &[OwnedEventId],
        events: Vec<CheckedPdu>,
    ) -> Result<Vec<CheckedPdu>, Error> {
        let mut left: HashMap<OwnedEventId, CheckedPdu> =
            events.into_iter().map(|pdu| (pdu.owned_event_id(), pdu)).collect();
        let (mut next, mut within) = (from.to_vec(), Vec::new());
        while let Some(id) = next.pop() {
            let Some(pdu) = left.remove(&id) else { continue };
            if !self.connected(room, &pdu, &HashSet::new())?.0 {
                next.extend(pdu.prev_events().iter().cloned());
                within.push(pdu);
            }
        }
        Ok(within)
    }

    /// Whether an event has its place already, and whether all its prev events have.
    fn connected(
        &self,
        room: RoomShort,
        pdu: &CheckedPdu,
        here: &HashSet<OwnedEventId>,
    ) -> Result<(bool, bool), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let placed = |id: &EventId| -> Result<bool, Error> {
            Ok(rows::event_in_room(view, room, id)?.is_some_and(|(_, row)| row.meta.state_after.is_some()))
        };
        let mut connected = true;
        for prev in pdu.prev_events() {
            connected = connected && (here.contains(prev) || placed(prev)?);
        }
        Ok((placed(pdu.event_id())?, connected))
    }

    /// The state before an event, by a peer's word: by ids where all of them are here, else with the events.
    async fn state_before(
        &self,
        room: (RoomShort, &Room),
        rules: &'static RoomRules,
        from: &ServerName,
        event_id: &EventId,
    ) -> Result<Option<StateMap>, Error> {
        let request = get_room_state_ids::v1::Request::new(event_id.to_owned(), room.1.room_id.clone());
        let Ok(answer) = self.peers.ask(from, request, PATIENCE).await else { return Ok(None) };
        if let Some(state) = self.known_state(room, &answer.pdu_ids)? {
            return Ok(Some(state));
        }
        let Some(accepted) = self.state_from(room, rules, from, event_id).await? else { return Ok(None) };
        self.write_outliers(room.0, &accepted).await?;
        Ok(Some(accepted.state))
    }

    /// A state of events that are all here and were not rejected.
    fn known_state(&self, room: (RoomShort, &Room), ids: &[OwnedEventId]) -> Result<Option<StateMap>, Error> {
        let snapshot = self.core.snapshot()?;
        let mut state = StateMap::new();
        for id in ids {
            let known = known_pdu(snapshot.view(), room.0, &room.1.room_id, id);
            let Some(pdu) = known.filter(|pdu| !pdu.flags().rejected) else { return Ok(None) };
            let Some(key) = pdu.state_entry() else { return Ok(None) };
            if state.insert(key, id.clone()).is_some() {
                return Ok(None);
            }
        }
        let create = (StateEventType::RoomCreate, String::new());
        Ok((ids.is_empty() || state.contains_key(&create)).then_some(state))
    }

    /// Writes history in slices; says how many events are new.
    async fn write_history(
        &self,
        (short, room): (RoomShort, Room),
        rules: &'static RoomRules,
        history: History,
    ) -> Result<usize, Error> {
        let (history, room) = (Arc::new(history), Arc::new(room));
        let (mut next, mut written) = (0, 0);
        let mut oldest = None;
        let mut resolutions: Vec<Resolution> = Vec::new();
        while next < history.events.len() {
            let part = Part { history: history.clone(), next, oldest, resolved: resolutions.clone() };
            let (core, room_job) = (self.core.clone(), room.clone());
            let write =
                job(|_| Ok::<_, Error>(()), move |(), txn| part.write(txn, core.identity(), (short, &room_job)));
            let slice = self.core.write(write).await?.0;
            next += slice.done;
            written += slice.written;
            oldest = Some(slice.oldest);
            match slice.resolve {
                Some(sets) => {
                    let pdu = &history.events[next];
                    resolutions.push(self.resolve((short, &room), rules, sets, pdu)?);
                }
                None => resolutions.clear(),
            }
        }
        Ok(written)
    }
}

/// What the oldest events refer to: the newest of it first, and nothing that belongs into a gap.
fn before_the_oldest(view: View<'_>, room: RoomShort) -> Result<Vec<OwnedEventId>, Error> {
    let mut in_gaps = HashSet::new();
    for row in view.scan(tables::GAPS, (room,))? {
        in_gaps.extend(row?.1.missing);
    }
    let mut missing = Vec::new();
    for row in view.scan(tables::BACKWARD, (room,))? {
        let ((_, id), depth) = row?;
        if !in_gaps.contains(&id) {
            missing.push((depth, id));
        }
    }
    missing.sort_unstable_by(|a, b| b.cmp(a));
    missing.truncate(MAX_STARTS);
    Ok(missing.into_iter().map(|(_, id)| id).collect())
}

/// What is left of some history, for the next commit.
struct Part {
    history: Arc<History>,
    next: usize,
    /// Where the oldest of all of it stands, once that is known.
    oldest: Option<i64>,
    resolved: Vec<Resolution>,
}

impl Part {
    /// Writes [`SLICE`] events, or those before the first that needs a state resolved.
    fn write(
        &self,
        txn: &mut WriteTxn<'_>,
        identity: &Identity,
        room: (RoomShort, &Room),
    ) -> Result<Slice, millpond_store::Error> {
        let Self { history, next, resolved, .. } = self;
        // The oldest is written first, and all of them stand before what is here.
        let oldest = match self.oldest {
            Some(oldest) => oldest,
            None => apply::place(txn.view(), room.0, history.gap, history.events.len())?,
        };
        let mut slice = Slice { oldest, done: 0, written: 0, resolve: None };
        for (at, pdu) in history.events.iter().enumerate().skip(*next).take(SLICE) {
            let state_before = history.states.get(pdu.event_id()).cloned();
            let given = Given { resolutions: resolved, state_before, entering: false, backfill: true };
            let verdict = apply::verdict(txn.view(), room, pdu, &given).map_err(apply::store_error)?;
            match verdict {
                Verdict::Resolve(sets) => {
                    slice.resolve = Some(sets);
                    break;
                }
                Verdict::Park(_) | Verdict::Duplicate => {}
                verdict => {
                    let context = Context { backfill: Some(oldest + at as i64), ..Context::default() };
                    apply::write(txn, identity, room, pdu, verdict, &context)?;
                    parked::wake(txn, pdu.event_id())?;
                    slice.written += 1;
                }
            }
            slice.done += 1;
        }
        if slice.written > 0 && history.gap.is_some() && history.asked == Asked::Before {
            let position = txn.next_position().0;
            txn.put(tables::FILLED, room.0, &position)?;
        }
        Ok(slice)
    }
}

/// What one commit of history did.
struct Slice {
    oldest: i64,
    done: usize,
    written: usize,
    resolve: Option<Vec<StateSet>>,
}
