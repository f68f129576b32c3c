//! Introductions: members of one room without a link get one through a member that both are linked to
//! (overlay.md, section 2). `intro{for, room_id, sealed}`; the carrier sees the two names and a size.
//!
//! ```text
//! sealed    = HPKE base (X-Wing) to the intro key in the key document of `for`,
//!             info "millpond/intro/1", aad = for || 0 || room id
//! plaintext = 0 | s0 (32) | expiry in s (u64 BE) | box      the offer
//!           | 1 | link id (16) | first-contact message      everything after it, both ways
//! ```
//!
//! The offer brings its own `s0`, so that the first contact is the same as with a contact link; only the two ends can
//! read it. Nobody authenticates the offer itself: that its sender is who the box says is proven, as always, by the Olm
//! message. Who may be answered is the caller's check: both are joined to the room, and within the limits.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use zeroize::Zeroizing;

use crate::{
    bundle::{Bundle, BundleError, MAX_BUNDLE_LEN},
    exchange::{DoesNotOpen, open_base, seal_base},
    key_document::KeyDocument,
    labels,
    message::{Message, MessageError},
    name::NodeName,
    secrets::{LinkId, S0},
    time::UnixMillis,
    xwing::XWingSecret,
};

/// A sealed message on its way through a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    to: NodeName,
    room_id: String,
    sealed: Vec<u8>,
}

/// What an introduction contains.
pub enum IntroBody {
    /// A member offers a link.
    Offer(IntroOffer),
    /// A further message of a first contact that an introduction started.
    Message {
        /// Of which link.
        link: LinkId,
        /// The message.
        message: Message,
    },
}

/// An offer whose bundle has passed every check.
#[derive(Clone)]
pub struct IntroOffer {
    s0: S0,
    expiry: UnixMillis,
    box_plaintext: Vec<u8>,
}

impl IntroOffer {
    pub(crate) fn from_parts(s0: S0, expiry: UnixMillis, box_plaintext: Vec<u8>) -> Self {
        Self { s0, expiry, box_plaintext }
    }

    /// Who offers, by its own word: proven only when the link is established.
    ///
    /// # Errors
    /// If the bundle in the box does not hold.
    pub fn peer(&self) -> Result<NodeName, BundleError> {
        Bundle::open(&self.box_plaintext).map(|bundle| bundle.name().clone())
    }

    /// The offer as the message that a link takes: for an offer that comes again after its link was made.
    #[must_use]
    pub fn to_message(&self) -> Message {
        Message::Box(self.box_plaintext.clone())
    }

    /// Of which link the messages that follow are. If there is a row under this name, the offer came before: feed
    /// `to_message` to that link, and do not answer a second time.
    #[must_use]
    pub fn link_id(&self) -> LinkId {
        self.s0.link_id()
    }

    /// When the offer ends.
    #[must_use]
    pub fn expiry(&self) -> UnixMillis {
        self.expiry
    }

    pub(crate) fn s0(&self) -> &S0 {
        &self.s0
    }

    pub(crate) fn box_plaintext(&self) -> &[u8] {
        &self.box_plaintext
    }
}

impl Introduction {
    /// Seals a body to the node of this key document.
    ///
    /// # Errors
    /// If the key document has no intro key, or the room id is too long.
    pub fn seal(
        to: &KeyDocument,
        room_id: &str,
        body: &IntroBody,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Self, IntroError> {
        let key = to.intro_key().ok_or_else(|| IntroError::NoIntroKey { name: to.name().clone() })?;
        check_room_id(room_id)?;
        let sealed = seal_base(key, labels::INTRO, &aad(to.name(), room_id), &body.to_bytes(), rng);
        Ok(Self { to: to.name().clone(), room_id: room_id.to_owned(), sealed })
    }

    /// Opens an introduction that is for us.
    ///
    /// # Errors
    /// If it is not for us, was sealed to another key or for another room, or its content does not hold.
    pub fn open(&self, own: &NodeName, key: &XWingSecret) -> Result<IntroBody, IntroError> {
        if self.to != *own {
            return Err(IntroError::NotForUs);
        }
        let plaintext = open_base(key, labels::INTRO, &aad(&self.to, &self.room_id), &self.sealed)
            .map_err(|source| IntroError::Open { source })?;
        IntroBody::from_bytes(&plaintext)
    }

    /// For whom it is.
    #[must_use]
    pub fn to(&self) -> &NodeName {
        &self.to
    }

    /// The room that both are said to be joined to.
    #[must_use]
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// The CBOR array `[1, for, room id, sealed]`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = (VERSION, &self.to, &self.room_id, Bytes::new(&self.sealed));
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the bytes are no introduction of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IntroError> {
        if bytes.len() > MAX_INTRO_LEN {
            return Err(IntroError::Form);
        }
        let Wire(version, to, room_id, sealed) = serde_cbor::from_slice(bytes).map_err(|_| IntroError::Form)?;
        if version != VERSION {
            return Err(IntroError::Form);
        }
        check_room_id(&room_id)?;
        Ok(Self { to, room_id, sealed: sealed.into_vec() })
    }
}

impl IntroBody {
    /// As it is sealed.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Offer(offer) => {
                let expiry_s = (offer.expiry.0 / 1_000).to_be_bytes();
                [&[OFFER], offer.s0.as_bytes().as_slice(), &expiry_s, &offer.box_plaintext].concat()
            }
            Self::Message { link, message } => [&[MESSAGE], link.0.as_slice(), &message.to_bytes()].concat(),
        })
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If it is neither an offer whose bundle holds nor a message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IntroError> {
        let (kind, rest) = bytes.split_first().ok_or(IntroError::Form)?;
        match *kind {
            OFFER => parse_offer(rest).map(Self::Offer),
            MESSAGE => {
                let (link, message) = rest.split_first_chunk::<16>().ok_or(IntroError::Form)?;
                let message = Message::from_bytes(message).map_err(|source| IntroError::Message { source })?;
                Ok(Self::Message { link: LinkId(*link), message })
            }
            _ => Err(IntroError::Form),
        }
    }
}

/// Two members may introduce themselves to each other at the same time. Then the offer of the smaller identity key counts:
/// true if that is ours, and the other's offer is to be left unanswered.
#[must_use]
pub fn own_offer_counts(own: &NodeName, peer: &NodeName) -> bool {
    own.identity_key() < peer.identity_key()
}

/// Why an introduction cannot be made or is refused.
#[derive(Debug, thiserror::Error)]
pub enum IntroError {
    /// The node has not published what introductions are sealed to.
    #[error("the key document of {name} has no intro key")]
    NoIntroKey {
        /// Which node.
        name: NodeName,
    },
    /// Not an introduction of this version.
    #[error("the introduction cannot be read")]
    Form,
    /// It goes to another node.
    #[error("the introduction is for another node")]
    NotForUs,
    /// Sealed to another key, or altered.
    #[error("the introduction is refused: {source}")]
    Open {
        /// What is wrong with it.
        source: DoesNotOpen,
    },
    /// The bundle of the offer is refused.
    #[error("the bundle in the introduction is refused: {source}")]
    Bundle {
        /// What is wrong with it.
        source: BundleError,
    },
    /// The message inside is refused.
    #[error("the message in the introduction is refused: {source}")]
    Message {
        /// What is wrong with it.
        source: MessageError,
    },
}

fn parse_offer(bytes: &[u8]) -> Result<IntroOffer, IntroError> {
    let (s0, rest) = bytes.split_first_chunk::<32>().ok_or(IntroError::Form)?;
    let (expiry_s, plaintext) = rest.split_first_chunk::<8>().ok_or(IntroError::Form)?;
    let expiry_ms = u64::from_be_bytes(*expiry_s).checked_mul(1_000).ok_or(IntroError::Form)?;
    Bundle::open(plaintext).map_err(|source| IntroError::Bundle { source })?;
    Ok(IntroOffer { s0: S0::from_bytes(*s0), expiry: UnixMillis(expiry_ms), box_plaintext: plaintext.to_vec() })
}

fn check_room_id(room_id: &str) -> Result<(), IntroError> {
    if room_id.len() > MAX_ROOM_ID_LEN { Err(IntroError::Form) } else { Ok(()) }
}

fn aad(to: &NodeName, room_id: &str) -> Vec<u8> {
    [to.as_str().as_bytes(), &[0], room_id.as_bytes()].concat()
}

#[derive(Serialize, Deserialize)]
struct Wire(u8, NodeName, String, ByteBuf);

const VERSION: u8 = 1;
const OFFER: u8 = 0;
const MESSAGE: u8 = 1;
/// Bytes, of any Matrix identifier.
const MAX_ROOM_ID_LEN: usize = 255;
/// Bytes: the largest message and what is put around it.
pub const MAX_INTRO_LEN: usize = MAX_BUNDLE_LEN + 4_096;
