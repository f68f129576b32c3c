//! Devices: made by a login, one session each, removed together with all that belongs to them.

use std::{net::IpAddr, time::Duration};

use millpond_store::{View, WriteTxn, job, rows, tables};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use super::{
    Accounts,
    refresh::{self, ACCESS_TOKEN_LIFETIME},
    removal::device_removed,
    token::{Secret, Sender, TokenCache},
};
use crate::Error;

/// The device that a login makes or takes over.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// The client's choice; none: a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device; an existing one keeps its name.
    pub display_name: Option<String>,
    /// Where the login comes from.
    pub address: Option<IpAddr>,
    /// The client can refresh its access token, so that token may end.
    pub refreshed: bool,
    /// The OAuth client whose session it will be.
    pub client: Option<String>,
}

/// A device that is logged in.
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token: this is the only time it is seen.
    pub access_token: String,
    /// What a new one is got with, for a client that can; as rarely seen.
    pub refresh_token: Option<String>,
    /// How long the access token lives; none: as long as the device.
    pub expires_in: Option<Duration>,
}

/// The longest device id and device name, in bytes: they are sent to every member of encrypted rooms.
const MAX_DEVICE_ID: usize = 255;
const MAX_DISPLAY_NAME: usize = 1000;

/// A device about to be written: everything random and timed is drawn, so that the job may run again.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) device_id: OwnedDeviceId,
    access: Secret,
    refresh: Option<Secret>,
    display_name: Option<String>,
    address: Option<String>,
    client: Option<String>,
    now_ms: u64,
}

impl Opening {
    /// Draws what is random.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` for an id or a name that is too long.
    pub(super) fn new(device: NewDevice, now_ms: u64) -> Result<Self, Error> {
        let device_id = device.device_id.filter(|id| !id.as_str().is_empty()).unwrap_or_else(DeviceId::new);
        check_device_id(&device_id)?;
        check_display_name(device.display_name.as_deref())?;
        let (access, refresh) = (Secret::random(), device.refreshed.then(Secret::random));
        let address = device.address.map(|address| address.to_string());
        let NewDevice { display_name, client, .. } = device;
        Ok(Self { device_id, access, refresh, display_name, address, client, now_ms })
    }

    /// Writes device and tokens. A device of that id keeps its keys and name; its old tokens end.
    pub(super) fn write(
        &self,
        txn: &mut WriteTxn<'_>,
        cache: &TokenCache,
        user_id: &UserId,
    ) -> Result<(), millpond_store::Error> {
        let key = (user_id, &*self.device_id);
        let known = txn.view().get(tables::DEVICES, key)?;
        if let Some(known) = &known {
            remove_tokens(txn, known)?;
            cache.revoke(txn.next_position());
        }
        let refresh = self.refresh.as_ref().map(|secret| secret.hash);
        let device = rows::Device {
            display_name: known.and_then(|device| device.display_name).or_else(|| self.display_name.clone()),
            last_seen_ms: Some(self.now_ms),
            last_seen_ip: self.address.clone(),
            token_hash: Some(self.access.hash),
            refresh: refresh.map(|token| rows::Refresh { token, next: None, previous: None }),
            client: self.client.clone(),
        };
        txn.put(tables::DEVICES, key, &device)?;
        let (user_id, device_id) = (user_id.to_owned(), self.device_id.clone());
        let mut owner = rows::TokenOwner { user_id, device_id, expires_at_ms: None };
        if let Some(hash) = refresh {
            txn.put(tables::REFRESH_TOKENS, hash, &owner)?;
            owner.expires_at_ms = Some(refresh::access_ends_ms(self.now_ms));
        }
        txn.put(tables::TOKENS, self.access.hash, &owner)
    }

    pub(super) fn into_session(self, user_id: OwnedUserId) -> Session {
        let expires_in = self.refresh.is_some().then_some(ACCESS_TOKEN_LIFETIME);
        let (access_token, refresh_token) = (self.access.text, self.refresh.map(|secret| secret.text));
        Session { user_id, device_id: self.device_id, access_token, refresh_token, expires_in }
    }
}

/// Which devices of a user to remove.
enum Which {
    All,
    These(Vec<OwnedDeviceId>),
}

impl Accounts {
    /// Logs a device in without a credential: for those who have checked one, and for the owner of the node.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND` for no such account, 403 `M_USER_DEACTIVATED`, as [`NewDevice`]'s limits; storage errors.
    /// Dropping the future does not take the login back.
    pub async fn open_session(&self, user_id: &UserId, device: NewDevice) -> Result<Session, Error> {
        let opening = Opening::new(device, self.0.core.clock().now_ms())?;
        let (user, write, cache) = (user_id.to_owned(), opening.clone(), self.0.tokens.clone());
        let read = user.clone();
        let open = job(
            move |view| super::account::active(view, &read).map(drop),
            move |(), txn| write.write(txn, &cache, &user),
        );
        self.0.core.write(open).await?;
        Ok(opening.into_session(user_id.to_owned()))
    }

    /// The devices of a user.
    ///
    /// # Errors
    /// Storage errors.
    pub fn devices(&self, user_id: &UserId) -> Result<Vec<(OwnedDeviceId, rows::Device)>, Error> {
        let snapshot = self.0.core.snapshot()?;
        let rows = snapshot.view().scan(tables::DEVICES, (user_id,))?;
        rows.map(|row| row.map(|((_, id), device)| (id, device)).map_err(Error::from)).collect()
    }

    /// One device of a user.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`; storage errors.
    pub fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<rows::Device, Error> {
        find(self.0.core.snapshot()?.view(), user_id, device_id)
    }

    /// Renames a device, if a name is given. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 `M_NOT_FOUND`, 400 `M_INVALID_PARAM` for too long a name; storage errors.
    pub async fn rename_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<(), Error> {
        check_display_name(display_name.as_deref())?;
        let (user, device) = (user_id.to_owned(), device_id.to_owned());
        let key = (user.clone(), device.clone());
        let rename = job(
            move |view| find(view, &user, &device),
            move |mut row: rows::Device, txn| {
                if display_name.is_none() {
                    return Ok(());
                }
                row.display_name.clone_from(&display_name);
                txn.put(tables::DEVICES, &key, &row)?;
                super::removal::device_renamed(txn, &key.0, &key.1)
            },
        );
        self.0.core.write(rename).await?;
        Ok(())
    }

    /// Logs a device out: the device goes with its token and keys. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn log_out(&self, sender: &Sender) -> Result<(), Error> {
        self.delete_devices(&sender.user_id, vec![sender.device_id.clone()]).await
    }

    /// Logs all devices of a user out. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn log_out_everywhere(&self, user_id: &UserId) -> Result<(), Error> {
        self.remove(user_id, Which::All).await
    }

    /// Removes devices; unknown ones count as removed. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn delete_devices(&self, user_id: &UserId, device_ids: Vec<OwnedDeviceId>) -> Result<(), Error> {
        self.remove(user_id, Which::These(device_ids)).await
    }

    async fn remove(&self, user_id: &UserId, which: Which) -> Result<(), Error> {
        let (user, cache) = (user_id.to_owned(), self.0.tokens.clone());
        let read = user.clone();
        let remove = job(
            move |view| match &which {
                Which::All => of_user(view, &read),
                Which::These(ids) => Ok(ids.clone()),
            },
            move |ids: Vec<OwnedDeviceId>, txn| remove_devices(txn, &cache, &user, &ids),
        );
        self.0.core.write(remove).await?;
        Ok(())
    }
}

/// The ids of a user's devices.
pub(super) fn of_user(view: View<'_>, user_id: &UserId) -> Result<Vec<OwnedDeviceId>, Error> {
    let rows = view.scan(tables::DEVICES, (user_id,))?;
    rows.map(|row| row.map(|((_, id), _)| id).map_err(Error::from)).collect()
}

/// Removes devices with everything that belongs to them.
pub(super) fn remove_devices(
    txn: &mut WriteTxn<'_>,
    cache: &TokenCache,
    user_id: &UserId,
    device_ids: &[OwnedDeviceId],
) -> Result<(), millpond_store::Error> {
    for device_id in device_ids {
        let Some(device) = txn.view().get(tables::DEVICES, (user_id, device_id))? else { continue };
        txn.remove(tables::DEVICES, (user_id, device_id))?;
        remove_tokens(txn, &device)?;
        device_removed(txn, user_id, device_id)?;
    }
    cache.revoke(txn.next_position());
    Ok(())
}

fn remove_tokens(txn: &mut WriteTxn<'_>, device: &rows::Device) -> Result<(), millpond_store::Error> {
    for hash in device.access_hashes() {
        txn.remove(tables::TOKENS, hash)?;
    }
    for hash in device.refresh_hashes() {
        txn.remove(tables::REFRESH_TOKENS, hash)?;
    }
    Ok(())
}

fn find(view: View<'_>, user_id: &UserId, device_id: &DeviceId) -> Result<rows::Device, Error> {
    let device = view.get(tables::DEVICES, (user_id, device_id))?;
    device.ok_or_else(|| Error::not_found("You have no device with this id"))
}

pub(super) fn check_device_id(device_id: &DeviceId) -> Result<(), Error> {
    match device_id.as_str() {
        id if id.len() > MAX_DEVICE_ID => {
            Err(Error::invalid_param(format!("A device id has at most {MAX_DEVICE_ID} bytes")))
        }
        id if id.contains(|c: char| c.is_control()) => {
            Err(Error::invalid_param("A device id has no control characters"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_display_name(name: Option<&str>) -> Result<(), Error> {
    match name {
        Some(name) if name.len() > MAX_DISPLAY_NAME => {
            Err(Error::invalid_param(format!("A device's display name has at most {MAX_DISPLAY_NAME} bytes")))
        }
        _ => Ok(()),
    }
}
