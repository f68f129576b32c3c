//! X-Wing keys (X25519 and ML-KEM-768 together), as HPKE's KEM and for the link-secret ratchet.

use std::fmt;

use hpke::{Deserializable, Kem as _, Serializable};
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secrets::Secret32;

pub(crate) type Kem = hpke::kem::XWing;
type HpkePublic = <Kem as hpke::Kem>::PublicKey;
type HpkeSecret = <Kem as hpke::Kem>::PrivateKey;

/// A secret X-Wing key: 32 bytes, from which both component keys are expanded.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct XWingSecret(Secret32);

impl XWingSecret {
    /// Makes a new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret32::generate(rng))
    }

    /// Restores a key from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::new(bytes))
    }

    /// The 32 bytes, for the key file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> XWingPublic {
        XWingPublic(Kem::sk_to_pk(&self.hpke()))
    }

    /// The secret that was encapsulated to this key. `None`: not a ciphertext of X-Wing.
    pub(crate) fn decapsulate(&self, ct: &[u8]) -> Option<Secret32> {
        let ct = <Kem as hpke::Kem>::EncappedKey::from_bytes(ct).ok()?;
        Kem::decap(&self.hpke(), None, &ct).ok().map(secret)
    }

    pub(crate) fn hpke(&self) -> HpkeSecret {
        HpkeSecret::from_bytes(self.0.as_bytes()).expect("an X-Wing secret key is any 32 bytes")
    }
}

/// A public X-Wing key whose ML-KEM part has passed the modulus check.
#[derive(Clone, PartialEq, Eq)]
pub struct XWingPublic(HpkePublic);

impl XWingPublic {
    /// Reads the 1,216 bytes of a key.
    ///
    /// # Errors
    /// If the length is another, or the ML-KEM part is not in reduced form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, XWingKeyError> {
        HpkePublic::from_bytes(bytes).map(Self).map_err(|_| XWingKeyError)
    }

    /// The 1,216 bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// A fresh secret for the holder of the key, and the 1,120 bytes to send.
    pub(crate) fn encapsulate(&self, rng: &mut impl CryptoRng) -> (Secret32, Vec<u8>) {
        let (shared, ct) =
            Kem::encap_with_rng(&self.0, None, rng).expect("X-Wing encapsulation to a checked key does not fail");
        (secret(shared), ct.to_bytes().to_vec())
    }

    pub(crate) fn hpke(&self) -> &HpkePublic {
        &self.0
    }
}

impl fmt::Debug for XWingPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XWingPublic(..)")
    }
}

impl Serialize for XWingPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for XWingPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// The bytes are no X-Wing public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X-Wing public key: it takes 1,216 bytes with a reduced ML-KEM-768 part")]
pub struct XWingKeyError;

fn secret(shared: hpke::kem::SharedSecret<Kem>) -> Secret32 {
    let mut bytes = [0_u8; 32];
    bytes.copy_from_slice(&shared.0);
    Secret32::new(bytes)
}
