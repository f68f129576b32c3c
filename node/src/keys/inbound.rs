//! Updates of device lists that peers send, applied inside the inbox's commit.
//! Spec: server-server "Device Management".

use millpond_store::{
    Error, WriteTxn,
    rows::{RemoteDevice, RemoteList},
    tables,
};
use ruma::{
    ServerName, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, SigningKeyUpdateContent},
};

use super::{
    lists,
    remote::{MAX_DEVICES, cross_signing, shorten, write_cross_signing},
    signed::device_keys,
};

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Not about a user of the origin, known already, or malformed.
    Ignored,
    /// Written.
    Applied,
    /// An earlier one is missing: the list is marked stale and should be fetched (`Keys::resync`).
    Stale,
    /// We keep no list of this user; those who share a room were told to ask.
    NotKept,
}

/// Applies `m.device_list_update`.
///
/// # Errors
/// Storage errors.
pub fn apply_device_list_update(
    txn: &mut WriteTxn<'_>,
    origin: &ServerName,
    update: &DeviceListUpdateContent,
) -> Result<Update, Error> {
    let user = &update.user_id;
    if user.server_name() != origin {
        return Ok(Update::Ignored);
    }
    let Some(list) = txn.view().get(tables::REMOTE_LISTS, (origin, user))? else {
        return not_kept(txn, user);
    };
    let stream_id: u64 = update.stream_id.into();
    if stream_id <= list.stream_id {
        return Ok(Update::Ignored);
    }
    // A list that was fetched at stream id n knows of everything up to n.
    let gap = update.prev_id.iter().any(|prev| u64::from(*prev) > list.stream_id);
    if gap || !write_device(txn, update)? {
        return mark_stale(txn, user);
    }
    txn.put(tables::REMOTE_LISTS, (origin, user), &RemoteList { stream_id, ..list })?;
    lists::record_change(txn, user)?;
    Ok(Update::Applied)
}

/// Applies `m.signing_key_update`.
///
/// # Errors
/// Storage errors.
pub fn apply_signing_key_update(
    txn: &mut WriteTxn<'_>,
    origin: &ServerName,
    update: &SigningKeyUpdateContent,
) -> Result<Update, Error> {
    let user = &update.user_id;
    if user.server_name() != origin {
        return Ok(Update::Ignored);
    }
    if !txn.view().contains(tables::REMOTE_LISTS, (origin, user))? {
        return not_kept(txn, user);
    }
    let keys = cross_signing(user, update.master_key.clone(), update.self_signing_key.clone());
    // A self-signing key without its master cannot be checked here.
    if keys.is_empty() {
        return mark_stale(txn, user);
    }
    if !write_cross_signing(txn, user, &keys, false)? {
        return Ok(Update::Ignored);
    }
    lists::record_change(txn, user)?;
    Ok(Update::Applied)
}

/// Takes a user's list for doubtful, and tells those who share a room to ask again.
///
/// # Errors
/// Storage errors.
pub fn mark_stale(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<Update, Error> {
    let key = (user.server_name(), user);
    if let Some(list) = txn.view().get(tables::REMOTE_LISTS, key)?.filter(|list| !list.stale) {
        txn.put(tables::REMOTE_LISTS, key, &RemoteList { stale: true, ..list })?;
        lists::record_change(txn, user)?;
    }
    Ok(Update::Stale)
}

fn not_kept(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<Update, Error> {
    if lists::joined_rooms(txn.view(), user)?.is_empty() {
        return Ok(Update::Ignored);
    }
    lists::record_change(txn, user)?;
    Ok(Update::NotKept)
}

/// Writes one device; says whether it could be read and there was room for it.
fn write_device(txn: &mut WriteTxn<'_>, update: &DeviceListUpdateContent) -> Result<bool, Error> {
    let key = (&update.user_id, &update.device_id);
    let Some(keys) = update.keys.as_ref().filter(|_| update.deleted != Some(true)) else {
        txn.remove(tables::REMOTE_DEVICES, key)?;
        return Ok(true);
    };
    let Ok(keys) = device_keys(keys.json().get(), &update.user_id, &update.device_id) else { return Ok(false) };
    if !txn.view().contains(tables::REMOTE_DEVICES, key)? {
        let known = txn.view().scan(tables::REMOTE_DEVICES, (&update.user_id,))?.take(MAX_DEVICES).count();
        if known >= MAX_DEVICES {
            return Ok(false);
        }
    }
    let display_name = update.device_display_name.clone().map(shorten);
    txn.put(tables::REMOTE_DEVICES, key, &RemoteDevice { keys: keys.json(), display_name })?;
    Ok(true)
}
