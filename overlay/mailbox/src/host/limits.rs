//! Bounds on what the host keeps, and on how fast anybody can make it work. Counted in memory only, by mailbox and for the
//! whole host: there is nothing else here to count by.

use std::collections::BTreeMap;

use crate::{stamp::MailboxId, time::UnixMillis};

/// How much the operator lets the host keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Bytes of deposits in all of them together.
    pub bytes: u64,
    /// Pickup boxes.
    pub boxes: u64,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { mailboxes: 10_000, bytes: 20 << 30, boxes: 4_096 }
    }
}

/// What is counted for the whole host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rate {
    /// Requests that were refused.
    Junk,
    /// Evaluations of tokens, the most expensive request.
    Tokens,
}

/// One moment a rate: the time at which its allowance will be whole again.
pub(super) struct Floods {
    rates: BTreeMap<Rate, u64>,
    deposits: BTreeMap<MailboxId, u64>,
}

impl Floods {
    pub(super) fn new() -> Self {
        Self { rates: BTreeMap::new(), deposits: BTreeMap::new() }
    }

    /// Counts one; false: it is one too many now.
    pub(super) fn allow(&mut self, rate: Rate, now: UnixMillis) -> bool {
        let allowance = match rate {
            Rate::Junk => JUNK,
            Rate::Tokens => TOKENS,
        };
        allowance.take(self.rates.entry(rate).or_default(), now)
    }

    /// Counts a deposit in this mailbox; false: it is one too many now.
    pub(super) fn allow_deposit(&mut self, mailbox: &MailboxId, now: UnixMillis) -> bool {
        DEPOSITS.take(self.deposits.entry(*mailbox).or_default(), now)
    }

    /// Forgets the mailboxes whose allowance is whole again.
    pub(super) fn prune(&mut self, now: UnixMillis) {
        self.deposits.retain(|_, whole_at| *whole_at > now.0);
    }
}

/// So many at once, and one more each `every_ms`.
struct Allowance {
    burst: u64,
    every_ms: u64,
}

impl Allowance {
    fn take(&self, whole_at: &mut u64, now: UnixMillis) -> bool {
        let next = (*whole_at).max(now.0).saturating_add(self.every_ms);
        if next - now.0 > self.burst * self.every_ms {
            return false;
        }
        *whole_at = next;
        true
    }
}

/// A mailbox takes 4,096 at once (half its quota) and 20 a second.
const DEPOSITS: Allowance = Allowance { burst: 4_096, every_ms: 50 };
/// All streams together may be refused 1,024 times at once and 50 times a second before streams are closed at the first one.
const JUNK: Allowance = Allowance { burst: 1_024, every_ms: 20 };
/// 16 grants at once and one each 2 s.
const TOKENS: Allowance = Allowance { burst: 16, every_ms: 2_000 };
