//! The identity key: an Ed25519 key made at first run that names the node and signs nothing but key documents and
//! certificates, each behind its own label (overlay.md, section 1).

use std::fmt;

use ed25519_dalek::{Signer, VerifyingKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{labels, name::NodeName};

/// The secret half of a node's identity. Has no `Debug` output and is wiped on drop.
#[derive(Clone)]
pub struct IdentityKey(ed25519_dalek::SigningKey);

impl IdentityKey {
    /// Makes a new identity.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// Restores an identity from its 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The 32-byte seed, for the key file.
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> IdentityPublicKey {
        IdentityPublicKey(self.0.verifying_key().to_bytes())
    }

    /// The key-form server name of this identity.
    #[must_use]
    pub fn name(&self) -> NodeName {
        NodeName::from_key(&self.public())
    }

    /// Signs `label || message`.
    pub(crate) fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(&[label, message].concat()).to_bytes()
    }
}

/// The public half of a node's identity: a canonical, torsion-free point that is not of small order. Ordered by its bytes.
/// Kept in its encoding, because names are everywhere and a decoded point has 160 bytes more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityPublicKey([u8; 32]);

impl IdentityPublicKey {
    /// Accepts exactly one encoding per key.
    ///
    /// # Errors
    /// If the bytes are no point, not the canonical encoding of one, or a point with a small-order part.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        strict_point(bytes).map(|_| Self(*bytes))
    }

    /// The canonical encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a contact link carries in place of the key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::new().chain_update(labels::FINGERPRINT).chain_update(self.as_bytes()).finalize();
        let mut short = [0_u8; 16];
        short.copy_from_slice(&digest[..16]);
        Fingerprint(short)
    }

    /// Checks a signature over `label || message` by the strict rules.
    pub(crate) fn verifies(&self, label: &[u8], message: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0).expect("the constructors admit points only");
        verifies_strict(&key, &[label, message].concat(), signature)
    }
}

impl fmt::Debug for IdentityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityPublicKey({})", NodeName::from_key(self))
    }
}

/// The first 16 bytes of `SHA256("millpond/fingerprint/1" || key)`: finding a second key with the same value costs 2^128
/// tries, as much as breaking the key, and it keeps contact links short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// Why 32 bytes are not an acceptable Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// No point of the curve has this encoding.
    #[error("the bytes are not a point of the Ed25519 curve")]
    NotAPoint,
    /// The point has another, canonical encoding.
    #[error("the point is not in its canonical encoding")]
    NotCanonical,
    /// One of the eight points whose signatures prove nothing.
    #[error("the point has small order")]
    SmallOrder,
    /// The point has a small-order part, so that several keys would verify the same signatures.
    #[error("the point is not torsion-free")]
    Torsion,
}

/// The checks that every Ed25519 public key from outside passes, identity and signing keys alike.
pub(crate) fn strict_point(bytes: &[u8; 32]) -> Result<VerifyingKey, PublicKeyError> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::NotAPoint)?;
    let point = key.to_edwards();
    if point.compress().as_bytes() != bytes {
        return Err(PublicKeyError::NotCanonical);
    }
    if point.is_small_order() {
        return Err(PublicKeyError::SmallOrder);
    }
    if !point.is_torsion_free() {
        return Err(PublicKeyError::Torsion);
    }
    Ok(key)
}

/// `verify_strict` over exactly these bytes.
pub(crate) fn verifies_strict(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}
