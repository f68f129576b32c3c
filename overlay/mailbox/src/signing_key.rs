//! Signing keys: they sign events and requests, one per device, and are listed in the key document. The identity key
//! never does their work (overlay.md, section 1).

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, VerifyingKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::identity::{PublicKeyError, strict_point};

/// Counts the key documents of a node: each change of content takes the next number, the highest one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// Of the first document of a node.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The secret half of a server signing key. Has no `Debug` output and is wiped on drop.
#[derive(Clone)]
pub struct SigningKey {
    generation: Generation,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a new key, first listed in the document of this generation.
    pub fn generate(generation: Generation, rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(generation, &seed)
    }

    /// Restores a key from its 32-byte seed.
    #[must_use]
    pub fn from_seed(generation: Generation, seed: &[u8; 32]) -> Self {
        Self { generation, key: ed25519_dalek::SigningKey::from_bytes(seed) }
    }

    /// The 32-byte seed, for the key file.
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The generation of the document that listed the key first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The public half.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.key.verifying_key())
    }

    /// `ed25519:` and 8 characters, derived from the public key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.verify_key().key_id()
    }

    /// Signs exactly these bytes; Matrix gives its signatures no label.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// The public half of a server signing key, checked like an identity key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyKey(VerifyingKey);

impl VerifyKey {
    /// Accepts exactly one encoding per key.
    ///
    /// # Errors
    /// If the bytes are no point, not the canonical encoding of one, or a point with a small-order part.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        strict_point(bytes).map(Self)
    }

    /// The canonical encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The id under which our nodes list this key: 40 bits of its hash tell a node's own keys apart.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let digest = Sha256::digest(self.as_bytes());
        KeyId(format!("{ALGORITHM}{}", BASE32_NOPAD.encode(&digest[..5]).to_ascii_lowercase()))
    }

    /// Checks a signature over exactly these bytes by the strict rules.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        crate::identity::verifies_strict(&self.0, message, signature)
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyKey({})", self.key_id())
    }
}

/// A Matrix key id of the algorithm `ed25519`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Reads `ed25519:` and 1 to 64 of `[A-Za-z0-9_]`.
    ///
    /// # Errors
    /// If the algorithm is another or the rest has other characters.
    pub fn parse(text: &str) -> Result<Self, KeyIdError> {
        let version = text.strip_prefix(ALGORITHM).ok_or(KeyIdError)?;
        let fits = (1..=MAX_VERSION_LEN).contains(&version.len());
        if !fits || !version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(KeyIdError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as Matrix writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no id of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is ed25519: followed by 1 to 64 letters, digits or underscores")]
pub struct KeyIdError;

const ALGORITHM: &str = "ed25519:";
/// Characters; Matrix sets no limit, ours are 8.
const MAX_VERSION_LEN: usize = 64;
