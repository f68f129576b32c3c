//! What peers are told of local device lists: the newest state of each device since the destination's cursor, never a
//! backlog. `prev_id` is the last `stream_id` that this destination got for the user, so a lost update shows as a gap.

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{Error, View, WriteTxn, rows::DeviceOut, tables};
use ruma::{
    DeviceId, OwnedUserId, ServerName, UInt, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, Edu, SigningKeyUpdateContent},
};

use super::{lists, show, signed::Usage};
use crate::peers::Route;

/// EDUs for one destination, and what to note when it has taken them.
#[derive(Clone, Debug, Default)]
pub struct DeviceEdus {
    /// `m.device_list_update` and `m.signing_key_update`, JSON.
    pub edus: Vec<String>,
    /// There may be more after these.
    pub more: bool,
    cursor: u64,
    sent: BTreeMap<OwnedUserId, u64>,
}

impl DeviceEdus {
    /// Nothing is new, not even the cursor.
    pub fn is_empty(&self) -> bool {
        self.edus.is_empty() && self.cursor == 0
    }
}

/// At most `limit` EDUs that tell `destination` of changed devices and cross-signing keys of users it shares a room with.
///
/// # Errors
/// Storage errors.
pub(crate) fn device_list_edus(
    view: View<'_>,
    destination: &ServerName,
    route: Route,
    limit: usize,
) -> Result<DeviceEdus, Error> {
    let cursor = view.get(tables::DEVICE_OUT_CURSOR, destination)?;
    let mut batch = DeviceEdus::default();
    let mut shared = BTreeMap::<OwnedUserId, bool>::new();
    let from = Bound::Excluded(cursor.unwrap_or(0));
    for row in view.range(tables::DEVICE_OUT_LOG, from, Bound::<u64>::Unbounded)? {
        let (position, out) = row?;
        if batch.edus.len() >= limit {
            batch.more = true;
            break;
        }
        batch.cursor = position;
        let shares = match shared.get(&out.user_id) {
            Some(shares) => *shares,
            None => lists::shares_room_by(view, &out.user_id, destination, route)?,
        };
        shared.insert(out.user_id.clone(), shares);
        if shares {
            batch.add(view, destination, position, out)?;
        }
    }
    Ok(batch)
}

/// Notes that `destination` has taken a batch.
///
/// # Errors
/// Storage errors.
pub fn device_lists_delivered(
    txn: &mut WriteTxn<'_>,
    destination: &ServerName,
    batch: &DeviceEdus,
) -> Result<(), Error> {
    if batch.cursor == 0 {
        return Ok(());
    }
    txn.put(tables::DEVICE_OUT_CURSOR, destination, &batch.cursor)?;
    for (user, stream_id) in &batch.sent {
        txn.put(tables::DEVICE_OUT_SENT, (destination, user), stream_id)?;
    }
    Ok(())
}

/// The newest `stream_id` of a local user's devices.
pub(crate) fn stream_id(view: View<'_>, user: &UserId) -> Result<u64, Error> {
    let mut newest = 0;
    for row in view.scan(tables::DEVICE_OUT_HEAD, (user,))? {
        newest = newest.max(row?.1);
    }
    Ok(newest)
}

impl DeviceEdus {
    fn add(&mut self, view: View<'_>, destination: &ServerName, position: u64, out: DeviceOut) -> Result<(), Error> {
        let user = out.user_id;
        let Some(device) = out.device_id else {
            self.push(&Edu::SigningKeyUpdate(signing_keys(view, &user)?));
            return Ok(());
        };
        let last = match self.sent.get(&user) {
            Some(last) => Some(*last),
            None => view.get(tables::DEVICE_OUT_SENT, (destination, &user))?,
        };
        let mut update = device_update(view, &user, &device, position)?;
        update.prev_id = last.into_iter().map(UInt::new_saturating).collect();
        self.push(&Edu::DeviceListUpdate(update));
        self.sent.insert(user, position);
        Ok(())
    }

    fn push(&mut self, edu: &Edu) {
        self.edus.push(serde_json::to_string(edu).expect("an EDU of ours serialises"));
    }
}

fn device_update(
    view: View<'_>,
    user: &UserId,
    device: &DeviceId,
    position: u64,
) -> Result<DeviceListUpdateContent, Error> {
    let stream_id = UInt::new_saturating(position);
    let mut update = DeviceListUpdateContent::new(user.to_owned(), device.to_owned(), stream_id);
    update.keys = show::local_devices(view, user, &[device.to_owned()], None)?.remove(device);
    update.deleted = update.keys.is_none().then_some(true);
    update.device_display_name = view.get(tables::DEVICES, (user, device))?.and_then(|device| device.display_name);
    Ok(update)
}

fn signing_keys(view: View<'_>, user: &UserId) -> Result<SigningKeyUpdateContent, Error> {
    let mut update = SigningKeyUpdateContent::new(user.to_owned());
    update.master_key = show::cross_signing(view, user, Usage::Master, None)?;
    update.self_signing_key = show::cross_signing(view, user, Usage::SelfSigning, None)?;
    Ok(update)
}
