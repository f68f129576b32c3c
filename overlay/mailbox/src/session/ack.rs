//! What the peer says about our frames: acknowledged, not openable, missing between others.

use super::{
    Context, Notice, Session,
    commit::Out,
    flight::{Flight, FlightKind, Stale},
    state::flight_rows,
};
use crate::frame::Frame;

impl Session {
    /// Takes over what a frame of the line in use says about ours. `false`: it acknowledges what we never sent, so we were set back.
    pub(super) fn on_acks(&mut self, ctx: &Context<'_>, frame: &Frame, out: &mut Out) -> bool {
        let Some(line) = &self.state.live else { return true };
        if frame.acks.end() > u64::from(line.next_frame) {
            return false;
        }
        self.state.grants.acknowledged(frame.granted);
        self.state.grants.told(&frame.used);
        // 1. What the peer cannot open is encrypted anew, even though it counts as taken.
        for flight in self.state.flights.iter_mut().filter(|flight| flight.kind == FlightKind::Frame) {
            if flight.stale == Stale::No && frame.nak.contains(&flight.frame_no) {
                flight.stale = Stale::Nak;
                flight.next_try = ctx.now;
                out.changed();
            }
        }
        // 2. What is acknowledged is done.
        let acked = |flight: &Flight| flight.stale == Stale::No && frame.acks.contains(u64::from(flight.frame_no));
        let (done, rest): (Vec<Flight>, Vec<Flight>) =
            std::mem::take(&mut self.state.flights).into_iter().partition(|flight| acked(flight) && is_of_line(flight));
        self.state.flights = rest;
        done.iter().for_each(|flight| self.settle(flight, out));
        self.note_heard(frame, out);
        // 3. What is missing although later frames arrived goes through the other mailbox, once it is an hour old.
        let end = frame.acks.end();
        for flight in self.state.flights.iter_mut().filter(|flight| flight.kind == FlightKind::Frame) {
            if flight.stale == Stale::No && u64::from(flight.frame_no) < end && !flight.hole && flight.again < MAX_AGAIN
            {
                flight.hole = true;
                out.noted();
            }
        }
        true
    }

    /// R2 for everything in a flight.
    fn settle(&mut self, flight: &Flight, out: &mut Out) {
        flight_rows(flight).into_iter().for_each(|key| out.delete(key));
        flight.handles.iter().for_each(|handle| out.done(*handle));
        self.air.retain(|deposit| deposit.flight != flight.id);
        let Some(line) = &mut self.state.live else { return };
        if let Some(epoch) = flight.step {
            line.ratchet.acknowledged(epoch);
        }
        for (of, index) in &flight.parts {
            if let Some(large) = line.large.iter_mut().find(|large| large.of == *of) {
                large.acked |= 1 << index;
            }
        }
        line.large.retain(|large| {
            let whole = u32::from(large.count) == large.acked.count_ones();
            if whole {
                out.done(large.handle);
            }
            !whole
        });
        out.changed();
    }

    /// The peer has seen a frame of ours, and so the transcript.
    fn note_heard(&mut self, frame: &Frame, out: &mut Out) {
        let Some(line) = &mut self.state.live else { return };
        if !line.heard && frame.acks.end() > 1 {
            line.heard = true;
            out.changed();
            out.notice(Notice::Delivered);
        }
    }
}

/// The answer of a first contact is frame 0; a HELLO is of no line.
fn is_of_line(flight: &Flight) -> bool {
    flight.kind != FlightKind::Hello
}

/// How often a hole alone has a frame sealed again.
const MAX_AGAIN: u8 = 6;
