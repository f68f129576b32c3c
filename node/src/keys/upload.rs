//! Device keys, one-time keys and fallback keys of local devices. Spec: `POST /keys/upload`, "One-time and fallback keys".

use std::collections::BTreeMap;

use millpond_store::{
    Error as StoreError, Topic, View, WriteTxn, job,
    rows::{FallbackKeyRow, KeyCounts, OneTimeKeyRow},
    tables,
};
use ruma::{
    DeviceId, OneTimeKeyAlgorithm, UInt, UserId,
    api::client::keys::upload_keys::v3::{Request, Response},
};

use super::{
    Keys, lists, packs,
    signed::{MAX_KEY_BYTES, Signed, device_keys},
};
use crate::Error;

impl Keys {
    /// Takes a device's keys. Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when keys are not this device's or a one-time key's id is taken by another key,
    /// `M_INVALID_SIGNATURE`, `M_TOO_LARGE`, storage errors.
    pub async fn upload(&self, user: &UserId, device: &DeviceId, request: Request) -> Result<Response, Error> {
        let upload = Upload::parse(user, device, request)?;
        let (user, device) = (user.to_owned(), device.to_owned());
        let (owner, of) = (user.clone(), device.clone());
        let decide = move |view: View<'_>| upload.against(view, &owner, &of);
        let write = move |plan: Upload, txn: &mut WriteTxn<'_>| {
            plan.write(txn, &user, &device)?;
            key_counts(txn.view(), &user, &device)
        };
        let (counts, _) = self.core.write(job(decide, write)).await?;
        Ok(Response::new(as_ruma(&counts)))
    }
}

/// The keys of a device that is made with them, in one commit.
#[derive(Clone)]
pub(crate) struct FirstKeys(Upload);

impl FirstKeys {
    /// Reads them.
    ///
    /// # Errors
    /// As [`Keys::upload`].
    pub(crate) fn parse(user: &UserId, device: &DeviceId, request: Request) -> Result<Self, Error> {
        let upload = Upload::parse(user, device, request)?;
        if upload.one_time.len() as u64 > MAX_ONE_TIME_KEYS {
            return Err(Error::too_large(format!("a device may have {MAX_ONE_TIME_KEYS} one-time keys at most")));
        }
        Ok(Self(upload))
    }

    /// The device's Curve25519 key.
    pub(crate) fn identity_key(&self, device: &DeviceId) -> Option<&str> {
        self.0.device_keys.as_ref()?.key(&format!("curve25519:{device}"))
    }

    /// Writes them, once the device is there.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn write(&self, txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId) -> Result<(), StoreError> {
        self.0.clone().write(txn, user, device)
    }
}

/// How many one-time keys a device has left and which of its fallback keys are unused.
///
/// # Errors
/// Storage errors.
pub fn key_counts(view: View<'_>, user: &UserId, device: &DeviceId) -> Result<KeyCounts, StoreError> {
    let mut counts = view.get(tables::KEY_COUNTS, (user, device))?.unwrap_or_default();
    // Clients take an absent algorithm for "unchanged"; so the one that all use is always named.
    counts.one_time.entry("signed_curve25519".to_owned()).or_default();
    Ok(counts)
}

/// The counts in ruma's types.
pub fn as_ruma(counts: &KeyCounts) -> BTreeMap<OneTimeKeyAlgorithm, UInt> {
    let pairs = counts.one_time.iter();
    pairs.map(|(algorithm, n)| (algorithm.as_str().into(), UInt::new_saturating(*n))).collect()
}

#[derive(Clone)]
struct Upload {
    device_keys: Option<Signed>,
    one_time: BTreeMap<String, String>,
    fallback: BTreeMap<String, String>,
}

impl Upload {
    fn parse(user: &UserId, device: &DeviceId, request: Request) -> Result<Self, Error> {
        let keys = request.device_keys.map(|keys| device_keys(keys.json().get(), user, device)).transpose()?;
        let mut upload = Self { device_keys: keys, one_time: BTreeMap::new(), fallback: BTreeMap::new() };
        for (id, key) in &request.one_time_keys {
            upload.one_time.insert(id.to_string(), checked(id.as_str(), key.json().get())?);
        }
        for (id, key) in &request.fallback_keys {
            upload.fallback.insert(id.to_string(), checked(id.as_str(), key.json().get())?);
        }
        let mut algorithms: Vec<_> = upload.fallback.keys().map(|id| algorithm(id)).collect();
        algorithms.dedup();
        if algorithms.len() < upload.fallback.len() {
            return Err(Error::invalid_param("fallback_keys: there can be only one key per algorithm"));
        }
        Ok(upload)
    }

    /// What of this is new.
    fn against(&self, view: View<'_>, user: &UserId, device: &DeviceId) -> Result<Self, Error> {
        if !view.contains(tables::DEVICES, (user, device))? {
            return Err(Error::forbidden("this device was logged out meanwhile"));
        }
        let mut new = self.clone();
        if let Some(keys) = &self.device_keys
            && view.get(tables::DEVICE_KEYS, (user, device))?.is_some_and(|stored| stored == keys.json())
        {
            new.device_keys = None;
        }
        for (id, json) in &self.one_time {
            let Some(position) = view.get(tables::ONE_TIME_KEY_IDS, (user, device, id))? else { continue };
            let stored = view.get(tables::ONE_TIME_KEYS, (user, device, algorithm(id), position))?;
            if stored.is_some_and(|stored| !same_json(&stored.json, json)) {
                return Err(Error::invalid_param(format!("one-time key {id} exists already with other content")));
            }
            new.one_time.remove(id);
        }
        let held: u64 = key_counts(view, user, device)?.one_time.values().sum();
        if held + new.one_time.len() as u64 > MAX_ONE_TIME_KEYS {
            return Err(Error::too_large(format!("a device may have {MAX_ONE_TIME_KEYS} one-time keys at most")));
        }
        Ok(new)
    }

    fn write(self, txn: &mut WriteTxn<'_>, user: &UserId, device: &DeviceId) -> Result<(), StoreError> {
        if let Some(keys) = self.device_keys {
            write_device_keys(txn, user, device, &keys)?;
        }
        if self.one_time.is_empty() && self.fallback.is_empty() {
            return Ok(());
        }
        let mut counts = key_counts(txn.view(), user, device)?;
        // Packs may have been made with fewer keys than they should have.
        let ran_low = counts.one_time.values().sum::<u64>() < LOW;
        let mut packs_change = ran_low && !self.one_time.is_empty();
        for (id, json) in self.one_time {
            let position = txn.next_position().0;
            let algorithm = algorithm(&id).to_owned();
            txn.put(tables::ONE_TIME_KEY_IDS, (user, device, &id), &position)?;
            let row = OneTimeKeyRow { id, json };
            txn.put(tables::ONE_TIME_KEYS, (user, device, &algorithm, position), &row)?;
            *counts.one_time.entry(algorithm).or_default() += 1;
        }
        for (id, json) in self.fallback {
            let algorithm = algorithm(&id).to_owned();
            let row = FallbackKeyRow { id, json, used: false };
            let key = (user, device, &algorithm);
            let earlier = txn.view().get(tables::FALLBACK_KEYS, key)?;
            // An upload that is sent again, because its answer was lost, does not make a used key unused.
            if earlier.is_none_or(|earlier| earlier.id != row.id || !same_json(&earlier.json, &row.json)) {
                txn.put(tables::FALLBACK_KEYS, key, &row)?;
                counts.unused_fallback.insert(algorithm);
                packs_change = true;
            }
        }
        if packs_change {
            packs::due(txn, user)?;
        }
        write_counts(txn, user, device, counts)
    }
}

/// Writes the counts and wakes the device.
pub(crate) fn write_counts(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    device: &DeviceId,
    mut counts: KeyCounts,
) -> Result<(), StoreError> {
    counts.position = txn.next_position().0;
    txn.put(tables::KEY_COUNTS, (user, device), &counts)?;
    txn.touch(Topic::User(user.to_owned()));
    Ok(())
}

/// `algorithm` of `algorithm:id`.
pub(crate) fn algorithm(key_id: &str) -> &str {
    key_id.split_once(':').map_or(key_id, |(algorithm, _)| algorithm)
}

fn write_device_keys(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    device: &DeviceId,
    keys: &Signed,
) -> Result<(), StoreError> {
    let earlier = txn.view().get(tables::DEVICE_KEYS, (user, device))?;
    if earlier.is_some_and(|earlier| !Signed::stored(&earlier).same_content(keys)) {
        // Signatures that came for the earlier keys say nothing about these.
        txn.remove_all(tables::KEY_SIGNATURES, (user, device.as_str()))?;
    }
    txn.put(tables::DEVICE_KEYS, (user, device), &keys.json())?;
    lists::record_local_change(txn, user, Some(device))
}

fn checked(id: &str, json: &str) -> Result<String, Error> {
    if json.len() > MAX_KEY_BYTES {
        return Err(Error::too_large(format!("key {id} is larger than {MAX_KEY_BYTES} bytes")));
    }
    let value: serde_json::Value = serde_json::from_str(json).map_err(|e| Error::bad_json(format!("key {id}: {e}")))?;
    let has_key = value.is_string() || value.get("key").is_some_and(serde_json::Value::is_string);
    if !has_key {
        return Err(Error::invalid_param(format!("key {id} is neither a string nor an object with a \"key\"")));
    }
    Ok(json.to_owned())
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |json| serde_json::from_str::<serde_json::Value>(json).ok();
    a == b || parse(a) == parse(b)
}

/// With fewer one-time keys than this a device may have left packs unfilled.
const LOW: u64 = 10;
/// One-time keys that a device may have here; clients keep 50 to 100.
const MAX_ONE_TIME_KEYS: u64 = 1_000;
