//! Receipts on their way to other servers. A row says from which position on a server has not heard of a room's receipts;
//! what it is sent is read when it is sent, so a peer that was away gets the latest receipts and not all of them.

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{Error, Topic, View, WriteTxn, rows::RoomShort, tables};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedUserId, ServerName, UInt,
    api::federation::transactions::edu::{Edu, ReceiptContent, ReceiptData, ReceiptMap},
    events::receipt::Receipt,
};

use super::{Kind, thread_of};
use crate::{identity::Identity, peers::Route, rooms::rows};

/// `m.receipt` EDUs of one transaction.
#[derive(Clone, Debug, Default)]
pub struct ReceiptEdus {
    /// JSON of each.
    pub edus: Vec<String>,
    /// Up to which position they tell of each room.
    told: Vec<(RoomShort, u64)>,
}

/// At most `limit` EDUs of what is owed to a server.
///
/// # Errors
/// Storage errors.
pub(crate) fn receipt_edus(
    view: View<'_>,
    us: &Identity,
    destination: &ServerName,
    route: Route,
    limit: usize,
) -> Result<ReceiptEdus, Error> {
    let mut found = ReceiptEdus::default();
    for row in view.scan(tables::RECEIPTS_OWED, (destination,))? {
        let ((_, room), since) = row?;
        if found.edus.len() >= limit {
            break;
        }
        // Who left the room meanwhile hears no more of it.
        let stays = view.contains(tables::ROOM_SERVERS, (room, destination))?;
        if !stays || !route.carries(&rows::room_row(view, room)?) {
            found.told.push((room, view.position()?.0));
            continue;
        }
        let (contents, up_to) = contents(view, us, room, since, limit - found.edus.len())?;
        for content in contents {
            let edu = serde_json::to_string(&Edu::Receipt(content));
            found.edus.push(edu.map_err(|e| Error::Corrupt { table: tables::RECEIPTS.name(), why: e.to_string() })?);
        }
        found.told.push((room, up_to));
    }
    Ok(found)
}

/// Whether anything is owed to a server.
///
/// # Errors
/// Storage errors.
pub(crate) fn owes_receipts(
    view: View<'_>,
    us: &Identity,
    destination: &ServerName,
    route: Route,
) -> Result<bool, Error> {
    Ok(!receipt_edus(view, us, destination, route, 1)?.edus.is_empty())
}

/// Notes that a server has what it was sent.
///
/// # Errors
/// Storage errors.
pub fn receipts_delivered(
    txn: &mut WriteTxn<'_>,
    us: &Identity,
    destination: &ServerName,
    sent: &ReceiptEdus,
) -> Result<(), Error> {
    for &(room, up_to) in &sent.told {
        if contents(txn.view(), us, room, up_to, 1)?.0.is_empty() {
            txn.remove(tables::RECEIPTS_OWED, (destination, room))?;
        } else {
            txn.put(tables::RECEIPTS_OWED, (destination, room), &up_to)?;
        }
    }
    Ok(())
}

/// Notes that the servers of a room are owed what comes after `since`, and wakes the outbox.
pub(super) fn owe(txn: &mut WriteTxn<'_>, us: &Identity, room: RoomShort, since: u64) -> Result<(), Error> {
    let servers: Vec<_> = txn.view().scan(tables::ROOM_SERVERS, (room,))?.collect::<Result<_, _>>()?;
    for ((_, server), _) in servers {
        if us.is_ours(&server) {
            continue;
        }
        if !txn.view().contains(tables::RECEIPTS_OWED, (&*server, room))? {
            txn.put(tables::RECEIPTS_OWED, (&*server, room), &since)?;
        }
        txn.touch(Topic::Outbox(server));
    }
    Ok(())
}

/// The public receipts of our users in a room after a position, and up to which position they are. A content has room
/// for one receipt of a user, so there is one for each thread.
fn contents(
    view: View<'_>,
    us: &Identity,
    room: RoomShort,
    since: u64,
    limit: usize,
) -> Result<(Vec<ReceiptContent>, u64), Error> {
    let mut threads: BTreeMap<String, BTreeMap<OwnedUserId, ReceiptData>> = BTreeMap::new();
    let mut up_to = view.position()?.0;
    let (from, to) = (Bound::Excluded((room, since)), Bound::Included((room, u64::MAX)));
    let mut before = since;
    for entry in view.range(tables::RECEIPT_LOG, from, to)? {
        let ((_, position), key) = entry?;
        if key.kind != Kind::Read.as_str() || !us.is_our_user(&key.user_id) {
            continue;
        }
        if threads.len() == limit && !threads.contains_key(&key.thread) {
            up_to = before;
            break;
        }
        before = position;
        let Some(row) = view.get(tables::RECEIPTS, (room, &key.user_id, &key.kind, &key.thread))? else { continue };
        let mut receipt = Receipt::new(MilliSecondsSinceUnixEpoch(UInt::new_saturating(row.ts_ms)));
        receipt.thread = thread_of(&key.thread);
        let data = ReceiptData::new(receipt, vec![row.event_id]);
        threads.entry(key.thread).or_default().insert(key.user_id, data);
    }
    if threads.is_empty() {
        return Ok((Vec::new(), up_to));
    }
    let room_id = rows::room_id(view, room)?;
    let content = |read| ReceiptContent::new(BTreeMap::from([(room_id.clone(), ReceiptMap::new(read))]));
    Ok((threads.into_values().map(content).collect(), up_to))
}
