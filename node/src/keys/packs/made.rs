//! Packs that we make of the keys of local users.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use millpond_store::{
    Error, Topic, View, WriteTxn,
    rows::{FallbackKeyRow, OneTimeKeyRow, PackDue, PackOwed, PackSent},
    tables,
};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId, serde::Raw};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, KEYS_A_PEER, MAX_OUTSTANDING, PACK, Pack, PackDevice, Used, edu};
use crate::{
    identity::Identity,
    keys::{outbound, remote::MAX_DEVICES, show, signed::Usage, upload},
};

/// Notes that the packs of a local user may have to be made anew.
pub(crate) fn due(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), Error> {
    note(txn, PackDue { user_id: Some(user.to_owned()), server: None })
}

/// Notes that a peer may have to be given packs of every local user.
pub(crate) fn all_due(txn: &mut WriteTxn<'_>, server: &ServerName) -> Result<(), Error> {
    note(txn, PackDue { user_id: None, server: Some(server.to_owned()) })
}

fn note(txn: &mut WriteTxn<'_>, due: PackDue) -> Result<(), Error> {
    let position = txn.next_position().0;
    txn.put(tables::KEY_PACKS_DUE, position, &due)?;
    txn.touch(Topic::KeyPacks);
    Ok(())
}

/// Makes the pack that a peer should hold of a local user, if it is another one than the peer holds.
pub(super) fn renew(txn: &mut WriteTxn<'_>, server: &ServerName, user: &UserId) -> Result<(), Error> {
    let key = (server, user);
    let earlier = txn.view().get(tables::KEY_PACKS_SENT, key)?.unwrap_or_default();
    let devices = devices(txn.view(), user)?;
    let mut sent = earlier.clone();
    sent.outstanding.retain(|device, _| devices.iter().any(|known| known == device));
    sent.digest = digest(txn.view(), user)?;
    if devices.is_empty() && earlier == PackSent::default() {
        // Nothing was ever there to be told.
        return Ok(());
    }
    let mut owed = txn.view().get(tables::KEY_PACKS_OWED, key)?.unwrap_or_default();
    owed.keys.retain(|device, _| devices.iter().any(|known| known == device));
    for device in &devices {
        let held = sent.outstanding.entry(device.to_string()).or_default();
        let wanted = KEYS_A_PEER.saturating_sub(held.len());
        let taken = take(txn, user, device, wanted)?;
        held.extend(taken.iter().map(|key| key.id.clone()));
        if !taken.is_empty() {
            owed.keys.entry(device.to_string()).or_default().extend(taken);
        }
    }
    if sent == earlier {
        return Ok(());
    }
    sent.version = txn.next_position().0;
    owed.version = sent.version;
    txn.put(tables::KEY_PACKS_SENT, key, &sent)?;
    txn.put(tables::KEY_PACKS_OWED, key, &owed)?;
    txn.touch(Topic::Outbox(server.to_owned()));
    Ok(())
}

/// Takes one-time keys of a device out of what can be claimed, the oldest first.
fn take(txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId, wanted: usize) -> Result<Vec<OneTimeKeyRow>, Error> {
    let out = txn.view().get(tables::KEY_PACKS_OUT, (user, device))?.unwrap_or(0);
    let room = usize::try_from(MAX_OUTSTANDING.saturating_sub(out)).unwrap_or(usize::MAX);
    // Half of the keys stay for those who ask the device's own node.
    let left = upload::key_counts(txn.view(), user, device)?.one_time.get(ALGORITHM).copied().unwrap_or_default();
    let room = room.min(usize::try_from(left / 2).unwrap_or(usize::MAX));
    let rows = txn.view().scan(tables::ONE_TIME_KEYS, (user, device, ALGORITHM))?.take(wanted.min(room));
    let rows: Vec<_> =
        rows.map(|row| row.map(|((_, _, _, position), row)| (position, row))).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts = upload::key_counts(txn.view(), user, device)?;
    for (position, row) in &rows {
        txn.remove(tables::ONE_TIME_KEYS, (user, device, ALGORITHM, *position))?;
        txn.remove(tables::ONE_TIME_KEY_IDS, (user, device, &*row.id))?;
        if let Some(left) = counts.one_time.get_mut(ALGORITHM) {
            *left = left.saturating_sub(1);
        }
    }
    upload::write_counts(txn, user, device, counts)?;
    txn.put(tables::KEY_PACKS_OUT, (user, device), &(out + rows.len() as u64))?;
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn devices(view: View<'_>, user: &UserId) -> Result<Vec<OwnedDeviceId>, Error> {
    let rows = view.scan(tables::DEVICE_KEYS, (user,))?.take(MAX_DEVICES);
    rows.map(|row| row.map(|((_, device), _)| device)).collect()
}

/// Over what a pack says beside one-time keys.
fn digest(view: View<'_>, user: &UserId) -> Result<String, Error> {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    for (device, keys) in show::local_devices(view, user, &[], None)? {
        add(device.as_str());
        add(keys.json().get());
        for row in fallback(view, user, &device)? {
            add(&row.id);
            add(&row.json);
        }
    }
    for usage in [Usage::Master, Usage::SelfSigning] {
        add(show::cross_signing(view, user, usage, None)?.as_ref().map_or("", |key| key.json().get()));
    }
    Ok(HEXLOWER.encode(&digest.finalize()))
}

fn fallback(view: View<'_>, user: &UserId, device: &DeviceId) -> Result<Vec<FallbackKeyRow>, Error> {
    let rows = view.scan(tables::FALLBACK_KEYS, (user, device))?;
    rows.map(|row| row.map(|(_, row)| row)).collect()
}

/// Packs for one destination, and what to note when it has taken them.
#[derive(Clone, Debug, Default)]
pub struct PackEdus {
    /// The EDUs, JSON.
    pub edus: Vec<String>,
    versions: BTreeMap<OwnedUserId, u64>,
}

impl PackEdus {
    /// The packs with their versions, which are positions and so name them.
    pub fn versioned(&self) -> impl Iterator<Item = (u64, &str)> {
        self.versions.values().copied().zip(self.edus.iter().map(String::as_str))
    }
}

/// At most `limit` packs that a destination is owed, each as the keys are now.
///
/// # Errors
/// Storage errors.
pub fn pack_edus(view: View<'_>, destination: &ServerName, limit: usize) -> Result<PackEdus, Error> {
    let mut packs = PackEdus::default();
    for row in view.scan(tables::KEY_PACKS_OWED, (destination,))?.take(limit) {
        let ((_, user), owed) = row?;
        packs.versions.insert(user.clone(), owed.version);
        packs.edus.push(edu(PACK, &pack(view, user, owed)?));
    }
    Ok(packs)
}

fn pack(view: View<'_>, user: OwnedUserId, mut owed: PackOwed) -> Result<Pack, Error> {
    let mut devices = Vec::new();
    for (device, keys) in show::local_devices(view, &user, &[], None)?.into_iter().take(MAX_DEVICES) {
        let name = view.get(tables::DEVICES, (&*user, &*device))?.and_then(|device| device.display_name);
        let one_time = owed.keys.remove(device.as_str()).unwrap_or_default();
        let fallback = fallback(view, &user, &device)?;
        devices.push(PackDevice {
            keys,
            device_display_name: name,
            one_time_keys: one_time.into_iter().filter_map(|key| Some((key.id, raw(key.json)?))).collect(),
            fallback_keys: fallback.into_iter().filter_map(|key| Some((key.id, raw(key.json)?))).collect(),
            device_id: device,
        });
    }
    Ok(Pack {
        version: owed.version,
        stream_id: outbound::stream_id(view, &user)?,
        devices,
        master_key: show::cross_signing(view, &user, Usage::Master, None)?,
        self_signing_key: show::cross_signing(view, &user, Usage::SelfSigning, None)?,
        user_id: user,
    })
}

/// What was stored was JSON when it came.
fn raw<T>(json: String) -> Option<Raw<T>> {
    Raw::from_json_string(json).ok()
}

/// Notes that a destination has taken packs; a newer one stays owed, with all its keys: the peer knows which it has.
///
/// # Errors
/// Storage errors.
pub fn packs_delivered(txn: &mut WriteTxn<'_>, destination: &ServerName, packs: &PackEdus) -> Result<(), Error> {
    for (user, version) in &packs.versions {
        let key = (destination, &**user);
        if txn.view().get(tables::KEY_PACKS_OWED, key)?.is_some_and(|owed| owed.version == *version) {
            txn.remove(tables::KEY_PACKS_OWED, key)?;
        }
    }
    Ok(())
}

/// Takes the news that a peer has given keys of its pack to its clients: only what it held counts.
///
/// # Errors
/// Storage errors.
pub fn apply_used(txn: &mut WriteTxn<'_>, identity: &Identity, origin: &ServerName, used: &Used) -> Result<(), Error> {
    let Used { user_id: user, device_id: device, .. } = used;
    let key = (origin, &**user);
    if !identity.is_our_user(user) {
        return Ok(());
    }
    let Some(mut sent) = txn.view().get(tables::KEY_PACKS_SENT, key)? else { return Ok(()) };
    let gone: BTreeSet<&String> = used.one_time.iter().collect();
    if let Some(held) = sent.outstanding.get_mut(device.as_str()) {
        let before = held.len();
        held.retain(|id| !gone.contains(id));
        let used_up = before - held.len();
        come_back(txn, user, device, used_up as u64)?;
    }
    for id in used.fallback.iter().take(KEYS_A_PEER) {
        let fallback = (&**user, &**device, upload::algorithm(id));
        let row = txn.view().get(tables::FALLBACK_KEYS, fallback)?;
        if let Some(row) = row.filter(|row| row.id == *id && !row.used) {
            txn.put(tables::FALLBACK_KEYS, fallback, &FallbackKeyRow { used: true, ..row })?;
            let mut counts = upload::key_counts(txn.view(), user, device)?;
            counts.unused_fallback.remove(upload::algorithm(id));
            upload::write_counts(txn, user, device, counts)?;
        }
    }
    txn.put(tables::KEY_PACKS_SENT, key, &sent)?;
    note(txn, PackDue { user_id: Some(user.clone()), server: Some(origin.to_owned()) })
}

/// Keys are outstanding no more.
pub(super) fn come_back(txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId, keys: u64) -> Result<(), Error> {
    let key = (user, device);
    let Some(out) = txn.view().get(tables::KEY_PACKS_OUT, key)? else { return Ok(()) };
    match out.saturating_sub(keys) {
        0 => drop(txn.remove(tables::KEY_PACKS_OUT, key)?),
        left => txn.put(tables::KEY_PACKS_OUT, key, &left)?,
    }
    Ok(())
}

/// A local device is gone, and its keys in packs with it.
pub(crate) fn device_gone(txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId) -> Result<(), Error> {
    txn.remove(tables::KEY_PACKS_OUT, (user, device))?;
    let servers = super::tend::holders(txn.view(), user)?;
    for server in servers {
        let key = (&*server, user);
        let Some(mut sent) = txn.view().get(tables::KEY_PACKS_SENT, key)? else { continue };
        if sent.outstanding.remove(device.as_str()).is_some() {
            // The digest says that the pack still names the device: the change of the device list makes it anew.
            txn.put(tables::KEY_PACKS_SENT, key, &sent)?;
        }
    }
    Ok(())
}
