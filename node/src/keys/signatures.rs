//! Signatures that users put on keys: on their own devices and master key, and on the master keys of others.
//! Spec: `POST /keys/signatures/upload`.

use std::collections::BTreeMap;

use millpond_store::{Error as StoreError, Topic, View, WriteTxn, job, tables};
use ruma::{
    DeviceId, OwnedUserId, UserId,
    api::{
        client::keys::upload_signatures::v3::{Failure, Request, Response},
        federation::keys::get_keys::v1,
    },
};
use serde_json::json;

use super::{
    Keys,
    cross_signing::stored,
    lists,
    remote::{cross_signing, patience},
    signed::{CrossSigningKey, Signed, Usage},
};
use crate::Error;

type Failures = BTreeMap<OwnedUserId, BTreeMap<String, Failure>>;
/// Master keys of remote users that we keep nothing of.
type Strangers = BTreeMap<OwnedUserId, CrossSigningKey>;

impl Keys {
    /// Takes signatures by `user`; each that does not hold is named in `failures`, the others are kept.
    /// Safe to drop; what was handed to the writer is still done.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn upload_signatures(&self, user: &UserId, request: Request) -> Result<Response, Error> {
        let uploads = parse(&request)?;
        let strangers = self.strangers(&uploads).await?;
        let user = user.to_owned();
        let signer = user.clone();
        let decide =
            move |view: View<'_>| -> Result<Plan, Error> { Ok(Plan::make(view, &signer, &uploads, &strangers)?) };
        let write = move |plan: Plan, txn: &mut WriteTxn<'_>| plan.write(txn, &user);
        let (failures, _) = self.core.write(job(decide, write)).await?;
        let mut response = Response::new();
        response.failures = failures;
        Ok(response)
    }

    /// Asks for the master keys of remote users whom nobody here shares a room with; who cannot be asked is left out.
    async fn strangers(&self, uploads: &[Upload]) -> Result<Strangers, Error> {
        let mut unknown = Vec::new();
        {
            let snapshot = self.core.snapshot()?;
            for upload in uploads.iter().filter(|upload| !self.core.identity().is_our_user(&upload.owner)) {
                if stored(snapshot.view(), &upload.owner, Usage::Master)?.is_none() {
                    unknown.push(upload.owner.clone());
                }
            }
        }
        let mut found = Strangers::new();
        for user in unknown {
            let asked = BTreeMap::from([(user.clone(), Vec::new())]);
            let answer = self.within(patience(None), self.remote.query(user.server_name(), asked)).await;
            let Ok(v1::Response { mut master_keys, .. }) = answer else { continue };
            let key = cross_signing(&user, master_keys.remove(&user), None).remove(&Usage::Master);
            found.extend(key.map(|key| (user, key)));
        }
        Ok(found)
    }
}

/// One signed key.
struct Upload {
    owner: OwnedUserId,
    /// A device id or the public key of a master key.
    id: String,
    signed: Signed,
}

fn parse(request: &Request) -> Result<Vec<Upload>, Error> {
    let mut uploads = Vec::new();
    for (owner, keys) in &request.signed_keys {
        for (id, key) in keys {
            uploads.push(Upload { owner: owner.clone(), id: id.to_owned(), signed: Signed::parse(key.get())? });
        }
    }
    Ok(uploads)
}

/// Signatures that hold: owner, id, signing key, signature, and whether they are on a device.
struct Good {
    owner: OwnedUserId,
    id: String,
    key_id: String,
    signature: String,
    on_device: bool,
}

struct Plan {
    good: Vec<Good>,
    failures: Failures,
}

impl Plan {
    fn make(view: View<'_>, signer: &UserId, uploads: &[Upload], strangers: &Strangers) -> Result<Self, StoreError> {
        let mut plan = Self { good: Vec::new(), failures: Failures::new() };
        for upload in uploads {
            match upload.check(view, signer, strangers)? {
                Ok(good) => plan.good.extend(good),
                Err(why) => {
                    plan.failures.entry(upload.owner.clone()).or_default().insert(upload.id.clone(), why.into());
                }
            }
        }
        Ok(plan)
    }

    fn write(self, txn: &mut WriteTxn<'_>, signer: &UserId) -> Result<Failures, StoreError> {
        let mut others = Vec::new();
        let mut own_devices = Vec::new();
        let mut own_master = false;
        for Good { owner, id, key_id, signature, on_device } in self.good {
            let row = (&owner, &id, signer, &key_id);
            if txn.view().get(tables::KEY_SIGNATURES, row)?.as_ref() == Some(&signature) {
                continue;
            }
            txn.put(tables::KEY_SIGNATURES, row, &signature)?;
            match () {
                () if owner != *signer => others.push(owner),
                () if on_device => own_devices.push(id),
                () => own_master = true,
            }
        }
        own_devices.dedup();
        for device in own_devices {
            lists::record_local_change(txn, signer, Some(<&DeviceId>::from(device.as_str())))?;
        }
        if own_master {
            lists::record_local_change(txn, signer, None)?;
        }
        for owner in others {
            let position = txn.next_position().0;
            txn.put(tables::SIGNATURE_LOG, (signer, position), &owner)?;
            txn.touch(Topic::User(signer.to_owned()));
        }
        Ok(self.failures)
    }
}

/// Why a signed key is not taken.
enum Refusal {
    NotFound(&'static str),
    Invalid(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (code, why) = match refusal {
            Refusal::NotFound(why) => ("M_NOT_FOUND", why.to_owned()),
            Refusal::Invalid(why) => ("M_INVALID_SIGNATURE", why),
        };
        // ruma gives no other way to make one.
        serde_json::from_value(json!({ "errcode": code, "error": why })).expect("a failure is a code and a text")
    }
}

impl Upload {
    /// The signatures that hold, or why none is taken.
    fn check(
        &self,
        view: View<'_>,
        signer: &UserId,
        strangers: &Strangers,
    ) -> Result<Result<Vec<Good>, Refusal>, StoreError> {
        let master = stored(view, &self.owner, Usage::Master)?;
        let master = master.as_ref().or_else(|| strangers.get(&self.owner)).filter(|key| key.public == self.id);
        let device = match self.owner == *signer {
            true => view.get(tables::DEVICE_KEYS, (&self.owner, <&DeviceId>::from(self.id.as_str())))?,
            false => None,
        };
        let (known, signing_keys) = match (master, device) {
            (Some(master), _) if self.owner == *signer => (master.signed.clone(), device_keys_of(view, signer)?),
            (Some(master), _) => (master.signed.clone(), signing_key(view, signer, Usage::UserSigning)?),
            (None, Some(json)) => (Signed::stored(&json), signing_key(view, signer, Usage::SelfSigning)?),
            (None, None) => return Ok(Err(Refusal::NotFound("no such device or master key"))),
        };
        if !known.same_content(&self.signed) {
            return Ok(Err(Refusal::Invalid("what is signed is not the key that we know".to_owned())));
        }
        Ok(self.verify(signer, &signing_keys, master.is_none()))
    }

    fn verify(&self, signer: &UserId, keys: &BTreeMap<String, String>, on_device: bool) -> Result<Vec<Good>, Refusal> {
        let mut good = Vec::new();
        for (key_id, signature) in self.signed.signatures_of(signer) {
            // The object may carry signatures by keys that have nothing to say here (a device's own, for one).
            let Some(public) = keys.get(&key_id) else { continue };
            self.signed.verify(signer, &key_id, public).map_err(Refusal::Invalid)?;
            good.push(Good { owner: self.owner.clone(), id: self.id.clone(), key_id, signature, on_device });
        }
        if good.is_empty() {
            return Err(Refusal::Invalid("there is no signature by a key that may sign this one".to_owned()));
        }
        Ok(good)
    }
}

/// Key id to public key of one cross-signing key.
fn signing_key(view: View<'_>, user: &UserId, usage: Usage) -> Result<BTreeMap<String, String>, StoreError> {
    Ok(stored(view, user, usage)?.map(|key| (key.id(), key.public)).into_iter().collect())
}

/// Key id to public key of a user's devices.
fn device_keys_of(view: View<'_>, user: &UserId) -> Result<BTreeMap<String, String>, StoreError> {
    let mut keys = BTreeMap::new();
    for row in view.scan(tables::DEVICE_KEYS, (user,))? {
        let ((_, device), json) = row?;
        let id = format!("ed25519:{device}");
        if let Some(public) = Signed::stored(&json).key(&id) {
            keys.insert(id, public.to_owned());
        }
    }
    Ok(keys)
}
