//! The secrets of a link and everything derived from them: HKDF-SHA256 with one label per purpose, no salt unless the
//! text names one (overlay.md, sections 2 and 6).

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    discovery::DiscoverySecret,
    envelope::EnvelopeSecret,
    labels,
    stream::{HintKey, StreamKeys, StreamPsk},
};

/// 32 secret bytes: wiped on drop, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret32(#[serde(with = "serde_bytes")] [u8; 32]);

impl Secret32 {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0_u8; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `HKDF(self, label)`: extract without salt, then expand to 32 bytes.
    pub(crate) fn derive(&self, label: &[u8]) -> Self {
        hkdf(None, &self.0, label)
    }

    /// `HKDF(self, label || which)`: one of many secrets with the same purpose.
    pub(crate) fn derive_one(&self, label: &[u8], which: &[u8]) -> Self {
        self.derive(&[label, which].concat())
    }
}

impl ConstantTimeEq for Secret32 {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The 32 random bytes of a contact link or an introduction, shared by the two sides before they have a link.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct S0(Secret32);

impl S0 {
    /// Draws a new secret.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret32::generate(rng))
    }

    /// Takes the bytes out of a parsed contact link or introduction.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::new(bytes))
    }

    /// The bytes, for the contact link. Whoever holds them can answer the offer.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Where the box lies at a host: `HKDF(s0, "millpond/box-id/1")`.
    #[must_use]
    pub fn box_id(&self) -> [u8; 32] {
        *self.0.derive(labels::BOX_ID).as_bytes()
    }

    /// What the box is sealed under at a host: `HKDF(s0, "millpond/box-key/1")`.
    #[must_use]
    pub fn box_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.derive(labels::BOX_KEY).as_bytes())
    }

    /// The pre-shared key of the HPKE answer: `HKDF(s0, "millpond/psk/1")`.
    #[must_use]
    pub fn answer_psk(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.derive(labels::PSK).as_bytes())
    }

    /// In the place of `LS[e]`, for the answer in a mailbox: `HKDF(s0, "millpond/answer-env/1")`.
    #[must_use]
    pub fn answer_envelope(&self) -> EnvelopeSecret {
        EnvelopeSecret::new(self.0.derive(labels::ANSWER_ENVELOPE))
    }

    /// The name that both sides give to the link which grows from this secret: `HKDF(s0, "millpond/link-id/1")[..16]`.
    #[must_use]
    pub fn link_id(&self) -> LinkId {
        let mut id = [0_u8; 16];
        id.copy_from_slice(&self.0.derive(labels::LINK_ID).as_bytes()[..16]);
        LinkId(id)
    }

    /// Finds the onion service of the other side as long as the offer can be answered: `HKDF(s0, "millpond/discovery/1")`.
    #[must_use]
    pub fn discovery(&self) -> DiscoverySecret {
        DiscoverySecret::new(self.0.derive(labels::DISCOVERY))
    }

    /// Keys of the streams before a link.
    #[must_use]
    pub fn stream_keys(&self) -> StreamKeys {
        stream_keys(&self.0)
    }
}

impl ConstantTimeEq for S0 {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// Names one link for as long as it lives; equal on both sides. Says nothing about `s0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(#[serde(with = "serde_bytes")] pub [u8; 16]);

/// The number of a link secret; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// `LS[e]`, the secret of a link in one epoch.
#[derive(Clone, Serialize, Deserialize)]
pub struct LinkSecret {
    epoch: Epoch,
    key: Secret32,
}

impl LinkSecret {
    /// `LS[0] = HKDF(salt = s0, ikm = exported, info = th)`, `exported` being `hpke.export("millpond/ls0/1", 32)`.
    #[must_use]
    pub fn first(s0: &S0, exported: &[u8; 32], th: &Transcript) -> Self {
        Self { epoch: Epoch(0), key: hkdf(Some(s0.as_bytes()), exported, &th.0) }
    }

    /// A secret of a known epoch, as a backup of test vectors or the ratchet gives it.
    #[must_use]
    pub fn from_bytes(epoch: Epoch, bytes: [u8; 32]) -> Self {
        Self { epoch, key: Secret32::new(bytes) }
    }

    /// `LS[e+1] = HKDF(salt = LS[e], ikm = ss_lo || ss_hi, info = "millpond/ls/1" || e+1 u32 BE || SHA256(ct_lo) || SHA256(ct_hi))`,
    /// lo and hi being the parts of the smaller and of the greater identity key.
    #[must_use]
    pub fn next(&self, lo: &StepPart<'_>, hi: &StepPart<'_>) -> Self {
        let epoch = Epoch(self.epoch.0.saturating_add(1));
        let key_material = Zeroizing::new([lo.ss.as_slice(), hi.ss].concat());
        let (lo, hi) = (Sha256::digest(lo.ct), Sha256::digest(hi.ct));
        let info = [labels::LINK_SECRET, &epoch.0.to_be_bytes(), lo.as_slice(), hi.as_slice()].concat();
        Self { epoch, key: hkdf(Some(self.key.as_bytes()), &key_material, &info) }
    }

    /// Which epoch it belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// `HKDF(LS[0], "millpond/rk/1")`: what a backup holds of a link.
    #[must_use]
    pub fn restore_key(&self) -> RestoreKey {
        RestoreKey(self.key.derive(labels::RESTORE_KEY))
    }

    /// Keys of the streams of this epoch.
    #[must_use]
    pub fn stream_keys(&self) -> StreamKeys {
        stream_keys(&self.key)
    }
}

/// `RK`: seals the HELLO by which a link is made anew, and opens nothing that was said before.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RestoreKey(pub(crate) Secret32);

impl RestoreKey {
    /// The key itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Finds the onion service of the other side as long as the link lives, after a restoration too: `HKDF(RK, "millpond/discovery/1")`.
    #[must_use]
    pub fn discovery(&self) -> DiscoverySecret {
        DiscoverySecret::new(self.0.derive(labels::DISCOVERY))
    }

    /// In the place of `LS[e]`, for a HELLO and its answer.
    #[must_use]
    pub fn envelope_secret(&self) -> EnvelopeSecret {
        EnvelopeSecret::new(self.0.clone())
    }

    /// `HKDF(RK, "millpond/hello-s0/1" || incarnation u64 BE)`: what `s0` is to a first contact.
    #[must_use]
    pub fn hello_s0(&self, incarnation: u64) -> S0 {
        S0(self.0.derive_one(labels::HELLO_S0, &incarnation.to_be_bytes()))
    }
}

/// One side's part in the step to the next link secret.
#[derive(Clone, Copy)]
pub struct StepPart<'a> {
    /// The secret in the ciphertext.
    pub ss: &'a [u8; 32],
    /// The X-Wing ciphertext.
    pub ct: &'a [u8],
}

/// `th = SHA256(box plaintext || enc || answer ciphertext)`: what both sides must have seen alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Transcript(#[serde(with = "serde_bytes")] pub [u8; 32]);

fn stream_keys(secret: &Secret32) -> StreamKeys {
    StreamKeys { psk: StreamPsk(secret.derive(labels::STREAM)), hint_key: HintKey(secret.derive(labels::HINT)) }
}

pub(crate) fn hkdf(salt: Option<&[u8]>, key_material: &[u8], info: &[u8]) -> Secret32 {
    let mut out = [0_u8; 32];
    Hkdf::<Sha256>::new(salt, key_material)
        .expand(info, &mut out)
        .expect("32 bytes are within HKDF-SHA256's limit of 8,160");
    Secret32::new(out)
}
