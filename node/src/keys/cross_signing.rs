//! Cross-signing keys of local users. Spec: `POST /keys/device_signing/upload`, "Cross-signing".

use std::collections::BTreeMap;

use http::StatusCode;
use millpond_store::{Error as StoreError, View, WriteTxn, job, tables};
use ruma::{
    UserId,
    api::{client::keys::upload_signing_keys::v3::Request, error::ErrorKind},
};

use super::{
    Keys, lists,
    signed::{CrossSigningKey, Usage, invalid_signature},
};
use crate::Error;

/// Cross-signing keys that were checked as far as that is possible without the stored ones.
#[derive(Clone, Debug)]
pub struct SigningKeys(BTreeMap<Usage, CrossSigningKey>);

impl Keys {
    /// Checks an upload, so that nobody is asked for a password for keys that cannot be taken.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`, `M_INVALID_SIGNATURE`, `M_MISSING_PARAM` without any master key, `M_FORBIDDEN` when a key has
    /// the name of a device; storage errors.
    pub fn check_signing_keys(&self, user: &UserId, request: &Request) -> Result<SigningKeys, Error> {
        let given = [
            (Usage::Master, &request.master_key),
            (Usage::SelfSigning, &request.self_signing_key),
            (Usage::UserSigning, &request.user_signing_key),
        ];
        let mut keys = BTreeMap::new();
        for (usage, raw) in given {
            if let Some(raw) = raw {
                keys.insert(usage, CrossSigningKey::parse(raw.json().get(), user, usage)?);
            }
        }
        let keys = SigningKeys(keys);
        keys.check(self.core.snapshot()?.view(), user)?;
        Ok(keys)
    }

    /// Whether the upload replaces keys, so that the user must authenticate again: not for the first keys, and not for
    /// the very keys that are there already.
    ///
    /// # Errors
    /// Storage errors.
    pub fn needs_authentication(&self, user: &UserId, keys: &SigningKeys) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        if stored(view, user, Usage::Master)?.is_none() {
            return Ok(false);
        }
        Ok(!keys.new_ones(view, user)?.is_empty())
    }

    /// Takes cross-signing keys; the caller has seen to [`Keys::needs_authentication`]: `authenticated` says that the
    /// user did so. Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// As [`Keys::check_signing_keys`]; `M_FORBIDDEN` when keys came in between and the user did not authenticate.
    pub async fn upload_signing_keys(
        &self,
        user: &UserId,
        keys: SigningKeys,
        authenticated: bool,
    ) -> Result<(), Error> {
        let user = user.to_owned();
        let owner = user.clone();
        let decide = move |view: View<'_>| {
            keys.check(view, &owner)?;
            let new = keys.new_ones(view, &owner)?;
            if !new.is_empty() && !authenticated && stored(view, &owner, Usage::Master)?.is_some() {
                return Err(Error::forbidden(
                    "cross-signing keys were uploaded meanwhile; authenticate to replace them",
                ));
            }
            Ok(new)
        };
        let write = move |new: Vec<(Usage, CrossSigningKey)>, txn: &mut WriteTxn<'_>| write(txn, &user, &new);
        self.core.write(job(decide, write)).await?;
        Ok(())
    }
}

impl SigningKeys {
    fn check(&self, view: View<'_>, user: &UserId) -> Result<(), Error> {
        let stored_master = stored(view, user, Usage::Master)?;
        let Some(master) = self.0.get(&Usage::Master).or(stored_master.as_ref()) else {
            let why = "there is no master key: upload it with the others";
            return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, why));
        };
        for (usage, key) in &self.0 {
            if *usage != Usage::Master {
                key.signed.verify(user, &master.id(), &master.public).map_err(|why| {
                    invalid_signature(format!("{} key is not signed by the master key: {why}", usage.as_str()))
                })?;
            }
            if view.contains(tables::DEVICES, (user, <&ruma::DeviceId>::from(key.public.as_str())))? {
                return Err(Error::forbidden(format!("the {} key has the name of a device", usage.as_str())));
            }
        }
        Ok(())
    }

    fn new_ones(&self, view: View<'_>, user: &UserId) -> Result<Vec<(Usage, CrossSigningKey)>, Error> {
        let mut new = Vec::new();
        for (usage, key) in &self.0 {
            let same = stored(view, user, *usage)?.is_some_and(|stored| stored.signed.same_content(&key.signed));
            if !same {
                new.push((*usage, key.clone()));
            }
        }
        Ok(new)
    }
}

/// A cross-signing key of a user, local or remote.
pub(crate) fn stored(view: View<'_>, user: &UserId, usage: Usage) -> Result<Option<CrossSigningKey>, StoreError> {
    let json = view.get(tables::CROSS_SIGNING_KEYS, (user, usage.as_str()))?;
    Ok(json.and_then(|json| CrossSigningKey::stored(&json)))
}

fn write(txn: &mut WriteTxn<'_>, user: &UserId, new: &[(Usage, CrossSigningKey)]) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    for (usage, key) in new {
        if let Some(earlier) = stored(txn.view(), user, *usage)? {
            forget_signatures(txn, user, &earlier)?;
        }
        txn.put(tables::CROSS_SIGNING_KEYS, (user, usage.as_str()), &key.signed.json())?;
    }
    lists::record_local_change(txn, user, None)
}

/// Forgets the signatures on a key that is replaced and those that it made on the user's own keys.
fn forget_signatures(txn: &mut WriteTxn<'_>, user: &UserId, earlier: &CrossSigningKey) -> Result<(), StoreError> {
    let made_by = earlier.id();
    let mut gone = Vec::new();
    for row in txn.view().scan(tables::KEY_SIGNATURES, (user,))? {
        let (key, _) = row?;
        if key.1 == earlier.public || (key.2 == *user && key.3 == made_by) {
            gone.push(key);
        }
    }
    for key in gone {
        txn.remove(tables::KEY_SIGNATURES, key)?;
    }
    Ok(())
}
