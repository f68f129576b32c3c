//! Dehydrated devices (MSC3814): a device that nobody is logged in with, kept with its private keys encrypted, so that room
//! keys have a place to go while the user has no device. One a user; it is a device like others to everybody else.

use millpond_store::{
    Position, View, job,
    rows::{DehydratedDevice, Device},
    tables,
};
use ruma::{
    DeviceId, OwnedDeviceId, UserId,
    api::client::keys::upload_keys,
    encryption::{DeviceKeys, OneTimeKey},
    events::AnyToDeviceEvent,
    serde::Raw,
};

use super::{Accounts, device};
use crate::{Error, keys::FirstKeys, to_device};

/// A device to be kept.
#[derive(Clone, Debug)]
pub struct Dehydrate {
    /// Its id: its public Curve25519 key.
    pub device_id: OwnedDeviceId,
    /// What only the user can read of it, a JSON object.
    pub data: String,
    /// Its name.
    pub display_name: Option<String>,
    /// Its identity keys.
    pub device_keys: Raw<DeviceKeys>,
    /// One-time keys.
    pub one_time_keys: std::collections::BTreeMap<ruma::OwnedOneTimeKeyId, Raw<OneTimeKey>>,
    /// Fallback keys.
    pub fallback_keys: std::collections::BTreeMap<ruma::OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

impl Accounts {
    /// Keeps a device in place of the one kept before. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 for an id that is not the device's key or is that of another device, as [`crate::keys::Keys::upload`]; storage
    /// errors.
    pub async fn dehydrate(&self, user: &UserId, dehydrate: Dehydrate) -> Result<(), Error> {
        let Dehydrate { device_id, data, display_name, device_keys, one_time_keys, fallback_keys } = dehydrate;
        device::check_device_id(&device_id)?;
        device::check_display_name(display_name.as_deref())?;
        if data.len() > DATA_MAX {
            return Err(Error::too_large(format!("`device_data` may have {DATA_MAX} bytes")));
        }
        let mut upload = upload_keys::v3::Request::new();
        upload.device_keys = Some(device_keys);
        (upload.one_time_keys, upload.fallback_keys) = (one_time_keys, fallback_keys);
        let keys = FirstKeys::parse(user, &device_id, upload)?;
        if keys.identity_key(&device_id) != Some(device_id.as_str()) {
            return Err(Error::invalid_param("a dehydrated device is named by its public Curve25519 key"));
        }
        let row = DehydratedDevice { device_id: device_id.clone(), data };
        let device = Device { display_name, ..Device::default() };
        let (user, cache, read) = (user.to_owned(), self.0.tokens.clone(), (user.to_owned(), device_id.clone()));
        let keep = job(
            move |view| {
                let before = view.get(tables::DEHYDRATED, &read.0)?.map(|row| row.device_id);
                if view.contains(tables::DEVICES, (&*read.0, &*read.1))? && before.as_ref() != Some(&read.1) {
                    return Err(Error::invalid_param("you are logged in with a device of this id"));
                }
                Ok(before)
            },
            move |before: Option<OwnedDeviceId>, txn| {
                device::remove_devices(txn, &cache, &user, before.as_slice())?;
                txn.put(tables::DEVICES, (&*user, &*device_id), &device)?;
                txn.put(tables::DEHYDRATED, &user, &row)?;
                keys.write(txn, &user, &device_id)
            },
        );
        self.0.core.write(keep).await?;
        Ok(())
    }

    /// The device that is kept for a user: its id and what only he can read of it.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub fn dehydrated(&self, user: &UserId) -> Result<(OwnedDeviceId, String), Error> {
        let row = find(self.0.core.snapshot()?.view(), user)?;
        Ok((row.device_id, row.data))
    }

    /// Removes the device that is kept; gives its id. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub async fn discard_dehydrated(&self, user: &UserId) -> Result<OwnedDeviceId, Error> {
        let (device_id, _) = self.dehydrated(user)?;
        self.delete_devices(user, vec![device_id.clone()]).await?;
        Ok(device_id)
    }

    /// To-device messages for the device that is kept, behind a token, and the token to go on with. They stay.
    ///
    /// # Errors
    /// 403 for another device, 400 for a token that is not ours; storage errors.
    pub fn dehydrated_messages(
        &self,
        user: &UserId,
        device_id: &DeviceId,
        since: Option<&str>,
    ) -> Result<(Vec<Raw<AnyToDeviceEvent>>, String), Error> {
        let snapshot = self.0.core.snapshot()?;
        let row = find(snapshot.view(), user)?;
        if row.device_id != device_id {
            return Err(Error::forbidden("this is not the dehydrated device of yours that is kept"));
        }
        let since = since
            .map(str::parse)
            .transpose()
            .map_err(|_| Error::invalid_param("`next_batch` is not a token of this server: ask once without it"))?;
        let since = Position(since.unwrap_or(0));
        let messages = to_device::pending(snapshot.view(), user, device_id, since, BATCH)?;
        let next = messages.last().map_or(since, |(position, _)| *position);
        Ok((messages.into_iter().map(|(_, message)| message).collect(), next.0.to_string()))
    }
}

fn find(view: View<'_>, user: &UserId) -> Result<DehydratedDevice, Error> {
    view.get(tables::DEHYDRATED, user)?.ok_or_else(|| Error::not_found("no dehydrated device of yours is kept here"))
}

/// Bytes of what a client keeps of a device: a pickle of some hundred keys has some ten thousand.
const DATA_MAX: usize = 256 << 10;
/// To-device messages of one answer.
const BATCH: usize = 100;
