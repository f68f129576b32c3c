//! Sending a batch, and forgetting it when the peer has it.

use millpond_store::{job, rows::EventShort, tables};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde_json::value::RawValue;

use super::{
    Outbox, PATIENCE,
    batch::{Batch, Transaction},
};
use crate::{
    Error,
    classic::AnyPdu,
    keys::{DeviceEdus, device_lists_delivered},
    peers::PeerError,
    receipts::{ReceiptEdus, receipts_delivered},
    rooms,
};

/// What goes with an invite: it is of the same room.
struct Invite {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    version: RoomVersionId,
    shown: Vec<RawStrippedState>,
}

impl Invite {
    fn request(self, event: Box<RawValue>) -> create_invite::v2::Request {
        create_invite::v2::Request::new(self.room_id, self.event_id, self.version, event, self.shown)
    }
}

impl Outbox {
    pub(super) async fn send(&self, server: &ServerName, batch: &Batch) -> Result<(), PeerError> {
        match batch {
            Batch::Transaction(transaction) => self.send_transaction(server, transaction).await,
            Batch::Invite { event, .. } => self.send_invite(server, *event).await,
        }
    }

    async fn send_transaction(&self, server: &ServerName, transaction: &Transaction) -> Result<(), PeerError> {
        let (us, now_ms) = (self.core.identity().server_name(), self.core.clock().now_ms());
        let body = |pdus: Vec<Box<RawValue>>| transaction.rest.body(us, now_ms, &pdus);
        self.peers.transact(server, &transaction.txn_id, transaction.pdus.clone(), body, PATIENCE).await
    }

    /// The invite was committed when the user made it: the auth rules need no signature of the invitee's server.
    async fn send_invite(&self, server: &ServerName, event: EventShort) -> Result<(), PeerError> {
        let (pdu, invite) = self.invite(event).map_err(|e| PeerError::Malformed(e.to_string()))?;
        match self.peers.bring(server, pdu, |json| invite.request(json), PATIENCE).await {
            // A refused invite stays in the room as it is; sending it again would be refused again.
            Err(PeerError::Refused { status, .. }) if (400..500).contains(&status) && status != 429 => Ok(()),
            other => other.map(drop),
        }
    }

    fn invite(&self, event: EventShort) -> Result<(AnyPdu, Invite), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let row = rooms::rows::event(view, event)?;
        let room_id = rooms::rows::room_id(view, row.meta.room)?;
        let (_, room) =
            rooms::rows::room(view, &room_id)?.ok_or_else(|| Error::internal("an invite without its room"))?;
        let pdu = rooms::rows::pdu(&room_id, row.clone())?;
        let mut shown = Vec::new();
        for event in rooms::stripped::events(view, row.meta.room, Some(pdu.sender()))? {
            let json = RawValue::from_string(rooms::rows::event(view, event)?.json.into());
            shown.push(RawStrippedState::Pdu(json.map_err(|e| Error::internal(e.to_string()))?));
        }
        let json = RawValue::from_string(row.json.into()).map_err(|e| Error::internal(e.to_string()))?;
        let invite = Invite { room_id, event_id: pdu.owned_event_id(), version: room.version.clone(), shown };
        Ok((AnyPdu::of(&room, json), invite))
    }

    /// Removes the rows of a batch that the peer has staged, in one commit.
    pub(super) async fn forget(&self, server: &ServerName, batch: Batch) -> Result<(), Error> {
        let (server, core) = (server.to_owned(), self.core.clone());
        let (positions, devices, receipts) = match batch {
            Batch::Transaction(transaction) => {
                self.typing.delivered(&server, &transaction.typing);
                (transaction.positions, transaction.devices, transaction.receipts)
            }
            Batch::Invite { position, .. } => (vec![position], DeviceEdus::default(), ReceiptEdus::default()),
        };
        let forget = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                for position in &positions {
                    txn.remove(tables::OUTBOX, (&*server, *position))?;
                }
                receipts_delivered(txn, core.identity(), &server, &receipts)?;
                device_lists_delivered(txn, &server, &devices)
            },
        );
        self.core.write(forget).await?;
        Ok(())
    }
}
