//! A link: the long-lived relation between two nodes, from the offer on (overlay.md, section 2).
//!
//! ```text
//! offerer                                             answerer
//!  Offered     ---- Box (bundle) ------------------>   Added
//!  Pending     <--- Answer (HPKE-sealed bundle) ----   Pending, by us
//!  by them     <--- Confirm (Olm, th) --------------
//!  user says yes
//!  Established ---- Confirm (Olm, th) ------------->   Established
//!  delivered   <--- Done (Olm, th) -----------------
//! ```
//!
//! A link is a value: each function takes it from one state to the next and returns what the caller has to do, in order.
//! On an error nothing has changed. A second valid answer to one offer moves the link to `Alarmed` from every state.
//! `th` in an Olm message made with the certified key is what keeps an interceptor of the contact link from presenting
//! somebody else's bundle as his.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    identity::IdentityKey, key_document::KeyDocument, message::Message, name::NodeName, secrets::LinkId,
    time::UnixMillis, way::Way,
};

mod answerer;
mod data;
mod error;
mod mailboxes;
mod offerer;
mod streams;

use data::LinkData;
pub use error::{ErrorKind, LinkError};
pub(crate) use mailboxes::Detached;
pub use streams::{StreamKind, StreamOwner, hint_table};

/// One link with everything that is known about it. Kept by the node under `id()` as `to_bytes()`.
#[derive(Clone)]
pub struct Link {
    data: LinkData,
}

/// Which side of the first contact we were. It never changes in the life of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Made the contact link or the introduction.
    Offerer,
    /// Answered it.
    Answerer,
}

impl Role {
    /// The role of the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Offerer => Self::Answerer,
            Self::Answerer => Self::Offerer,
        }
    }

    /// The byte that stands for it in hints and confirmations.
    #[must_use]
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Offerer => 0,
            Self::Answerer => 1,
        }
    }
}

/// What a link may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkClass {
    /// Made by the user with a contact link: everything.
    Contact,
    /// Made by an introduction in a room: PDUs, to-device and keys of shared rooms, no invites.
    Room,
}

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Offerer: nobody has answered.
    Offered,
    /// Answerer: the user pasted the contact link, the box has not come.
    Added,
    /// The bundles are exchanged.
    Pending {
        /// We have sent an Olm message with `th` (on the offerer's side: the user said yes).
        by_us: bool,
        /// We have opened the other side's Olm message with `th`.
        by_them: bool,
    },
    /// Both of that is done.
    Established,
    /// Two valid answers to one offer: neither is kept and every secret is wiped.
    Alarmed,
    /// Taken out of use by the user or by time; every secret is wiped.
    Removed,
}

/// What we are, as far as a link needs it.
pub struct Own<'a> {
    /// Certifies the keys of each new link.
    pub identity: &'a IdentityKey,
    /// Goes into each bundle.
    pub key_document: &'a KeyDocument,
    /// How the other side can reach us; goes into contact link and bundle.
    pub ways: &'a [Way],
    /// Stamps for our mailboxes, see `pickup::bundle_stamps`; go into the bundle. Empty: the link is one over streams.
    pub stamps: &'a [Vec<u8>],
}

impl Own<'_> {
    fn name(&self) -> &NodeName {
        self.key_document.name()
    }
}

/// What the caller has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Commit `to_bytes()` before anything that follows: what was sent is never made anew.
    Persist,
    /// Send this to the other side: on the stream at hand, or with the next one.
    Send(Message),
    /// Show the user who answered; then call `confirm` or `remove`.
    AskUser {
        /// Who answered, proven by the certified key.
        peer: NodeName,
    },
    /// The link can be used.
    Established {
        /// With whom.
        peer: NodeName,
    },
    /// The offer was answered twice: tell the user that the contact link was read by somebody else, and that neither
    /// answer was kept.
    Alarm {
        /// Who answered first.
        first: NodeName,
        /// Who answered second.
        second: NodeName,
    },
    /// The offer is out of the world, and so is the link: the row can be deleted. Not before, even if the link is removed.
    Expired,
}

impl Link {
    /// The name of the link, equal on both sides.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.data.id
    }

    /// Our side of it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.data.role
    }

    /// What it may carry.
    #[must_use]
    pub fn class(&self) -> LinkClass {
        self.data.class
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.data.phase
    }

    /// When it was offered or added.
    #[must_use]
    pub fn created(&self) -> UnixMillis {
        self.data.created
    }

    /// When the offer ends.
    #[must_use]
    pub fn expiry(&self) -> UnixMillis {
        self.data.expiry
    }

    /// The other side, as soon as its bundle was opened. Before `Pending { by_them: true }` it is only what it claims.
    #[must_use]
    pub fn peer(&self) -> Option<&NodeName> {
        self.data.peer.as_ref().map(|peer| &peer.name).or(self.data.introduced.as_ref())
    }

    /// The other side of an established link.
    #[must_use]
    pub fn established_peer(&self) -> Option<&NodeName> {
        if self.data.phase == Phase::Established { self.peer() } else { None }
    }

    /// The other side's key document as it stood in its bundle.
    #[must_use]
    pub fn peer_key_document(&self) -> Option<&[u8]> {
        self.data.peer.as_ref().map(|peer| peer.key_document.as_slice())
    }

    /// How to reach the other side: from its contact link, then from its bundle, then as `set_peer_ways` said.
    #[must_use]
    pub fn peer_ways(&self) -> &[Way] {
        &self.data.peer_ways
    }

    /// Takes over new ways that the other side told over the link.
    ///
    /// # Errors
    /// If they are too many, or one is empty or too long.
    pub fn set_peer_ways(&mut self, ways: Vec<Way>) -> Result<Vec<Effect>, LinkError> {
        crate::way::check_ways(&ways, 0).map_err(|source| LinkError::Ways { source })?;
        if self.data.peer_ways == ways {
            return Ok(Vec::new());
        }
        self.data.peer_ways = ways;
        Ok(vec![Effect::Persist])
    }

    /// True while we should dial the other side with a first-contact stream: we are waiting for its part, or do not know
    /// that ours arrived.
    #[must_use]
    pub fn wants_first_contact(&self, now: UnixMillis) -> bool {
        let unfinished = match (self.data.role, self.data.phase) {
            (Role::Answerer, Phase::Added | Phase::Pending { .. }) => true,
            (Role::Offerer, Phase::Established) => !self.data.delivered,
            _ => false,
        };
        unfinished && self.first_contact_live(now)
    }

    /// What to send first on a new first-contact stream. `dialed`: we opened it.
    #[must_use]
    pub fn opening(&self, dialed: bool) -> Vec<Message> {
        let data = &self.data;
        match data.role {
            Role::Offerer if dialed => data.confirm.clone().map(Message::Confirm).into_iter().collect(),
            Role::Offerer => data.box_plaintext.clone().map(Message::Box).into_iter().collect(),
            Role::Answerer if data.phase == Phase::Established => Vec::new(),
            Role::Answerer => self.answer_messages(),
        }
    }

    /// Feeds one message from the other side, over whatever way it came.
    ///
    /// # Errors
    /// If the message is not one that this link waits for, or does not hold. The link is as it was before.
    pub fn handle(
        &mut self,
        own: &Own<'_>,
        message: &Message,
        now: UnixMillis,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Vec<Effect>, LinkError> {
        if matches!(self.data.phase, Phase::Alarmed | Phase::Removed) {
            return Err(LinkError::Closed);
        }
        if !self.first_contact_live(now) {
            return Err(LinkError::Expired);
        }
        let mut next = self.clone();
        let effects = match (self.data.role, message) {
            (Role::Answerer, Message::Box(body)) => next.on_box(own, body, rng)?,
            (Role::Answerer, Message::Confirm(body)) => next.on_offerer_confirm(body)?,
            (Role::Offerer, Message::Answer(body)) => next.on_answer(own, body)?,
            (Role::Offerer, Message::Confirm(body)) => next.on_answerer_confirm(body)?,
            (Role::Offerer, Message::Done(body)) => next.on_done(body)?,
            _ => return Err(LinkError::Unexpected { message: message.kind() }),
        };
        *self = next;
        Ok(effects)
    }

    /// Called when the other side opened a request stream: it has established the link, so ours arrived.
    pub fn note_request_stream(&mut self) -> Vec<Effect> {
        if self.data.phase != Phase::Established || self.data.delivered {
            return Vec::new();
        }
        self.data.delivered = true;
        vec![Effect::Persist]
    }

    /// The user takes the link out of use. From the commit on the other side's streams are not answered. The row stays
    /// until `tick` says `Expired`: whoever sends the same offer again must not be answered a second time.
    pub fn remove(&mut self) -> Vec<Effect> {
        self.data.wipe(Phase::Removed);
        vec![Effect::Persist]
    }

    /// Whether `tick` would do anything.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        let settled = self.data.phase == Phase::Established && self.data.s0.is_none();
        now >= self.data.expiry.after(GRACE) && !settled
    }

    /// What time does to a link: offers that nobody finished end 14 days after their expiry, and an established link
    /// forgets then what only its first contact needed. Once a day is often enough.
    pub fn tick(&mut self, now: UnixMillis) -> Vec<Effect> {
        if now < self.data.expiry.after(GRACE) {
            return Vec::new();
        }
        match self.data.phase {
            Phase::Offered | Phase::Added | Phase::Pending { .. } => {
                self.data.wipe(Phase::Removed);
                vec![Effect::Persist, Effect::Expired]
            }
            Phase::Established if self.data.s0.is_some() => {
                self.data.forget_first_contact();
                vec![Effect::Persist]
            }
            Phase::Alarmed | Phase::Removed => vec![Effect::Expired],
            Phase::Established => Vec::new(),
        }
    }

    /// The link for its row. Contains every secret.
    #[must_use]
    pub fn to_bytes(&self) -> zeroize::Zeroizing<Vec<u8>> {
        self.data.to_bytes()
    }

    /// Reads a row.
    ///
    /// # Errors
    /// If the bytes are not what `to_bytes` of this or an earlier version wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LinkError> {
        LinkData::from_bytes(bytes).map(|data| Self { data })
    }

    /// An unanswered offer lives until its expiry; what was answered by then has 14 more days to be finished, and as long
    /// a second answer raises the alarm.
    fn first_contact_live(&self, now: UnixMillis) -> bool {
        let end = match self.data.phase {
            Phase::Offered | Phase::Added => self.data.expiry,
            _ => self.data.expiry.after(GRACE),
        };
        self.data.s0.is_some() && now < end
    }
}

/// How long an offer can be answered (overlay.md, section 2).
pub const OFFER_LIFE: Duration = Duration::from_secs(14 * 86_400);
/// How long private keys outlive the offer's expiry (overlay.md, section 4).
pub const GRACE: Duration = Duration::from_secs(14 * 86_400);
