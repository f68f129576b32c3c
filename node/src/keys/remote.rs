//! Keys of remote users: asked from their server, kept while a room is shared.
//!
//! A list that we keep is used as long as the user who asks has shared a room with its owner, without a break, since it
//! was fetched: only then did their server owe us every update. It is asked for again when it is stale. A server that
//! does not answer leaves us with what we have, because people who sleep are written to as well.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use millpond_store::{
    Error as StoreError, View, WriteTxn, job,
    rows::{RemoteDevice, RemoteList},
    tables,
};
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::federation::{device::get_devices, keys::get_keys},
    encryption,
    serde::Raw,
};
use serde_json::json;

use super::{
    Audience, Claimed, Claims, Keys, lists, packs,
    signed::{CrossSigningKey, Usage, device_keys},
};
use crate::Error;

/// The way to the keys of other servers. An error means: could not be asked.
pub trait RemoteKeys: Send + Sync + 'static {
    /// `GET /_matrix/federation/v1/user/devices/{userId}`.
    fn devices(&self, user: OwnedUserId) -> BoxFuture<'static, Result<get_devices::v1::Response, Error>>;
    /// `POST /_matrix/federation/v1/user/keys/query`.
    fn query(
        &self,
        server: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> BoxFuture<'static, Result<get_keys::v1::Response, Error>>;
    /// `POST /_matrix/federation/v1/user/keys/claim`.
    fn claim(&self, server: &ServerName, claims: Claims) -> BoxFuture<'static, Result<Claimed, Error>>;
    /// Whether a server can be asked right now. Of one that sleeps we use what it gave us.
    fn is_up(&self, _: &ServerName) -> bool {
        true
    }
    /// About whom a linked server may ask.
    fn audience(&self, _: &ServerName) -> Audience {
        Audience::CoMembers
    }
}

impl Keys {
    /// Fetches the device list of a remote user and keeps it. Dropping it leaves the list as it was.
    ///
    /// # Errors
    /// The server could not be reached or gave nonsense; storage errors.
    pub async fn resync(&self, user: &UserId) -> Result<(), Error> {
        let (before, fetched_at) = {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            (view.get(tables::REMOTE_LISTS, (user.server_name(), user))?, view.position()?.0)
        };
        let response = self.remote.devices(user.to_owned()).await?;
        let list = Fetched::parse(user, response)?;
        let user = user.to_owned();
        let decide = |_: View<'_>| Ok::<_, Error>(());
        let write = move |(), txn: &mut WriteTxn<'_>| list.write(txn, &user, before, fetched_at);
        self.core.write(job(decide, write)).await?;
        Ok(())
    }

    /// Takes every list kept of a server for doubtful and fetches it again: a link that comes back may have missed
    /// updates. Lists of users who share no room any more are forgotten. Lists that cannot be fetched stay stale and are asked for when they are needed.
    /// Dropping it leaves the rest stale.
    ///
    /// # Errors
    /// The first list that could not be fetched; storage errors.
    pub async fn resync_server(&self, server: &ServerName) -> Result<(), Error> {
        let stale = server.to_owned();
        let write = move |(), txn: &mut WriteTxn<'_>| mark_all_stale(txn, &stale);
        self.core.write(job(|_| Ok::<_, Error>(()), write)).await?;
        self.resync_stale(server).await
    }

    /// Fetches the stale lists of a server. Dropping it leaves the rest stale.
    ///
    /// # Errors
    /// As [`Keys::resync_server`].
    pub async fn resync_stale(&self, server: &ServerName) -> Result<(), Error> {
        let stale = {
            let snapshot = self.core.snapshot()?;
            let rows = snapshot.view().scan(tables::REMOTE_LISTS, (server,))?;
            let stale = rows.filter_map(|row| match row {
                Ok(((_, user), list)) => list.stale.then_some(Ok(user)),
                Err(error) => Some(Err(error)),
            });
            stale.collect::<Result<Vec<_>, _>>()?
        };
        let mut failed = Ok(());
        for user in stale {
            match self.resync(&user).await {
                Err(Error::Store(error)) => return Err(error.into()),
                // The others of a server that does not answer would only cost as many time-outs.
                Err(error) if is_unreachable(&error) => return Err(error),
                Err(error) if failed.is_ok() => failed = Err(error),
                _ => {}
            }
        }
        failed
    }

    /// Waits for an answer no longer than `patience`.
    pub(crate) async fn within<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let timed_out = || Error::unreachable(format!("no answer within {} s", patience.as_secs()));
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Matrix { status, .. } if status.is_server_error())
}

/// How long to wait for peers: as the client asks, within reason.
pub(crate) fn patience(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(Duration::from_secs(10)).clamp(Duration::from_secs(1), Duration::from_secs(20))
}

/// An entry of `failures`.
pub(crate) fn failure(error: &Error) -> serde_json::Value {
    let code = error.kind().map_or_else(|| "M_UNKNOWN".to_owned(), |kind| kind.errcode().to_string());
    json!({ "errcode": code, "error": error.to_string() })
}

/// A remote user's device list, checked.
#[derive(Clone)]
pub(crate) struct Fetched {
    stream_id: u64,
    devices: BTreeMap<OwnedDeviceId, RemoteDevice>,
    cross_signing: BTreeMap<Usage, CrossSigningKey>,
}

impl Fetched {
    fn parse(user: &UserId, response: get_devices::v1::Response) -> Result<Self, Error> {
        if response.user_id != *user {
            return Err(Error::unknown(format!("{} answered for another user", user.server_name())));
        }
        let devices = response
            .devices
            .iter()
            .map(|device| (device.device_id.clone(), device.keys.json().get(), device.device_display_name.clone()));
        let keys = (response.master_key, response.self_signing_key);
        Ok(Self::of(user, response.stream_id.into(), devices, keys))
    }

    /// A list as its parts: devices with their keys and names, master and self-signing key.
    pub(crate) fn of<'a>(
        user: &UserId,
        stream_id: u64,
        listed: impl Iterator<Item = (OwnedDeviceId, &'a str, Option<String>)>,
        (master, self_signing): (Option<Raw<encryption::CrossSigningKey>>, Option<Raw<encryption::CrossSigningKey>>),
    ) -> Self {
        let mut devices = BTreeMap::new();
        for (device, keys, name) in listed.take(MAX_DEVICES) {
            // One bad device does not hide the others.
            let Ok(keys) = device_keys(keys, user, &device) else { continue };
            devices.insert(device, RemoteDevice { keys: keys.json(), display_name: name.map(shorten) });
        }
        Self { stream_id, devices, cross_signing: cross_signing(user, master, self_signing) }
    }

    pub(crate) fn write(
        &self,
        txn: &mut WriteTxn<'_>,
        user: &UserId,
        before: Option<RemoteList>,
        fetched_at: u64,
    ) -> Result<(), StoreError> {
        let key = (user.server_name(), user);
        let now = txn.view().get(tables::REMOTE_LISTS, key)?;
        let stream = |list: Option<RemoteList>| list.map_or(0, |list| list.stream_id);
        if stream(now) != stream(before) && self.stream_id < stream(now) {
            // An update came while we asked, and the answer does not know it: the list stays as it is, to be asked for
            // again.
            return match now {
                Some(now) => txn.put(tables::REMOTE_LISTS, key, &RemoteList { stale: true, ..now }),
                None => Ok(()),
            };
        }
        let list = RemoteList { stream_id: self.stream_id, fetched_at, stale: false };
        txn.put(tables::REMOTE_LISTS, key, &list)?;
        let devices_changed = self.write_devices(txn, user)?;
        let keys_changed = write_cross_signing(txn, user, &self.cross_signing, true)?;
        if devices_changed || keys_changed {
            lists::record_change(txn, user)?;
        }
        Ok(())
    }

    fn write_devices(&self, txn: &mut WriteTxn<'_>, user: &UserId) -> Result<bool, StoreError> {
        let known: BTreeMap<OwnedDeviceId, RemoteDevice> = txn
            .view()
            .scan(tables::REMOTE_DEVICES, (user,))?
            .map(|row| row.map(|((_, device), row)| (device, row)))
            .collect::<Result<_, _>>()?;
        for device in known.keys().filter(|device| !self.devices.contains_key(*device)) {
            txn.remove(tables::REMOTE_DEVICES, (user, device))?;
        }
        for (device, row) in &self.devices {
            if known.get(device) != Some(row) {
                txn.put(tables::REMOTE_DEVICES, (user, device), row)?;
            }
        }
        Ok(known != self.devices)
    }
}

/// The cross-signing keys of a remote user that hold: named after themselves, the self-signing key signed by the master.
pub(crate) fn cross_signing(
    user: &UserId,
    master: Option<Raw<encryption::CrossSigningKey>>,
    self_signing: Option<Raw<encryption::CrossSigningKey>>,
) -> BTreeMap<Usage, CrossSigningKey> {
    let parse = |raw: Option<Raw<_>>, usage| CrossSigningKey::parse(raw?.json().get(), user, usage).ok();
    let mut keys = BTreeMap::new();
    let Some(master) = parse(master, Usage::Master) else { return keys };
    if let Some(key) = parse(self_signing, Usage::SelfSigning)
        && key.signed.verify(user, &master.id(), &master.public).is_ok()
    {
        keys.insert(Usage::SelfSigning, key);
    }
    keys.insert(Usage::Master, master);
    keys
}

/// Writes cross-signing keys of a remote user; says whether anything is different now.
pub(crate) fn write_cross_signing(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    keys: &BTreeMap<Usage, CrossSigningKey>,
    whole: bool,
) -> Result<bool, StoreError> {
    let mut changed = false;
    for usage in [Usage::Master, Usage::SelfSigning] {
        let row = (user, usage.as_str());
        let stored = txn.view().get(tables::CROSS_SIGNING_KEYS, row)?;
        match keys.get(&usage).map(|key| key.signed.json()) {
            Some(json) if stored.as_ref() != Some(&json) => {
                txn.put(tables::CROSS_SIGNING_KEYS, row, &json)?;
                changed = true;
            }
            None if whole && stored.is_some() => changed |= txn.remove(tables::CROSS_SIGNING_KEYS, row)?,
            _ => {}
        }
    }
    Ok(changed)
}

/// Takes every list of a server for doubtful, and forgets those of users who are in no room of ours.
fn mark_all_stale(txn: &mut WriteTxn<'_>, server: &ServerName) -> Result<(), StoreError> {
    let lists: Vec<_> = txn.view().scan(tables::REMOTE_LISTS, (server,))?.collect::<Result<_, _>>()?;
    for ((server, user), list) in lists {
        if lists::joined_rooms(txn.view(), &user)?.is_empty() && !packs::is_packed(txn.view(), &server, &user)? {
            txn.remove(tables::REMOTE_LISTS, (&server, &user))?;
            txn.remove_all(tables::REMOTE_DEVICES, (&user,))?;
            txn.remove_all(tables::CROSS_SIGNING_KEYS, (&user,))?;
        } else if !list.stale {
            txn.put(tables::REMOTE_LISTS, (&server, &user), &RemoteList { stale: true, ..list })?;
        }
    }
    Ok(())
}

/// A display name of a peer, bounded.
pub(crate) fn shorten(name: String) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

/// Devices that we keep of a remote user; bounds what a peer can make us store.
pub(crate) const MAX_DEVICES: usize = 500;
/// As long as Synapse allows a device's display name to be.
const MAX_NAME_CHARS: usize = 100;
