//! The envelope: what lies at a host, in one of two sizes, and opens with a link's secret and its stamp's seed only
//! (overlay.md, section 4).
//!
//! ```text
//! k    = HKDF(salt = LS[e], ikm = seed_i, info = "millpond/env/1" || header)
//! body = nonce 24 || XChaCha20-Poly1305(k, nonce, aad = header, kind u8 | frame_no u32 BE | payload | 0x80 | 0*)
//! ```
//!
//! The nonce is random, so that a node which was set back and uses a stamp twice does not repeat it. The receiver knows the
//! contact from the serial and tries the link's secrets, newest first. Before a link, and for its restoration, other secrets
//! stand in the place of `LS[e]`: see `pickup` and `session`.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    labels,
    secrets::{LinkSecret, Secret32, hkdf},
    stamp::{Class, StampHeader, StampSeed},
};

/// What salts the key of an envelope: `LS[e]`, or what stands in for it.
#[derive(Clone)]
pub struct EnvelopeSecret(pub(crate) Secret32);

impl EnvelopeSecret {
    pub(crate) fn new(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl From<&LinkSecret> for EnvelopeSecret {
    fn from(secret: &LinkSecret) -> Self {
        Self(Secret32::new(*secret.as_bytes()))
    }
}

/// What is inside an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An Olm message with a numbered frame.
    Frame,
    /// An Olm message with a frame that has no number and is never acknowledged.
    AckOnly,
    /// The answer of a first contact and the answerer's confirmation.
    Answer,
    /// The offer of a first contact over again, after a loss.
    Hello,
    /// Its answer.
    HelloAnswer,
}

impl Kind {
    fn as_byte(self) -> u8 {
        match self {
            Self::Frame => 1,
            Self::AckOnly => 2,
            Self::Answer => 3,
            Self::Hello => 4,
            Self::HelloAnswer => 5,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Frame, Self::AckOnly, Self::Answer, Self::Hello, Self::HelloAnswer]
            .into_iter()
            .find(|kind| kind.as_byte() == byte)
    }
}

/// An envelope that was opened. Nothing is known yet of the payload but that the holder of stamp and secret put it there.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the payload is.
    pub kind: Kind,
    /// The number of the frame; 0 where the kind has none.
    pub frame_no: u32,
    /// The payload without its padding.
    pub payload: Vec<u8>,
}

/// How many bytes of payload fit an envelope of this class.
#[must_use]
pub const fn capacity(class: Class) -> usize {
    class.body_len() - NONCE_LEN - TAG_LEN - PREFIX_LEN - 1
}

/// Seals a payload into a body of exactly the size of the header's class. `None`: it is longer than `capacity`.
#[must_use]
pub fn seal(
    secret: &EnvelopeSecret,
    seed: &StampSeed,
    header: &StampHeader,
    kind: Kind,
    frame_no: u32,
    payload: &[u8],
    rng: &mut impl CryptoRng,
) -> Option<Vec<u8>> {
    let class = header.class();
    if payload.len() > capacity(class) {
        return None;
    }
    let mut nonce = [0_u8; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    let mut body = Vec::with_capacity(class.body_len());
    body.extend_from_slice(&nonce);
    body.push(kind.as_byte());
    body.extend_from_slice(&frame_no.to_be_bytes());
    body.extend_from_slice(payload);
    body.push(PAD);
    body.resize(class.body_len() - TAG_LEN, 0);
    let tag = cipher(secret, seed, header)
        .encrypt_inout_detached(&XNonce::from(nonce), header.as_bytes(), (&mut body[NONCE_LEN..]).into())
        .expect("a body is far below the cipher's limit");
    body.extend_from_slice(&tag);
    Some(body)
}

/// Opens a body with the first of the secrets that fits, and says which. At most `MAX_SECRETS` are tried.
///
/// # Errors
/// If none fits, or what is inside has no form that this version knows.
pub fn open<'a>(
    secrets: impl IntoIterator<Item = &'a EnvelopeSecret>,
    seed: &StampSeed,
    header: &StampHeader,
    body: &[u8],
) -> Result<(usize, Opened), EnvelopeError> {
    let (nonce, sealed) = body.split_first_chunk::<NONCE_LEN>().ok_or(EnvelopeError::Length)?;
    if body.len() != header.class().body_len() {
        return Err(EnvelopeError::Length);
    }
    let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(EnvelopeError::Length)?;
    let nonce = XNonce::from(*nonce);
    for (index, secret) in secrets.into_iter().take(MAX_SECRETS).enumerate() {
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = cipher(secret, seed, header).decrypt_inout_detached(
            &nonce,
            header.as_bytes(),
            plain.as_mut_slice().into(),
            &(*tag).into(),
        );
        if opened.is_ok() {
            return parse(&plain).map(|opened| (index, opened)).ok_or(EnvelopeError::Form);
        }
    }
    Err(EnvelopeError::DoesNotOpen)
}

/// Why an envelope is refused. If host and stamp are right, it is the contact's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the size that its header says.
    #[error("the body has not the size of its class")]
    Length,
    /// No secret of the link fits.
    #[error("the envelope does not open with any secret of the link")]
    DoesNotOpen,
    /// The padding or the kind is unknown.
    #[error("the envelope opens, but has no known form")]
    Form,
}

fn cipher(secret: &EnvelopeSecret, seed: &StampSeed, header: &StampHeader) -> XChaCha20Poly1305 {
    let info = [labels::ENVELOPE, header.as_bytes().as_slice()].concat();
    let key = hkdf(Some(secret.0.as_bytes()), seed.as_bytes(), &info);
    XChaCha20Poly1305::new(key.as_bytes().into())
}

fn parse(plain: &[u8]) -> Option<Opened> {
    let (kind, rest) = plain.split_first()?;
    let (frame_no, rest) = rest.split_first_chunk::<4>()?;
    let end = rest.iter().rposition(|byte| *byte != 0)?;
    if rest[end] != PAD {
        return None;
    }
    let kind = Kind::from_byte(*kind)?;
    Some(Opened { kind, frame_no: u32::from_be_bytes(*frame_no), payload: rest[..end].to_vec() })
}

/// Bytes.
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Bytes of kind and frame number.
const PREFIX_LEN: usize = 5;
/// Ends the payload; zeros follow.
const PAD: u8 = 0x80;
/// Six epochs of the line in use, six of an earlier one that only receives, and the key for restoration.
pub const MAX_SECRETS: usize = 13;
