//! What the overlay keeps on disk, behind a trait that the node implements over its database: a handful of small records, changed together or not at
//! all. What is inside is the overlay's own affair.

use futures::future::BoxFuture;
use millpond_mailbox::item::Item;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::session::Handle;

use crate::event::LinkClass;

/// Where links and settings are kept. Records hold secrets: the store must be as private as the key files.
pub trait LinkStore: Send + Sync + 'static {
    /// Every record, in any order.
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Makes all changes in one transaction, and returns when they are durable: bytes that depend on them leave only afterwards. Not dropped half-way
    /// by the overlay.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// As `commit`, and in the same transaction stages what arrived out of a mailbox and forgets what the peer has staged: it is acknowledged, and deleted
    /// at its host, once this returns.
    fn commit_delivery(&self, changes: Vec<Change>, delivery: Delivery) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether more of a peer may be staged. While not, it gets no stamps, and what lies in our mailboxes of it stays there.
    fn takes_more(&self, peer: &NodeName) -> bool;
}

/// What came out of mailboxes, and what arrived at the peer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The node at the other end.
    pub peer: NodeName,
    /// What the link allows it.
    pub class: LinkClass,
    /// Items of the peer, in the order in which they are to be worked off.
    pub arrived: Vec<Item>,
    /// Items of ours that the peer has staged durably (R2), or whose time is over: their rows can go.
    pub done: Vec<Handle>,
}

/// The name of a record, unique within the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What it is.
    pub kind: RecordKind,
    /// At most 64 bytes.
    pub id: Vec<u8>,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// The state of one link, from the offer on.
    Link,
    /// A setting of the overlay itself, such as the addresses told to contacts last time.
    Setting,
    /// A mailbox of ours.
    Mailbox,
    /// A stamp for a mailbox of ours that is out.
    Serial,
    /// A row of the session of a link over mailboxes.
    Session,
    /// The box of an offer, to be left at hosts.
    Box,
    /// Tokens that are left at a host.
    Tokens,
    /// An operator's leave that is being turned into tokens and mailboxes.
    Leave,
    /// What a contact was given for the mailbox host beside this node.
    Hosted,
    /// The mailbox host of a contact, as it was shown to us.
    Lodging,
}

impl RecordKind {
    /// A stable number for the database.
    pub fn tag(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Setting => 2,
            Self::Mailbox => 3,
            Self::Serial => 4,
            Self::Session => 5,
            Self::Box => 6,
            Self::Tokens => 7,
            Self::Leave => 8,
            Self::Hosted => 9,
            Self::Lodging => 10,
        }
    }

    /// The kind with this number, if there is one.
    pub fn from_tag(tag: u8) -> Option<Self> {
        let links = [Self::Link, Self::Setting, Self::Session, Self::Box];
        let mailboxes = [Self::Mailbox, Self::Serial, Self::Tokens, Self::Leave];
        let contacts = [Self::Hosted, Self::Lodging];
        links.into_iter().chain(mailboxes).chain(contacts).find(|kind| kind.tag() == tag)
    }
}

/// One stored record.
#[derive(Clone)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// Its content, opaque, versioned and secret.
    pub bytes: Vec<u8>,
}

/// One change to the records.
#[derive(Clone)]
pub enum Change {
    /// Writes a record, over an earlier one of the same name.
    Put(Record),
    /// Removes a record; fine if there is none.
    Remove(RecordKey),
}

/// The store could not do it, and did nothing of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the link store failed: {why}")]
pub struct StoreError {
    /// What went wrong, for the log.
    pub why: String,
}
