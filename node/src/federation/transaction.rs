//! `/send`: the PDUs are staged, and what must not be lost of the EDUs is written, in one commit; then the peer is
//! answered. What the PDUs are worth is found out afterwards (inbox).

use millpond_store::WriteTxn;
use ruma::{
    OwnedRoomId, RoomId, ServerName,
    api::federation::transactions::edu::{DirectDeviceContent, Edu},
};

use super::{Door, Federation, Origin, check_acl};
use crate::{
    Error,
    identity::Identity,
    inbox::Transaction,
    keys::{self, PackEdu, apply_device_list_update, apply_signing_key_update, shares_room_by},
    to_device::receive_direct_to_device,
};

impl Federation {
    /// Takes a transaction; on return it is durable. EDUs that are malformed, or about users of another server, are left
    /// out. Dropping the future does not take it back.
    ///
    /// # Errors
    /// As [`crate::inbox::Inbox::receive`].
    pub async fn receive(&self, origin: &Origin, txn_id: &str, transaction: Transaction) -> Result<(), Error> {
        let edus: Vec<Edu> = transaction.edus.iter().filter_map(|edu| serde_json::from_str(edu.get()).ok()).collect();
        let from = origin.clone();
        let told = edus_of_the_moment(&edus);
        // Packs are a link's: they are bound to its peer.
        let packs = transaction.edus.iter().filter(|_| origin.door != Door::Classic);
        let packs = packs.filter_map(|edu| PackEdu::parse(&origin.server, edu.get()));
        let (packs, core): (Vec<_>, _) = (packs.collect(), self.core.clone());
        let write = move |txn: &mut WriteTxn<'_>| {
            packs.iter().try_for_each(|edu| apply_pack(txn, core.identity(), &from, edu))?;
            edus.iter().try_for_each(|edu| apply(txn, &from, edu))
        };
        self.parts.inbox.receive(&origin.server, txn_id, transaction, write).await?;
        for edu in told {
            self.tell(origin, edu).await?;
        }
        Ok(())
    }

    /// What is of the moment: lost with a crash, and no harm done.
    async fn tell(&self, origin: &Origin, edu: Edu) -> Result<(), Error> {
        match edu {
            Edu::Receipt(mut content) => {
                let rooms: Vec<OwnedRoomId> = content.receipts.keys().cloned().collect();
                for room in rooms {
                    if !self.hears(origin, &room)? {
                        content.receipts.remove(&room);
                    }
                }
                self.parts.receipts.receive(&origin.server, content).await
            }
            Edu::Typing(content)
                if content.user_id.server_name() == origin.server && self.hears(origin, &content.room_id)? =>
            {
                self.parts.typing.set_remote(&content.user_id, &content.room_id, content.typing)
            }
            // Off in overlay rooms (overlay.md section 5): only of users who are in a classic room with one of ours.
            Edu::Presence(content) => self.parts.presence.receive(&origin.server, content),
            _ => Ok(()),
        }
    }

    /// Whether what a server says about a room counts: the room may be spoken of through its door, and the room's access
    /// list lets it take part.
    fn hears(&self, origin: &Origin, room_id: &RoomId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let heard = self.resident(view, origin, room_id).and_then(|(room, _)| check_acl(view, room, &origin.server));
        match heard {
            Ok(()) => Ok(true),
            Err(Error::Matrix { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn edus_of_the_moment(edus: &[Edu]) -> Vec<Edu> {
    edus.iter().filter(|edu| matches!(edu, Edu::Receipt(_) | Edu::Typing(_) | Edu::Presence(_))).cloned().collect()
}

fn apply(txn: &mut WriteTxn<'_>, origin: &Origin, edu: &Edu) -> Result<(), millpond_store::Error> {
    match edu {
        Edu::DirectToDevice(message) => {
            let allowed = allowed(txn, origin, message)?;
            receive_direct_to_device(txn, &origin.server, &allowed).map(drop)
        }
        Edu::DeviceListUpdate(update) => apply_device_list_update(txn, &origin.server, update).map(drop),
        Edu::SigningKeyUpdate(update) => apply_signing_key_update(txn, &origin.server, update).map(drop),
        _ => Ok(()),
    }
}

fn apply_pack(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    origin: &Origin,
    edu: &PackEdu,
) -> Result<(), millpond_store::Error> {
    match edu {
        PackEdu::Pack(pack) => keys::apply_pack(txn, &origin.server, pack),
        PackEdu::Used(used) => keys::apply_used(txn, identity, &origin.server, used),
    }
}

/// A contact writes to whom it likes; another peer to those who share a room with it.
fn allowed(
    txn: &WriteTxn<'_>,
    origin: &Origin,
    message: &DirectDeviceContent,
) -> Result<DirectDeviceContent, millpond_store::Error> {
    let mut message = message.clone();
    if origin.is_contact() {
        return Ok(message);
    }
    let (server, route): (&ServerName, _) = (&origin.server, origin.route());
    for user in message.messages.keys().cloned().collect::<Vec<_>>() {
        if !shares_room_by(txn.view(), &user, server, route)? {
            message.messages.remove(&user);
        }
    }
    Ok(message)
}
