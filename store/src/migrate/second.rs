//! Layout 2: short rows. Events are packed, event ids in keys are hashes, interned numbers and state groups are LEB128, and
//! transaction ids are hashes that name their event by its number. Nothing is dropped.

use std::ops::Bound;

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;

use crate::{
    Error, WriteTxn,
    key::{AsKey, Key},
    rows::{EventShort, StateGroup, StateGroupRow, StateKeyShort, events_of_layout_1, txn_key},
    table::Table,
    tables,
    value::Value,
};

pub(super) fn migrate(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    values(txn, tables::EVENTS, |bytes| events_of_layout_1(bytes).map(|row| row.encode().into_owned()))?;
    values(txn, tables::STATE_GROUPS, |bytes| group(bytes).map(|row| row.encode().into_owned()))?;
    short(txn, tables::ROOM_IDS)?;
    short(txn, tables::EVENT_IDS)?;
    short(txn, tables::TIMELINE)?;
    short(txn, tables::STATE_KEYS)?;
    short(txn, tables::ROOM_STATE)?;
    short(txn, tables::EARLY_REDACTIONS)?;
    keys(txn, tables::EVENT_IDS, |key| event_ids(key, 0, 1))?;
    keys(txn, tables::RELATIONS, |key| event_ids(key, 0, 1))?;
    keys(txn, tables::PARKED_ON, |key| event_ids(key, 0, 2))?;
    keys(txn, tables::BACKWARD, |key| event_ids(key, 8, 1))?;
    keys(txn, tables::SUCCESSORS, |key| event_ids(key, 8, 1))?;
    keys(txn, tables::EARLY_REDACTIONS, |key| event_ids(key, 8, 1))?;
    keys(txn, tables::PARKED, |key| {
        let mut rest = key;
        <ruma::OwnedRoomId as Key>::decode(&mut rest)?;
        event_ids(key, key.len() - rest.len(), 1)
    })?;
    txn_ids(txn)
}

/// Rows read at once.
const SLICE: usize = 500;

/// Encodes every value of a table anew.
fn values<K, V>(
    txn: &mut WriteTxn<'_>,
    table: Table<K, V>,
    encode: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<(), Error> {
    let mut after = Bound::Unbounded;
    loop {
        let rows = txn.raw_rows(table, &after, SLICE)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Bound::Excluded(last.clone());
        for (key, value) in rows {
            let value = encode(&value).map_err(|why| Error::Corrupt { table: table.name(), why })?;
            txn.raw_put(table, &key, &value)?;
        }
    }
}

/// Values that are one interned number.
fn short<K, V>(txn: &mut WriteTxn<'_>, table: Table<K, V>) -> Result<(), Error> {
    values(txn, table, |bytes| {
        let bytes = bytes.try_into().map_err(|_| format!("{} bytes for a number", bytes.len()))?;
        Ok(Value::encode(&EventShort(u64::from_be_bytes(bytes))).into_owned())
    })
}

/// Encodes every key of a table anew. A new key sorts before the one it replaces and all that follow: it is not met again.
fn keys<K, V>(
    txn: &mut WriteTxn<'_>,
    table: Table<K, V>,
    encode: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<(), Error> {
    let mut after = Bound::Unbounded;
    loop {
        let rows = txn.raw_rows(table, &after, SLICE)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Bound::Excluded(last.clone());
        for (key, value) in rows {
            let new = encode(&key).map_err(|why| Error::Corrupt { table: table.name(), why })?;
            txn.raw_remove(table, &key)?;
            txn.raw_put(table, &new, &value)?;
        }
    }
}

/// A key with `count` event ids from byte `at` on in their present form.
fn event_ids(key: &[u8], at: usize, count: usize) -> Result<Vec<u8>, String> {
    let (head, mut rest) = key.split_at_checked(at).ok_or("key is cut short")?;
    let mut new = head.to_vec();
    for _ in 0..count {
        let id = <String as Key>::decode(&mut rest)?;
        let id = OwnedEventId::try_from(id).map_err(|_| "not an OwnedEventId".to_owned())?;
        AsKey::encode(&*id, &mut new);
    }
    new.extend_from_slice(rest);
    Ok(new)
}

/// A state group as CBOR.
#[derive(Deserialize)]
struct Group {
    parent: Option<StateGroup>,
    depth: u32,
    changes: Vec<(StateKeyShort, Option<EventShort>)>,
}

fn group(bytes: &[u8]) -> Result<StateGroupRow, String> {
    let Group { parent, depth, changes } = serde_cbor::from_slice(bytes).map_err(|e| e.to_string())?;
    Ok(StateGroupRow { parent, depth, changes })
}

/// Transaction ids stood under (user, device, scope and id) with the id of the event, or nothing, as the answer.
fn txn_ids(txn: &mut WriteTxn<'_>) -> Result<(), Error> {
    const OLD: &str = "TXN_IDS";
    let corrupt = |why: String| Error::Corrupt { table: OLD, why };
    let mut after = Bound::Unbounded;
    loop {
        let rows = txn.dropped_rows(OLD, &after, SLICE)?;
        let Some((last, _)) = rows.last() else { return txn.drop_table(OLD) };
        after = Bound::Excluded(last.clone());
        for (key, answer) in rows {
            type OldKey = (ruma::OwnedUserId, ruma::OwnedDeviceId, String);
            let (user, device, scope) = OldKey::decode(&mut key.as_slice()).map_err(corrupt)?;
            let event_id = std::str::from_utf8(&answer).ok().and_then(|id| <&EventId>::try_from(id).ok());
            let event = event_id.map(|id| txn.view().get(tables::EVENT_IDS, id)).transpose()?.flatten();
            txn.put(tables::TXNS, txn_key(&user, &device, &scope), &event.unwrap_or(EventShort(0)))?;
        }
    }
}
