//! How every stream between nodes starts: `hint16 || Noise_NNpsk0_25519_ChaChaPoly_SHA256` (overlay.md, section 6).
//!
//! ```text
//! dialer                                             listener
//!   opening: hint 16 | noise message 1 (48)  --->     HintTable: unknown hint -> close without a byte
//!                                            <---     reply: noise message 2 (48)
//!   frames: length u16 BE | noise message    <-->     (an empty frame ends the direction)
//! ```
//!
//! The hint names the link and the epoch to whoever shares the secret and nobody else; the psk proves it. Which secret
//! the hint came from also says what the stream is for: `s0` carries first-contact messages only, `LS[e]` requests.

use rand_core::CryptoRng;

mod hint;
mod host;
mod noise;
mod transport;

pub use hint::{HINT_LEN, Hint, HintKey, HintTable, StreamKeys};
pub use host::{HOST_REPLY_LEN, HostAccepted, HostDialer, accept_host, host_hint};
pub(crate) use noise::StreamPsk;
pub use noise::{Accepted, Dialer, OPENING_LEN, REPLY_LEN, Refused, accept};
pub use transport::{Frame, MAX_FRAME_PLAINTEXT, StreamError, Transport};

/// The 32 random bytes that a handshake's ephemeral key is made from. Never used twice.
pub struct EphemeralSeed(pub(crate) zeroize::Zeroizing<[u8; 32]>);

impl EphemeralSeed {
    /// Draws a seed.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = zeroize::Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self(seed)
    }

    /// Takes bytes that were drawn elsewhere.
    #[must_use]
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(seed))
    }
}
