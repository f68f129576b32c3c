//! Sending a batch, and forgetting it when the peer has it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use millpond_store::{
    Topic, View, job,
    rows::{EventShort, OutboxItem, SetAside},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite},
    events::room::member::MembershipState,
};
use serde_json::value::RawValue;

use super::{
    Outbox, PATIENCE,
    batch::{Batch, Transaction},
    refused::set_aside,
};
use crate::{
    Error,
    classic::{AnyPdu, http_request},
    federation::{self, Snapshot},
    keys::{DeviceEdus, PackEdus, device_lists_delivered, packs_delivered},
    peers::{PeerError, Route},
    receipts::{ReceiptEdus, receipts_delivered},
    rooms::{self, Action, current},
};

/// An invite, and what goes with it: it is of the same room.
struct Invite {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    version: RoomVersionId,
    shown: Vec<RawStrippedState>,
    pdu: AnyPdu,
    snapshot: Option<Snapshot>,
}

impl Invite {
    fn request(self, event: Box<RawValue>) -> create_invite::v2::Request {
        create_invite::v2::Request::new(self.room_id, self.event_id, self.version, event, self.shown)
    }

    /// Over a link it carries all that is needed to enter the room without us, unless that is too large.
    fn over_link(mut self) -> Result<Request<Bytes>, String> {
        let (snapshot, event) = (self.snapshot.take(), self.pdu.clone().for_link());
        let request = http_request(self.request(event))?;
        match snapshot {
            Some(snapshot) => with_snapshot(request, &snapshot).map_err(|e| e.to_string()),
            None => Ok(request),
        }
    }
}

/// An invite in a room, and who may take it back.
struct Standing {
    room_id: OwnedRoomId,
    target: OwnedUserId,
    by: Vec<OwnedUserId>,
}

/// How long after an invite its refusal for want of our keys is not the last word.
const PATIENCE_FOR_KEYS_MS: u64 = 3_600_000;
/// Bytes of what a server says to an invite that are shown in the room.
const MAX_SAID: usize = 512;
/// Users here in whose name an invite is tried to be taken back.
const MAX_TRIED: usize = 20;

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
        let invite = self.invite(event).map_err(|e| PeerError::Malformed(e.to_string()))?;
        let sent = match self.peers.route(server)? {
            Route::Link => {
                let request = invite.over_link().map_err(PeerError::Malformed)?;
                self.peers.send_over_link(server, request, PATIENCE).await.map(drop)
            }
            Route::Classic => {
                let pdu = invite.pdu.clone();
                self.peers.bring(server, pdu, |json| invite.request(json), PATIENCE).await.map(drop)
            }
        };
        match sent {
            // Sending it again would be refused again.
            Err(PeerError::Refused { status, message, .. }) if self.is_final(status, event) => {
                self.take_back(event, server, &message).await.map_err(|e| PeerError::Malformed(e.to_string()))
            }
            other => other,
        }
    }

    /// A server has answered an invite that went over mailboxes. Doing it again does nothing.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn invite_answered(
        &self,
        server: &ServerName,
        id: u64,
        answer: (u16, &[u8]),
    ) -> Result<(), Error> {
        let invite = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            match (view.get(tables::MAIL_INVITES, (server, id))?, view.get(tables::OUTBOX, (server, id))?) {
                (Some(event), _) | (None, Some(OutboxItem::Invite(event))) => event,
                _ => return Ok(()),
            }
        };
        let (status, body) = answer;
        if self.is_final(status, invite) {
            #[derive(serde::Deserialize)]
            struct Body {
                error: String,
            }
            let said = serde_json::from_slice::<Body>(body).map(|body| body.error).unwrap_or_default();
            let shown = said.get(..said.floor_char_boundary(MAX_SAID)).unwrap_or_default();
            self.take_back(invite, server, shown).await?;
        }
        // It could not be taken yet: it is sent again.
        let again = !self.is_final(status, invite) && status >= 400;
        let server = server.to_owned();
        let forget = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                txn.remove(tables::MAIL_INVITES, (&*server, id))?;
                txn.remove(tables::OUTBOX, (&*server, id))?;
                if again {
                    let at = txn.next_position().0;
                    txn.put(tables::OUTBOX, (&*server, at), &OutboxItem::Invite(invite))?;
                    txn.touch(Topic::Outbox(server.clone()));
                }
                Ok(())
            },
        );
        self.core.write(forget).await?;
        Ok(())
    }

    /// Whether a refusal of an invite stands. A server that cannot get our keys says 401, and may get them later.
    fn is_final(&self, status: u16, event: EventShort) -> bool {
        match status {
            401 => {
                let made_ms = self.core.snapshot().ok().and_then(|snapshot| made_ms(snapshot.view(), event));
                made_ms.is_none_or(|made_ms| made_ms + PATIENCE_FOR_KEYS_MS < self.core.clock().now_ms())
            }
            429 => false,
            status => (400..500).contains(&status),
        }
    }

    /// Takes an invite back that the invited user's server refuses, so that everybody in the room sees that it came to
    /// nothing, and why: in the inviter's name, or, where he may only invite, in that of another user here who may.
    async fn take_back(&self, event: EventShort, server: &ServerName, why: &str) -> Result<(), Error> {
        let Some(invite) = self.standing_invite(event)? else { return Ok(()) };
        let reason = match why {
            "" => format!("{server} refused the invite"),
            why => format!("{server} refused the invite: {why}"),
        };
        let reason = CanonicalJsonObject::from([("reason".to_owned(), CanonicalJsonValue::String(reason))]);
        for user in &invite.by {
            let (room_id, target) = (&*invite.room_id, &*invite.target);
            match self.rooms.change_membership(user, room_id, target, Action::Kick, reason.clone()).await {
                Err(Error::Matrix { .. }) => {}
                other => return other,
            }
        }
        tracing::warn!("an invite was refused by the invited user's server, and nobody here may take it back");
        Ok(())
    }

    /// An invite that is still the membership of its target.
    fn standing_invite(&self, event: EventShort) -> Result<Option<Standing>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let row = rooms::rows::event(view, event)?;
        let room = row.meta.room;
        let room_id = rooms::rows::room_id(view, room)?;
        let pdu = rooms::rows::pdu(&room_id, row)?;
        let Some(Ok(target)) = pdu.state_key().map(OwnedUserId::try_from) else { return Ok(None) };
        if current::entry(view, room, "m.room.member", target.as_str())? != Some(event) {
            return Ok(None);
        }
        let mut by = vec![pdu.sender().to_owned()];
        let ours = |user: &OwnedUserId| self.core.identity().is_our_user(user);
        let others = current::members(view, room, |membership| *membership == MembershipState::Join)?;
        by.extend(others.into_iter().filter(ours).take(MAX_TRIED));
        Ok(Some(Standing { room_id, target, by }))
    }

    /// An invite for a mailbox; `whole`: with its room.
    pub(super) fn invite_request(&self, event: EventShort, whole: bool) -> Result<Request<Bytes>, Error> {
        let mut invite = self.invite(event)?;
        invite.snapshot = invite.snapshot.filter(|_| whole);
        invite.over_link().map_err(Error::internal)
    }

    fn invite(&self, event: EventShort) -> Result<Invite, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let row = rooms::rows::event(view, event)?;
        let room_id = rooms::rows::room_id(view, row.meta.room)?;
        let known = rooms::rows::room(view, &room_id)?.ok_or_else(|| Error::internal("an invite without its room"))?;
        let pdu = rooms::rows::pdu(&room_id, row.clone())?;
        let mut shown = Vec::new();
        for event in rooms::stripped::events(view, row.meta.room, Some(pdu.sender()))? {
            let json = RawValue::from_string(rooms::rows::event(view, event)?.json.into());
            shown.push(RawStrippedState::Pdu(json.map_err(|e| Error::internal(e.to_string()))?));
        }
        let snapshot = match known.1.overlay {
            true => federation::snapshot_of(view, self.core.identity(), &known, (event, &row))?,
            false => None,
        };
        let json = RawValue::from_string(row.json.into()).map_err(|e| Error::internal(e.to_string()))?;
        let version = known.1.version.clone();
        Ok(Invite {
            room_id,
            event_id: pdu.owned_event_id(),
            version,
            shown,
            pdu: AnyPdu::of(&known.1, json),
            snapshot,
        })
    }

    /// Removes the rows of a batch that the peer has staged, in one commit.
    pub(super) async fn forget(
        &self,
        server: &ServerName,
        batch: Batch,
        aside: Vec<(u64, SetAside)>,
    ) -> Result<(), Error> {
        let (server, core) = (server.to_owned(), self.core.clone());
        let (positions, packs, devices, receipts) = match batch {
            Batch::Transaction(transaction) => {
                self.typing.delivered(&server, &transaction.moments.0);
                self.presence.delivered(&server, &transaction.moments.1);
                (transaction.positions, transaction.packs, transaction.devices, transaction.receipts)
            }
            Batch::Invite { position, .. } => {
                (vec![position], PackEdus::default(), DeviceEdus::default(), ReceiptEdus::default())
            }
        };
        let forget = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                for position in &positions {
                    txn.remove(tables::OUTBOX, (&*server, *position))?;
                }
                set_aside(txn, &server, &aside)?;
                packs_delivered(txn, &server, &packs)?;
                receipts_delivered(txn, core.identity(), &server, &receipts)?;
                device_lists_delivered(txn, &server, &devices)
            },
        );
        self.core.write(forget).await?;
        Ok(())
    }
}

fn made_ms(view: View<'_>, event: EventShort) -> Option<u64> {
    let row = rooms::rows::event(view, event).ok()?;
    let room_id = rooms::rows::room_id(view, row.meta.room).ok()?;
    Some(rooms::rows::pdu(&room_id, row).ok()?.origin_server_ts().get().into())
}

/// Adds the room to the body of an invite.
fn with_snapshot(request: Request<Bytes>, snapshot: &Snapshot) -> Result<Request<Bytes>, Error> {
    let failed = |e: serde_json::Error| Error::internal(format!("an invite does not serialise: {e}"));
    let (head, body) = request.into_parts();
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&body).map_err(failed)?;
    let snapshot = serde_json::value::to_raw_value(snapshot).map_err(failed)?;
    fields.insert(federation::SNAPSHOT_FIELD.to_owned(), snapshot);
    Ok(Request::from_parts(head, serde_json::to_vec(&fields).map_err(failed)?.into()))
}
