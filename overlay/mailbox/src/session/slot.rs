//! A send slot: everything that is due goes, in one commit.

use rand_core::CryptoRng;

use super::{Context, Rest, Session, commit::Out, flight::Stale};

impl Session {
    pub(super) fn on_slot(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        self.send(ctx, out, rng);
        if out.is_empty() {
            self.rest = Some(Rest { since: ctx.now, until: ctx.now.after(REST) });
        }
    }

    fn send(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        self.expire(ctx, out);
        self.doze(ctx.now, out);
        if self.state.dormant {
            return;
        }
        // 1. A link that was set back is made anew before anything else goes.
        self.hello(ctx, out, rng);
        if self.state.hello.is_answering() {
            return;
        }
        // 2. What is under way and late.
        self.retry(ctx, out, rng);
        if self.state.live.is_none() {
            return;
        }
        // 3. What the peer could not open, oldest first; none overtakes another, for the sake of to-device messages.
        let before = self.state.next_flight;
        self.reseal(ctx, out, rng);
        let blocked = self.state.flights.iter().any(|flight| flight.stale == Stale::Line);
        // 4. New frames. A step of the ratchet goes with one, or with the acknowledgement of the peer's.
        if !self.queue.is_empty() || self.state.ack_due.is_some() {
            self.begin_step(ctx, out, rng);
        }
        if !blocked {
            while self.seal_fresh(ctx, out, rng) {}
        }
        if self.state.next_flight != before {
            return;
        }
        // 5. Stamps for a peer who has few or has not heard us for weeks, else acknowledgements alone.
        let stamps = self.grants_due(ctx.now, ctx.mailboxes) && self.state.grants.has_pending();
        if (stamps || self.is_back(ctx.now)) && self.seal_void(ctx, out, rng) {
            return;
        }
        if self.state.ack_due.is_some_and(|due| ctx.now >= due) {
            self.seal_acks(ctx, out, rng);
        }
    }

    fn reseal(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        let stale: Vec<u32> =
            self.state.flights.iter().filter(|flight| flight.stale != Stale::No).map(|flight| flight.id).collect();
        for id in stale {
            if !self.seal_anew(ctx, id, out, rng) {
                let later = ctx.now.after(LATER);
                let waiting = self.state.flights.iter_mut().filter(|flight| flight.stale != Stale::No);
                waiting.for_each(|flight| flight.next_try = later);
                return;
            }
        }
    }

    /// What time alone does.
    fn expire(&mut self, ctx: &Context<'_>, out: &mut Out) {
        self.state.grants.forget_closed(ctx.mailboxes);
        for handle in self.queue.expired(ctx.now) {
            out.done(handle);
        }
        if let Some(line) = &mut self.state.live
            && line.ratchet.expire(ctx.now)
        {
            out.changed();
        }
        if self.state.old.as_ref().is_some_and(|old| ctx.now >= old.until) {
            self.state.old = None;
            out.changed();
        }
    }
}

/// After a slot in which nothing could be done.
const REST: std::time::Duration = std::time::Duration::from_secs(60);
/// Until what waits for stamps is looked at again, if none come before.
const LATER: std::time::Duration = std::time::Duration::from_secs(600);
