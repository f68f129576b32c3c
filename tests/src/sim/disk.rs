//! What one node has on disk. A transaction is one call that changes it: a kill falls between two calls, so everything of one is
//! there or nothing is, and nothing of it was ever in memory only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millpond_mailbox::{
    deposit::Deposit,
    frame::Grant,
    item::Item,
    mailbox::{BatchId, Issued, MailboxSecret, SerialSet, draw_serials},
    secrets::LinkId,
    session::{MapRows, OwnMailbox},
    stamp::{Class, MailboxId, Serial},
    time::UnixMillis,
};
use ruma::{OwnedEventId, OwnedUserId};

use super::{
    random::SimRng,
    room::{Room, Snapshot},
};

/// The disk of a node.
#[derive(Clone, Default)]
pub struct Disk {
    position: u64,
    /// Nodes that it has a link with, each with the position since which it is.
    pub links: BTreeMap<usize, u64>,
    /// At which position each event was written; those of the beginning have none.
    pub written: HashMap<OwnedEventId, u64>,
    /// By number of the room; none where the node is no member.
    pub rooms: BTreeMap<usize, Room>,
    /// Who told of a room that was entered by an invite.
    pub told_by: BTreeMap<usize, usize>,
    /// What is owed, by peer and position.
    pub outbox: BTreeMap<usize, BTreeMap<u64, Owed>>,
    /// Soft-failed events that were passed on, by room and sender: on which day, and how many.
    pub passed_on: BTreeMap<(usize, OwnedUserId), (u64, u64)>,
    /// What came in and is not worked off.
    pub staged: BTreeMap<u64, Staged>,
    /// Events that wait for others, by room and event.
    pub parked: BTreeMap<(usize, OwnedEventId), Parked>,
    /// The rows of sessions, by peer.
    pub sessions: BTreeMap<usize, MapRows>,
    /// Our mailboxes.
    pub mailboxes: BTreeMap<MailboxId, OwnRow>,
    /// Names of to-device messages that were taken, by sender.
    pub taken: BTreeSet<(usize, u64)>,
    /// To-device messages as the device sees them: from whom, and which.
    pub device: Vec<(usize, u64)>,
}

/// One thing that is owed to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    /// An event of a room.
    Pdu(usize, OwnedEventId),
    /// A to-device message.
    ToDevice(u64),
    /// An invite with the room as it stood.
    Invite(Snapshot),
}

/// One item that a peer has sent, or events that we asked for.
#[derive(Clone)]
pub struct Staged {
    /// Who brought it.
    pub from: usize,
    /// What.
    pub item: Item,
}

/// An event that waits for others.
#[derive(Clone)]
pub struct Parked {
    /// Who brought it.
    pub from: usize,
    /// Its text.
    pub json: String,
    /// What it waits for.
    pub missing: BTreeSet<OwnedEventId>,
}

/// One of our mailboxes.
#[derive(Clone)]
pub struct OwnRow {
    /// Its key.
    pub secret: MailboxSecret,
    /// At which host.
    pub host: usize,
    /// As the sessions see it.
    pub shown: OwnMailbox,
    /// When it was made.
    pub opened: UnixMillis,
    /// Its host does not know it.
    pub lost: bool,
    /// The stamps that are out.
    pub issued: BTreeMap<Serial, Issued>,
    serials: SerialSet,
}

impl OwnRow {
    /// A mailbox without stamps.
    #[must_use]
    pub fn new(secret: MailboxSecret, host: usize, shown: OwnMailbox, opened: UnixMillis) -> Self {
        Self { secret, host, shown, opened, lost: false, issued: BTreeMap::new(), serials: SerialSet::new() }
    }

    /// Notes whose a stamp is that was issued after the backup, as `recognise` in `overlay/src/driver/mail/polls.rs`.
    pub fn recognise(&mut self, deposit: &Deposit, links: impl IntoIterator<Item = LinkId>) {
        let serial = deposit.header().serial();
        if self.shown.recovery
            && !self.issued.contains_key(&serial)
            && let Some(issued) = self.secret.recognise(deposit, links)
        {
            self.serials.insert(serial);
            self.issued.insert(serial, issued);
        }
    }

    /// Makes stamps.
    pub fn issue(&mut self, link: LinkId, class: Class, count: usize, rng: &mut SimRng) -> Option<Grant> {
        // Drawn in any case: a seed keeps its course.
        let drawn = BatchId::generate(rng);
        let batch = if self.shown.recovery { self.secret.recovery_batch(link) } else { drawn };
        let serials = draw_serials(&mut self.serials, count, rng)?;
        for serial in &serials {
            self.issued.insert(*serial, Issued { link, batch, class, used: false, revoked: false });
        }
        let batch = self.secret.issue(batch, class, &serials);
        Some(Grant { host: self.shown.host, recovery: self.shown.recovery, batch })
    }
}

impl Disk {
    /// A number that no row has.
    pub fn next_position(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    /// Owes a peer something.
    pub fn owe(&mut self, peer: usize, owed: Owed) {
        let position = self.next_position();
        self.outbox.entry(peer).or_default().insert(position, owed);
    }

    /// Stages what a peer has sent.
    pub fn stage(&mut self, from: usize, item: Item) {
        let position = self.next_position();
        self.staged.insert(position, Staged { from, item });
    }

    /// Our mailboxes as sessions see them.
    #[must_use]
    pub fn shown(&self) -> Vec<OwnMailbox> {
        self.mailboxes.values().map(|own| own.shown).collect()
    }

    /// Takes out what waited for an event.
    pub fn wake(&mut self, room: usize, id: &OwnedEventId) -> Vec<Parked> {
        let waiting =
            |((of, _), parked): &(&(usize, OwnedEventId), &Parked)| *of == room && parked.missing.contains(id);
        let keys: Vec<(usize, OwnedEventId)> = self.parked.iter().filter(waiting).map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.parked.remove(key)).collect()
    }
}
