//! Retry and placement (overlay.md, section 5).
//!
//! | what is known | what happens |
//! |---|---|
//! | no R1 | the other mailbox; then 1, 2, 4 ... 60 min with jitter: the same bytes again to each |
//! | R1 without R2 | the other mailbox after 24 h, 2, 4 and 8 days, under a new stamp |
//! | acknowledged around it, R1 over 1 h ago | the other mailbox at once |
//! | nothing for 30 days | dormant: no traffic; the rows stay |

use std::time::Duration;

use rand_core::CryptoRng;

use super::{
    Context, DepositId, Notice, Outcome, OwnMailbox, RowKey, Session, Wanted,
    commit::Out,
    flight::{Flight, FlightKind, FlightRow, Stale},
};
use crate::{host_key::HostKey, stamp::Class, time::UnixMillis};

impl Session {
    /// When the next slot is of use; `None`: not before something else happens. An idle link says `None`.
    #[must_use]
    pub fn wants_slot(&self, now: UnixMillis, mailboxes: &[OwnMailbox]) -> Option<UnixMillis> {
        if self.state.revoked || self.state.dormant {
            return None;
        }
        let mut due: Vec<UnixMillis> = self.state.flights.iter().filter_map(|flight| self.due(flight)).collect();
        due.extend(self.state.ack_due);
        due.extend(self.hello_due(now));
        due.extend(self.sleepy_at());
        if self.state.live.is_some()
            && (self.can_seal(now) || self.grants_due(now, mailboxes) || self.can_say_back(now))
        {
            due.push(now);
        }
        // What waits may go when a mailbox that refused is tried again.
        if !self.queue.is_empty() {
            due.extend(self.state.wallet.opens(now));
        }
        // What falls due while the session rests does not rest with it.
        let rested = |due: UnixMillis| self.rest.filter(|rest| due <= rest.since).map_or(due, |rest| rest.until);
        due.into_iter().map(rested).min()
    }

    /// Hosts that could not be reached and for which something waits: feed `Reachable` as soon as one of them answers, instead of
    /// waiting until it is tried again.
    #[must_use]
    pub fn waits_for(&self) -> Vec<HostKey> {
        if self.state.revoked || self.state.dormant || self.failing.is_empty() {
            return Vec::new();
        }
        let acks = self.state.ack_unsure && self.acks.is_empty();
        let waiting = |host: &&HostKey| {
            let mut copies = self.state.under_way().flat_map(|flight| {
                flight.unresolved().filter(|copy| !self.in_air(flight, copy.number)).map(|copy| copy.host)
            });
            acks || copies.any(|of| of == **host)
        };
        self.failing.keys().filter(waiting).copied().collect()
    }

    pub(super) fn on_reachable(&mut self, now: UnixMillis, host: &HostKey) {
        if self.failing.remove(host).is_none() {
            return;
        }
        let air = &self.air;
        let waits = |flight: &Flight| {
            let there = |number| air.contains(&DepositId { flight: flight.id, copy: number });
            flight.unresolved().any(|copy| copy.host == *host && !there(copy.number))
        };
        let waiting = self.state.flights.iter_mut().filter(|flight| flight.stale == Stale::No && waits(flight));
        waiting.for_each(|flight| flight.next_try = flight.next_try.min(now));
        self.state.ack_due = self.state.ack_due.map(|due| due.min(now));
    }

    /// Stamps that the peer should get with the next frame. Ask before each slot.
    #[must_use]
    pub fn stamps_wanted(&self, mailboxes: &[OwnMailbox]) -> Vec<Wanted> {
        if self.state.revoked {
            return Vec::new();
        }
        self.state.grants.wanted(mailboxes, self.state.hello.is_answering())
    }

    /// The peer runs out of stamps, and the link is in use: they go in a frame of their own.
    pub(super) fn grants_due(&self, now: UnixMillis, mailboxes: &[OwnMailbox]) -> bool {
        let used = self.state.last_sent.max(self.state.last_heard);
        let in_use = used.is_some_and(|used| now < used.after(IN_USE));
        let under_way = self.state.under_way().any(|flight| flight.kind == FlightKind::Frame);
        let grants = &self.state.grants;
        let there = || grants.has_pending() || !grants.wanted(mailboxes, false).is_empty();
        in_use && !under_way && grants.is_low(mailboxes) && there() && self.has_stamp(now, Class::S, true, &[])
    }

    pub(super) fn on_outcome(
        &mut self,
        ctx: &Context<'_>,
        deposit: DepositId,
        outcome: Outcome,
        out: &mut Out,
        rng: &mut impl CryptoRng,
    ) {
        if !self.air.remove(&deposit) {
            return;
        }
        if deposit.flight == 0 {
            return self.on_acks_outcome(ctx, deposit.copy, outcome, out, rng);
        }
        let first = self.fresh.remove(&deposit);
        let Some(index) = self.state.flights.iter().position(|flight| flight.id == deposit.flight) else { return };
        let flight = &mut self.state.flights[index];
        let Some(at) = flight.copies.iter().position(|copy| copy.number == deposit.copy) else { return };
        let (host, mailbox) = (flight.copies[at].host, flight.copies[at].mailbox);
        match outcome {
            Outcome::Stored => {
                flight.copies[at].stored = true;
                flight.failures = 0;
                flight.stored = Some(ctx.now);
                flight.want_other = false;
                self.failing.remove(&host);
                self.state.wallet.stored(mailbox);
                out.delete(RowKey::Copy(deposit.flight, deposit.copy));
                return;
            }
            Outcome::Full | Outcome::Unreachable => {
                self.failing.insert(host, ctx.now.after(FAILING));
            }
            // It went before, and nobody knows what became of it: most likely it lay there and was read. An hour shows.
            Outcome::Spent | Outcome::Refused if !first && flight.kind != FlightKind::Hello => {
                flight.copies[at].stored = true;
                flight.stored = Some(ctx.now);
                flight.hole = true;
                flight.want_other = false;
                out.delete(RowKey::Copy(deposit.flight, deposit.copy));
                return;
            }
            // There is one stamp for a HELLO: should the host have lied, the same bytes are good tomorrow.
            Outcome::Spent | Outcome::Refused if flight.kind == FlightKind::Hello => {}
            Outcome::Spent | Outcome::Refused => {
                flight.copies.remove(at);
                out.delete(RowKey::Copy(deposit.flight, deposit.copy));
                self.state.wallet.refused(mailbox, ctx.now);
                out.changed();
                self.suspect(ctx.now, outcome);
            }
        }
        // Copies that went together fail together: the last of them says when to go on.
        let flight = &self.state.flights[index];
        if !flight.unresolved().any(|copy| self.in_air(flight, copy.number)) {
            self.schedule(ctx, index, outcome, rng);
        }
        out.noted();
    }

    /// Not the hosts were at fault, but our own way to them.
    pub(super) fn on_way_back(&mut self, now: UnixMillis, out: &mut Out) {
        self.failing.clear();
        for flight in self.state.flights.iter_mut().filter(|flight| flight.failures > 0 && flight.stored.is_none()) {
            flight.next_try = flight.next_try.min(now);
        }
        if let Some(due) = &mut self.state.ack_due {
            *due = now.min(*due);
        }
        out.noted();
    }

    /// Acknowledgements are made anew, not sent again: at once if another host may take them.
    fn on_acks_outcome(
        &mut self,
        ctx: &Context<'_>,
        number: u32,
        outcome: Outcome,
        out: &mut Out,
        rng: &mut impl CryptoRng,
    ) {
        let Some((host, mailbox)) = self.acks.remove(&number) else { return };
        out.noted();
        match outcome {
            Outcome::Stored => {
                self.failing.remove(&host);
                self.state.wallet.stored(mailbox);
                self.state.ack_unsure = !self.acks.is_empty();
                self.ack_failures = 0;
                return;
            }
            Outcome::Full | Outcome::Unreachable => {
                self.failing.insert(host, ctx.now.after(FAILING));
            }
            Outcome::Spent | Outcome::Refused => {
                self.state.wallet.refused(mailbox, ctx.now);
                self.suspect(ctx.now, outcome);
            }
        }
        let failing: Vec<HostKey> = self.failing.keys().copied().collect();
        // Each try costs a stamp: while no host answers, few are made.
        let other = self.has_stamp(ctx.now, Class::S, true, &failing);
        let wait = if other { Duration::ZERO } else { backoff(self.ack_failures, rng) };
        self.ack_failures = if other { self.ack_failures } else { self.ack_failures.saturating_add(1) };
        let due = ctx.now.after(wait);
        self.state.ack_due = Some(self.state.ack_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When the flight is to be looked at.
    fn due(&self, flight: &Flight) -> Option<UnixMillis> {
        if flight.stale != Stale::No {
            return self.state.live.is_some().then_some(flight.next_try);
        }
        let waiting = flight.unresolved().any(|copy| !self.in_air(flight, copy.number));
        let retry = (waiting || is_lost(flight) || flight.want_other).then_some(flight.next_try);
        [retry, again_at(flight)].into_iter().flatten().min()
    }

    /// Everything whose time has come: the same bytes again, or another envelope.
    pub(super) fn retry(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        let ids: Vec<u32> = self.state.under_way().map(|flight| flight.id).collect();
        for id in ids {
            let Some(index) = self.state.flights.iter().position(|flight| flight.id == id) else { continue };
            let flight = &self.state.flights[index];
            if again_at(flight).is_some_and(|at| ctx.now >= at) {
                self.seal_again(ctx, index, out, rng);
            } else if self.due(flight).is_some_and(|at| ctx.now >= at) {
                self.try_again(ctx, index, out, rng);
            }
        }
    }

    /// No R1: another mailbox if there is one that has no copy yet, and the bytes that are not known to have arrived.
    fn try_again(&mut self, ctx: &Context<'_>, index: usize, out: &mut Out, rng: &mut impl CryptoRng) {
        let flight = self.state.flights[index].clone();
        let lost = is_lost(&flight);
        let placed = (flight.want_other || lost) && self.place(ctx, index, &flight.hosts(), out, rng);
        if lost && !placed {
            self.place(ctx, index, &[], out, rng);
        }
        for copy in flight.unresolved().filter(|copy| !self.in_air(&flight, copy.number)) {
            let row = out.row(ctx.rows, RowKey::Copy(flight.id, copy.number));
            let Some(bytes) = row else { continue };
            let id = DepositId { flight: flight.id, copy: copy.number };
            out.deposit(id, copy.host, bytes.to_vec());
        }
        for copy in flight.unresolved() {
            self.air.insert(DepositId { flight: flight.id, copy: copy.number });
        }
        let flight = &mut self.state.flights[index];
        flight.want_other = false;
        // Should no outcome ever come.
        flight.next_try = ctx.now.after(LONGEST);
        out.noted();
    }

    /// R1 without R2, or a hole: the same Olm bytes under a new stamp, through the other mailbox if there is one.
    fn seal_again(&mut self, ctx: &Context<'_>, index: usize, out: &mut Out, rng: &mut impl CryptoRng) {
        let flight = &self.state.flights[index];
        let last: Vec<_> = flight.copies.last().map(|copy| copy.host).into_iter().collect();
        let placed = self.place(ctx, index, &last, out, rng) || self.place(ctx, index, &[], out, rng);
        let flight = &mut self.state.flights[index];
        if placed {
            flight.again = flight.again.saturating_add(1);
            flight.stored = None;
        } else {
            // No stamp for it now: again when there may be one. For a HELLO there will be none.
            if flight.kind == FlightKind::Hello {
                flight.again = u8::MAX;
            }
            flight.next_try = ctx.now.after(LONGEST);
            flight.stored = flight.stored.map(|stored| stored.after(LONGEST));
        }
        flight.hole = false;
        out.changed();
    }

    /// One more envelope of a flight, at none of these hosts.
    fn place(
        &mut self,
        ctx: &Context<'_>,
        index: usize,
        never: &[crate::host_key::HostKey],
        out: &mut Out,
        rng: &mut impl CryptoRng,
    ) -> bool {
        let (id, kind) = (self.state.flights[index].id, self.state.flights[index].kind);
        let (class, essential) = (self.state.flights[index].class, self.state.flights[index].essential);
        let row = out.row(ctx.rows, RowKey::Flight(id)).and_then(|bytes| FlightRow::from_bytes(&bytes));
        let Some(row) = row else { return false };
        let stamp = match kind {
            FlightKind::Hello => self.state.wallet.take_recovery(never),
            _ => self.stamp(ctx, class, essential, never),
        };
        let Some(stamp) = stamp else { return false };
        out.changed();
        self.add_copy(ctx, index, stamp, &row, out, rng);
        true
    }

    /// When to try again after a failure.
    fn schedule(&mut self, ctx: &Context<'_>, index: usize, outcome: Outcome, rng: &mut impl CryptoRng) {
        let hosts = self.state.flights[index].hosts();
        let (class, essential) = (self.state.flights[index].class, self.state.flights[index].essential);
        let other = match self.state.flights[index].kind {
            FlightKind::Hello => self.state.wallet.recovery().iter().any(|stamp| !hosts.contains(&stamp.host)),
            _ => self.has_stamp(ctx.now, class, essential, &hosts),
        };
        let flight = &mut self.state.flights[index];
        let untouched = flight.failures == 0 && other;
        flight.want_other = other && (untouched || is_lost(flight));
        let refused = flight.kind == FlightKind::Hello && matches!(outcome, Outcome::Spent | Outcome::Refused);
        let wait = if refused { DAY } else { backoff(flight.failures, rng) };
        flight.next_try = if flight.want_other { ctx.now } else { ctx.now.after(wait) };
        flight.failures = flight.failures.saturating_add(1);
    }

    fn in_air(&self, flight: &Flight, copy: u32) -> bool {
        self.air.contains(&DepositId { flight: flight.id, copy })
    }

    /// Whoever was away himself has heard nobody meanwhile: what waited is tried again, and the silence counts from now.
    pub(super) fn note_awake(&mut self, now: UnixMillis) {
        let before = self.state.awake.replace(now);
        if before.is_none_or(|before| now < before.after(AWAY)) || self.state.dormant {
            return;
        }
        for flight in &mut self.state.flights {
            flight.sealed = now;
            flight.next_try = now;
            if flight.kind != FlightKind::Hello {
                flight.again = 0;
            }
        }
    }

    /// After 30 days in which nothing came through, the link sleeps.
    pub(super) fn doze(&mut self, now: UnixMillis, out: &mut Out) {
        if !self.state.dormant && self.sleepy_at().is_some_and(|at| now >= at) {
            self.state.dormant = true;
            out.changed();
            out.notice(Notice::Dormant);
        }
    }

    fn sleepy_at(&self) -> Option<UnixMillis> {
        let oldest = self.state.flights.iter().map(|flight| flight.sealed).min()?;
        let since = self.state.last_heard.map_or(oldest, |heard| heard.max(oldest));
        Some(since.after(DORMANT))
    }

    /// The peer is heard: what waited is tried again at once.
    pub(super) fn wake(&mut self, ctx: &Context<'_>, out: &mut Out) {
        self.state.last_heard = Some(ctx.now);
        if std::mem::take(&mut self.state.dormant) {
            for flight in &mut self.state.flights {
                flight.next_try = ctx.now;
                flight.again = 0;
                flight.sealed = ctx.now;
                flight.stored = flight.stored.map(|_| UnixMillis(0));
            }
            out.notice(Notice::Awake);
        }
        out.changed();
    }
}

/// No envelope of it is at a host that has not had its time, nor on its way: each was refused, or lay there long and in vain.
fn is_lost(flight: &Flight) -> bool {
    flight.stored.is_none() && flight.unresolved().next().is_none()
}

/// When a flight that lies at a host is sealed again.
fn again_at(flight: &Flight) -> Option<UnixMillis> {
    if flight.kind == FlightKind::Hello && flight.again > 0 {
        return None;
    }
    let stored = flight.stored?;
    if flight.hole {
        return Some(stored.after(HOLE));
    }
    // As long as the peer is heard the link does not sleep, and the last span comes again and again.
    let span = AGAIN.get(usize::from(flight.again)).or(AGAIN.last())?;
    Some(stored.after(*span))
}

/// 1, 2, 4 ... 60 minutes, a quarter more or less.
fn backoff(failures: u8, rng: &mut impl CryptoRng) -> Duration {
    let minutes = 1_u64.checked_shl(u32::from(failures.saturating_sub(1))).unwrap_or(u64::MAX).min(60);
    let thousandths = 750 + u64::from(rng.next_u32()) % 501;
    Duration::from_millis(minutes * 60 * thousandths)
}

/// R1 without R2: the first wait, then each after the one before.
const AGAIN: [Duration; 4] = [days(1), days(2), days(4), days(8)];
/// A hole in the acknowledgements counts from an hour on: younger ones are reordering.
const HOLE: Duration = Duration::from_secs(3_600);
/// Without a word, until a link sleeps.
const DORMANT: Duration = days(30);
/// Without anything happening here at all: longer than any wait between two tries.
const AWAY: Duration = days(10);
const LONGEST: Duration = Duration::from_secs(3_600);
/// Between two tries of a HELLO that a host refused.
const DAY: Duration = days(1);
/// How long other hosts are tried first.
const FAILING: Duration = Duration::from_secs(600);
/// A link is in use while something went over it within this time. Others cost nothing.
const IN_USE: Duration = days(7);

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}
