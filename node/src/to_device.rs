//! To-device messages: durable, in order, kept until the device's next `/sync` says that it got them.
//! Spec: client-server "Send-to-Device messaging", server-server "Send-to-device messaging".
//!
//! A `/sync` shows what [`pending`] gives after the token's to-device position; the token it answers with carries the
//! position of the last one shown, and the next `/sync` with that token first calls [`acknowledge`].

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{
    Error as StoreError, Position, Topic, View, WriteTxn, job,
    rows::{EventShort, OutboxItem, txn_key},
    tables,
};
use rand::RngCore;
use ruma::{
    DeviceId, OwnedDeviceId, OwnedServerName, OwnedTransactionId, OwnedUserId, ServerName, UserId,
    api::{client::to_device::send_event_to_device::v3::Request, federation::transactions::edu},
    events::{AnyToDeviceEvent, AnyToDeviceEventContent, ToDeviceEventType},
    serde::{Raw, base64::UrlSafe},
    to_device::DeviceIdOrAllDevices,
};
use serde::Serialize;

use crate::{Core, Error};

/// Messages by recipient and device.
type Messages = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>;

/// The to-device messages. Cloning is cheap.
#[derive(Clone)]
pub struct ToDevice {
    core: Core,
}

impl ToDevice {
    /// The messages in `core`'s store.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Sends messages of a local device: to local devices at once, to others through the outbox. The same transaction id
    /// again does nothing. Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn send(&self, sender: &UserId, device: &DeviceId, request: Request) -> Result<(), Error> {
        let Request { event_type, txn_id, messages, .. } = request;
        let txn_key = txn_key(sender, device, &format!("sendToDevice/{event_type}/{txn_id}"));
        let (local, remote) = self.by_server(messages);
        let edus = outgoing(sender, &event_type, remote);
        let sender = sender.to_owned();
        let seen = txn_key;
        let decide = move |view: View<'_>| Ok::<_, Error>(view.contains(tables::TXNS, seen)?);
        let write = move |sent: bool, txn: &mut WriteTxn<'_>| {
            if sent {
                return Ok(());
            }
            deliver(txn, &sender, &event_type, &local)?;
            for (server, edu) in &edus {
                let position = txn.next_position().0;
                txn.put(tables::OUTBOX, (server, position), &OutboxItem::Edu(edu.clone()))?;
                txn.touch(Topic::Outbox(server.clone()));
            }
            txn.put(tables::TXNS, txn_key, &EventShort(0))
        };
        self.core.write(job(decide, write)).await?;
        Ok(())
    }

    fn by_server(&self, messages: Messages) -> (Messages, BTreeMap<OwnedServerName, Messages>) {
        let mut local = Messages::new();
        let mut remote = BTreeMap::<_, Messages>::new();
        for (user, devices) in messages {
            if self.core.identity().is_our_user(&user) {
                local.insert(user, devices);
            } else {
                remote.entry(user.server_name().to_owned()).or_default().insert(user, devices);
            }
        }
        (local, remote)
    }
}

/// Up to `limit` messages for a device after `after`, oldest first, each with its position.
///
/// # Errors
/// Storage errors.
pub fn pending(
    view: View<'_>,
    user: &UserId,
    device: &DeviceId,
    after: Position,
    limit: usize,
) -> Result<Vec<(Position, Raw<AnyToDeviceEvent>)>, StoreError> {
    let from = Bound::Excluded((user, device, after.0));
    let rows = view.range(tables::TO_DEVICE, from, Bound::Included((user, device, u64::MAX)))?;
    rows.take(limit)
        .map(|row| {
            let ((_, _, position), json) = row?;
            let corrupt = |e: serde_json::Error| StoreError::Corrupt { table: "TO_DEVICE", why: e.to_string() };
            Ok((Position(position), Raw::from_json_string(json).map_err(corrupt)?))
        })
        .collect()
}

/// Forgets what a device has got: everything up to and including `up_to`.
///
/// # Errors
/// Storage errors.
pub fn acknowledge(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    device: &DeviceId,
    up_to: Position,
) -> Result<(), StoreError> {
    let got: Vec<u64> = {
        let bounds = (Bound::Included((user, device, 0)), Bound::Included((user, device, up_to.0)));
        let rows = txn.view().range(tables::TO_DEVICE, bounds.0, bounds.1)?;
        rows.map(|row| row.map(|((_, _, position), _)| position)).collect::<Result<_, _>>()?
    };
    for position in got {
        txn.remove(tables::TO_DEVICE, (user, device, position))?;
    }
    Ok(())
}

/// Whether [`acknowledge`] would have anything to do: most syncs need no write.
///
/// # Errors
/// Storage errors.
pub fn has_acknowledgeable(
    view: View<'_>,
    user: &UserId,
    device: &DeviceId,
    up_to: Position,
) -> Result<bool, StoreError> {
    let bounds = (Bound::Included((user, device, 0)), Bound::Included((user, device, up_to.0)));
    Ok(view.range(tables::TO_DEVICE, bounds.0, bounds.1)?.next().transpose()?.is_some())
}

/// Takes an `m.direct_to_device` of a peer inside the inbox's commit. Says whether it was taken: not when it came before,
/// or when the sender is not the origin's.
///
/// # Errors
/// Storage errors.
pub fn receive_direct_to_device(
    txn: &mut WriteTxn<'_>,
    origin: &ServerName,
    edu: &edu::DirectDeviceContent,
) -> Result<bool, StoreError> {
    let id_is_sane = edu.message_id.as_str().len() <= MAX_MESSAGE_ID_BYTES;
    if edu.sender.server_name() != origin || !id_is_sane || !first_time(txn, origin, edu.message_id.as_str())? {
        return Ok(false);
    }
    deliver(txn, &edu.sender, &edu.ev_type, &edu.messages)?;
    Ok(true)
}

/// Files messages for devices that exist here; others are nobody's.
fn deliver(
    txn: &mut WriteTxn<'_>,
    sender: &UserId,
    event_type: &ToDeviceEventType,
    messages: &Messages,
) -> Result<(), StoreError> {
    for (user, devices) in messages {
        for (to, content) in devices {
            let event = Event { sender, kind: event_type, content };
            let json = serde_json::to_string(&event).expect("an event of valid JSON serialises");
            for device in recipients(txn.view(), user, to)? {
                let position = txn.next_position().0;
                txn.put(tables::TO_DEVICE, (user, &device, position), &json)?;
                txn.touch(Topic::User(user.clone()));
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Event<'a> {
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a ToDeviceEventType,
    content: &'a Raw<AnyToDeviceEventContent>,
}

fn recipients(view: View<'_>, user: &UserId, to: &DeviceIdOrAllDevices) -> Result<Vec<OwnedDeviceId>, StoreError> {
    match to {
        DeviceIdOrAllDevices::DeviceId(device) => {
            Ok(view.contains(tables::DEVICES, (user, device))?.then(|| device.clone()).into_iter().collect())
        }
        DeviceIdOrAllDevices::AllDevices => {
            view.scan(tables::DEVICES, (user,))?.map(|row| row.map(|((_, device), _)| device)).collect()
        }
    }
}

/// Notes a peer's message id; says whether it is new. The newest ids of each origin are remembered: a sender repeats
/// only what we have not acknowledged.
fn first_time(txn: &mut WriteTxn<'_>, origin: &ServerName, id: &str) -> Result<bool, StoreError> {
    if txn.view().contains(tables::TO_DEVICE_SEEN, (origin, id))? {
        return Ok(false);
    }
    let last = txn.view().scan(tables::TO_DEVICE_SEEN_LOG, (origin,))?.next_back().transpose()?;
    let number = last.map_or(0, |((_, number), _)| number + 1);
    txn.put(tables::TO_DEVICE_SEEN, (origin, id), &number)?;
    txn.put(tables::TO_DEVICE_SEEN_LOG, (origin, number), &id.to_owned())?;
    if let Some(old) = number.checked_sub(REMEMBERED)
        && let Some(id) = txn.view().get(tables::TO_DEVICE_SEEN_LOG, (origin, old))?
    {
        txn.remove(tables::TO_DEVICE_SEEN_LOG, (origin, old))?;
        txn.remove(tables::TO_DEVICE_SEEN, (origin, id))?;
    }
    Ok(true)
}

/// One EDU per destination, as the outbox keeps it.
fn outgoing(
    sender: &UserId,
    event_type: &ToDeviceEventType,
    remote: BTreeMap<OwnedServerName, Messages>,
) -> Vec<(OwnedServerName, String)> {
    let edus = remote.into_iter().map(|(server, messages)| {
        let mut content = edu::DirectDeviceContent::new(sender.to_owned(), event_type.clone(), message_id());
        content.messages = messages;
        let json = serde_json::to_string(&edu::Edu::DirectToDevice(content)).expect("an EDU of ours serialises");
        (server, json)
    });
    edus.collect()
}

/// At most 32 characters, by the specification.
fn message_id() -> OwnedTransactionId {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    ruma::serde::Base64::<UrlSafe, _>::new(random).encode().into()
}

/// Message ids remembered per origin: far more than a peer may have unacknowledged in one transaction (100 EDUs).
const REMEMBERED: u64 = 10_000;
/// 32 code points of at most four bytes.
const MAX_MESSAGE_ID_BYTES: usize = 128;

#[cfg(test)]
mod tests;
