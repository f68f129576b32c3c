//! Making our own key document. The result is a function of its arguments: the same keys at the same generation give the
//! same content, so a node can build it at each start without raising an alarm at others.

use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;
use serde_json::{Map, Value, json};

use super::{IDENTITY, KeyDocument, KeyDocumentError, OldVerifyKey, identity_payload, matrix_payload};
use crate::{
    identity::IdentityKey,
    labels,
    signing_key::{Generation, KeyId, SigningKey},
    xwing::XWingPublic,
};

/// What goes into a key document. Any change of it takes the next generation.
pub struct DocumentKeys<'a> {
    /// The number of the document.
    pub generation: Generation,
    /// The keys that sign now; each of them signs the document.
    pub current: &'a [&'a SigningKey],
    /// The keys that signed earlier events.
    pub old: &'a BTreeMap<KeyId, OldVerifyKey>,
    /// What introductions are sealed to.
    pub intro_key: Option<&'a XWingPublic>,
}

impl KeyDocument {
    /// Builds and signs the document of this identity.
    ///
    /// # Errors
    /// If the result would not pass `verify`: no current key, too many keys, generation 0.
    pub fn build(identity: &IdentityKey, keys: &DocumentKeys<'_>) -> Result<Self, KeyDocumentError> {
        let bytes = signed(identity, keys, (identity.name().as_str(), None), VALID_UNTIL_SUPERSEDED_MS)?;
        Self::verify(&bytes)
    }

    /// As [`KeyDocument::build`], for a node with a name in the DNS: contacts learn here which name to look for, and believe
    /// it when the key document at that name shows this identity.
    ///
    /// # Errors
    /// Also if the name is too long to be one.
    pub fn build_claiming(
        identity: &IdentityKey,
        keys: &DocumentKeys<'_>,
        dns_name: &str,
    ) -> Result<Self, KeyDocumentError> {
        let bytes = signed(identity, keys, (identity.name().as_str(), Some(dns_name)), VALID_UNTIL_SUPERSEDED_MS)?;
        Self::verify(&bytes)
    }
}

/// The document under any server name, and the name that it claims beside it.
pub(super) fn signed(
    identity: &IdentityKey,
    keys: &DocumentKeys<'_>,
    (server_name, claimed): (&str, Option<&str>),
    valid_until_ms: u64,
) -> Result<Vec<u8>, KeyDocumentError> {
    let mut document = Map::new();
    document.insert("server_name".into(), server_name.into());
    document.insert("valid_until_ts".into(), valid_until_ms.into());
    document.insert("verify_keys".into(), current_keys(keys));
    document.insert("old_verify_keys".into(), old_keys(keys));
    document.insert(IDENTITY.into(), identity_part(identity, keys, claimed));

    // 1. The identity key signs the content, 2. the signing keys sign content and identity part.
    let signature = identity.sign(labels::KEY_DOCUMENT, &identity_payload(&document)?);
    document[IDENTITY]["sig"] = BASE64_NOPAD.encode(&signature).into();
    let payload = matrix_payload(&document)?;
    let own: Map<String, Value> = keys
        .current
        .iter()
        .map(|key| (key.key_id().as_str().to_owned(), BASE64_NOPAD.encode(&key.sign(&payload)).into()))
        .collect();
    document.insert("signatures".into(), json!({ server_name: own }));
    crate::canonical_json::encode(&document).map_err(super::json)
}

fn identity_part(identity: &IdentityKey, keys: &DocumentKeys<'_>, claimed: Option<&str>) -> Value {
    let mut part = json!({
        "key": BASE64_NOPAD.encode(identity.public().as_bytes()),
        "generation": keys.generation.0,
    });
    if let Some(key) = keys.intro_key {
        part["intro_key"] = BASE64_NOPAD.encode(&key.to_bytes()).into();
    }
    if let Some(name) = claimed {
        part["server_name"] = name.into();
    }
    part
}

fn current_keys(keys: &DocumentKeys<'_>) -> Value {
    keys.current
        .iter()
        .map(|key| {
            let entry = json!({ "key": BASE64_NOPAD.encode(key.verify_key().as_bytes()) });
            (key.key_id().as_str().to_owned(), entry)
        })
        .collect()
}

fn old_keys(keys: &DocumentKeys<'_>) -> Value {
    keys.old
        .iter()
        .map(|(id, old)| {
            let key = BASE64_NOPAD.encode(old.key.as_bytes());
            (id.as_str().to_owned(), json!({ "key": key, "expired_ts": old.expired.0 }))
        })
        .collect()
}

/// 2100-01-01T00:00:00Z in ms. Our documents hold until superseded, and a value that moved with the clock would make the
/// same generation differ; standard verifiers cap it at seven days from now by themselves.
const VALID_UNTIL_SUPERSEDED_MS: u64 = 4_102_444_800_000;
