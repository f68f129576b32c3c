//! Receipts that come before their event: a peer sends both in one transaction, and the event is judged later. The newest of
//! each user and thread waits in a row.

use millpond_store::{
    Error, WriteTxn,
    rows::{EarlyReceipt, RoomShort},
    tables,
};
use ruma::{EventId, UserId};

use super::{Kind, Mark, moves_forward, put, thread_of};

/// Threads of one user whose receipts wait.
const THREADS_MAX: usize = 16;

/// Keeps a receipt until its event is here.
pub(super) fn keep(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    user: &UserId,
    mark: &Mark,
    ts_ms: u64,
) -> Result<(), Error> {
    let thread = mark.thread.as_str().unwrap_or_default();
    let waiting = txn.view().scan(tables::EARLY_RECEIPTS, (room, user))?.take(THREADS_MAX).count();
    if waiting == THREADS_MAX && !txn.view().contains(tables::EARLY_RECEIPTS, (room, user, thread))? {
        return Ok(());
    }
    let row = EarlyReceipt { event_id: mark.event_id.clone(), ts_ms };
    txn.put(tables::EARLY_RECEIPTS, (room, user, thread), &row)
}

/// Sets the receipts that waited for an event which is in the timeline now.
pub(crate) fn take(txn: &mut WriteTxn<'_>, room: RoomShort, event_id: &EventId) -> Result<(), Error> {
    let mut due = Vec::new();
    for row in txn.view().scan(tables::EARLY_RECEIPTS, (room,))? {
        let ((_, user, thread), row) = row?;
        if *row.event_id == *event_id {
            due.push((user, thread, row.ts_ms));
        }
    }
    for (user, thread, ts_ms) in due {
        txn.remove(tables::EARLY_RECEIPTS, (room, &*user, thread.as_str()))?;
        let mark = Mark { kind: Kind::Read, event_id: event_id.to_owned(), thread: thread_of(&thread) };
        match moves_forward(txn.view(), room, &user, &mark) {
            Ok(true) => put(txn, room, &user, &mark, ts_ms)?,
            // It is not in that thread, or a later one came first.
            Ok(false) | Err(crate::Error::Matrix { .. } | crate::Error::Uiaa(_)) => {}
            Err(crate::Error::Store(error)) => return Err(error),
        }
    }
    Ok(())
}
