//! How a stream to a mailbox host starts: `hint16 || Noise_NK_25519_ChaChaPoly_SHA256`, as long as the opening of any other stream.
//!
//! ```text
//! anybody                                            host
//!   opening: hint 16 | noise message 1 (48)  --->     another hint, or not made with the host's key -> close without a byte
//!                                            <---     reply: noise message 2 with the host's nonce in it (80)
//!   frames, as on every stream               <-->
//! ```
//!
//! The hint is `SHA256("millpond/host/1" || host key)[..16]`: who does not know the key cannot find out that a host listens. The
//! dialer stays anonymous; what he may do he shows by stamps, tokens and signatures.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{EphemeralSeed, HINT_LEN, Hint, OPENING_LEN, Refused, StreamError, Transport, noise};
use crate::{
    host_key::{HostKey, HostSecret},
    labels,
    mailbox::HostNonce,
};

/// The dialing side between its opening and the host's reply.
pub struct HostDialer(snow::HandshakeState);

impl HostDialer {
    /// Starts a stream: the state to keep and the bytes to send first.
    ///
    /// # Errors
    /// Only if the Noise library refuses to work, which is a bug.
    pub fn open(host: &HostKey, seed: EphemeralSeed) -> Result<(Self, [u8; OPENING_LEN]), StreamError> {
        let hint = host_hint(host);
        let builder = noise::builder(PATTERN, seed)?;
        let mut state = builder
            .prologue(&prologue(&hint))
            .and_then(|builder| builder.remote_public_key(host.as_bytes()))
            .and_then(snow::Builder::build_initiator)
            .map_err(StreamError::handshake)?;
        let mut opening = [0_u8; OPENING_LEN];
        opening[..HINT_LEN].copy_from_slice(&hint.0);
        state.write_message(&[], &mut opening[HINT_LEN..]).map_err(StreamError::handshake)?;
        Ok((Self(state), opening))
    }

    /// Reads the host's reply: the open stream, and the nonce that requests on it are signed with.
    ///
    /// # Errors
    /// If somebody else answered, or the bytes were altered on the way.
    pub fn finish(mut self, reply: &[u8; HOST_REPLY_LEN]) -> Result<(Transport, HostNonce), StreamError> {
        let mut nonce = [0_u8; 32];
        self.0.read_message(reply, &mut nonce).map_err(StreamError::handshake)?;
        Ok((Transport::new(self.0)?, HostNonce(nonce)))
    }
}

/// A stream that the host has let in.
pub struct HostAccepted {
    /// What to send back before anything else.
    pub reply: [u8; HOST_REPLY_LEN],
    /// The open stream.
    pub transport: Transport,
}

/// Judges the opening of an incoming stream at a host; `nonce` is drawn for this stream.
///
/// # Errors
/// `Refused` for another hint and for bytes that were not made with the host's key alike.
pub fn accept_host(
    secret: &HostSecret,
    opening: &[u8; OPENING_LEN],
    nonce: &HostNonce,
    seed: EphemeralSeed,
) -> Result<HostAccepted, Refused> {
    let (hint, message) = opening.split_first_chunk::<HINT_LEN>().ok_or(Refused)?;
    let expected = host_hint(&secret.public());
    if !bool::from(expected.ct_eq(&Hint(*hint))) {
        return Err(Refused);
    }
    let own_key = secret.to_bytes();
    let mut state = noise::builder(PATTERN, seed)
        .map_err(|_| Refused)?
        .prologue(&prologue(&expected))
        .and_then(|builder| builder.local_private_key(own_key.as_slice()))
        .and_then(snow::Builder::build_responder)
        .map_err(|_| Refused)?;
    state.read_message(message, &mut []).map_err(|_| Refused)?;
    let mut reply = [0_u8; HOST_REPLY_LEN];
    state.write_message(&nonce.0, &mut reply).map_err(|_| Refused)?;
    let transport = Transport::new(state).map_err(|_| Refused)?;
    Ok(HostAccepted { reply, transport })
}

/// What a stream to this host starts with.
#[must_use]
pub fn host_hint(host: &HostKey) -> Hint {
    let digest = Sha256::new().chain_update(labels::HOST).chain_update(host.as_bytes()).finalize();
    let mut hint = [0_u8; HINT_LEN];
    hint.copy_from_slice(&digest[..HINT_LEN]);
    Hint(hint)
}

fn prologue(hint: &Hint) -> Vec<u8> {
    [labels::HOST, &hint.0].concat()
}

const PATTERN: &str = "Noise_NK_25519_ChaChaPoly_SHA256";
/// Bytes that the host answers with: an X25519 key, the nonce and its tag.
pub const HOST_REPLY_LEN: usize = 32 + 32 + 16;
