//! What a session wants on disk, and the collector that every step of it writes into.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{DepositId, Handle, Notice, OutEvent, state::State};
use crate::{host_key::HostKey, item::Item};

/// Names a row of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The session itself.
    Record,
    /// What it takes to seal a frame again.
    Flight(u32),
    /// A finished envelope that is not known to be at the host.
    Copy(u32, u32),
    /// A part of a large item of the peer.
    Fragment(u32, u8),
    /// A to-device message of the peer that came before an earlier one.
    Held(u64),
}

impl RowKey {
    /// 13 bytes that sort as the keys do, for a database.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 13] {
        let (tag, high, low) = match self {
            Self::Record => (0, 0, 0),
            Self::Flight(flight) => (1, u64::from(flight), 0),
            Self::Copy(flight, copy) => (2, u64::from(flight), copy),
            Self::Fragment(of, index) => (3, u64::from(of), u32::from(index)),
            Self::Held(order) => (4, order, 0),
        };
        let mut bytes = [0; 13];
        bytes[0] = tag;
        bytes[1..9].copy_from_slice(&high.to_be_bytes());
        bytes[9..].copy_from_slice(&low.to_be_bytes());
        bytes
    }
}

/// What a session has on disk. Reading is synchronous: the rows are small and few.
pub trait Rows {
    /// The row, or `None` if there is none (any more).
    fn row(&self, key: RowKey) -> Option<Zeroizing<Vec<u8>>>;
}

/// Rows in memory: for tests and simulation.
#[derive(Clone, Default)]
pub struct MapRows(pub BTreeMap<RowKey, Vec<u8>>);

impl MapRows {
    /// Does what a commit says.
    pub fn apply(&mut self, commit: &Commit) {
        for key in &commit.delete {
            self.0.remove(key);
        }
        for (key, bytes) in &commit.put {
            self.0.insert(*key, bytes.to_vec());
        }
    }
}

impl Rows for MapRows {
    fn row(&self, key: RowKey) -> Option<Zeroizing<Vec<u8>>> {
        self.0.get(&key).cloned().map(Zeroizing::new)
    }
}

/// Goes to disk in one transaction.
#[derive(Clone, Default)]
pub struct Commit {
    /// Rows to write, after the deletions.
    pub put: Vec<(RowKey, Zeroizing<Vec<u8>>)>,
    /// Rows to delete.
    pub delete: Vec<RowKey>,
    /// Items of the peer: stage them in the same transaction.
    pub deliver: Vec<Delivered>,
    /// Items of ours that the peer has staged (R2), or whose deadline passed: their rows can go.
    pub done: Vec<Handle>,
    /// Nothing depends on when this becomes durable: it may wait for the next one.
    pub may_wait: bool,
}

/// Counts and no more.
impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (put, delete, deliver) = (self.put.len(), self.delete.len(), self.deliver.len());
        write!(f, "Commit(put {put}, delete {delete}, deliver {deliver}, done {})", self.done.len())
    }
}

/// An item of the peer, handed over once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its number on the link's present line; to-device messages come in order whatever it says.
    pub seq: u64,
    /// The item.
    pub item: Item,
}

/// Collects the effects of one event.
#[derive(Default)]
pub(super) struct Out {
    commit: Commit,
    dirty: bool,
    urgent: bool,
    after: Vec<OutEvent>,
}

impl Out {
    /// Something changed that must be on disk before what follows.
    pub(super) fn changed(&mut self) {
        self.dirty = true;
        self.urgent = true;
    }

    /// Something changed that may be forgotten.
    pub(super) fn noted(&mut self) {
        self.dirty = true;
    }

    pub(super) fn put(&mut self, key: RowKey, bytes: Zeroizing<Vec<u8>>) {
        self.changed();
        self.commit.put.push((key, bytes));
    }

    pub(super) fn delete(&mut self, key: RowKey) {
        self.dirty = true;
        self.commit.put.retain(|(put, _)| *put != key);
        self.commit.delete.push(key);
    }

    pub(super) fn deliver(&mut self, seq: u64, item: Item) {
        self.changed();
        self.commit.deliver.push(Delivered { seq, item });
    }

    pub(super) fn done(&mut self, handle: Handle) {
        self.changed();
        self.commit.done.push(handle);
    }

    pub(super) fn deposit(&mut self, id: DepositId, host: HostKey, bytes: Vec<u8>) {
        self.after.push(OutEvent::Deposit { id, host, bytes });
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.after.push(OutEvent::Notice(notice));
    }

    /// Whether nothing came of the event.
    pub(super) fn is_empty(&self) -> bool {
        !self.dirty && self.after.is_empty()
    }

    /// A row that this very event wrote, or one from before.
    pub(super) fn row(&self, rows: &dyn Rows, key: RowKey) -> Option<Zeroizing<Vec<u8>>> {
        let written = self.commit.put.iter().rev().find(|(put, _)| *put == key);
        written.map(|(_, bytes)| bytes.clone()).or_else(|| rows.row(key))
    }

    pub(super) fn finish(self, state: &State) -> Vec<OutEvent> {
        let mut commit = self.commit;
        let mut events = Vec::with_capacity(self.after.len() + 1);
        if self.dirty {
            commit.may_wait = !self.urgent;
            commit.put.push((RowKey::Record, state.to_bytes()));
            events.push(OutEvent::Persist(commit));
        }
        events.extend(self.after);
        events
    }
}
