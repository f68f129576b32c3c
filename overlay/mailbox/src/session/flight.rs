//! A flight: one frame under way, with the envelopes that were made of it, until the peer acknowledges it (overlay.md, section 5).
//! What it takes to seal it again lies in a row of its own.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::{Handle, RoomTag};
use crate::{
    envelope::Kind,
    frame::WireItem,
    host_key::HostKey,
    secrets::{Epoch, Secret32},
    stamp::{Class, MailboxId},
    time::UnixMillis,
};

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Flight {
    pub(super) id: u32,
    pub(super) frame_no: u32,
    pub(super) kind: FlightKind,
    pub(super) class: Class,
    /// May use the last stamps.
    pub(super) essential: bool,
    pub(super) sealed: UnixMillis,
    /// Items in it that are in it whole.
    pub(super) handles: Vec<Handle>,
    /// Lowest item number in it.
    pub(super) first_item: Option<u64>,
    /// Parts of large items of ours in it.
    pub(super) parts: Vec<(u32, u8)>,
    /// Our part of a step of the ratchet in it.
    pub(super) step: Option<Epoch>,
    pub(super) copies: Vec<Copy>,
    pub(super) next_copy: u32,
    /// Rounds without R1.
    pub(super) failures: u8,
    /// When copies without R1 are sent again.
    pub(super) next_try: UnixMillis,
    /// A copy at another host is due.
    pub(super) want_other: bool,
    /// Of the latest envelope.
    pub(super) stored: Option<UnixMillis>,
    /// How often it was sealed again after R1 without R2.
    pub(super) again: u8,
    /// Frames around it are acknowledged, it is not.
    pub(super) hole: bool,
    pub(super) stale: Stale,
}

/// What a flight carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FlightKind {
    Frame,
    Answer,
    Hello,
    HelloAnswer,
}

impl FlightKind {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Frame => Kind::Frame,
            Self::Answer => Kind::Answer,
            Self::Hello => Kind::Hello,
            Self::HelloAnswer => Kind::HelloAnswer,
        }
    }
}

/// Whether the items of a flight have to be encrypted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stale {
    No,
    /// The peer could not open it: the items keep their numbers.
    Nak,
    /// The line is another: they get new ones.
    Line,
}

/// One envelope of a flight.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Copy {
    pub(super) number: u32,
    pub(super) host: HostKey,
    pub(super) mailbox: MailboxId,
    /// R1.
    pub(super) stored: bool,
}

impl Flight {
    /// Copies that are not known to be at their hosts.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| !copy.stored)
    }

    pub(super) fn hosts(&self) -> Vec<HostKey> {
        self.copies.iter().map(|copy| copy.host).collect()
    }
}

/// The row of a flight.
#[derive(Serialize, Deserialize)]
pub(super) struct FlightRow {
    /// What is sealed: an Olm message with its type, or an answer.
    #[serde(with = "serde_bytes")]
    pub(super) payload: Vec<u8>,
    /// What stands in for `LS[e]`, where that is not it.
    pub(super) salt: Option<Secret32>,
    pub(super) items: Vec<KeptItem>,
}

/// An item of a flight, to be encrypted anew if the peer cannot open the frame.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptItem {
    pub(super) seq: u64,
    pub(super) kind: u8,
    #[serde(with = "serde_bytes")]
    pub(super) body: Vec<u8>,
    pub(super) room: Option<RoomTag>,
    pub(super) handle: Option<Handle>,
}

impl KeptItem {
    pub(super) fn wire(&self) -> WireItem {
        WireItem(self.seq, self.kind, ByteBuf::from(self.body.as_slice()))
    }
}

impl FlightRow {
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_cbor::ser::to_vec_packed(self).expect("writing CBOR to memory does not fail"))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_cbor::from_slice(bytes).ok()
    }
}
