//! The answer to a box: HPKE (X-Wing, HKDF-SHA256, ChaCha20Poly1305) in PSK mode, and the first link secret that falls out
//! of it (overlay.md, section 2).
//!
//! ```text
//! psk     = HKDF(s0, "millpond/psk/1")        psk id = HKDF(s0, "millpond/box-id/1")
//! answer  = enc (1,120) || ciphertext         info "millpond/answer/1", aad SHA256(box plaintext)
//! th      = SHA256(box plaintext || enc || ciphertext)
//! LS[0]   = HKDF(salt = s0, ikm = export("millpond/ls0/1", 32), info = th)
//! ```

use hpke::{Deserializable, OpModeR, OpModeS, PskBundle, Serializable};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    labels,
    secrets::{LinkSecret, S0, Transcript},
    xwing::{Kem, XWingPublic, XWingSecret},
};

type Kdf = hpke::kdf::HkdfSha256;
type Aead = hpke::aead::ChaCha20Poly1305;
type Enc = <Kem as hpke::Kem>::EncappedKey;

/// The answerer's half of the exchange.
pub struct SealedAnswer {
    /// `enc || ciphertext`, to be sent.
    pub bytes: Vec<u8>,
    /// What the confirmation has to contain.
    pub th: Transcript,
    /// `LS[0]`.
    pub secret: LinkSecret,
}

/// The offerer's half of the exchange.
pub struct OpenedAnswer {
    /// The answerer's bundle, not yet checked.
    pub plaintext: Vec<u8>,
    /// What the confirmation has to contain.
    pub th: Transcript,
    /// `LS[0]`.
    pub secret: LinkSecret,
}

/// The answer does not open: another `s0`, another box, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed message does not open with this node's keys")]
pub struct DoesNotOpen;

/// Seals our bundle to the key in the box.
pub fn seal_answer(
    s0: &S0,
    box_plaintext: &[u8],
    to: &XWingPublic,
    bundle: &[u8],
    rng: &mut impl CryptoRng,
) -> SealedAnswer {
    let (psk, psk_id) = (s0.answer_psk(), s0.box_id());
    let mode = OpModeS::Psk(psk_bundle(psk.as_slice(), &psk_id));
    let (enc, mut context) = hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(&mode, to.hpke(), labels::ANSWER, rng)
        .expect("X-Wing encapsulation to a checked key does not fail");
    let ciphertext = context
        .seal(bundle, &Sha256::digest(box_plaintext))
        .expect("the first message of a context is within its limit");
    let mut exported = Zeroizing::new([0_u8; 32]);
    context.export(labels::LS0, exported.as_mut_slice()).expect("32 bytes are within the exporter's limit");

    let bytes = [enc.to_bytes().as_slice(), &ciphertext].concat();
    let th = transcript(box_plaintext, &bytes);
    SealedAnswer { bytes, th, secret: LinkSecret::first(s0, &exported, &th) }
}

/// Opens an answer to our box.
///
/// # Errors
/// If it was not made for this box by somebody who holds `s0`.
pub fn open_answer(
    s0: &S0,
    box_plaintext: &[u8],
    key: &XWingSecret,
    answer: &[u8],
) -> Result<OpenedAnswer, DoesNotOpen> {
    let (enc, ciphertext) = split(answer)?;
    let (psk, psk_id) = (s0.answer_psk(), s0.box_id());
    let mode = OpModeR::Psk(psk_bundle(psk.as_slice(), &psk_id));
    let mut context =
        hpke::setup_receiver::<Aead, Kdf, Kem>(&mode, &key.hpke(), &enc, labels::ANSWER).map_err(|_| DoesNotOpen)?;
    let plaintext = context.open(ciphertext, &Sha256::digest(box_plaintext)).map_err(|_| DoesNotOpen)?;
    let mut exported = Zeroizing::new([0_u8; 32]);
    context.export(labels::LS0, exported.as_mut_slice()).expect("32 bytes are within the exporter's limit");

    let th = transcript(box_plaintext, answer);
    Ok(OpenedAnswer { plaintext, th, secret: LinkSecret::first(s0, &exported, &th) })
}

/// HPKE in base mode: `enc || ciphertext`, for introductions.
pub(crate) fn seal_base(
    to: &XWingPublic,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let (enc, mut context) = hpke::setup_sender_with_rng::<Aead, Kdf, Kem>(&OpModeS::Base, to.hpke(), info, rng)
        .expect("X-Wing encapsulation to a checked key does not fail");
    let ciphertext = context.seal(plaintext, aad).expect("the first message of a context is within its limit");
    [enc.to_bytes().as_slice(), &ciphertext].concat()
}

/// Opens what `seal_base` made.
pub(crate) fn open_base(
    key: &XWingSecret,
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
    let (enc, ciphertext) = split(sealed)?;
    let mut context =
        hpke::setup_receiver::<Aead, Kdf, Kem>(&OpModeR::Base, &key.hpke(), &enc, info).map_err(|_| DoesNotOpen)?;
    context.open(ciphertext, aad).map(Zeroizing::new).map_err(|_| DoesNotOpen)
}

fn split(sealed: &[u8]) -> Result<(Enc, &[u8]), DoesNotOpen> {
    let (enc, ciphertext) = sealed.split_at_checked(ENC_LEN).ok_or(DoesNotOpen)?;
    let enc = Enc::from_bytes(enc).map_err(|_| DoesNotOpen)?;
    Ok((enc, ciphertext))
}

fn psk_bundle<'a>(psk: &'a [u8], id: &'a [u8]) -> PskBundle<'a> {
    PskBundle::new(psk, id).expect("neither psk nor psk id is empty")
}

fn transcript(box_plaintext: &[u8], answer: &[u8]) -> Transcript {
    Transcript(Sha256::new().chain_update(box_plaintext).chain_update(answer).finalize().into())
}

/// Bytes of an X-Wing ciphertext.
pub(crate) const ENC_LEN: usize = 1_120;
