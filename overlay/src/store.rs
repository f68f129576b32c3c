//! What the overlay keeps on disk, behind a trait that the node implements over its database: a handful of small records, changed together or not at
//! all. What is inside is the overlay's own affair.

use futures::future::BoxFuture;

/// Where links and settings are kept. Records hold secrets: the store must be as private as the key files.
pub trait LinkStore: Send + Sync + 'static {
    /// Every record, in any order.
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Makes all changes in one transaction, and returns when they are durable: bytes that depend on them leave only afterwards. Not dropped half-way
    /// by the overlay.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;
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
}

impl RecordKind {
    /// A stable number for the database.
    pub fn tag(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Setting => 2,
        }
    }

    /// The kind with this number, if there is one.
    pub fn from_tag(tag: u8) -> Option<Self> {
        [Self::Link, Self::Setting].into_iter().find(|kind| kind.tag() == tag)
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

/// The form in which a backup may hold a record; none for those that it must not hold. Links and what belongs to them stay with the node that used
/// them: two nodes with one state of a link would seal two things under one key.
pub fn backed_up(record: &Record) -> Option<Record> {
    match record.key.kind {
        RecordKind::Link => None,
        // Addresses of the machine that the backup is of; another one finds its own.
        RecordKind::Setting => None,
    }
}
