//! Reading single fields of a key document; each error names the field.

use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;
use serde_json::{Map, Value};

use super::{KeyDocumentError, OldVerifyKey};
use crate::{
    signing_key::{KeyId, VerifyKey},
    time::UnixMillis,
    xwing::XWingPublic,
};

pub(super) fn text<'a>(object: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, KeyDocumentError> {
    object.get(field).and_then(Value::as_str).ok_or(KeyDocumentError::field(field))
}

pub(super) fn object<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<&'a Map<String, Value>, KeyDocumentError> {
    object.get(field).and_then(Value::as_object).ok_or(KeyDocumentError::field(field))
}

pub(super) fn integer(object: &Map<String, Value>, field: &'static str) -> Result<u64, KeyDocumentError> {
    object.get(field).and_then(Value::as_u64).ok_or(KeyDocumentError::field(field))
}

/// Unpadded standard base64 of exactly N bytes.
pub(super) fn base64_exact<const N: usize>(
    object: &Map<String, Value>,
    field: &str,
) -> Result<[u8; N], KeyDocumentError> {
    let wrong = || KeyDocumentError::field("a base64 value");
    let text = object.get(field).and_then(Value::as_str).ok_or_else(wrong)?;
    let bytes = BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| wrong())?;
    <[u8; N]>::try_from(bytes.as_slice()).map_err(|_| wrong())
}

pub(super) fn verify_keys(document: &Map<String, Value>) -> Result<BTreeMap<KeyId, VerifyKey>, KeyDocumentError> {
    let listed = object(document, "verify_keys")?;
    if listed.is_empty() || listed.len() > MAX_CURRENT_KEYS {
        return Err(KeyDocumentError::field("verify_keys"));
    }
    listed.iter().map(|(id, entry)| verify_key("verify_keys", id, entry)).collect()
}

/// Absent and empty mean the same. A key is current or old, never both.
pub(super) fn old_verify_keys(
    document: &Map<String, Value>,
    current: &BTreeMap<KeyId, VerifyKey>,
) -> Result<BTreeMap<KeyId, OldVerifyKey>, KeyDocumentError> {
    const FIELD: &str = "old_verify_keys";
    if !document.contains_key(FIELD) {
        return Ok(BTreeMap::new());
    }
    let listed = object(document, FIELD)?;
    if listed.len() > MAX_OLD_KEYS {
        return Err(KeyDocumentError::field(FIELD));
    }
    let mut keys = BTreeMap::new();
    for (id, entry) in listed {
        let (id, key) = verify_key(FIELD, id, entry)?;
        if current.contains_key(&id) {
            return Err(KeyDocumentError::field(FIELD));
        }
        let expired = entry.as_object().ok_or(KeyDocumentError::field(FIELD))?;
        let expired = UnixMillis(integer(expired, "expired_ts")?);
        keys.insert(id, OldVerifyKey { key, expired });
    }
    Ok(keys)
}

pub(super) fn intro_key(identity: &Map<String, Value>) -> Result<Option<XWingPublic>, KeyDocumentError> {
    let wrong = KeyDocumentError::Field { field: "intro_key" };
    let Some(value) = identity.get("intro_key") else {
        return Ok(None);
    };
    let Some(bytes) = value.as_str().and_then(|text| BASE64_NOPAD.decode(text.as_bytes()).ok()) else {
        return Err(wrong);
    };
    XWingPublic::from_bytes(&bytes).map(Some).map_err(|_| wrong)
}

/// The name in the DNS that a node says it has. Whether it is one is seen when the name is looked for.
pub(super) fn claimed_name(identity: &Map<String, Value>) -> Result<Option<String>, KeyDocumentError> {
    let wrong = KeyDocumentError::Field { field: "server_name of the identity part" };
    let Some(value) = identity.get("server_name") else {
        return Ok(None);
    };
    let is_name =
        |text: &&str| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    value.as_str().filter(is_name).map(|text| Some(text.to_owned())).ok_or(wrong)
}

fn verify_key(field: &'static str, id: &str, entry: &Value) -> Result<(KeyId, VerifyKey), KeyDocumentError> {
    let parsed = KeyId::parse(id).map_err(|_| KeyDocumentError::field(field))?;
    let entry = entry.as_object().ok_or(KeyDocumentError::field(field))?;
    let bytes = base64_exact::<32>(entry, "key")?;
    let key = VerifyKey::from_bytes(&bytes).map_err(|source| KeyDocumentError::Key { id: id.to_owned(), source })?;
    Ok((parsed, key))
}

/// One per device of the user.
const MAX_CURRENT_KEYS: usize = 16;
const MAX_OLD_KEYS: usize = 64;
/// Bytes of a server name (Matrix appendices, "Server Name": 230, with room for a port).
const MAX_NAME: usize = 255;
