//! What the next transaction to a destination holds: owed rows in their order, and the latest of what is sent by cursor.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use data_encoding::BASE32_NOPAD;
use millpond_store::{
    View,
    rows::{EventMeta, EventRow, EventShort, OutboxItem, RoomShort},
    tables,
};
use ruma::{OwnedServerName, ServerName};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Outbox, absence::newest_of_rooms};
use crate::{
    Error,
    classic::AnyPdu,
    inbox::{MAX_EDUS, MAX_PDUS},
    keys::{DeviceEdus, PackEdus, device_list_edus, pack_edus},
    peers::{self, Route},
    presence::PresenceEdus,
    receipts::{ReceiptEdus, receipt_edus},
    rooms,
    typing::TypingEdus,
};

/// Bytes after which no further item is added: a peer takes transactions of some times this size.
const MAX_BYTES: usize = 8 << 20;

/// Key packs of one transaction.
const MAX_PACKS: usize = 20;

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
    pub(super) pdus: Vec<AnyPdu>,
    pub(super) rest: Rest,
    pub(super) positions: Vec<u64>,
    /// Key packs, the latest of each user: they go before everything else.
    pub(super) packs: PackEdus,
    /// Of device lists a peer that was away needs the latest, not all: chosen by cursor when they are sent.
    pub(super) devices: DeviceEdus,
    /// Of receipts likewise.
    pub(super) receipts: ReceiptEdus,
    /// And of who types and who is there.
    pub(super) moments: (TypingEdus, PresenceEdus),
}

impl Transaction {
    /// How many PDUs and EDUs it has.
    pub(super) fn items(&self) -> usize {
        self.pdus.len() + self.rest.edus.len()
    }

    /// Those of its EDUs that are chosen by cursor and must not be lost.
    pub(super) fn kept_edus(&self) -> Vec<String> {
        self.devices.edus.iter().chain(&self.receipts.edus).cloned().collect()
    }
}

/// The transaction but for its PDUs.
#[derive(Serialize)]
pub(super) struct Rest {
    edus: Vec<Box<RawValue>>,
    /// Over links only: a classic server serves nobody in our stead.
    #[serde(rename = "org.millpond.via", skip_serializing_if = "Option::is_none")]
    via: Option<Vec<BTreeSet<OwnedServerName>>>,
}

#[derive(Serialize)]
struct Body<'a> {
    origin: &'a ServerName,
    origin_server_ts: u64,
    pdus: &'a [Box<RawValue>],
    #[serde(flatten)]
    rest: &'a Rest,
}

impl Rest {
    /// The whole body.
    pub(super) fn body(&self, origin: &ServerName, now_ms: u64, pdus: &[Box<RawValue>]) -> Result<Vec<u8>, String> {
        let body = Body { origin, origin_server_ts: now_ms, pdus, rest: self };
        serde_json::to_vec(&body).map_err(|e| format!("a transaction does not serialise: {e}"))
    }
}

impl Outbox {
    pub(super) fn next_batch(&self, server: &ServerName) -> Result<Option<Batch>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(route) = peers::route(view, self.core.identity(), server)? else { return Ok(None) };
        let (mut pdus, mut edus, mut via) = (Vec::new(), Vec::new(), Vec::new());
        let (mut positions, mut served, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        let packs = match route {
            Route::Link => pack_edus(view, server, MAX_PACKS)?,
            Route::Classic => PackEdus::default(),
        };
        let bounds = self.refusals.bounds(server);
        let narrow = bounds.most < MAX_PDUS + MAX_EDUS;
        let first =
            match !narrow && route == Route::Classic && self.absences.is_long(server, self.core.clock().now_ms()) {
                true => newest_of_rooms(view, server, MAX_PDUS)?,
                false => Vec::new(),
            };
        for (position, event) in &first {
            let row = rooms::rows::event(view, *event)?;
            let room = rooms::rows::room_row(view, row.meta.room)?;
            bytes += row.json.len();
            pdus.push(AnyPdu::of(&room, raw(row)?));
            positions.push(*position);
        }
        for json in &packs.edus {
            bytes += json.len();
            edus.push(raw_json(json.clone())?);
        }
        for row in view.scan(tables::OUTBOX, (server,))? {
            let ((_, position), item) = row?;
            // In its own order all of it follows.
            if !first.is_empty() {
                break;
            }
            if bounds.passed.contains(&position) {
                continue;
            }
            if narrow && pdus.len() + edus.len() >= bounds.most {
                break;
            }
            match item {
                OutboxItem::Invite(event) if positions.is_empty() && packs.edus.is_empty() => {
                    return Ok(Some(Batch::Invite { position, event }));
                }
                OutboxItem::Invite(_) => break,
                // An answer goes the way of its question. Who is there in person is asked again, and asks again.
                OutboxItem::Response(_) | OutboxItem::Question => continue,
                OutboxItem::Pdu(_) if pdus.len() == MAX_PDUS => break,
                OutboxItem::Edu(_) if edus.len() == MAX_EDUS => break,
                _ if bytes > MAX_BYTES => break,
                OutboxItem::Pdu(event) => {
                    let row = rooms::rows::event(view, event)?;
                    let room = rooms::rows::room_row(view, row.meta.room)?;
                    if route == Route::Link {
                        via.push(served_in(view, event, &row.meta, &mut served)?);
                    }
                    bytes += row.json.len();
                    pdus.push(AnyPdu::of(&room, raw(row)?));
                }
                OutboxItem::Edu(json) => {
                    bytes += json.len();
                    edus.push(raw_json(json)?);
                }
            }
            positions.push(position);
        }
        // After a refusal what is chosen by cursor goes by itself, so that it can be told which item it was about.
        let room = match narrow {
            true if !positions.is_empty() => 0,
            true => bounds.most.min(MAX_EDUS).saturating_sub(edus.len()),
            false => MAX_EDUS - edus.len(),
        };
        let devices = device_list_edus(view, server, route, room)?;
        let room = room.saturating_sub(devices.edus.len());
        let receipts = receipt_edus(view, self.core.identity(), server, route, room)?;
        let typing = self.typing.edus(view, server, route, room.saturating_sub(receipts.edus.len()))?;
        let room = room.saturating_sub(receipts.edus.len() + typing.edus.len());
        let presence = self.presence.edus(server, room)?;
        for json in devices.edus.iter().chain(&receipts.edus).chain(&typing.edus).chain(&presence.edus) {
            edus.push(raw_json(json.clone())?);
        }
        if pdus.is_empty() && edus.is_empty() {
            return Ok(None);
        }
        let rest = Rest { edus, via: (route == Route::Link).then_some(via) };
        let txn_id = txn_id(&pdus, &rest, typing.last().max(presence.last()))?;
        let moments = (typing, presence);
        Ok(Some(Batch::Transaction(Transaction { txn_id, pdus, rest, positions, packs, devices, receipts, moments })))
    }
}

fn txn_id(pdus: &[AnyPdu], rest: &Rest, moment: u64) -> Result<String, Error> {
    let mut digest = Sha256::new();
    for pdu in pdus {
        digest.update(pdu.json().get());
    }
    let rest = serde_json::to_vec(rest);
    digest.update(rest.map_err(|e| Error::internal(format!("a transaction does not serialise: {e}")))?);
    // Who types, stops and types again says the same twice, and the peer must not take it for a repetition.
    digest.update(moment.to_be_bytes());
    Ok(BASE32_NOPAD.encode(&digest.finalize()[..20]).to_lowercase())
}

/// The linked servers of a room, each with the position since which it is.
pub(super) type Linked = Vec<(OwnedServerName, u64)>;

/// The servers of a room that we serve ourselves, us included: who was linked when the event was written has it owed.
pub(super) fn served_in(
    view: View<'_>,
    event: EventShort,
    meta: &EventMeta,
    known: &mut BTreeMap<RoomShort, Linked>,
) -> Result<BTreeSet<OwnedServerName>, Error> {
    let linked = match known.entry(meta.room) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(linked_in(view, meta.room)?),
    };
    // One that was soft-failed has no place in the timeline; it was numbered when it came.
    let written = meta.position.map_or(event.0, |position| u64::try_from(position).unwrap_or_default());
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
