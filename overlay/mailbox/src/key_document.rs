//! The key document of a key-form server: `/_matrix/key/v2/server` with the identity part (overlay.md, section 1).
//!
//! It is a standard Matrix document, signed by the signing keys that it lists, so that any Matrix verifier accepts it.
//! `org.millpond.identity {key, generation, sig, intro_key, server_name}` makes it independent of where it came from: `sig` is the
//! identity key's signature over `"millpond/key-document/1" || canonical JSON` without `signatures`, `unsigned` and `sig`,
//! and the identity key is the server name. So any member of a room may carry it.
//!
//! `server_name` in the identity part is the name of a node that has one in the DNS; a claim, which HTTPS proves ([`prove_named`]).
//!
//! `intro_key` is the X-Wing key to which introductions are sealed. It stands here, under `sig`, because a node that has no
//! link with another one still holds the other's key document: every room member carries those of all members. `sig` is
//! its certificate; a second one would say the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    canonical_json::{self, JsonError},
    identity::{IdentityPublicKey, PublicKeyError},
    labels,
    name::{NameError, NodeName},
    signing_key::{Generation, KeyId, VerifyKey},
    time::UnixMillis,
    xwing::XWingPublic,
};

mod build;
mod fields;
mod named;

pub use build::DocumentKeys;
pub use named::{build_named, prove_named};

/// A key document that has passed every check, with the bytes that did.
#[derive(Clone, Debug)]
pub struct KeyDocument {
    bytes: Vec<u8>,
    name: NodeName,
    generation: Generation,
    verify_keys: BTreeMap<KeyId, VerifyKey>,
    old_verify_keys: BTreeMap<KeyId, OldVerifyKey>,
    valid_until: UnixMillis,
    intro_key: Option<XWingPublic>,
    claimed_name: Option<String>,
    digest: [u8; 32],
}

/// A signing key that signs no more, but did until some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldVerifyKey {
    /// The key.
    pub key: VerifyKey,
    /// When it stopped to be used.
    pub expired: UnixMillis,
}

/// What a newly received document is worth beside the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Higher generation, or the first one seen of this node: keep the new one.
    Newer,
    /// The same content.
    Same,
    /// Lower generation: keep the held one.
    Older,
    /// The same generation with other content. Keep the held one and tell the user: somebody has the identity key, or the
    /// node was restored badly.
    Alarm,
    /// The documents are of two different nodes; the caller mixed something up.
    OtherNode,
}

impl KeyDocument {
    /// Checks a document from anywhere.
    ///
    /// # Errors
    /// If anything in it is not exactly as this module describes.
    pub fn verify(bytes: &[u8]) -> Result<Self, KeyDocumentError> {
        if bytes.len() > MAX_LEN {
            return Err(KeyDocumentError::TooLong { length: bytes.len() });
        }
        let value = canonical_json::parse(bytes).map_err(json)?;
        let object = value.as_object().ok_or(KeyDocumentError::field("the document"))?;
        let name = NodeName::parse(fields::text(object, "server_name")?)
            .map_err(|source| KeyDocumentError::Name { source })?;
        let identity = fields::object(object, IDENTITY)?;
        check_identity(object, identity, name.identity_key())?;

        let verify_keys = fields::verify_keys(object)?;
        check_matrix_signatures(object, name.as_str(), &verify_keys)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            generation: generation(identity)?,
            old_verify_keys: fields::old_verify_keys(object, &verify_keys)?,
            valid_until: UnixMillis(fields::integer(object, "valid_until_ts")?),
            intro_key: fields::intro_key(identity)?,
            claimed_name: fields::claimed_name(identity)?,
            digest: Sha256::digest(identity_payload(object)?).into(),
            verify_keys,
            name,
        })
    }

    /// `verify`, and the document must be of this node.
    ///
    /// # Errors
    /// As `verify`, or if the document is of another node.
    pub fn verify_for(name: &NodeName, bytes: &[u8]) -> Result<Self, KeyDocumentError> {
        let document = Self::verify(bytes)?;
        if document.name != *name {
            return Err(KeyDocumentError::OtherNode { found: document.name });
        }
        Ok(document)
    }

    /// What this document is worth to somebody who holds `held`.
    #[must_use]
    pub fn against(&self, held: Option<&KeyDocument>) -> Verdict {
        let Some(held) = held else {
            return Verdict::Newer;
        };
        if held.name != self.name {
            return Verdict::OtherNode;
        }
        match self.generation.cmp(&held.generation) {
            std::cmp::Ordering::Greater => Verdict::Newer,
            std::cmp::Ordering::Less => Verdict::Older,
            std::cmp::Ordering::Equal if self.digest == held.digest => Verdict::Same,
            std::cmp::Ordering::Equal => Verdict::Alarm,
        }
    }

    /// The document as it was received: this is what is stored, served and carried.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whose document it is.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Its number; the highest one holds.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The keys that sign now. There may be several: one per device.
    #[must_use]
    pub fn verify_keys(&self) -> &BTreeMap<KeyId, VerifyKey> {
        &self.verify_keys
    }

    /// The keys that signed earlier events.
    #[must_use]
    pub fn old_verify_keys(&self) -> &BTreeMap<KeyId, OldVerifyKey> {
        &self.old_verify_keys
    }

    /// `valid_until_ts`, for standard verifiers. Between nodes a document holds until it is superseded.
    #[must_use]
    pub fn valid_until(&self) -> UnixMillis {
        self.valid_until
    }

    /// What introductions to this node are sealed to; without it none can be.
    #[must_use]
    pub fn intro_key(&self) -> Option<&XWingPublic> {
        self.intro_key.as_ref()
    }

    /// The name in the DNS that the node says its users have. It is believed when [`prove_named`] gives this node for the
    /// document that HTTPS brings from there.
    #[must_use]
    pub fn claimed_name(&self) -> Option<&str> {
        self.claimed_name.as_deref()
    }
}

/// Why a key document is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyDocumentError {
    /// More bytes than any honest document has.
    #[error("the key document has {length} bytes, more than {MAX_LEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not strict JSON.
    #[error("the key document cannot be read: {source}")]
    Json {
        /// What is wrong with it.
        source: JsonError,
    },
    /// A field is missing or has a wrong form.
    #[error("{field} is missing in the key document or has a wrong form")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// The server name is no key-form name.
    #[error("the server name of the key document is refused: {source}")]
    Name {
        /// What is wrong with it.
        source: NameError,
    },
    /// A key inside is not acceptable.
    #[error("the key {id} in the key document is refused: {source}")]
    Key {
        /// Its id.
        id: String,
        /// What is wrong with it.
        source: PublicKeyError,
    },
    /// The identity part shows another key than the name.
    #[error("the identity key of the key document is not the one in its server name")]
    IdentityMismatch,
    /// The identity key did not sign this content.
    #[error("the identity signature of the key document does not verify")]
    IdentitySignature,
    /// A listed key did not sign this content, or a key that is not listed signed it.
    #[error("the signature by {id} under the key document does not verify")]
    Signature {
        /// The key's id.
        id: String,
    },
    /// A valid document, but of another node than the one asked for.
    #[error("the key document is of {found}, not of the node that was asked for")]
    OtherNode {
        /// Whose it is.
        found: NodeName,
    },
}

impl KeyDocumentError {
    fn field(field: &'static str) -> Self {
        Self::Field { field }
    }
}

fn json(source: JsonError) -> KeyDocumentError {
    KeyDocumentError::Json { source }
}

fn check_identity(
    document: &Map<String, Value>,
    identity: &Map<String, Value>,
    key: &IdentityPublicKey,
) -> Result<(), KeyDocumentError> {
    if fields::base64_exact::<32>(identity, "key")? != *key.as_bytes() {
        return Err(KeyDocumentError::IdentityMismatch);
    }
    let signature = fields::base64_exact::<64>(identity, "sig")?;
    if !key.verifies(labels::KEY_DOCUMENT, &identity_payload(document)?, &signature) {
        return Err(KeyDocumentError::IdentitySignature);
    }
    Ok(())
}

/// Every signature under the node's own name must be by a listed key and hold; there must be one at least. Signatures of
/// others (notaries) say nothing here.
fn check_matrix_signatures(
    document: &Map<String, Value>,
    name: &str,
    verify_keys: &BTreeMap<KeyId, VerifyKey>,
) -> Result<(), KeyDocumentError> {
    let payload = matrix_payload(document)?;
    let all = fields::object(document, "signatures")?;
    let own = all.get(name).and_then(Value::as_object).ok_or(KeyDocumentError::field("signatures"))?;
    if own.is_empty() {
        return Err(KeyDocumentError::field("signatures"));
    }
    for id in own.keys() {
        let refused = || KeyDocumentError::Signature { id: id.clone() };
        let key = KeyId::parse(id).ok().and_then(|id| verify_keys.get(&id)).ok_or_else(refused)?;
        let signature = fields::base64_exact::<64>(own, id).map_err(|_| refused())?;
        if !key.verifies(&payload, &signature) {
            return Err(refused());
        }
    }
    Ok(())
}

/// What the identity key signs, without the label.
fn identity_payload(document: &Map<String, Value>) -> Result<Vec<u8>, KeyDocumentError> {
    let mut signed = unsigned_part(document);
    if let Some(identity) = signed.get_mut(IDENTITY).and_then(Value::as_object_mut) {
        identity.remove("sig");
    }
    canonical_json::encode(&signed).map_err(json)
}

/// What the signing keys sign, by the Matrix rules.
fn matrix_payload(document: &Map<String, Value>) -> Result<Vec<u8>, KeyDocumentError> {
    canonical_json::encode(&unsigned_part(document)).map_err(json)
}

fn unsigned_part(document: &Map<String, Value>) -> Map<String, Value> {
    let mut signed = document.clone();
    signed.remove("signatures");
    signed.remove("unsigned");
    signed
}

fn generation(identity: &Map<String, Value>) -> Result<Generation, KeyDocumentError> {
    let generation = Generation(fields::integer(identity, "generation")?);
    if generation < Generation::FIRST {
        return Err(KeyDocumentError::field("generation"));
    }
    Ok(generation)
}

const IDENTITY: &str = "org.millpond.identity";
/// Bytes. A document with 16 current and 64 old keys stays under this.
pub const MAX_LEN: usize = 32_768;
