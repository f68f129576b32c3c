//! Packs that we hold of the keys of a peer's users.

use millpond_store::{
    Error, View, WriteTxn,
    rows::{FallbackKeyRow, KeyPack, OneTimeKeyRow},
    tables,
};
use ruma::{OwnedDeviceId, ServerName, UserId, encryption::OneTimeKey, serde::Raw};

use super::{KEYS_A_PEER, Pack, PackDevice, made::come_back};
use crate::keys::{
    remote::{Fetched, MAX_DEVICES},
    signed::{MAX_KEY_BYTES, device_keys},
    upload::algorithm,
};

/// Users of one peer whose packs are kept.
const MAX_USERS: usize = 256;
/// One-time keys of a device that are kept: what is outstanding, twice.
const MAX_HELD: usize = 2 * KEYS_A_PEER;
/// Claimed ids that are remembered for a device.
const MAX_REMEMBERED: usize = 64;

/// Whether the keys of a peer's user come in packs: then its server owes us every change.
pub(crate) fn is_packed(view: View<'_>, server: &ServerName, user: &UserId) -> Result<bool, Error> {
    view.contains(tables::KEY_PACK_VERSIONS, (server, user))
}

/// Takes a pack of a user of the peer. An older one than we hold changes no list; its keys are good all the same.
///
/// # Errors
/// Storage errors.
pub fn apply_pack(txn: &mut WriteTxn<'_>, origin: &ServerName, pack: &Pack) -> Result<(), Error> {
    let user = &*pack.user_id;
    if user.server_name() != origin {
        return Ok(());
    }
    let known = txn.view().get(tables::KEY_PACK_VERSIONS, (origin, user))?;
    if known.is_none() && txn.view().scan(tables::KEY_PACK_VERSIONS, (origin,))?.take(MAX_USERS).count() >= MAX_USERS {
        return Ok(());
    }
    let good = |device: &&PackDevice| device_keys(device.keys.json().get(), user, &device.device_id).is_ok();
    let devices: Vec<&PackDevice> = pack.devices.iter().take(MAX_DEVICES).filter(good).collect();
    if known.is_none_or(|known| known < pack.version) {
        txn.put(tables::KEY_PACK_VERSIONS, (origin, user), &pack.version)?;
        let list = devices
            .iter()
            .map(|device| (device.device_id.clone(), device.keys.json().get(), device.device_display_name.clone()));
        let cross_signing = (pack.master_key.clone(), pack.self_signing_key.clone());
        let before = txn.view().get(tables::REMOTE_LISTS, (origin, user))?;
        if before.is_none_or(|before| before.stream_id <= pack.stream_id || before.stale) {
            let at = txn.view().position()?.0;
            Fetched::of(user, pack.stream_id, list, cross_signing).write(txn, user, before, at)?;
        }
        forget_others(txn, origin, user, &devices)?;
    }
    for device in devices {
        let key = (origin, user, &*device.device_id);
        let mut held = txn.view().get(tables::KEY_PACKS, key)?.unwrap_or_default();
        add(&mut held, device);
        txn.put(tables::KEY_PACKS, key, &held)?;
    }
    Ok(())
}

fn add(held: &mut KeyPack, device: &PackDevice) {
    for (id, key) in &device.one_time_keys {
        let known = held.used.contains(id) || held.one_time.iter().any(|held| held.id == *id);
        if !known && fits(id, key) && held.one_time.len() < MAX_HELD {
            held.one_time.push(OneTimeKeyRow { id: id.clone(), json: key.json().get().to_owned() });
        }
    }
    for (id, key) in device.fallback_keys.iter().take(KEYS_A_PEER).filter(|(id, key)| fits(id, key)) {
        let same = held.fallback.get(algorithm(id)).is_some_and(|held| held.id == *id);
        if !same {
            let row = FallbackKeyRow { id: id.clone(), json: key.json().get().to_owned(), used: false };
            held.fallback.insert(algorithm(id).to_owned(), row);
        }
    }
}

fn fits(id: &str, key: &Raw<OneTimeKey>) -> bool {
    id.len() <= ruma::ID_MAX_BYTES && id.contains(':') && key.json().get().len() <= MAX_KEY_BYTES
}

/// Devices that the list names no more.
fn forget_others(
    txn: &mut WriteTxn<'_>,
    origin: &ServerName,
    user: &UserId,
    devices: &[&PackDevice],
) -> Result<(), Error> {
    let rows = txn.view().scan(tables::KEY_PACKS, (origin, user))?;
    let held: Vec<OwnedDeviceId> = rows.map(|row| row.map(|((_, _, device), _)| device)).collect::<Result<_, _>>()?;
    for device in held.iter().filter(|held| !devices.iter().any(|device| device.device_id == **held)) {
        txn.remove(tables::KEY_PACKS, (origin, user, device))?;
    }
    Ok(())
}

/// Takes a key for a client here; remembers it, so that it is not given out twice.
pub(super) fn take(held: &mut KeyPack, wanted: &str) -> Option<(String, String, bool)> {
    if let Some(at) = held.one_time.iter().position(|key| algorithm(&key.id) == wanted) {
        let OneTimeKeyRow { id, json } = held.one_time.remove(at);
        held.used.push(id.clone());
        let forgotten = held.used.len().saturating_sub(MAX_REMEMBERED);
        held.used.drain(..forgotten);
        return Some((id, json, true));
    }
    let row = held.fallback.get_mut(wanted)?;
    row.used = true;
    Some((row.id.clone(), row.json.clone(), false))
}

/// The link with a peer has ended: packs go both ways.
///
/// # Errors
/// Storage errors.
pub fn link_ended(txn: &mut WriteTxn<'_>, server: &ServerName) -> Result<(), Error> {
    let sent: Vec<_> = txn.view().scan(tables::KEY_PACKS_SENT, (server,))?.collect::<Result<_, _>>()?;
    for ((_, user), sent) in sent {
        for (device, keys) in sent.outstanding {
            come_back(txn, &user, (&*device).into(), keys.len() as u64)?;
        }
    }
    txn.remove_all(tables::KEY_PACKS_SENT, (server,))?;
    txn.remove_all(tables::KEY_PACKS_OWED, (server,))?;
    txn.remove_all(tables::KEY_PACKS, (server,))?;
    txn.remove_all(tables::KEY_PACK_VERSIONS, (server,))?;
    Ok(())
}
