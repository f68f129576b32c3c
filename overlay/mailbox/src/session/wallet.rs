//! The stamps that the peer gave us: for each of its mailboxes, and one for each of its recovery mailboxes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    frame::{Grant, MAX_USED},
    host_key::HostKey,
    stamp::{Class, MailboxId, Stamp, StampBatch},
    time::UnixMillis,
};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Wallet {
    /// Oldest first.
    purses: Vec<Purse>,
    recovery: Vec<Stamp>,
}

/// The stamps for one mailbox.
#[derive(Clone, Serialize, Deserialize)]
struct Purse {
    host: HostKey,
    mailbox: MailboxId,
    batches: Vec<Held>,
    /// Stamps that were taken out, small and large.
    taken: (u16, u16),
    /// Stamps that the host refused one after the other.
    refused: u8,
    /// It refused too many: another is not tried before. The mailbox is closed, or the host lies.
    #[serde(default)]
    shut: Option<UnixMillis>,
    /// When the peer gave the newest of them.
    #[serde(default)]
    given: Option<UnixMillis>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Held {
    batch: StampBatch,
    /// How many of it are used, from the front.
    used: u16,
}

/// Which stamp is looked for.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) now: UnixMillis,
    pub(super) class: Class,
    /// How many small stamps of a host have to remain.
    pub(super) reserve: usize,
    /// Hosts in the order in which they are not wanted: failing ones, then our own.
    pub(super) avoid: &'a [HostKey],
    /// Hosts that are out of the question.
    pub(super) never: &'a [HostKey],
}

impl Wallet {
    /// Keeps stamps, within bounds: the oldest mailbox, and stamps beyond what a contact may hold, are given up.
    pub(super) fn add(&mut self, grant: Grant, now: UnixMillis) {
        if grant.recovery {
            self.recovery.retain(|stamp| stamp.host != grant.host);
            let first = grant.batch.stamps(grant.host).into_iter().next();
            self.recovery.extend(first.filter(|stamp| stamp.class == Class::S));
            let surplus = self.recovery.len().saturating_sub(MAX_RECOVERY);
            self.recovery.drain(..surplus);
            return;
        }
        let mailbox = grant.batch.mailbox();
        if !self.purses.iter().any(|purse| purse.mailbox == mailbox) {
            self.purses.push(Purse {
                host: grant.host,
                mailbox,
                batches: Vec::new(),
                taken: (0, 0),
                refused: 0,
                shut: None,
                given: None,
            });
            if self.purses.len() > MAX_MAILBOXES {
                self.purses.remove(0);
            }
        }
        let Some(purse) = self.purses.iter_mut().find(|purse| purse.mailbox == mailbox) else { return };
        if purse.host == grant.host && purse.count(grant.batch.class()) + grant.batch.len() <= MAX_STAMPS {
            purse.batches.push(Held { batch: grant.batch, used: 0 });
            purse.given = Some(now);
        }
    }

    /// How many were taken out, of the newest mailboxes.
    pub(super) fn taken(&self) -> Vec<(MailboxId, u16, u16)> {
        let newest = self.purses.iter().rev().take(MAX_USED);
        newest.map(|purse| (purse.mailbox, purse.taken.0, purse.taken.1)).collect()
    }

    /// All stamps of this size, whatever they may be used for.
    pub(super) fn credit(&self, class: Class) -> usize {
        self.purses.iter().map(|purse| purse.count(class)).sum()
    }

    /// Whether no stamp of any size can be used now: there is none, hosts refuse all that are left, or their mailboxes have closed.
    pub(super) fn is_empty(&self, now: UnixMillis) -> bool {
        !self.purses.iter().any(|purse| purse.is_open(now) && purse.count(Class::S) + purse.count(Class::L) > 0)
    }

    /// Hosts at which something can be said now, each once.
    pub(super) fn hosts(&self, now: UnixMillis) -> Vec<HostKey> {
        let usable = |purse: &&Purse| purse.is_open(now) && purse.count(Class::S) + purse.count(Class::L) > 0;
        let mut hosts: Vec<HostKey> = self.purses.iter().filter(usable).map(|purse| purse.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// When the first mailbox that was given up for a while is tried again.
    pub(super) fn opens(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.purses.iter().filter_map(|purse| purse.shut).filter(|until| now < *until).min()
    }

    /// Whether the peer has ever given any.
    pub(super) fn had_any(&self) -> bool {
        !self.purses.is_empty()
    }

    /// Whether a stamp like this is there.
    pub(super) fn has(&self, choice: Choice<'_>) -> bool {
        self.choose(choice).is_some()
    }

    /// Takes a stamp out. It is used from here on.
    pub(super) fn take(&mut self, choice: Choice<'_>) -> Option<Stamp> {
        let index = self.choose(choice)?;
        let purse = &mut self.purses[index];
        let position = purse.batches.iter().position(|held| held.batch.class() == choice.class)?;
        let held = &mut purse.batches[position];
        let stamp = held.batch.stamps(purse.host).into_iter().nth(usize::from(held.used))?;
        held.used += 1;
        let taken = if choice.class == Class::S { &mut purse.taken.0 } else { &mut purse.taken.1 };
        *taken = taken.saturating_add(1);
        if usize::from(held.used) >= held.batch.len() {
            purse.batches.remove(position);
        }
        Some(stamp)
    }

    /// A stamp for a HELLO, at a host that is not among those.
    pub(super) fn take_recovery(&mut self, never: &[HostKey]) -> Option<Stamp> {
        let position = self.recovery.iter().position(|stamp| !never.contains(&stamp.host))?;
        Some(self.recovery.remove(position))
    }

    pub(super) fn recovery(&self) -> &[Stamp] {
        &self.recovery
    }

    pub(super) fn set_recovery(&mut self, stamps: Vec<Stamp>) {
        self.recovery = stamps;
    }

    /// Gives up every stamp but those for recovery.
    pub(super) fn forget(&mut self) {
        self.purses.clear();
    }

    /// The host refused a stamp that should have been good. After the second in a row the mailbox is left alone for a day: if it is
    /// closed, that costs a stamp a day which is good for nothing else; if the host lied, its other stamps are as good as ever.
    pub(super) fn refused(&mut self, mailbox: MailboxId, now: UnixMillis) {
        if let Some(purse) = self.purses.iter_mut().find(|purse| purse.mailbox == mailbox) {
            purse.refused = purse.refused.saturating_add(1);
            if purse.refused >= MAX_REFUSED {
                purse.shut = Some(now.after(SHUT));
            }
        }
    }

    /// The host took one.
    pub(super) fn stored(&mut self, mailbox: MailboxId) {
        if let Some(purse) = self.purses.iter_mut().find(|purse| purse.mailbox == mailbox) {
            purse.refused = 0;
            purse.shut = None;
        }
    }

    /// The newest mailbox of the least unwanted host that has enough.
    fn choose(&self, choice: Choice<'_>) -> Option<usize> {
        let rank = |host: &HostKey| choice.avoid.iter().position(|avoided| avoided == host).map_or(0, |at| at + 1);
        let reserve = if choice.class == Class::S { choice.reserve } else { 0 };
        let fits = |purse: &Purse| {
            let of_host = self.purses.iter().filter(|other| other.host == purse.host && other.is_open(choice.now));
            let left: usize = of_host.map(|other| other.count(choice.class)).sum();
            let usable = purse.is_open(choice.now) && purse.count(choice.class) > 0;
            usable && left > reserve && !choice.never.contains(&purse.host)
        };
        let mut best: Option<(usize, usize)> = None;
        for (index, purse) in self.purses.iter().enumerate().filter(|(_, purse)| fits(purse)) {
            let rank = rank(&purse.host);
            if best.is_none_or(|(least, _)| rank <= least) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }
}

impl Purse {
    fn is_open(&self, now: UnixMillis) -> bool {
        self.shut.is_none_or(|until| now >= until) && self.given.is_none_or(|given| now < given.after(LIFE))
    }

    fn count(&self, class: Class) -> usize {
        let of_class = self.batches.iter().filter(|held| held.batch.class() == class);
        of_class.map(|held| held.batch.len() - usize::from(held.used).min(held.batch.len())).sum()
    }
}

/// Mailboxes of one peer: two in use, two that only drain, and room for a move.
const MAX_MAILBOXES: usize = 6;
/// Recovery mailboxes of one peer.
const MAX_RECOVERY: usize = 4;
/// Stamps of one size for one mailbox; a contact has 24 small ones.
const MAX_STAMPS: usize = 64;
/// Refusals in a row.
const MAX_REFUSED: u8 = 2;
/// Stamps are given for a mailbox in use, which closes 37 days after it was made, at the end of the day. After that a host that says it
/// has stored something lies: there is nobody to read it.
const LIFE: Duration = Duration::from_secs(38 * 86_400);
/// How long a mailbox is left alone after them.
const SHUT: Duration = Duration::from_secs(86_400);
