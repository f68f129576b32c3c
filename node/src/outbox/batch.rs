//! What the next transaction to a destination holds: owed rows in their order, and the latest of what is sent by cursor.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use data_encoding::BASE32_NOPAD;
use millpond_store::{
    View,
    rows::{EventRow, EventShort, OutboxItem, RoomShort},
    tables,
};
use ruma::{OwnedServerName, ServerName};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Outbox;
use crate::{
    Error,
    inbox::{MAX_EDUS, MAX_PDUS},
    keys::{DeviceEdus, device_list_edus},
    peers,
    receipts::{ReceiptEdus, receipt_edus},
    rooms,
    typing::TypingEdus,
};

/// Bytes after which no further item is added: a peer takes transactions of some times this size.
const MAX_BYTES: usize = 8 << 20;

/// One delivery.
#[allow(clippy::large_enum_variant, reason = "one at a time per destination")]
pub(super) enum Batch {
    /// A transaction.
    Transaction(Transaction),
    /// An invite, which is a request of its own.
    Invite {
        /// Its row.
        position: u64,
        /// The member event.
        event: EventShort,
    },
}

pub(super) struct Transaction {
    /// Names the content: the same content sent again has the same id, other content another one.
    pub(super) txn_id: String,
    pub(super) body: Vec<u8>,
    pub(super) positions: Vec<u64>,
    /// Of device lists a peer that was away needs the latest, not all: chosen by cursor when they are sent.
    pub(super) devices: DeviceEdus,
    /// Of receipts likewise.
    pub(super) receipts: ReceiptEdus,
    /// And of typing.
    pub(super) typing: TypingEdus,
}

#[derive(Serialize)]
struct Content {
    pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
    #[serde(rename = "org.millpond.via")]
    via: Vec<BTreeSet<OwnedServerName>>,
}

#[derive(Serialize)]
struct Body<'a> {
    origin: &'a ServerName,
    origin_server_ts: u64,
    #[serde(flatten)]
    content: &'a Content,
}

impl Outbox {
    pub(super) fn next_batch(&self, server: &ServerName) -> Result<Option<Batch>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut content = Content { pdus: Vec::new(), edus: Vec::new(), via: Vec::new() };
        let (mut positions, mut served, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        for row in view.scan(tables::OUTBOX, (server,))? {
            let ((_, position), item) = row?;
            match item {
                OutboxItem::Invite(event) if positions.is_empty() => {
                    return Ok(Some(Batch::Invite { position, event }));
                }
                OutboxItem::Invite(_) => break,
                OutboxItem::Pdu(_) if content.pdus.len() == MAX_PDUS => break,
                OutboxItem::Edu(_) if content.edus.len() == MAX_EDUS => break,
                _ if bytes > MAX_BYTES => break,
                OutboxItem::Pdu(event) => {
                    let row = rooms::rows::event(view, event)?;
                    content.via.push(served_in(view, row.meta.room, row.meta.position, &mut served)?);
                    bytes += row.json.len();
                    content.pdus.push(raw(row)?);
                }
                OutboxItem::Edu(json) => {
                    bytes += json.len();
                    content.edus.push(raw_json(json)?);
                }
            }
            positions.push(position);
        }
        let devices = device_list_edus(view, server, MAX_EDUS - content.edus.len())?;
        let room = MAX_EDUS.saturating_sub(content.edus.len() + devices.edus.len());
        let receipts = receipt_edus(view, self.core.identity(), server, room)?;
        let typing = self.typing.edus(view, server, room.saturating_sub(receipts.edus.len()))?;
        for json in devices.edus.iter().chain(&receipts.edus).chain(&typing.edus) {
            content.edus.push(raw_json(json.clone())?);
        }
        if content.pdus.is_empty() && content.edus.is_empty() {
            return Ok(None);
        }
        let (txn_id, body) = self.serialise(&content, &typing)?;
        Ok(Some(Batch::Transaction(Transaction { txn_id, body, positions, devices, receipts, typing })))
    }

    fn serialise(&self, content: &Content, typing: &TypingEdus) -> Result<(String, Vec<u8>), Error> {
        let failed = |e: serde_json::Error| Error::internal(format!("a transaction does not serialise: {e}"));
        // Who types, stops and types again says the same twice, and the peer must not take it for a repetition.
        let digest = Sha256::new().chain_update(serde_json::to_vec(content).map_err(failed)?);
        let digest = digest.chain_update(typing.last().to_be_bytes()).finalize();
        let body =
            Body { origin: self.core.identity().server_name(), origin_server_ts: self.core.clock().now_ms(), content };
        let body = serde_json::to_vec(&body).map_err(failed)?;
        Ok((BASE32_NOPAD.encode(&digest[..20]).to_lowercase(), body))
    }
}

/// The linked servers of a room, each with the position since which it is.
type Linked = Vec<(OwnedServerName, u64)>;

/// The servers of a room that we serve ourselves, us included: who was linked when the event was written has it owed.
fn served_in(
    view: View<'_>,
    room: RoomShort,
    position: Option<i64>,
    known: &mut BTreeMap<RoomShort, Linked>,
) -> Result<BTreeSet<OwnedServerName>, Error> {
    let linked = match known.entry(room) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(linked_in(view, room)?),
    };
    let written = position.and_then(|position| u64::try_from(position).ok()).unwrap_or_default();
    Ok(linked.iter().filter(|(_, since)| *since <= written).map(|(server, _)| server.clone()).collect())
}

fn linked_in(view: View<'_>, room: RoomShort) -> Result<Linked, Error> {
    let mut linked = Linked::new();
    for row in view.scan(tables::ROOM_SERVERS, (room,))? {
        let ((_, server), _) = row?;
        if let Some(since) = peers::linked_since(view, &server)? {
            linked.push((server, since));
        }
    }
    Ok(linked)
}

fn raw(row: EventRow) -> Result<Box<RawValue>, Error> {
    raw_json(row.json.into())
}

fn raw_json(json: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(json).map_err(|e| Error::internal(format!("a stored event is not JSON: {e}")))
}
