//! What a host keeps, as a small trait: put, list from a cursor, delete, expire, count. Implemented over redb by the store, over
//! maps by [`super::MemoryRows`]. Nothing is kept beyond what is here: no sender, no time, no address.

use bytes::Bytes;

use crate::{
    deposit::{BodyDigest, Deposit},
    host_protocol::{BoxId, Cursor, Purpose},
    mailbox::ReadPublicKey,
    stamp::{MailboxId, MailboxKey, Serial},
    time::UtcDay,
    token::SpentMark,
};

/// Where the rows are: gives them out for one commit at a time.
pub trait HostStore: Send {
    /// Lets `work` read and write, then makes what it wrote durable. If anything fails, nothing of it stays.
    ///
    /// # Errors
    /// Those of `work`, and of the disk.
    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn HostRows) -> Result<(), HostStoreError>,
    ) -> Result<(), HostStoreError>;
}

/// The rows of a host inside one commit.
///
/// Every method fails only as the storage does.
#[allow(clippy::missing_errors_doc)]
pub trait HostRows {
    /// The mailbox of this name.
    fn mailbox(&self, id: &MailboxId) -> Result<Option<MailboxRow>, HostStoreError>;
    /// A new mailbox; from the day after `closes` on it is due.
    fn create_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError>;
    /// Other counts of a mailbox.
    fn update_mailbox(&mut self, id: &MailboxId, row: &MailboxRow) -> Result<(), HostStoreError>;
    /// Forgets a mailbox, its envelopes and its spent serials.
    fn remove_mailbox(&mut self, id: &MailboxId) -> Result<(), HostStoreError>;

    /// Whether an envelope under this serial ever lay here.
    fn is_spent(&self, id: &MailboxId, serial: Serial) -> Result<bool, HostStoreError>;
    /// The envelope under this serial, while it lies here.
    fn stored(&self, id: &MailboxId, serial: Serial) -> Result<Option<BodyDigest>, HostStoreError>;
    /// Lays an envelope down; its serial is spent from now on.
    fn put(&mut self, id: &MailboxId, at: Cursor, deposit: &Deposit) -> Result<(), HostStoreError>;
    /// Envelopes after the cursor in the order of arrival, at most so many bytes of them.
    fn list(&self, id: &MailboxId, after: Cursor, max_bytes: usize) -> Result<Listed, HostStoreError>;
    /// Forgets an envelope; its length, if it lay here.
    fn delete(&mut self, id: &MailboxId, serial: Serial) -> Result<Option<u64>, HostStoreError>;

    /// The pickup box of this name.
    fn pickup(&self, id: &BoxId) -> Result<Option<PickupRow>, HostStoreError>;
    /// Writes a pickup box; from [`PickupRow::due`] on it is due.
    fn put_pickup(&mut self, id: &BoxId, row: &PickupRow) -> Result<(), HostStoreError>;
    /// Forgets a pickup box.
    fn remove_pickup(&mut self, id: &BoxId) -> Result<(), HostStoreError>;

    /// For what a token or grant was spent.
    fn spent(&self, mark: &SpentMark) -> Result<Option<[u8; 32]>, HostStoreError>;
    /// Spends a token or grant.
    fn spend(&mut self, mark: &SpentMark, on: &[u8; 32]) -> Result<(), HostStoreError>;

    /// What is over on this day, at most so many.
    fn due(&self, today: UtcDay, limit: usize) -> Result<Vec<Due>, HostStoreError>;
    /// How much there is of everything.
    fn totals(&self) -> Result<HostTotals, HostStoreError>;
    /// Writes how much there is.
    fn put_totals(&mut self, totals: &HostTotals) -> Result<(), HostStoreError>;
}

/// A mailbox.
#[derive(Clone)]
pub struct MailboxRow {
    /// What it is for.
    pub purpose: Purpose,
    /// `k_mb`.
    pub key: MailboxKey,
    /// What the owner's requests are checked with.
    pub read_key: ReadPublicKey,
    /// The last day on which it is open.
    pub closes: UtcDay,
    /// How many envelopes ever arrived.
    pub arrived: Cursor,
    /// Envelopes in it.
    pub envelopes: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Pickup boxes that its owner laid down.
    pub boxes: u16,
}

/// Envelopes of one mailbox.
pub struct Listed {
    /// In the order of arrival, each with its place.
    pub deposits: Vec<(Cursor, Deposit)>,
    /// Whether more follow.
    pub more: bool,
}

/// A pickup box.
#[derive(Clone)]
pub struct PickupRow {
    /// The first day on which it is not there any more.
    pub expires: UtcDay,
    /// What became of it.
    pub state: PickupState,
}

/// What became of a pickup box.
#[derive(Clone)]
pub enum PickupState {
    /// Nobody took it.
    Waiting(Bytes),
    /// Somebody did, and may read it again on that day.
    Claimed {
        /// `SHA256(claim)`.
        claim: [u8; 32],
        /// The day.
        on: UtcDay,
        /// The body.
        body: Bytes,
    },
    /// It was taken.
    Tombstone,
}

impl PickupRow {
    /// The day on which something is to be done with it.
    #[must_use]
    pub fn due(&self) -> UtcDay {
        match &self.state {
            PickupState::Claimed { on, .. } => UtcDay(on.0.saturating_add(1)).min(self.expires),
            PickupState::Waiting(_) | PickupState::Tombstone => self.expires,
        }
    }
}

/// What is over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A mailbox that has closed.
    Mailbox(MailboxId),
    /// A pickup box, or the body of one that was taken.
    Box(BoxId),
}

/// How much a host keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTotals {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Pickup boxes, tombstones among them.
    pub boxes: u64,
    /// Bytes of deposits.
    pub bytes: u64,
}

/// The storage did not do its work.
#[derive(Debug, thiserror::Error)]
#[error("the host's storage failed while {doing}: {source}")]
pub struct HostStoreError {
    /// At what.
    pub doing: &'static str,
    /// What the storage says.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
