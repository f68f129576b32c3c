//! The Noise handshake of a stream, one state per side. Both messages have a fixed length, so nothing is parsed.

use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice, NoiseParams},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::{EphemeralSeed, HINT_LEN, Hint, HintTable, StreamError, StreamKeys, Transport};
use crate::{labels, link::Role, secrets::Secret32, time::UtcDay};

/// `HKDF(LS[e], "millpond/stream/1")`.
#[derive(Clone)]
pub struct StreamPsk(pub(crate) Secret32);

/// The dialing side between its opening and the reply.
pub struct Dialer(HandshakeState);

impl Dialer {
    /// Starts a stream: the state to keep and the bytes to send first. `role` is our own role in the link.
    ///
    /// # Errors
    /// Only if the Noise library refuses to work, which is a bug.
    pub fn open(
        keys: &StreamKeys,
        role: Role,
        day: UtcDay,
        seed: EphemeralSeed,
    ) -> Result<(Self, [u8; OPENING_LEN]), StreamError> {
        let hint = keys.hint(role, day);
        let mut state = handshake(&hint, &keys.psk, seed, Side::Dialer)?;
        let mut opening = [0_u8; OPENING_LEN];
        opening[..HINT_LEN].copy_from_slice(&hint.0);
        let written = state.write_message(&[], &mut opening[HINT_LEN..]).map_err(StreamError::handshake)?;
        debug_assert_eq!(HINT_LEN + written, OPENING_LEN);
        Ok((Self(state), opening))
    }

    /// Reads the listener's reply.
    ///
    /// # Errors
    /// If the listener does not hold the psk, or the bytes were altered on the way.
    pub fn finish(mut self, reply: &[u8; REPLY_LEN]) -> Result<Transport, StreamError> {
        self.0.read_message(reply, &mut []).map_err(StreamError::handshake)?;
        Transport::new(self.0)
    }
}

/// A stream that the listener has let in.
pub struct Accepted<T> {
    /// Whose stream it is.
    pub owner: T,
    /// What to send back before anything else.
    pub reply: [u8; REPLY_LEN],
    /// The open stream.
    pub transport: Transport,
}

/// The stream is to be closed without a byte in answer, whatever the reason was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream does not belong to any link: close it without an answer")]
pub struct Refused;

/// Judges the opening of an incoming stream.
///
/// # Errors
/// `Refused` for an unknown hint, a wrong psk and damaged bytes alike: a stranger must not be able to tell them apart.
pub fn accept<T: Clone>(
    table: &HintTable<T>,
    opening: &[u8; OPENING_LEN],
    seed: EphemeralSeed,
) -> Result<Accepted<T>, Refused> {
    let (hint, message) = opening.split_first_chunk::<HINT_LEN>().ok_or(Refused)?;
    let hint = Hint(*hint);
    let (owner, keys) = table.find(&hint).ok_or(Refused)?;
    let mut state = handshake(&hint, &keys.psk, seed, Side::Listener).map_err(|_| Refused)?;
    state.read_message(message, &mut []).map_err(|_| Refused)?;
    let mut reply = [0_u8; REPLY_LEN];
    let written = state.write_message(&[], &mut reply).map_err(|_| Refused)?;
    debug_assert_eq!(written, REPLY_LEN);
    let transport = Transport::new(state).map_err(|_| Refused)?;
    Ok(Accepted { owner: owner.clone(), reply, transport })
}

enum Side {
    Dialer,
    Listener,
}

/// The prologue binds the hint, so that a psk reached under one hint is not accepted under another.
fn handshake(hint: &Hint, psk: &StreamPsk, seed: EphemeralSeed, side: Side) -> Result<HandshakeState, StreamError> {
    let prologue = [labels::STREAM, &hint.0].concat();
    let builder = builder(PATTERN, seed)?
        .prologue(&prologue)
        .and_then(|builder| builder.psk(0, psk.0.as_bytes()))
        .map_err(StreamError::handshake)?;
    match side {
        Side::Dialer => builder.build_initiator(),
        Side::Listener => builder.build_responder(),
    }
    .map_err(StreamError::handshake)
}

/// A handshake of this pattern that draws its ephemeral key from the seed.
pub(super) fn builder<'k>(pattern: &str, seed: EphemeralSeed) -> Result<Builder<'k>, StreamError> {
    let params: NoiseParams = pattern.parse().map_err(StreamError::handshake)?;
    Ok(Builder::with_resolver(params, Box::new(SeededResolver(seed))))
}

/// The library's primitives, but with the randomness that the caller gave.
struct SeededResolver(EphemeralSeed);

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw(Some(self.0.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// In NNpsk0 and in NK a side draws randomness exactly once, for its ephemeral key; a second draw is an error, never a repetition.
struct OneDraw(Option<Zeroizing<[u8; 32]>>);

impl Random for OneDraw {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(seed) if dest.len() == seed.len() => {
                dest.copy_from_slice(seed.as_slice());
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// An X25519 key and the tag over an empty payload.
const HANDSHAKE_LEN: usize = 32 + 16;
/// Bytes that the dialer sends first.
pub const OPENING_LEN: usize = HINT_LEN + HANDSHAKE_LEN;
/// Bytes that the listener answers with.
pub const REPLY_LEN: usize = HANDSHAKE_LEN;
