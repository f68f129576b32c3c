//! Envelopes that came in: which line and secret they belong to, duplicates before Olm, and what is in them.

use std::time::Duration;

use super::{Arrived, Context, Fault, Notice, Outcome, Session, commit::Out, line::Line, ratchet::Taken};
use crate::{
    envelope::{self, EnvelopeSecret, Kind, Opened},
    frame::Frame,
    item::Item,
    secrets::Epoch,
    time::UnixMillis,
};

/// Which secret opened an envelope.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Live(Epoch),
    /// The line before the last HELLO.
    Old,
    Restore,
}

impl Session {
    pub(super) fn on_arrived(&mut self, ctx: &Context<'_>, envelopes: Vec<Arrived>, out: &mut Out) {
        for arrived in &envelopes {
            self.state.grants.used(arrived.header.mailbox(), arrived.header.class());
            out.changed();
        }
        let restoring = self.state.hello.is_sent();
        let mut closed = self.take_envelopes(ctx, envelopes, out);
        if restoring && !self.state.hello.is_sent() {
            // The answer to our HELLO is here: what the peer sent behind it may have come before it.
            closed.splice(..0, std::mem::take(&mut self.early));
            closed = self.take_envelopes(ctx, closed, out);
        }
        if self.state.hello.is_sent() {
            let room = MAX_EARLY.saturating_sub(self.early.len());
            let early = closed.drain(..closed.len().min(room));
            self.early.extend(early);
        }
        closed.into_iter().for_each(|_| self.on_unopened(ctx, out));
    }

    /// Takes what is in the envelopes that open; gives back those that do not.
    fn take_envelopes(&mut self, ctx: &Context<'_>, envelopes: Vec<Arrived>, out: &mut Out) -> Vec<Arrived> {
        let (mut opened, mut closed) = (Vec::with_capacity(envelopes.len()), Vec::new());
        for arrived in envelopes {
            match self.open(&arrived) {
                Some(found) => opened.push(found),
                None => closed.push(arrived),
            }
        }
        // In the order in which they were made, as far as that is known: it spares Olm skipped keys.
        opened.sort_by_key(|(_, opened)| (opened.kind == Kind::AckOnly, opened.frame_no));
        for (source, opened) in opened {
            match (source, opened.kind) {
                (Source::Live(epoch), Kind::Frame | Kind::AckOnly) => self.on_frame(ctx, epoch, &opened, out),
                (Source::Old, Kind::Frame) => self.on_old_frame(&opened, out),
                (Source::Old, Kind::AckOnly) => {}
                (Source::Restore, Kind::Hello) => self.on_hello(ctx, &opened.payload, out),
                (Source::Restore, Kind::HelloAnswer) => self.on_hello_answer(ctx, &opened.payload, out),
                _ => out.notice(Notice::Misbehaved(Fault::Frame)),
            }
        }
        closed
    }

    /// The deposit was refused although its stamp should have been good: either the host lies, or we were set back and the stamp
    /// is used already, or we were away so long that every mailbox of the peer is closed.
    pub(super) fn suspect(&mut self, now: UnixMillis, outcome: Outcome) {
        let empty = self.state.wallet.is_empty(now);
        if self.is_certain() && (outcome == Outcome::Spent || empty) {
            self.want_hello(now);
        }
    }

    /// A right stamp, and no secret fits. Many of them, and nothing else for a day: the two are on different lines.
    fn on_unopened(&mut self, ctx: &Context<'_>, out: &mut Out) {
        out.notice(Notice::Misbehaved(Fault::Unopened));
        self.state.unopened = self.state.unopened.saturating_add(1);
        let silent = self.state.last_heard.is_none_or(|heard| ctx.now >= heard.after(SILENT));
        if self.state.unopened >= PARTED && silent {
            self.state.unopened = 0;
            self.want_hello(ctx.now);
        }
    }

    fn open(&self, arrived: &Arrived) -> Option<(Source, Opened)> {
        let mut sources: Vec<Source> = Vec::new();
        let mut secrets: Vec<EnvelopeSecret> = Vec::new();
        for (epoch, secret) in self.state.live.iter().flat_map(|line| line.ratchet.receiving()) {
            sources.push(Source::Live(epoch));
            secrets.push(secret);
        }
        for (_, secret) in self.state.old.iter().flat_map(|old| old.line.ratchet.receiving()) {
            sources.push(Source::Old);
            secrets.push(secret);
        }
        sources.push(Source::Restore);
        secrets.push(self.state.rk.envelope_secret());
        let (index, opened) = envelope::open(&secrets, &arrived.seed, &arrived.header, &arrived.body).ok()?;
        Some((*sources.get(index)?, opened))
    }

    fn on_frame(&mut self, ctx: &Context<'_>, epoch: Epoch, opened: &Opened, out: &mut Out) {
        let numbered = opened.kind == Kind::Frame;
        let number = u64::from(opened.frame_no);
        let Some(line) = &mut self.state.live else { return };
        // 1. Duplicates are dropped before Olm; the acknowledgement may have been lost. Who says something again is heard: asleep, we would
        // never acknowledge it.
        if numbered && line.frames.contains(number) {
            self.acknowledge(ctx);
            self.ack_again = true;
            return self.wake(ctx, out);
        }
        if numbered && line.frames.is_beyond(number) {
            return out.notice(Notice::Misbehaved(Fault::Beyond));
        }
        // 2. Olm.
        let Ok(plaintext) = line.olm.decrypt(&opened.payload) else {
            return self.on_unopenable(ctx, numbered, opened.frame_no, out);
        };
        let Ok((frame, _unknown)) = Frame::from_bytes(&plaintext) else {
            line.frames.insert(number);
            return out.notice(Notice::Misbehaved(Fault::Frame));
        };
        // 3. The other side of a first contact is who it says when it shows the transcript.
        if frame.th.is_some_and(|th| th != line.th) || (!line.proven && frame.th.is_none()) {
            return out.notice(Notice::Misbehaved(Fault::Unproven));
        }
        if !std::mem::replace(&mut line.proven, true) {
            out.notice(Notice::Established);
        }
        // 4. What it says about itself.
        line.unopened = 0;
        self.state.unopened = 0;
        if numbered {
            line.frames.insert(number);
        }
        line.ratchet.note_frame(epoch);
        line.raise(frame.frame_floor, frame.item_floor);
        // Who has said HELLO since has other mailboxes, and nobody reads those of before.
        if !self.state.hello.is_answering() {
            self.take_grants(&frame, ctx.now);
        }
        if numbered {
            self.acknowledge(ctx);
        }
        self.wake(ctx, out);
        // 5. What it says about us.
        if !self.on_acks(ctx, &frame, out) {
            self.want_hello(ctx.now);
            out.notice(Notice::Restoring);
        }
        // 6. What it brings.
        for (seq, item) in frame.items {
            self.on_item(ctx, seq, item, out);
        }
    }

    /// An acknowledgement is due soon; in a moment there may be more to acknowledge, or something to send along.
    fn acknowledge(&mut self, ctx: &Context<'_>) {
        self.state.ack_due.get_or_insert(ctx.now.after(ACK_DELAY));
    }

    fn on_unopenable(&mut self, ctx: &Context<'_>, numbered: bool, frame_no: u32, out: &mut Out) {
        let Some(line) = self.state.live.as_mut().filter(|_| numbered) else { return };
        // What was overtaken is only late, out of a mailbox that was not read for a while: Olm keeps the keys of the last 40 skipped
        // messages and of five turns of the conversation.
        let late = u64::from(frame_no) < line.frames.end();
        if line.nak(frame_no) {
            line.frames.insert(u64::from(frame_no));
        }
        if !late {
            line.unopened = line.unopened.saturating_add(1);
        }
        let lost = line.unopened >= LOST;
        self.acknowledge(ctx);
        if lost {
            // Not reordering: one of the two was set back, and the sessions have parted.
            self.want_hello(ctx.now);
            out.notice(Notice::Restoring);
        }
    }

    /// A line that only receives: the peer sends these items again on the new line, unless it knew them to be here.
    fn on_old_frame(&mut self, opened: &Opened, out: &mut Out) {
        let Some(old) = &mut self.state.old else { return };
        let line: &mut Line = &mut old.line;
        let number = u64::from(opened.frame_no);
        if line.frames.contains(number) || line.frames.is_beyond(number) || !line.proven {
            return;
        }
        let Ok(plaintext) = line.olm.decrypt(&opened.payload) else { return };
        line.frames.insert(number);
        let Ok((frame, _)) = Frame::from_bytes(&plaintext) else { return };
        for (seq, item) in frame.items {
            let whole = !matches!(item, Item::Fragment(_) | Item::Ls(_) | Item::Void);
            if whole && line.items.insert(seq) {
                out.deliver(seq, item);
            }
        }
    }

    fn take_grants(&mut self, frame: &Frame, now: UnixMillis) {
        let Some(line) = &mut self.state.live else { return };
        for (number, grant) in &frame.stamps {
            if *number >= line.granted {
                line.granted = number.saturating_add(1);
                self.state.wallet.add(grant.clone(), now);
            }
        }
    }

    fn on_item(&mut self, ctx: &Context<'_>, seq: u64, item: Item, out: &mut Out) {
        let order = self.state.order();
        let Some(line) = &mut self.state.live else { return };
        if line.items.is_beyond(seq) {
            return out.notice(Notice::Misbehaved(Fault::Beyond));
        }
        if !line.items.insert(seq) {
            return;
        }
        match item {
            Item::Void => {}
            Item::Ls(part) => match line.ratchet.take(*part, order, ctx.now) {
                Taken::Computed => out.notice(Notice::Secrets),
                Taken::Nothing => {}
                Taken::Refused => out.notice(Notice::Misbehaved(Fault::Ratchet)),
            },
            Item::Fragment(fragment) => self.on_fragment(ctx, seq, fragment, out),
            Item::ToDevice { order, body } => self.on_to_device(ctx, seq, order, body, out),
            item => out.deliver(seq, item),
        }
    }
}

/// Envelopes of the line that an answer to our HELLO will begin, kept in memory until it comes. Lost, they are sent again a day later.
const MAX_EARLY: usize = 64;
/// In a conversation the acknowledgement goes along with the answer.
const ACK_DELAY: Duration = Duration::from_secs(3);
/// New frames in a row that do not open.
const LOST: u8 = 4;
/// Envelopes that do not open, while nothing else comes.
const PARTED: u8 = 8;
const SILENT: Duration = Duration::from_secs(86_400);
