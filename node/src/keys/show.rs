//! Keys as they are shown: with the signatures that came later, and only those that the viewer may see.

use std::collections::BTreeMap;

use millpond_store::{Error, View, tables};
use ruma::{
    OwnedDeviceId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};

use super::signed::{Signed, Usage};

/// Who looks: a user, or (none) another server.
pub(crate) type Viewer<'a> = Option<&'a UserId>;

/// The keys of a local user's devices; an empty `filter` asks for all.
pub(crate) fn local_devices(
    view: View<'_>,
    owner: &UserId,
    filter: &[OwnedDeviceId],
    viewer: Viewer<'_>,
) -> Result<BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>, Error> {
    let mut shown = BTreeMap::new();
    for row in view.scan(tables::DEVICE_KEYS, (owner,))? {
        let ((_, device), json) = row?;
        if !filter.is_empty() && !filter.contains(&device) {
            continue;
        }
        let name = view.get(tables::DEVICES, (owner, &device))?.and_then(|device| device.display_name);
        let keys = sign(view, Signed::stored(&json), owner, device.as_str(), viewer)?;
        shown.insert(device, finish(keys, name.as_deref()));
    }
    Ok(shown)
}

/// The keys of a remote user's devices, as kept.
pub(crate) fn remote_devices(
    view: View<'_>,
    owner: &UserId,
    filter: &[OwnedDeviceId],
) -> Result<BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>, Error> {
    let mut shown = BTreeMap::new();
    for row in view.scan(tables::REMOTE_DEVICES, (owner,))? {
        let ((_, device), row) = row?;
        if filter.is_empty() || filter.contains(&device) {
            shown.insert(device, finish(Signed::stored(&row.keys), row.display_name.as_deref()));
        }
    }
    Ok(shown)
}

/// A user's cross-signing key.
pub(crate) fn cross_signing(
    view: View<'_>,
    owner: &UserId,
    usage: Usage,
    viewer: Viewer<'_>,
) -> Result<Option<Raw<CrossSigningKey>>, Error> {
    let Some(key) = super::cross_signing::stored(view, owner, usage)? else { return Ok(None) };
    let signed = sign(view, key.signed, owner, &key.public, viewer)?;
    Ok(Some(raw(&signed)))
}

/// Adds the signatures by the owner and by the viewer: nobody learns whom a third user trusts.
pub(crate) fn sign(
    view: View<'_>,
    mut key: Signed,
    owner: &UserId,
    id: &str,
    viewer: Viewer<'_>,
) -> Result<Signed, Error> {
    let may_see = |signer: &UserId| signer == owner || viewer == Some(signer);
    key.retain_signers(|signer| signer == owner.as_str() || viewer.is_some_and(|viewer| signer == viewer.as_str()));
    for row in view.scan(tables::KEY_SIGNATURES, (owner, id))? {
        let ((_, _, signer, key_id), signature) = row?;
        if may_see(&signer) {
            key.add_signature(&signer, &key_id, &signature);
        }
    }
    Ok(key)
}

fn finish(mut keys: Signed, name: Option<&str>) -> Raw<DeviceKeys> {
    keys.set_display_name(name);
    raw(&keys)
}

/// As ruma's types want it.
pub(crate) fn raw<T>(signed: &Signed) -> Raw<T> {
    Raw::from_json_string(signed.json()).expect("a JSON object serialises to JSON")
}
