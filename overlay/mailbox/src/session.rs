//! A link over mailboxes: what is offered to it arrives, once, in spite of hosts that lose, repeat and lie, of nodes that are never
//! on together, and of a side that was set back (overlay.md, sections 3 to 5). One `Session` is one link.
//!
//! ```text
//! node                      session                        driver                          host
//!  Offer(items) ------------> queue (memory)
//!                            Slot: seal ------------------> Persist (one transaction)
//!                                                           Deposit ----------------------> put
//!                            Outcome(Stored) <------------- R1 <--------------------------- STORED after fsync
//!                            Arrived(envelopes) <---------- FETCH, stamps judged
//!  items staged <------------ Persist { deliver, done } --- DELETE only after the commit
//!  outbox rows go (R2) <----- (done)
//! ```
//!
//! `handle` takes one event and returns what is to be done, in order. The first effect, if anything changed, is `Persist`: all of
//! it goes to disk in one transaction before anything behind it. If that transaction fails, forget the value and read it again with
//! `from_record`. Nothing is ever sealed twice under one stamp, and nothing leaves that is not on disk.
//!
//! | on disk | written | by |
//! |---|---|---|
//! | `RowKey::Record` | whenever anything changes | everything but bytes of messages |
//! | `RowKey::Flight` | once a frame | what it takes to seal it again, or its items anew |
//! | `RowKey::Copy` | once an envelope, until R1 | the finished bytes; a lost STORED sends them again as they are |
//! | `RowKey::Fragment`, `RowKey::Held` | parts of large items; to-device messages that came too early | until they can be delivered |
//!
//! Offered items are not on disk here: they are the node's outbox rows, named by `Handle`, and are offered again after a start.
//! An item is done when its handle stands in `Commit::done` (R2: the peer has staged it durably), never before.
//!
//! Begin a session when stamps for the peer's mailboxes are there: without any it can only wait.
//!
//! When to call: `Slot` when `wants_slot` says so (`instant`), or at the next slot of the schedule after it (`paced`). Before a
//! slot, issue what `stamps_wanted` asks for and hand it in as `Granted`. Stamps that the peer used count as soon as their
//! envelopes are handed in as `Arrived`.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;

use crate::{
    frame::Grant,
    host_key::HostKey,
    identity::IdentityKey,
    item::Item,
    stamp::{Class, MailboxId, StampHeader, StampSeed},
    time::UnixMillis,
};

mod ack;
mod back;
mod backup;
mod begin;
mod commit;
mod error;
mod flight;
mod grants;
mod hello;
mod line;
mod pack;
mod parts;
mod queue;
mod ratchet;
mod receive;
mod retry;
mod seal;
mod slot;
mod state;
mod wallet;

pub use backup::Backup;
pub use commit::{Commit, Delivered, MapRows, RowKey, Rows};
pub use error::SessionError;
pub use ratchet::LsItem;

use commit::Out;
use queue::Queue;
use state::State;

/// One link over mailboxes.
pub struct Session {
    state: State,
    /// Offered and not yet sealed.
    queue: Queue,
    /// Given to the driver, no outcome yet.
    air: BTreeSet<DepositId>,
    /// Given to the driver for the first time, so that a refusal is about the stamp: a later one may be about an envelope that lay there,
    /// was read and deleted.
    fresh: BTreeSet<DepositId>,
    /// Hosts that did not take a deposit, and until when others are tried first.
    failing: BTreeMap<HostKey, UnixMillis>,
    /// Acknowledgements alone that are on their way, and into which mailbox.
    acks: BTreeMap<u32, (HostKey, MailboxId)>,
    /// Acknowledgements in a row that no host took.
    ack_failures: u8,
    /// The peer says something again: what acknowledged it was lost.
    ack_again: bool,
    /// What came before the answer to our HELLO and may open with what that brings.
    early: Vec<Arrived>,
    /// The last slot could do nothing about what is due: until something happens, another is of no use.
    rest: Option<Rest>,
    /// The node was off or asleep, and nothing happened here since.
    woken: bool,
}

/// What was due at `since` is not looked at before `until`.
#[derive(Clone, Copy)]
struct Rest {
    since: UnixMillis,
    until: UnixMillis,
}

/// What a session needs to know of the node around it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub now: UnixMillis,
    /// Certifies the keys of a HELLO.
    pub identity: &'a IdentityKey,
    /// Our mailboxes: those in use, and those that are only read out until they close.
    pub mailboxes: &'a [OwnMailbox],
    /// What was persisted for this session.
    pub rows: &'a dyn Rows,
}

/// One of our mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMailbox {
    /// Its id.
    pub id: MailboxId,
    /// Where it is.
    pub host: HostKey,
    /// Whether it is a recovery mailbox: S only, one stamp for each contact.
    pub recovery: bool,
    /// Whether it is out of use: no new stamps for it, but those that are out are still good.
    pub draining: bool,
}

/// What happens to a session.
#[derive(Debug)]
pub enum InEvent {
    /// The node has items for the peer. Those that are known already are left out; `room_for_more` says how many to offer.
    Offer(Vec<Offered>),
    /// A send slot has come: seal, retry and acknowledge what is due.
    Slot,
    /// What became of a deposit. Every `OutEvent::Deposit` gets one, after a while at the latest.
    Outcome {
        /// Which deposit.
        deposit: DepositId,
        /// What the host said.
        outcome: Outcome,
    },
    /// Envelopes that came out of our mailboxes under stamps of this peer, judged to be his (`mailbox::Verdict::Contact`), in any
    /// order. After the commit all of them are to be deleted at the host.
    Arrived(Vec<Arrived>),
    /// Stamps that were issued to the peer because `stamps_wanted` asked for them. Commit their serials before.
    Granted(Vec<Grant>),
    /// Stamps that the peer gave us by another way than an envelope: in a bundle, over a stream of the link.
    PeerStamps(Vec<Grant>),
    /// Stamps that the peer got from us by another way than an envelope.
    GivenStamps(Vec<Grant>),
    /// Hosts can be reached again after none could: what failed for want of a way is tried with the next slot, not after its back-off.
    WayBack,
    /// This host answers again: what waits for it need not wait out its time. See `waits_for`.
    Reachable(HostKey),
    /// The user takes the link out of use. In silence: whatever the peer sends from now on is not even opened.
    Revoke,
}

/// An item that the node wants delivered.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Names the node's row; unique in this link for as long as the row is there.
    pub handle: Handle,
    /// The item.
    pub item: Item,
    /// When it goes.
    pub priority: Priority,
    /// Which room it is about: items of one room are compressed together, of two rooms never. `None`: by itself.
    pub room: Option<RoomTag>,
    /// From then on it is not sent any more if it has not been; it is then reported as done. For requests.
    pub deadline: Option<UnixMillis>,
}

/// Names an offered item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Handle(pub u64);

/// Tells rooms apart, inside one node. Never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RoomTag(pub u64);

/// Which items go first. The first two may use the last eight stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Priority {
    /// Key packs: before everything.
    KeyPack,
    /// Keys in to-device messages, and membership.
    Essential,
    /// Everything else.
    Ordinary,
    /// Media: after everything.
    Bulk,
}

/// An envelope that came in.
#[derive(Clone)]
pub struct Arrived {
    /// The header of the deposit.
    pub header: StampHeader,
    /// The stamp's seed, from `mailbox::Verdict::Contact`.
    pub seed: StampSeed,
    /// The body of the deposit.
    pub body: bytes::Bytes,
}

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrived({:?})", self.header.class())
    }
}

/// Names one deposit of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DepositId {
    /// The flight; 0 for frames without a number.
    pub flight: u32,
    /// Which of its envelopes.
    pub copy: u32,
}

/// What a host said to a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// R1: it is on the host's disk.
    Stored,
    /// The mailbox is full. The stamp is not spent.
    Full,
    /// The stamp was used for another body.
    Spent,
    /// Unknown or closed mailbox, or a stamp that the host does not take.
    Refused,
    /// No answer, or no way there. Nothing is known about the deposit.
    Unreachable,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum OutEvent {
    /// Make all of it durable, in one transaction, before anything that follows.
    Persist(Commit),
    /// Put this into a mailbox, then hand in the `Outcome`.
    Deposit {
        /// Names it.
        id: DepositId,
        /// Where to.
        host: HostKey,
        /// A whole deposit, see `deposit::Deposit`.
        bytes: Vec<u8>,
    },
    /// Something to know.
    Notice(Notice),
}

/// What a session tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The answerer of a first contact: the offerer's `th` was read, the link can be used. Call `Link::established_by_session`.
    Established,
    /// The peer acknowledged something for the first time: our part of the first contact arrived.
    Delivered,
    /// The secrets of the link changed: `Link::adopt_secrets(session.link_secrets())` in the same transaction.
    Secrets,
    /// 30 days without a word: nothing is sent until the peer is heard. The rows stay.
    Dormant,
    /// The peer is heard again.
    Awake,
    /// One side was set back: the link is made anew with a HELLO. Nothing is lost by that.
    Restoring,
    /// The link was made anew.
    Restored,
    /// A HELLO is due and there is no recovery stamp for it: only a new contact link helps.
    NoWayBack,
    /// An item was offered that is longer than `item::MAX_ITEM_LEN`: it cannot go over mailboxes.
    TooLarge(Handle),
    /// The peer sent something that no honest node sends. It was dropped.
    Misbehaved(Fault),
}

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An envelope under a right stamp that does not open.
    Unopened,
    /// A frame that cannot be read.
    Frame,
    /// Numbers or parts beyond what a link keeps.
    Beyond,
    /// A frame before the other side has shown the transcript of the first contact.
    Unproven,
    /// A step of the link-secret ratchet that is none.
    Ratchet,
    /// A HELLO or its answer that does not hold.
    Hello,
}

/// Stamps that the peer should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For which of our mailboxes.
    pub mailbox: OwnMailbox,
    /// Which size.
    pub class: Class,
    /// How many.
    pub count: u16,
}

impl Session {
    /// Feeds one event.
    pub fn handle(&mut self, ctx: &Context<'_>, event: InEvent, rng: &mut impl CryptoRng) -> Vec<OutEvent> {
        let mut out = Out::default();
        self.note_back(ctx.now);
        self.note_awake(ctx.now);
        if !matches!(event, InEvent::Offer(_)) {
            self.rest = None;
        }
        if !self.state.revoked {
            match event {
                InEvent::Offer(items) => self.on_offer(items, &mut out),
                InEvent::Slot => self.on_slot(ctx, &mut out, rng),
                InEvent::Outcome { deposit, outcome } => self.on_outcome(ctx, deposit, outcome, &mut out, rng),
                InEvent::Arrived(envelopes) => self.on_arrived(ctx, envelopes, &mut out),
                InEvent::Granted(grants) => self.on_granted(grants, &mut out),
                InEvent::PeerStamps(grants) => self.on_peer_stamps(grants, ctx.now, &mut out),
                InEvent::GivenStamps(grants) => {
                    grants.iter().for_each(|grant| self.state.grants.note_given(grant));
                    out.changed();
                }
                InEvent::WayBack => self.on_way_back(ctx.now, &mut out),
                InEvent::Reachable(host) => self.on_reachable(ctx.now, &host),
                InEvent::Revoke => self.on_revoke(&mut out),
            }
        }
        out.finish(&self.state)
    }

    /// Which link it is.
    #[must_use]
    pub fn link(&self) -> crate::secrets::LinkId {
        self.state.link
    }

    /// The node at the other end.
    #[must_use]
    pub fn peer(&self) -> &crate::name::NodeName {
        &self.state.peer
    }

    /// Whether the link was taken out of use. The owner of the mailboxes drops what comes under its stamps.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.state.revoked
    }

    /// Whether nothing is sent until the peer is heard.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.state.dormant
    }

    /// When the peer was last heard over mailboxes.
    #[must_use]
    pub fn last_heard(&self) -> Option<UnixMillis> {
        self.state.last_heard
    }

    /// Frames that are sealed and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.state.flights.len()
    }

    /// Frames that were sealed on the present line so far.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.state.live.as_ref().map_or(0, |line| line.next_frame - 1)
    }

    /// How many stamps of each size we hold for the peer's mailboxes.
    #[must_use]
    pub fn credit(&self) -> (usize, usize) {
        (self.state.wallet.credit(Class::S), self.state.wallet.credit(Class::L))
    }

    /// The secrets of the link, newest first, for its streams.
    #[must_use]
    pub fn link_secrets(&self) -> Vec<crate::secrets::LinkSecret> {
        self.state.live.as_ref().map(|line| line.ratchet.secrets()).unwrap_or_default()
    }

    /// What finds the onion service of the other side, see `Link::discovery`.
    #[must_use]
    pub fn discovery(&self) -> crate::discovery::DiscoverySecret {
        self.state.rk.discovery()
    }

    /// How many bytes of items to offer before the next slot; 0 while the queue is long enough.
    #[must_use]
    pub fn room_for_more(&self) -> usize {
        self.queue.room()
    }

    fn on_offer(&mut self, items: Vec<Offered>, out: &mut Out) {
        let before = self.queue.len();
        for offered in items {
            let handle = offered.handle;
            if !self.queue.offer(offered, &self.state) {
                out.notice(Notice::TooLarge(handle));
            }
        }
        if self.queue.len() > before {
            self.rest = None;
        }
    }

    fn on_granted(&mut self, grants: Vec<Grant>, out: &mut Out) {
        grants.into_iter().for_each(|grant| self.state.grants.add(grant));
        out.changed();
    }

    fn on_peer_stamps(&mut self, grants: Vec<Grant>, now: UnixMillis, out: &mut Out) {
        grants.into_iter().for_each(|grant| self.state.wallet.add(grant, now));
        self.state.hello.try_again();
        out.changed();
    }

    fn on_revoke(&mut self, out: &mut Out) {
        let rows = self.state.all_rows();
        rows.into_iter().for_each(|key| out.delete(key));
        self.state.revoke();
        self.queue = Queue::default();
        self.air.clear();
        self.acks.clear();
        self.fresh.clear();
        out.changed();
    }
}
