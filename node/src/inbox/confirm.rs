//! Rooms that were entered by what came with an invite: a second member says what the state before the invite was. If it
//! names another one, its description is checked like any other, both are resolved, and everything that followed is
//! settled anew (overlay.md section 5: a lying snapshot can only omit or be old).

use std::{collections::BTreeSet, sync::Arc};

use millpond_matrix::{
    Pdu, RoomReader, StateMap,
    decide::changes,
    resettle::{self, States, merged},
    rules::rules,
    state::StateSet,
};
use millpond_store::{
    View, WriteTxn, job,
    rows::{EventRow, EventShort, Room, RoomHead, RoomShort, StateGroup, Unconfirmed},
    tables,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName, api::federation::event::get_room_state_ids};

use super::{Inbox, fetch::known_pdu};
use crate::{
    Error,
    peers::{PATIENCE, linked_servers},
    rooms::{current, groups, local, reader::StoredRoom, rows},
};

/// Events since the invite that are settled anew; with more, the room is left as state resolution makes it.
const MAX_SETTLED: usize = 1_000;
/// Entries of the states that those set, all together: some 200 bytes each while it lasts.
const MAX_ENTRIES: usize = 1_000_000;
/// How often a room may move under our hands.
const TRIES: usize = 5;

impl Inbox {
    /// A room was entered by one server's description: who waits in [`Inbox::described`] looks for a second one.
    pub(crate) fn note_described(&self) {
        self.described.notify_one();
    }

    /// Waits for a room to be entered by a description, and then asks those who are there. Dropping it leaves rooms
    /// unconfirmed.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn described(&self) -> Result<(), Error> {
        self.described.notified().await;
        let linked = {
            let snapshot = self.core.snapshot()?;
            linked_servers(snapshot.view())?
        };
        let asked = |server: &&OwnedServerName| self.peers.is_connected(server) || self.peers.asks_by_mail(server);
        for server in linked.iter().filter(asked) {
            self.confirm_rooms(server).await?;
        }
        Ok(())
    }

    /// Asks a server, which did not describe them, about the unconfirmed rooms that we share with it.
    ///
    /// # Errors
    /// Storage errors. What the server does not answer stays unconfirmed.
    pub async fn confirm_rooms(&self, with: &ServerName) -> Result<(), Error> {
        let rooms = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let mut rooms = Vec::new();
            for row in view.scan(tables::UNCONFIRMED, ())? {
                let (short, mark) = row?;
                if mark.from != with
                    && view.contains(tables::ROOM_SERVERS, (short, with))?
                    && view.contains(tables::ROOM_SERVERS, (short, self.core.identity().server_name()))?
                    && let Some(room) = view.get(tables::ROOMS, short)?
                {
                    rooms.push((short, room, mark));
                }
            }
            rooms
        };
        for (short, room, mark) in rooms {
            if self.confirm((short, &room), &mark, with).await? {
                self.confirmed(short).await?;
            }
        }
        Ok(())
    }

    /// Whether the room stands now as both servers say.
    async fn confirm(&self, room: (RoomShort, &Room), mark: &Unconfirmed, with: &ServerName) -> Result<bool, Error> {
        let Some(ours) = self.before(room, &mark.invite)? else { return Ok(true) };
        let request = get_room_state_ids::v1::Request::new(mark.invite.clone(), room.1.room_id.clone());
        let Ok(answer) = self.peers.ask(with, request, PATIENCE).await else { return Ok(false) };
        let theirs: BTreeSet<&OwnedEventId> = answer.pdu_ids.iter().collect();
        if theirs == ours.values().collect() {
            return Ok(true);
        }
        let Ok(rules) = rules(&room.1.version) else { return Ok(false) };
        let Some(accepted) = self.state_from(room, rules, with, &mark.invite).await? else { return Ok(false) };
        self.write_outliers(room.0, &accepted).await?;
        let resolved = {
            let snapshot = self.core.snapshot()?;
            let reader = StoredRoom::new(snapshot.view(), room.0, room.1);
            let sets = vec![StateSet::Map(ours), StateSet::Map(Arc::new(accepted.state))];
            let resolve = || millpond_matrix::state::resolve(&reader, rules, sets, None);
            tokio::task::block_in_place(resolve).map_err(local::state_error)?.state
        };
        for _ in 0..TRIES {
            if self.settle(room, mark, resolved.clone()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The state before the event by which we entered a room, as we were told it; none if the room is not as it was entered.
    pub(super) fn before(
        &self,
        (short, _): (RoomShort, &Room),
        event_id: &EventId,
    ) -> Result<Option<Arc<StateMap>>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((_, row)) = rows::event_in_room(view, short, event_id)? else { return Ok(None) };
        let Some(after) = row.meta.state_after else { return Ok(None) };
        let mut state = groups::state_map(view, after)?;
        if let Some(key) = rows::pdu(&rows::room_id(view, short)?, row.clone())?.state_entry()
            && state.get(&key).is_some_and(|id| id == event_id)
        {
            match row.meta.replaces {
                Some(before) => state.insert(key, rows::event_id(view, before)?),
                None => state.remove(&key),
            };
        }
        Ok(Some(Arc::new(state)))
    }

    /// Settles a room anew, if it is still the same when that is written.
    async fn settle(&self, room: (RoomShort, &Room), mark: &Unconfirmed, before: Arc<StateMap>) -> Result<bool, Error> {
        let Some(settled) = self.settled(room, &mark.invite, before)? else {
            tracing::warn!("a room was described wrongly and has gone on too far to be settled anew");
            return Ok(true);
        };
        let short = room.0;
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| settled.write(txn, short));
        Ok(self.core.write(write).await?.0)
    }

    /// Works out, off the writer, the states since the event by which we entered a room; `before` is the one before it. None:
    /// the room has gone on too far.
    pub(super) fn settled(
        &self,
        (short, room): (RoomShort, &Room),
        from: &EventId,
        before: Arc<StateMap>,
    ) -> Result<Option<Settled>, Error> {
        let rules = rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(events) = since(view, (short, room), from, before.len())? else { return Ok(None) };
        let reader = StoredRoom::new(view, short, room);
        let work = || -> Result<(States, Arc<StateMap>), Error> {
            let pdus: Vec<Arc<Pdu>> = events.iter().map(|(_, pdu)| pdu.clone()).collect();
            let states = resettle::resettle(&reader, rules, &pdus, before).map_err(local::state_error)?;
            let ends = ids_of(extremities(view, short)?, view)?;
            let current = merged(&reader, rules, &states, &ends).map_err(local::state_error)?;
            Ok((states, current))
        };
        let (states, current) = tokio::task::block_in_place(work)?;
        Ok(Some(Settled {
            last: last(view, short)?,
            ends: extremities(view, short)?,
            events: events.into_iter().map(|(event, _)| event).collect(),
            states,
            current,
        }))
    }

    /// The same for a room that has gone on too far: the state before the event and those after the ends, resolved, are what
    /// follows is built on.
    pub(super) fn settled_ends(
        &self,
        (short, room): (RoomShort, &Room),
        from: &EventId,
        before: Arc<StateMap>,
    ) -> Result<Settled, Error> {
        let rules = rules(&room.version).map_err(|e| Error::internal(e.to_string()))?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let reader = StoredRoom::new(view, short, room);
        let ends = extremities(view, short)?;
        let mut after = StateMap::clone(&before);
        if let Some(entry) = known_pdu(view, short, &room.room_id, from).and_then(|pdu| pdu.state_entry()) {
            after.insert(entry, from.to_owned());
        }
        let mut sets = vec![StateSet::Map(Arc::new(after))];
        for id in ids_of(ends.clone(), view)? {
            let group = reader.state_after(&id).map_err(crate::rooms::apply::store_error)?;
            sets.extend(group.map(StateSet::Group).filter(|set| !sets.contains(set)));
        }
        let resolve = || millpond_matrix::state::resolve(&reader, rules, sets, None);
        let current = tokio::task::block_in_place(resolve).map_err(local::state_error)?.state;
        let states = ids_of(ends.clone(), view)?.into_iter().map(|id| (id, current.clone())).collect();
        Ok(Settled { last: last(view, short)?, events: ends.clone(), ends, states, current })
    }

    async fn confirmed(&self, room: RoomShort) -> Result<(), Error> {
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| txn.remove(tables::UNCONFIRMED, room).map(drop));
        self.core.write(write).await?;
        Ok(())
    }
}

/// States worked out on a snapshot, and the room as it was there.
pub(super) struct Settled {
    last: Option<i64>,
    ends: Vec<EventShort>,
    events: Vec<EventShort>,
    states: States,
    current: Arc<StateMap>,
}

impl Settled {
    /// Says whether the room was still the same; else nothing is written.
    pub(super) fn write(&self, txn: &mut WriteTxn<'_>, room: RoomShort) -> Result<bool, millpond_store::Error> {
        if last(txn.view(), room)? != self.last || extremities(txn.view(), room)? != self.ends {
            return Ok(false);
        }
        let mut near: Option<StateGroup> = None;
        let mut written: Option<&Arc<StateMap>> = None;
        for event in &self.events {
            let row = rows::event(txn.view(), *event)?;
            let Some(state) = self.states.get(&row.header.event_id) else { continue };
            let group = match (near, written) {
                (Some(group), Some(last)) if Arc::ptr_eq(last, state) => group,
                _ => groups::store(txn, near, state)?,
            };
            (near, written) = (Some(group), Some(state));
            put_state(txn, *event, row, group)?;
        }
        let head = txn.view().get(tables::ROOM_HEADS, room)?;
        let before = head.map(|head| groups::state_map(txn.view(), head.group)).transpose()?.unwrap_or_default();
        for change in changes(&before, &self.current) {
            let (kind, state_key) = change.key;
            let event = change.event.map(|id| rows::event_short(txn.view(), &id)).transpose()?.flatten();
            current::change(txn, room, &kind.to_string(), &state_key, event)?;
        }
        let group = groups::store(txn, near.or(head.map(|head| head.group)), &self.current)?;
        txn.put(tables::ROOM_HEADS, room, &RoomHead { group, bump: head.and_then(|head| head.bump) })?;
        txn.touch(millpond_store::Topic::Room(room));
        Ok(true)
    }
}

fn put_state(
    txn: &mut WriteTxn<'_>,
    event: EventShort,
    mut row: EventRow,
    group: StateGroup,
) -> Result<(), millpond_store::Error> {
    row.meta.state_after = Some(group);
    txn.put(tables::EVENTS, event, &row)
}

/// The events of the timeline from the one on by which we entered the room; none if they, or with a state of this size what
/// they set, are too many.
#[allow(clippy::type_complexity, reason = "a list of events with their numbers")]
fn since(
    view: View<'_>,
    (short, room): (RoomShort, &Room),
    first: &EventId,
    entries: usize,
) -> Result<Option<Vec<(EventShort, Arc<Pdu>)>>, Error> {
    let Some((_, first)) = rows::event_in_room(view, short, first)? else { return Ok(Some(Vec::new())) };
    let from = std::ops::Bound::Included((short, first.meta.position.unwrap_or(i64::MAX)));
    let to = std::ops::Bound::Included((short, i64::MAX));
    let (mut events, mut states) = (Vec::new(), 0);
    for row in view.range(tables::TIMELINE, from, to)? {
        let (_, event) = row?;
        let pdu = rows::pdu(&room.room_id, rows::event(view, event)?)?;
        states += usize::from(pdu.state_key().is_some());
        events.push((event, pdu));
        if events.len() > MAX_SETTLED || states * entries > MAX_ENTRIES {
            return Ok(None);
        }
    }
    Ok(Some(events))
}

fn last(view: View<'_>, room: RoomShort) -> Result<Option<i64>, millpond_store::Error> {
    let last = view.scan(tables::TIMELINE, (room,))?.next_back().transpose()?;
    Ok(last.map(|((_, position), _)| position))
}

fn extremities(view: View<'_>, room: RoomShort) -> Result<Vec<EventShort>, millpond_store::Error> {
    view.scan(tables::EXTREMITIES, (room,))?.map(|row| row.map(|((_, event), ())| event)).collect()
}

fn ids_of(events: Vec<EventShort>, view: View<'_>) -> Result<Vec<OwnedEventId>, Error> {
    Ok(events.into_iter().map(|event| rows::event_id(view, event)).collect::<Result<_, _>>()?)
}
