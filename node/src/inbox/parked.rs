//! Parked PDUs: they refer to events that are not here. They wait in rows; the event that comes stages them again.

use std::time::Duration;

use millpond_matrix::decide::Missing;
use millpond_store::{
    Error, Topic, WriteTxn,
    rows::{ParkedPdu, Room, StagedPdu},
    tables,
};
use ruma::{EventId, OwnedEventId, RoomId};

use super::{Inbox, judge::Ready};

/// How often what is still parked is asked for again.
pub(super) const RETRY: Duration = Duration::from_secs(60);

/// Parked PDUs of one room. A peer that floods us with gaps loses its oldest ones; honest gaps close long before.
const MAX_PARKED: usize = 1_000;

/// Parks a PDU until what it misses is here.
pub(super) fn park(
    txn: &mut WriteTxn<'_>,
    room: &Room,
    ready: &Ready,
    missing: &Missing,
    now_ms: u64,
) -> Result<(), Error> {
    let room_id = &*room.room_id;
    let parked: Vec<_> = txn
        .view()
        .scan(tables::PARKED, (room_id,))?
        .map(|row| row.map(|((_, id), row)| (row.received_at_ms, id)))
        .collect::<Result<_, _>>()?;
    if parked.len() >= MAX_PARKED
        && let Some((_, oldest)) = parked.into_iter().min()
    {
        unpark(txn, room_id, &oldest)?;
    }
    let all: Vec<OwnedEventId> = missing.prev_events.iter().chain(&missing.auth_events).cloned().collect();
    for id in &all {
        txn.put(tables::PARKED_ON, (&**id, ready.pdu.event_id()), &room.room_id)?;
    }
    let row = ParkedPdu {
        json: ready.staged.json.clone(),
        origin: ready.staged.origin.clone(),
        received_at_ms: now_ms,
        missing: all,
    };
    txn.put(tables::PARKED, (room_id, ready.pdu.event_id()), &row)
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
            let position = txn.next_position().0;
            txn.put(tables::INBOX, position, &StagedPdu { origin: row.origin, via: Vec::new(), json: row.json })?;
            txn.touch(Topic::Inbox);
        }
    }
    Ok(())
}

impl Inbox {
    /// Asks again for what parked PDUs miss.
    pub(super) async fn retry_parked(&self) -> Result<(), crate::Error> {
        let mut waiting = Vec::new();
        {
            let snapshot = self.core.snapshot()?;
            for row in snapshot.view().scan(tables::PARKED, ())?.take(MAX_PARKED) {
                let ((room_id, id), row) = row?;
                waiting.push((room_id, id, row));
            }
        }
        for (room_id, id, row) in waiting {
            let room = {
                let snapshot = self.core.snapshot()?;
                crate::rooms::rows::room(snapshot.view(), &room_id)?
            };
            let Some((short, room)) = room else { continue };
            let missing = Missing { prev_events: row.missing.clone(), auth_events: Vec::new() };
            self.fetch_missing((short, &room), &row.origin, &id, missing).await?;
        }
        Ok(())
    }
}
