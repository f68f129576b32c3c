//! The static X25519 key of a mailbox host. It names the host: stamps are signed for it, and only its holder can answer a
//! stream that was opened towards it (`Noise_NK`).

use std::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secrets::Secret32;

/// The public half, as links and stamps carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostKey(#[serde(with = "serde_bytes")] [u8; 32]);

impl HostKey {
    /// Takes the key out of a way or a stamp. Any 32 bytes are a key of X25519.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Says nothing: which hosts a node uses stays out of logs.
impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey(..)")
    }
}

/// The secret half, which never leaves the host. Has no `Debug` output and is wiped on drop.
#[derive(Clone)]
pub struct HostSecret(Secret32);

impl HostSecret {
    /// Makes the key of a new host.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret32::generate(rng))
    }

    /// Restores a key from the host's key file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::new(bytes))
    }

    /// The 32 bytes, for the key file.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.as_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> HostKey {
        let secret = x25519_dalek::StaticSecret::from(*self.0.as_bytes());
        HostKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}
