//! What was soft-failed here goes on to members whom its sender has no link with, like any other event (overlay.md section 5): they may
//! judge it otherwise, and what its sender says next follows it. Nobody is shown it for that, and none of our events follows it
//! (server-server spec, "Soft failure").
//!
//! Two things are not passed on. What somebody makes who is not in the room, banned or gone: others soft-fail it too, and it would
//! reach them through us who refuse it from him. And what is more than [`MOST_A_DAY`]: that comes as what a later event follows.

use millpond_matrix::Pdu;
use millpond_store::{
    Error, WriteTxn,
    rows::{EventShort, PassedOn, Room, RoomShort},
    tables,
};

use super::{Context, current, fanout};
use crate::identity::Identity;

/// Soft-failed events of one server that are passed on in one room and day.
const MOST_A_DAY: u64 = 256;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Owes a soft-failed event to those whom its sender left to us.
pub(super) fn pass_on(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    (short, room): (RoomShort, &Room),
    pdu: &Pdu,
    event: EventShort,
    context: &Context,
) -> Result<(), Error> {
    let Some(except) = context.owed.except(room) else { return Ok(()) };
    if !current::is_joined(txn.view(), short, pdu.sender())? {
        return Ok(());
    }
    let mut to = fanout::servers(txn, short)?;
    to.retain(|server| !identity.is_ours(server) && !except.contains(server));
    if to.is_empty() || !count(txn, short, pdu, context.now_ms / DAY_MS)? {
        return Ok(());
    }
    fanout::owe(txn, identity, room, event, to)
}

/// Counts an event that is to be passed on; says whether it may be.
fn count(txn: &mut WriteTxn<'_>, room: RoomShort, pdu: &Pdu, day: u64) -> Result<bool, Error> {
    let key = (room, pdu.sender().server_name());
    let before = txn.view().get(tables::PASSED_ON, key)?.filter(|row| row.day == day);
    let count = before.map_or(0, |row| row.count);
    if count >= MOST_A_DAY {
        return Ok(false);
    }
    txn.put(tables::PASSED_ON, key, &PassedOn { day, count: count + 1 })?;
    Ok(true)
}
