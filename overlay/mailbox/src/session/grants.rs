//! The stamps that the peer has from us. They go with every frame until the peer acknowledges them by number, so none is lost
//! with a frame that nobody acknowledges.

use serde::{Deserialize, Serialize};

use super::{OwnMailbox, Wanted};
use crate::{
    frame::{Grant, MAX_GRANTS},
    stamp::{Class, MailboxId},
};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Grants {
    next: u32,
    /// Given, and not acknowledged.
    pending: Vec<(u32, Grant)>,
    out: Vec<Outstanding>,
}

/// Stamps for one of our mailboxes that the peer has, or will have.
#[derive(Clone, Serialize, Deserialize)]
struct Outstanding {
    mailbox: MailboxId,
    recovery: bool,
    small: Count,
    large: Count,
}

/// Of one size.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Count {
    given: u16,
    /// Their envelopes arrived.
    seen: u16,
    /// The peer says that they are used.
    told: u16,
}

impl Count {
    /// What the peer can still use. It is believed a little more than what arrived: the rest may be lost, or a lie.
    fn left(self, slack: u16) -> u16 {
        let used = self.seen.max(self.told.min(self.seen.saturating_add(slack)));
        self.given.saturating_sub(used)
    }
}

impl Outstanding {
    fn of(&mut self, class: Class) -> &mut Count {
        match class {
            Class::S => &mut self.small,
            Class::L => &mut self.large,
        }
    }

    fn left(&self, class: Class) -> u16 {
        match class {
            Class::S => self.small.left(SLACK_SMALL),
            Class::L => self.large.left(SLACK_LARGE),
        }
    }
}

impl Grants {
    /// Takes stamps for the peer, to go with the next frames.
    pub(super) fn add(&mut self, grant: Grant) {
        self.note_given(&grant);
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.pending.push((number, grant));
    }

    /// Stamps that the peer has got by another way.
    pub(super) fn note_given(&mut self, grant: &Grant) {
        let (mailbox, count) = (grant.batch.mailbox(), u16::try_from(grant.batch.len()).unwrap_or(u16::MAX));
        if !self.out.iter().any(|out| out.mailbox == mailbox) {
            self.out.push(Outstanding {
                mailbox,
                recovery: grant.recovery,
                small: Count::default(),
                large: Count::default(),
            });
        }
        if let Some(out) = self.out.iter_mut().find(|out| out.mailbox == mailbox) {
            let of_class = out.of(grant.batch.class());
            of_class.given = of_class.given.saturating_add(count);
        }
    }

    /// The peer has everything below this number.
    pub(super) fn acknowledged(&mut self, below: u32) {
        self.pending.retain(|(number, _)| *number >= below);
    }

    /// The peer used one.
    pub(super) fn used(&mut self, mailbox: MailboxId, class: Class) {
        if let Some(out) = self.out.iter_mut().find(|out| out.mailbox == mailbox) {
            let of_class = out.of(class);
            of_class.seen = of_class.seen.saturating_add(1);
        }
    }

    /// The peer says how many it used: the envelopes of some were lost, or given up before they were deposited.
    pub(super) fn told(&mut self, used: &[(MailboxId, u16, u16)]) {
        for (mailbox, small, large) in used {
            if let Some(out) = self.out.iter_mut().find(|out| out.mailbox == *mailbox) {
                out.small.told = out.small.told.max(*small);
                out.large.told = out.large.told.max(*large);
            }
        }
    }

    /// What goes with a frame, oldest first, in at most so many bytes.
    pub(super) fn for_frame(&self, budget: usize) -> Vec<(u32, Grant)> {
        let mut left = budget;
        let fits = |(_, grant): &&(u32, Grant)| match left.checked_sub(wire_len(grant)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        self.pending.iter().take_while(fits).take(MAX_GRANTS).cloned().collect()
    }

    /// Whether there is one for a mailbox that takes answers.
    pub(super) fn has_ordinary(&self) -> bool {
        self.pending.iter().any(|(_, grant)| !grant.recovery)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What the peer lacks. Mailboxes that are not in use any more are forgotten.
    pub(super) fn wanted(&self, mailboxes: &[OwnMailbox], sparing: bool) -> Vec<Wanted> {
        if self.pending.len() >= MAX_PENDING {
            return Vec::new();
        }
        let targets = mailboxes.iter().filter(|mailbox| !mailbox.draining).flat_map(|mailbox| {
            match (mailbox.recovery, sparing) {
                (true, _) => vec![(mailbox, Class::S, 1)],
                (false, true) => vec![(mailbox, Class::S, SPARING)],
                (false, false) => vec![(mailbox, Class::S, SMALL), (mailbox, Class::L, LARGE)],
            }
        });
        let lacking = targets.filter_map(|(mailbox, class, target)| {
            let count = target.saturating_sub(self.outstanding(mailbox.id, class));
            (count > 0).then_some(Wanted { mailbox: *mailbox, class, count })
        });
        // What is small, and for each host, goes before what is large: a small frame takes two or three of these, and always the oldest.
        let mut wanted: Vec<Wanted> = lacking.collect();
        wanted.sort_by_key(|wanted| wanted.class);
        wanted
    }

    /// Whether the peer may soon be unable to send: it then gets stamps in a frame that has to be acknowledged.
    pub(super) fn is_low(&self, mailboxes: &[OwnMailbox]) -> bool {
        let counts = |mailbox: &&OwnMailbox| !mailbox.recovery && !mailbox.draining;
        mailboxes.iter().filter(counts).any(|mailbox| self.confirmed(mailbox.id) < RESERVE)
    }

    /// Whether the peer has no small stamp at all that we know of.
    pub(super) fn is_spent(&self) -> bool {
        let ordinary = self.pending.iter().filter(|(_, grant)| !grant.recovery);
        let pending: u16 = ordinary.map(|(_, grant)| small_of(grant)).sum();
        let all: u16 = self.out.iter().filter(|out| !out.recovery).map(|out| out.left(Class::S)).sum();
        all <= pending
    }

    /// Takes out of what waits as much as is let through; it counts as given.
    pub(super) fn take_pending(&mut self, mut fits: impl FnMut(&Grant) -> bool) -> Vec<Grant> {
        let (taken, rest) = std::mem::take(&mut self.pending).into_iter().partition(|(_, grant)| fits(grant));
        self.pending = rest;
        let taken: Vec<(u32, Grant)> = taken;
        taken.into_iter().map(|(_, grant)| grant).collect()
    }

    /// On a new line grants are counted anew.
    pub(super) fn restart(&mut self) {
        self.next = 0;
        for (number, _) in &mut self.pending {
            *number = self.next;
            self.next += 1;
        }
    }

    /// Mailboxes that are closed count no more. Stamps for one that only drains are of no use to who has not got them yet, and would
    /// keep those for the one in its place waiting: its host may have lost it.
    pub(super) fn forget_closed(&mut self, mailboxes: &[OwnMailbox]) {
        self.out.retain(|out| mailboxes.iter().any(|mailbox| mailbox.id == out.mailbox));
        let in_use = |id: MailboxId| mailboxes.iter().any(|mailbox| mailbox.id == id && !mailbox.draining);
        self.pending.retain(|(_, grant)| in_use(grant.batch.mailbox()));
    }

    fn outstanding(&self, mailbox: MailboxId, class: Class) -> u16 {
        let out = self.out.iter().find(|out| out.mailbox == mailbox);
        out.map_or(0, |out| out.left(class))
    }

    fn confirmed(&self, mailbox: MailboxId) -> u16 {
        let of_mailbox = self.pending.iter().filter(|(_, grant)| grant.batch.mailbox() == mailbox);
        let pending: u16 = of_mailbox.map(|(_, grant)| small_of(grant)).sum();
        self.outstanding(mailbox, Class::S).saturating_sub(pending)
    }
}

fn small_of(grant: &Grant) -> u16 {
    if grant.batch.class() == Class::S { u16::try_from(grant.batch.len()).unwrap_or(u16::MAX) } else { 0 }
}

/// Bytes of a grant in a frame: seed, ids, 18 a stamp, and what CBOR puts around them.
pub(super) fn wire_len(grant: &Grant) -> usize {
    128 + 18 * grant.batch.len()
}

/// Small stamps that a contact has for each mailbox (overlay.md, section 3).
const SMALL: u16 = 24;
/// Large ones.
const LARGE: u16 = 8;
/// Small ones in the answer to a HELLO, which has to fit one small envelope.
const SPARING: u16 = 12;
/// The last of them are only for acknowledgements, keys, membership and stamps.
pub(super) const RESERVE: u16 = 8;
/// So many more than arrived are believed to be used: a contact that lies gets no more stamps than these.
const SLACK_SMALL: u16 = 12;
const SLACK_LARGE: u16 = 4;
/// Grants that are not acknowledged; beyond it the peer has to speak first.
const MAX_PENDING: usize = 24;
