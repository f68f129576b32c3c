//! Parked PDUs: they refer to events that are not here. They wait in rows; the event that comes stages them again.

use std::collections::{BTreeMap, BTreeSet};

use millpond_matrix::decide::Missing;
use millpond_store::{
    Error, WriteTxn,
    rows::{ParkedPdu, StagedPdu},
    tables,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId};

use super::{judge::Ready, stage};

/// Parked PDUs of one room. Whoever floods us with gaps loses its own oldest ones; honest gaps close long before.
pub const MAX_PARKED: usize = 1_000;

/// Parks the PDUs of one room, in one job: what waits already is counted once for all of them.
pub(super) struct Parking<'r> {
    room_id: &'r RoomId,
    /// By who brought them, the oldest first. Read when it is needed.
    waiting: Option<BTreeMap<OwnedServerName, BTreeSet<(u64, OwnedEventId)>>>,
}

impl<'r> Parking<'r> {
    pub(super) fn new(room_id: &'r RoomId) -> Self {
        Self { room_id, waiting: None }
    }

    /// Parks a PDU until what it misses is here.
    pub(super) fn park(
        &mut self,
        txn: &mut WriteTxn<'_>,
        ready: &Ready,
        missing: &Missing,
        now_ms: u64,
    ) -> Result<(), Error> {
        if txn.view().contains(tables::PARKED, (self.room_id, ready.pdu.event_id()))? {
            return Ok(());
        }
        let waiting = match self.waiting.take() {
            Some(waiting) => self.waiting.insert(waiting),
            None => self.waiting.insert(waiting_in(txn, self.room_id)?),
        };
        if waiting.values().map(BTreeSet::len).sum::<usize>() >= MAX_PARKED
            && let Some(most) = waiting.values_mut().max_by_key(|of_one| of_one.len())
            && let Some((_, oldest)) = most.pop_first()
        {
            unpark(txn, self.room_id, &oldest)?;
        }
        let (id, origin) = (ready.pdu.owned_event_id(), ready.staged.origin.clone());
        let all: Vec<OwnedEventId> = missing.prev_events.iter().chain(&missing.auth_events).cloned().collect();
        for missing in &all {
            txn.put(tables::PARKED_ON, (&**missing, &*id), &self.room_id.to_owned())?;
        }
        waiting.entry(origin.clone()).or_default().insert((now_ms, id.clone()));
        let row = ParkedPdu { json: ready.staged.json.clone(), origin, received_at_ms: now_ms, missing: all };
        txn.put(tables::PARKED, (self.room_id, &*id), &row)
    }
}

fn waiting_in(
    txn: &WriteTxn<'_>,
    room_id: &RoomId,
) -> Result<BTreeMap<OwnedServerName, BTreeSet<(u64, OwnedEventId)>>, Error> {
    let mut waiting: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for row in txn.view().scan(tables::PARKED, (room_id,))? {
        let ((_, id), row) = row?;
        waiting.entry(row.origin).or_default().insert((row.received_at_ms, id));
    }
    Ok(waiting)
}

/// Forgets a parked PDU; gives it back.
pub(super) fn unpark(txn: &mut WriteTxn<'_>, room_id: &RoomId, id: &EventId) -> Result<Option<ParkedPdu>, Error> {
    let Some(row) = txn.view().get(tables::PARKED, (room_id, id))? else { return Ok(None) };
    for missing in &row.missing {
        txn.remove(tables::PARKED_ON, (&**missing, id))?;
    }
    txn.remove(tables::PARKED, (room_id, id))?;
    Ok(Some(row))
}

/// Stages what waited for an event. It may then be parked again, for the rest of what it misses.
pub(crate) fn wake(txn: &mut WriteTxn<'_>, event_id: &EventId) -> Result<(), Error> {
    let waiting: Vec<_> = txn.view().scan(tables::PARKED_ON, (event_id,))?.collect::<Result<_, _>>()?;
    for ((_, parked), room_id) in waiting {
        if let Some(row) = unpark(txn, &room_id, &parked)? {
            stage(txn, &row.origin.clone(), &[StagedPdu { origin: row.origin, via: Vec::new(), json: row.json }])?;
        }
    }
    Ok(())
}
