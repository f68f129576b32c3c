//! Key-form server names: 56 lower-case base32 characters and `.onion`, in the encoding of v3 onion addresses
//! (overlay.md, section 1). It is only a name; no onion service listens at it.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha3::{Digest, Sha3_256};

use crate::identity::{IdentityPublicKey, PublicKeyError};

/// The name of a node, which is its identity key in readable form.
#[derive(Clone)]
pub struct NodeName {
    text: Arc<str>,
    key: IdentityPublicKey,
}

impl NodeName {
    /// The name of the node with this identity.
    #[must_use]
    pub fn from_key(key: &IdentityPublicKey) -> Self {
        let mut raw = [0_u8; RAW_LEN];
        raw[..32].copy_from_slice(key.as_bytes());
        raw[32..34].copy_from_slice(&checksum(key.as_bytes()));
        raw[34] = VERSION;
        let text = format!("{}{SUFFIX}", BASE32_NOPAD.encode(&raw).to_ascii_lowercase());
        Self { text: text.into(), key: *key }
    }

    /// Reads a name; only the one spelling that `from_key` gives is accepted.
    ///
    /// # Errors
    /// If the text differs from a key-form name in anything: length, case, port, checksum, version, or a key that fails
    /// the strict checks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let encoded = text.strip_suffix(SUFFIX).ok_or(NameError::Form)?;
        if encoded.len() != ENCODED_LEN || !encoded.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')) {
            return Err(NameError::Form);
        }
        let raw = BASE32_NOPAD.decode(encoded.to_ascii_uppercase().as_bytes()).map_err(|_| NameError::Form)?;
        let (key, rest) = raw.split_first_chunk::<32>().ok_or(NameError::Form)?;
        if rest.last() != Some(&VERSION) {
            return Err(NameError::Version);
        }
        if rest[..2] != checksum(key) {
            return Err(NameError::Checksum);
        }
        let key = IdentityPublicKey::from_bytes(key).map_err(|source| NameError::Key { source })?;
        Ok(Self { text: text.into(), key })
    }

    /// The identity key that the name is.
    #[must_use]
    pub fn identity_key(&self) -> &IdentityPublicKey {
        &self.key
    }

    /// The name as Matrix writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for NodeName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NodeName {}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for NodeName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeName({})", self.text)
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a server name is not a key-form name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Wrong length, alphabet, case, suffix, or a port.
    #[error("a node name is exactly 56 lower-case base32 characters and .onion, without a port")]
    Form,
    /// The version byte is not 3.
    #[error("the node name has another version than 3")]
    Version,
    /// The checksum does not belong to the key: most likely a typing error.
    #[error("the checksum of the node name does not match; is it mistyped?")]
    Checksum,
    /// The key inside is not acceptable.
    #[error("the key in the node name is not acceptable: {source}")]
    Key {
        /// What is wrong with it.
        source: PublicKeyError,
    },
}

/// True if the server name (with or without a port) is in the `.onion` domain. Such a name is a key-form name that
/// `NodeName::parse` accepts, or it is refused: it never goes to the DNS (RFC 7686).
#[must_use]
pub fn is_onion_shaped(server_name: &str) -> bool {
    let host = server_name.split(':').next().unwrap_or_default().trim_end_matches('.');
    let last_label = host.rsplit('.').next().unwrap_or_default();
    last_label.eq_ignore_ascii_case("onion")
}

fn checksum(key: &[u8; 32]) -> [u8; 2] {
    let digest = Sha3_256::new().chain_update(b".onion checksum").chain_update(key).chain_update([VERSION]).finalize();
    [digest[0], digest[1]]
}

const SUFFIX: &str = ".onion";
/// Of the onion address encoding (rend-spec-v3, section 6).
const VERSION: u8 = 3;
/// Key, checksum, version.
const RAW_LEN: usize = 35;
/// 35 bytes are 56 base32 characters without padding.
const ENCODED_LEN: usize = 56;
