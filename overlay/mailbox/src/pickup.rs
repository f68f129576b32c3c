//! First contact through hosts: the box that the offerer leaves there, and the answer that comes into its mailbox
//! (overlay.md, section 2). The messages are those of a first contact over a stream; only what carries them is another.
//!
//! ```text
//! box      at the host, under HKDF(s0, "millpond/box-id/1"), once readable:
//!          nonce 24 || XChaCha20-Poly1305(HKDF(s0, "millpond/box-key/1"), nonce, aad = box id, bundle | 0x80 | 0*), 73,728 bytes
//! answer   L envelope under an intro stamp of the box: HKDF(s0, "millpond/answer-env/1") in the place of LS[e],
//!          payload CBOR [answer, confirmation]
//! ```
//!
//! The offerer's confirmation comes as an ordinary frame, which shows `th`: the answerer's session is there before the link is
//! established, and takes nothing from a frame that does not show it.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use rand_core::CryptoRng;
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::{
    contact_link::ContactLink,
    envelope::{self, EnvelopeError, Kind},
    frame::Grant,
    link::{Link, Phase, Role},
    message::Message,
    name::NodeName,
    secrets::S0,
    session::{Arrived, Context, OutEvent, Session, SessionError},
    stamp::Class,
};

/// Where a box lies at a host. Random bytes to everybody who has not the contact link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoxId(pub [u8; 32]);

/// Says nothing: boxes stay out of logs.
impl std::fmt::Debug for BoxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxId(..)")
    }
}

/// Where the box of this contact link lies.
#[must_use]
pub fn box_id(contact: &ContactLink) -> BoxId {
    BoxId(contact.s0().box_id())
}

/// Where the box lies that a contact link was pasted for, until it is opened.
#[must_use]
pub fn wanted_box(link: &Link) -> Option<BoxId> {
    let waits = link.role() == Role::Answerer && link.phase() == Phase::Added;
    link.s0().filter(|_| waits).map(|s0| BoxId(s0.box_id()))
}

/// The box of an offer that nobody has answered, to be left at hosts: its id and its bytes, as long as an L envelope. Make it once
/// and keep it: two different boxes of one offer would make two links. `None`: there is no such offer any more.
#[must_use]
pub fn seal_box(link: &Link, rng: &mut impl CryptoRng) -> Option<(BoxId, Vec<u8>)> {
    let plaintext = link.box_plaintext().filter(|_| link.role() == Role::Offerer && link.phase() == Phase::Offered)?;
    let s0 = link.s0()?;
    let mut nonce = [0_u8; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    let length = Class::L.body_len();
    if plaintext.len() + NONCE_LEN + TAG_LEN + 1 > length {
        return None;
    }
    let mut bytes = [nonce.as_slice(), plaintext, &[PAD]].concat();
    bytes.resize(length - TAG_LEN, 0);
    let id = s0.box_id();
    let tag = cipher(s0)
        .encrypt_inout_detached(&XNonce::from(nonce), &id, (&mut bytes[NONCE_LEN..]).into())
        .expect("a box is far below the cipher's limit");
    bytes.extend_from_slice(&tag);
    Some((BoxId(id), bytes))
}

/// Opens the box of a contact link that the user pasted: the message to feed to `Link::handle`.
///
/// # Errors
/// If it is not the box of this contact link.
pub fn open_box(link: &Link, bytes: &[u8]) -> Result<Message, EnvelopeError> {
    let s0 = link.s0().ok_or(EnvelopeError::DoesNotOpen)?;
    if bytes.len() != Class::L.body_len() {
        return Err(EnvelopeError::Length);
    }
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(EnvelopeError::Length)?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(EnvelopeError::Length)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    cipher(s0)
        .decrypt_inout_detached(&XNonce::from(*nonce), &s0.box_id(), plain.as_mut_slice().into(), &(*tag).into())
        .map_err(|_| EnvelopeError::DoesNotOpen)?;
    let end = plain.iter().rposition(|byte| *byte != 0).filter(|end| plain[*end] == PAD);
    end.map(|end| Message::Box(plain[..end].to_vec())).ok_or(EnvelopeError::Form)
}

/// The answerer, after `Link::handle` took the box: the session of the link, and its first envelope, which carries answer and
/// confirmation under an intro stamp. Persist link and session in one transaction.
///
/// # Errors
/// If the link has not answered, has a session already, or the box brought no stamp.
pub fn answer(
    link: &mut Link,
    me: &NodeName,
    ctx: &Context<'_>,
    rng: &mut impl CryptoRng,
) -> Result<(Session, Vec<OutEvent>), SessionError> {
    let stamps = intro_stamps(link);
    if link.role() != Role::Answerer || !stamps.iter().any(|grant| grant.batch.class() == Class::L) {
        return Err(if stamps.is_empty() { SessionError::NoStamp } else { SessionError::NotReady });
    }
    let (mut answer, mut confirm) = (None, None);
    for message in link.opening(false) {
        match message {
            Message::Answer(body) => answer = Some(ByteBuf::from(body)),
            Message::Confirm(body) => confirm = Some(ByteBuf::from(body)),
            _ => {}
        }
    }
    let (Some(answer), Some(confirm)) = (answer, confirm) else { return Err(SessionError::NotReady) };
    let salt = link.s0().map(S0::answer_envelope).ok_or(SessionError::NotReady)?;
    let payload = serde_cbor::to_vec(&(answer, confirm)).expect("writing CBOR to memory does not fail");
    let detached = link.detach().ok_or(SessionError::NotReady)?;
    Session::answer(detached, ctx, me, salt, payload, stamps, rng)
}

/// The offerer: what came into the mailbox under an intro stamp of this offer. The messages are to be fed to `Link::handle` one
/// after the other; a second, different answer raises the alarm there, as over a stream. Ask here first as long as the offer's
/// secret lives, whether there is a session or not.
///
/// # Errors
/// If it is no answer to this offer.
pub fn open_answer(link: &Link, arrived: &Arrived) -> Result<[Message; 2], EnvelopeError> {
    let s0 = link.s0().filter(|_| link.role() == Role::Offerer).ok_or(EnvelopeError::DoesNotOpen)?;
    let secret = s0.answer_envelope();
    let (_, opened) = envelope::open([&secret], &arrived.seed, &arrived.header, &arrived.body)?;
    if opened.kind != Kind::Answer {
        return Err(EnvelopeError::Form);
    }
    let (answer, confirm): (ByteBuf, ByteBuf) =
        serde_cbor::from_slice(&opened.payload).map_err(|_| EnvelopeError::Form)?;
    // The bounds of first-contact messages hold here too.
    let read = |message: Message| Message::from_bytes(&message.to_bytes()).map_err(|_| EnvelopeError::Form);
    Ok([read(Message::Answer(answer.into_vec()))?, read(Message::Confirm(confirm.into_vec()))?])
}

/// The stamps in the other side's bundle. What is none is left out.
#[must_use]
pub fn intro_stamps(link: &Link) -> Vec<Grant> {
    link.peer_stamps().iter().filter_map(|bytes| serde_cbor::from_slice(bytes).ok()).collect()
}

/// Stamps as they stand in a bundle, for `Own::stamps`: in a box one L stamp for each host, in an answer as many as a contact has.
///
/// # Panics
/// Never: writing CBOR to memory does not fail.
#[must_use]
pub fn bundle_stamps(grants: &[Grant]) -> Vec<Vec<u8>> {
    let one = |grant: &Grant| serde_cbor::to_vec(grant).expect("writing CBOR to memory does not fail");
    grants.iter().map(one).collect()
}

fn cipher(s0: &S0) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*s0.box_key()).into())
}

/// Bytes.
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Ends the bundle; zeros follow.
const PAD: u8 = 0x80;
