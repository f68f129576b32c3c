//! A node's own mailboxes: stamps for peers, polls, the judgement of what a host hands out, deletion after the commit, and a new
//! mailbox in the place of one that is a week old.

use std::collections::BTreeMap;

use millpond_mailbox::{
    frame::Grant,
    host::{ORDINARY_DAYS, RECOVERY_DAYS},
    host_protocol::{Cursor, Fetched},
    mailbox::{MailboxSecret, Verdict},
    session::{Arrived, InEvent, OwnMailbox, Wanted},
    stamp::{Class, MailboxId, Serial},
    time::UnixMillis,
};

use super::{Node, Out, Step};
use crate::sim::{
    disk::{Disk, OwnRow},
    fate::Killed,
    host::MailHost,
    plan::{DAY, HOUR},
};

/// Envelopes of each peer, with their serials.
pub(super) type OfLinks = BTreeMap<usize, (Vec<Arrived>, Vec<Serial>)>;

impl Node {
    /// Issues what a session says that its peer lacks, in the commit of the session.
    pub(super) fn grant(&mut self, peer: usize, step: &mut Step<'_>) -> Result<(), Killed> {
        let shown = self.disk.shown();
        let Some(carried) = self.memory.as_ref().and_then(|memory| memory.sessions.get(&peer)) else { return Ok(()) };
        let (link, wanted) = (carried.link(), carried.session.stamps_wanted(&shown));
        let mut grants = Vec::new();
        for Wanted { mailbox, class, count } in wanted {
            let Some(own) = self.disk.mailboxes.get_mut(&mailbox.id) else { continue };
            grants.extend(own.issue(link, class, usize::from(count), &mut self.rng));
        }
        if !grants.is_empty() {
            self.feed(peer, InEvent::Granted(grants), &[], step)?;
        }
        Ok(())
    }

    /// Stamps for a new contact, as they travel over a stream of the link.
    pub fn first_stamps(&mut self, peer: usize) -> Vec<Grant> {
        let Some(link) = self.disk.sessions.get(&peer).map(|rows| super::Carried::read(rows).link()) else {
            return Vec::new();
        };
        let mut grants = Vec::new();
        for own in self.disk.mailboxes.values_mut().filter(|own| !own.shown.draining) {
            let classes: &[(Class, usize)] =
                if own.shown.recovery { &[(Class::S, 1)] } else { &[(Class::S, 24), (Class::L, 8)] };
            for (class, count) in classes {
                grants.extend(own.issue(link, *class, *count, &mut self.rng));
            }
        }
        grants
    }

    /// Makes a mailbox at a host. Mailboxes are made by hand here: tokens have tests of their own.
    pub fn open_mailbox(&mut self, number: usize, host: &mut MailHost, recovery: bool, now: u64) -> bool {
        let secret = MailboxSecret::generate(&mut self.rng);
        if !host.create(&secret, recovery, UnixMillis(now)) {
            return false;
        }
        let shown = OwnMailbox { id: secret.id(), host: host.key, recovery, draining: false };
        let opened = self.clock(now);
        // What is in use there is only read from now on.
        let before = self.disk.mailboxes.values_mut();
        before
            .filter(|own| own.host == number && own.shown.recovery == recovery)
            .for_each(|own| own.shown.draining = true);
        self.disk.mailboxes.insert(secret.id(), OwnRow::new(secret, number, shown, opened));
        true
    }

    /// Forgets mailboxes that are gone; at which hosts a new one is to be made: where there is none, where one is a week old, where a
    /// host has forgotten one.
    pub fn wanted_mailboxes(&mut self, now: u64) -> Vec<(usize, bool)> {
        let now = self.clock(now);
        let age = |own: &OwnRow| now.0.saturating_sub(own.opened.0);
        let gone = |own: &OwnRow| {
            let days = if own.shown.recovery { RECOVERY_DAYS } else { ORDINARY_DAYS };
            age(own) >= DAY * (u64::from(days) + 1)
        };
        self.disk.mailboxes.retain(|_, own| !gone(own));
        let good = |own: &OwnRow| {
            let ends = if own.shown.recovery { RECOVERY_EPOCH } else { EPOCH };
            !own.shown.draining && age(own) < ends && (!own.lost || age(own) < LOST)
        };
        let has = |host: usize, recovery: bool| {
            let mut own = self.disk.mailboxes.values();
            own.any(|own| own.host == host && own.shown.recovery == recovery && good(own))
        };
        let both = self.hosts.iter().flat_map(|host| [(*host, false), (*host, true)]);
        both.filter(|(host, recovery)| !has(*host, *recovery)).collect()
    }

    /// The host says that there is no such mailbox.
    pub(super) fn lose(&mut self, mailbox: MailboxId) {
        if let Some(own) = self.disk.mailboxes.get_mut(&mailbox) {
            own.lost = true;
        }
    }

    /// Polls every mailbox.
    pub fn poll_all(&mut self, step: &mut Step<'_>) {
        let ids: Vec<MailboxId> = self.disk.mailboxes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.poll(id, step));
    }

    /// Polls a mailbox.
    pub fn poll(&mut self, mailbox: MailboxId, step: &mut Step<'_>) {
        let (Some(memory), Some(own)) = (&mut self.memory, self.disk.mailboxes.get(&mailbox)) else { return };
        let reading = memory.reading.entry(mailbox).or_default();
        if std::mem::replace(&mut reading.polling, true) {
            reading.again = true;
            return;
        }
        let (host, secret, after) = (own.host, Box::new(own.secret.clone()), reading.cursor);
        step.out.push(Out::Fetch { host, secret, after });
    }

    /// Whether something came while the poll that ends was under way.
    pub(super) fn end_poll(&mut self, mailbox: MailboxId) -> bool {
        let Some(reading) = self.memory.as_mut().and_then(|memory| memory.reading.get_mut(&mailbox)) else {
            return false;
        };
        reading.polling = false;
        std::mem::take(&mut reading.again)
    }

    pub(super) fn set_cursor(&mut self, mailbox: MailboxId, next: Cursor) {
        if let Some(reading) = self.memory.as_mut().and_then(|memory| memory.reading.get_mut(&mailbox)) {
            reading.cursor = next;
        }
    }

    /// Whose is what a host handed out, and what can go at once.
    pub(super) fn judge(&mut self, mailbox: MailboxId, page: &Fetched, step: &mut Step<'_>) -> (OfLinks, Vec<Serial>) {
        let (mut of_links, mut gone) = (OfLinks::new(), Vec::new());
        let (Some(own), Some(memory)) = (self.disk.mailboxes.get_mut(&mailbox), &self.memory) else {
            return (of_links, gone);
        };
        for deposit in &page.deposits {
            let serial = deposit.header().serial();
            own.recognise(deposit, memory.peers.keys().copied());
            match own.secret.judge(&own.shown.host, deposit, own.issued.get(&serial)) {
                Verdict::Contact { link, seed } => {
                    // Of a link that is no more: noted and deleted.
                    let Some(peer) = memory.peers.get(&link) else { continue };
                    let (arrived, serials) = of_links.entry(*peer).or_default();
                    arrived.push(Arrived { header: *deposit.header(), seed, body: deposit.body().clone() });
                    serials.push(serial);
                }
                Verdict::Again | Verdict::Revoked => gone.push(serial),
                Verdict::Host(_) => {
                    step.stats.host_faults += 1;
                    gone.push(serial);
                }
            }
        }
        (of_links, gone)
    }

    /// Deletes at the host what is dealt with.
    pub(super) fn delete(
        &mut self,
        mailbox: MailboxId,
        mut serials: Vec<Serial>,
        step: &mut Step<'_>,
    ) -> Result<(), Killed> {
        let Some(own) = self.disk.mailboxes.get(&mailbox) else { return Ok(()) };
        let (host, secret) = (own.host, Box::new(own.secret.clone()));
        if let Some(reading) = self.memory.as_mut().and_then(|memory| memory.reading.get_mut(&mailbox)) {
            serials.append(&mut reading.undeleted);
        }
        if serials.is_empty() {
            return Ok(());
        }
        step.fate.step()?;
        step.out.push(Out::Delete { host, secret, serials });
        Ok(())
    }

    /// The host did not delete: again with the next ones.
    pub fn on_undeleted(&mut self, mailbox: MailboxId, serials: Vec<Serial>) {
        if let Some(memory) = &mut self.memory {
            memory.reading.entry(mailbox).or_default().undeleted.extend(serials);
        }
    }
}

impl Disk {
    /// Envelopes under these serials were received.
    pub(super) fn note_used(&mut self, used: &[(MailboxId, Serial)]) {
        for (mailbox, serial) in used {
            if let Some(issued) = self.mailboxes.get_mut(mailbox).and_then(|own| own.issued.get_mut(serial)) {
                issued.used = true;
            }
        }
    }
}

/// How long a mailbox takes mail, and a recovery mailbox, as in the driver.
const EPOCH: u64 = 7 * DAY;
const RECOVERY_EPOCH: u64 = 200 * DAY;
/// After so long a mailbox that its host has forgotten is replaced.
const LOST: u64 = 6 * HOUR;
