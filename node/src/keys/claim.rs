//! Claiming one-time keys: each is given out once, in the commit that answers. Spec: `POST /keys/claim`.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use millpond_store::{
    Error as StoreError, View, WriteTxn, job,
    rows::{FallbackKeyRow, OneTimeKeyRow},
    tables,
};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedServerName, OwnedUserId, ServerName,
    api::{client::keys::claim_keys::v3, federation::keys::claim_keys::v1},
    encryption::OneTimeKey,
    serde::Raw,
};

use super::{
    Keys,
    remote::{failure, patience},
    upload::{algorithm, key_counts, write_counts},
};
use crate::Error;

/// What is asked for: user, device, algorithm.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;
/// What is given.
pub type Claimed = v1::OneTimeKeys;

impl Keys {
    /// Claims keys for a client, of local and remote devices. Dropping it may lose claimed keys.
    ///
    /// # Errors
    /// Storage errors. A peer that cannot be reached is named in `failures`.
    pub async fn claim(&self, request: v3::Request) -> Result<v3::Response, Error> {
        let (local, remote) = self.by_server(request.one_time_keys);
        let mut response = v3::Response::new(self.claim_local(local).await?);
        let patience = patience(request.timeout);
        let asked = remote.into_iter().map(|(server, claims)| async move {
            let answer = self.claim_remote(&server, &claims, patience).await;
            (server, answer)
        });
        for (server, answer) in join_all(asked).await {
            match answer {
                Ok(claimed) => response.one_time_keys.extend(claimed),
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => drop(response.failures.insert(server.to_string(), failure(&error))),
            }
        }
        Ok(response)
    }

    /// Claims keys of a peer's devices: of the peer itself while it is up, else from what it gave us for when it sleeps.
    async fn claim_remote(&self, server: &ServerName, claims: &Claims, patience: Duration) -> Result<Claimed, Error> {
        if !self.remote.is_up(server) && self.packed_all(server, claims)? {
            return self.claim_packed(server, claims).await;
        }
        match self.within(patience, self.remote.claim(server, claims.clone())).await {
            Ok(claimed) => {
                let mut claimed = only_asked(claimed, claims);
                // What it has no key for may be in the pack that it gave us.
                let mut missing = claims.clone();
                missing.retain(|user, devices| {
                    devices.retain(|device, _| !claimed.get(user).is_some_and(|given| given.contains_key(device)));
                    !devices.is_empty()
                });
                if !missing.is_empty() {
                    for (user, devices) in self.claim_packed(server, &missing).await? {
                        claimed.entry(user).or_default().extend(devices);
                    }
                }
                Ok(claimed)
            }
            Err(error) => {
                let claimed = self.claim_packed(server, claims).await?;
                if claimed.is_empty() { Err(error) } else { Ok(claimed) }
            }
        }
    }

    /// Claims keys of local devices, for a client or a peer. Dropping it may lose claimed keys.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn claim_local(&self, claims: Claims) -> Result<Claimed, Error> {
        if claims.is_empty() {
            return Ok(Claimed::new());
        }
        let decide = move |view: View<'_>| -> Result<Vec<Given>, Error> { Ok(choose(view, &claims)?) };
        let write = |plan: Vec<Given>, txn: &mut WriteTxn<'_>| -> Result<Vec<Entry>, StoreError> {
            plan.into_iter().map(|given| given.write(txn)).collect()
        };
        let (given, _) = self.core.write(job(decide, write)).await?;
        let mut claimed = Claimed::new();
        for (user, device, id, key) in given {
            claimed.entry(user).or_default().entry(device).or_default().insert(id, key);
        }
        Ok(claimed)
    }

    fn by_server(&self, claims: Claims) -> (Claims, BTreeMap<OwnedServerName, Claims>) {
        let mut local = Claims::new();
        let mut remote = BTreeMap::<_, Claims>::new();
        for (user, devices) in claims {
            if self.core.identity().is_our_user(&user) {
                local.insert(user, devices);
            } else {
                remote.entry(user.server_name().to_owned()).or_default().insert(user, devices);
            }
        }
        (local, remote)
    }
}

type Entry = (OwnedUserId, OwnedDeviceId, OwnedOneTimeKeyId, Raw<OneTimeKey>);

struct Given {
    user: OwnedUserId,
    device: OwnedDeviceId,
    key: Key,
}

enum Key {
    OneTime { position: u64, row: OneTimeKeyRow },
    Fallback(FallbackKeyRow),
}

impl Given {
    fn write(self, txn: &mut WriteTxn<'_>) -> Result<Entry, StoreError> {
        let Self { user, device, key } = self;
        let mut counts = key_counts(txn.view(), &user, &device)?;
        let (id, json) = match key {
            Key::OneTime { position, row: OneTimeKeyRow { id, json } } => {
                txn.remove(tables::ONE_TIME_KEYS, (&user, &device, algorithm(&id), position))?;
                txn.remove(tables::ONE_TIME_KEY_IDS, (&user, &device, &id))?;
                if let Some(left) = counts.one_time.get_mut(algorithm(&id)) {
                    *left = left.saturating_sub(1);
                }
                write_counts(txn, &user, &device, counts)?;
                (id, json)
            }
            Key::Fallback(row) => {
                if !row.used {
                    let used = FallbackKeyRow { used: true, ..row.clone() };
                    txn.put(tables::FALLBACK_KEYS, (&user, &device, algorithm(&row.id)), &used)?;
                    counts.unused_fallback.remove(algorithm(&row.id));
                    write_counts(txn, &user, &device, counts)?;
                }
                (row.id, row.json)
            }
        };
        let corrupt = |why| StoreError::Corrupt { table: "ONE_TIME_KEYS", why };
        let key = Raw::from_json_string(json).map_err(|e| corrupt(e.to_string()))?;
        let id = id.as_str().try_into().map_err(|_| corrupt("not a key id".to_owned()))?;
        Ok((user, device, id, key))
    }
}

fn choose(view: View<'_>, claims: &Claims) -> Result<Vec<Given>, StoreError> {
    let mut given = Vec::new();
    for (user, devices) in claims {
        for (device, algorithm) in devices {
            let mut oldest = view.scan(tables::ONE_TIME_KEYS, (user, device, algorithm.as_str()))?;
            let key = match oldest.next().transpose()? {
                Some(((_, _, _, position), row)) => Some(Key::OneTime { position, row }),
                None => view.get(tables::FALLBACK_KEYS, (user, device, algorithm.as_str()))?.map(Key::Fallback),
            };
            given.extend(key.map(|key| Given { user: user.clone(), device: device.clone(), key }));
        }
    }
    Ok(given)
}

/// Of a peer's answer, what it was asked for.
fn only_asked(mut claimed: Claimed, claims: &Claims) -> Claimed {
    claimed.retain(|user, devices| {
        let Some(asked) = claims.get(user) else { return false };
        devices.retain(|device, keys| {
            let Some(algorithm) = asked.get(device) else { return false };
            keys.retain(|id, _| id.algorithm() == *algorithm);
            !keys.is_empty()
        });
        !devices.is_empty()
    });
    claimed
}
