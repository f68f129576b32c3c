//! The keys by which an onion service is found that shows itself to contacts only (Tor calls it restricted discovery). Both ends of a link derive the
//! same X25519 key from what they share, so nothing is exchanged: the dialler opens the service's descriptor with the secret half, the service encrypts
//! the descriptor to the public one. A key says nothing of the link and opens nothing else.

use x25519_dalek::{PublicKey, StaticSecret};

use crate::secrets::Secret32;

/// With what one end of a link finds the other's onion service. Has no `Debug` output and is wiped on drop.
#[derive(Clone)]
pub struct DiscoverySecret(Secret32);

impl DiscoverySecret {
    pub(crate) fn new(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The X25519 secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The half that the service needs.
    #[must_use]
    pub fn public(&self) -> DiscoveryKey {
        DiscoveryKey(PublicKey::from(&StaticSecret::from(*self.0.as_bytes())).to_bytes())
    }
}

/// Who has the secret half may find the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiscoveryKey(pub [u8; 32]);

/// Says nothing: by it one could tell who may find whom.
impl std::fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiscoveryKey(..)")
    }
}
