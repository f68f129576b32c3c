//! HELLO: first contact over again, on the stamp for the recovery mailbox, after one side was set back or both ran out of stamps
//! (overlay.md, section 5).
//!
//! ```text
//! envelope key   RK = HKDF(LS[0], "millpond/rk/1") in the place of LS[e], for both messages
//! s0             HKDF(RK, "millpond/hello-s0/1" || incarnation u64 BE)
//! HELLO          CBOR [1, incarnation, olm identity, olm one-time, x-wing, certificate, stamps]
//! answer         CBOR [HPKE answer as in `exchange` with the HELLO for a box, Olm message with th]
//! certificate    identity key over "millpond/hello/1" || incarnation || olm identity || x-wing
//! ```
//!
//! Nothing is negotiated, so there is nothing to talk down. Only the pinned identity key certifies; the incarnation must be above
//! the last one seen; one a day is made and taken. When both say HELLO at once, that of the smaller identity key counts.

use std::time::Duration;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use vodozemac::Curve25519PublicKey;

use super::{
    Context, Fault, Notice, RowKey, Session,
    commit::Out,
    flight::{FlightKind, FlightRow, Stale},
    grants::{Grants, wire_len},
    line::Line,
    pack::Load,
    parts::flush,
    ratchet::{Order, Ratchet},
    state::{Old, flight_rows},
};
use crate::{
    bundle::OlmKeys,
    envelope,
    exchange::{open_answer, seal_answer},
    frame::{Grant, MAX_GRANTS},
    identity::IdentityKey,
    labels,
    link::Role,
    name::NodeName,
    olm::{AccountAtRest, new_account},
    secrets::Transcript,
    stamp::{Class, StampBatch},
    time::UnixMillis,
    xwing::{XWingPublic, XWingSecret},
};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct HelloState {
    /// Of our latest HELLO.
    incarnation: u64,
    /// Of the peer's latest.
    peer_incarnation: u64,
    wanted: Option<UnixMillis>,
    made: Option<UnixMillis>,
    taken: Option<UnixMillis>,
    sent: Option<Sent>,
    answering: Option<Answering>,
    /// The peer's HELLO that crossed ours, should ours never be answered.
    deferred: Option<Answering>,
    /// The user was told that there is no stamp.
    told: bool,
}

/// Our HELLO, not answered yet.
#[derive(Clone, Serialize, Deserialize)]
struct Sent {
    incarnation: u64,
    #[serde(with = "serde_bytes")]
    content: Vec<u8>,
    account: AccountAtRest,
    xwing: XWingSecret,
}

/// The peer's HELLO, to be answered in the next slot.
#[derive(Clone, Serialize, Deserialize)]
struct Answering {
    #[serde(with = "serde_bytes")]
    content: Vec<u8>,
    since: UnixMillis,
}

impl HelloState {
    /// Of a link out of a backup: it says HELLO at its first slot.
    pub(super) fn set_back((incarnation, peer_incarnation): (u64, u64)) -> Self {
        Self { incarnation, peer_incarnation, wanted: Some(UnixMillis(0)), ..Self::default() }
    }

    /// Of our latest HELLO and of the peer's.
    pub(super) fn incarnations(&self) -> (u64, u64) {
        (self.incarnation, self.peer_incarnation)
    }

    /// There may be a recovery stamp now.
    pub(super) fn try_again(&mut self) {
        self.told = false;
    }

    /// Whether a HELLO of ours waits for its answer.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    pub(super) fn is_answering(&self) -> bool {
        self.answering.is_some()
    }
}

/// What one side says in a HELLO or its answer.
struct Content {
    incarnation: u64,
    identity: Curve25519PublicKey,
    one_time: Curve25519PublicKey,
    xwing: XWingPublic,
    stamps: Vec<Grant>,
}

impl Content {
    fn seal(&self, key: &IdentityKey) -> Vec<u8> {
        let xwing = self.xwing.to_bytes();
        let certificate = key.sign(labels::HELLO, &certified(self.incarnation, &self.identity, &xwing));
        let stamps = self.stamps.iter().map(|grant| (grant.host, grant.recovery, grant.batch.clone())).collect();
        let wire = Wire(
            VERSION,
            self.incarnation,
            ByteArray::new(self.identity.to_bytes()),
            ByteArray::new(self.one_time.to_bytes()),
            ByteBuf::from(xwing),
            ByteArray::new(certificate),
            stamps,
        );
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }

    fn open(bytes: &[u8], peer: &NodeName) -> Option<Self> {
        let Wire(version, incarnation, identity, one_time, xwing, certificate, stamps) =
            serde_cbor::from_slice(bytes).ok()?;
        let identity = Curve25519PublicKey::from_bytes(identity.into_array());
        let signed = certified(incarnation, &identity, &xwing);
        let certified = peer.identity_key().verifies(labels::HELLO, &signed, &certificate.into_array());
        if version != VERSION || !certified || stamps.len() > MAX_GRANTS {
            return None;
        }
        Some(Self {
            incarnation,
            identity,
            one_time: Curve25519PublicKey::from_bytes(one_time.into_array()),
            xwing: XWingPublic::from_bytes(&xwing).ok()?,
            stamps: stamps.into_iter().map(|(host, recovery, batch)| Grant { host, recovery, batch }).collect(),
        })
    }
}

impl Session {
    /// The link is to be made anew. What the peer has of our stamps is taken for lost.
    pub(super) fn want_hello(&mut self, now: UnixMillis) {
        let hello = &mut self.state.hello;
        if hello.wanted.is_none() && hello.sent.is_none() && hello.answering.is_none() {
            hello.wanted = Some(now);
            hello.told = false;
            self.state.grants = Grants::default();
        }
    }

    pub(super) fn hello_due(&self, now: UnixMillis) -> Option<UnixMillis> {
        let hello = &self.state.hello;
        if hello.answering.is_some() {
            return Some(now);
        }
        if hello.deferred.is_some() {
            return hello.made.map(|made| made.after(CROSSED));
        }
        let due = hello.wanted.is_some() && !hello.told || self.is_stuck(now);
        (due && hello.sent.is_none()).then(|| hello.made.map_or(now, |made| made.after(DAY)))
    }

    /// Both sides are without stamps, and there is something to say. What the other side used counts only when it arrives; if all
    /// that is lost too, silence has to do for it. To be here again after weeks is something to say. Who never had any is not stuck: a stream will bring them.
    fn is_stuck(&self, now: UnixMillis) -> bool {
        let wallet = &self.state.wallet;
        let empty = wallet.had_any() && wallet.is_empty(now);
        let waiting = !self.queue.is_empty() || !self.state.flights.is_empty() || self.state.ack_due.is_some();
        let waiting = waiting || self.is_back(now);
        let silent = self.state.last_heard.is_none_or(|heard| now >= heard.after(SILENT));
        let spent = self.state.grants.is_spent() || silent;
        self.is_certain() && !self.state.hello.told && empty && waiting && spent
    }

    /// Whether the link was ever established, so that both know RK. A line that was made anew and not used yet counts: the stamps that
    /// came with a HELLO may be for mailboxes which have closed since.
    pub(super) fn is_certain(&self) -> bool {
        let (live, hello) = (&self.state.live, &self.state.hello);
        live.as_ref().is_some_and(|line| line.proven)
            || live.is_some() && hello.peer_incarnation.max(hello.incarnation) > 0
    }

    /// In each slot: answers a HELLO that came, or makes one that is due.
    pub(super) fn hello(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        if self.state.hello.answering.is_some() {
            return self.answer_hello(ctx, out, rng);
        }
        if self.is_stuck(ctx.now) {
            self.want_hello(ctx.now);
        }
        let hello = &mut self.state.hello;
        if hello.made.is_none_or(|made| ctx.now >= made.after(CROSSED))
            && let Some(deferred) = hello.deferred.take()
        {
            let content = Content::open(&deferred.content, &self.state.peer);
            return content
                .into_iter()
                .for_each(|content| self.take_hello(ctx, content, deferred.content.clone(), out));
        }
        let Some(since) = hello.wanted else { return };
        let allowed = hello.made.is_none_or(|made| ctx.now >= made.after(DAY));
        // A restored node makes its mailboxes anew first: without a stamp for one, nobody could answer. There is one HELLO a day.
        let late = since.0 > 0 && ctx.now >= since.after(PATIENCE);
        let ready = self.state.grants.has_ordinary() || ctx.mailboxes.is_empty() || late;
        if self.state.hello.sent.is_none() && allowed && ready {
            self.say_hello(ctx, out, rng);
        }
    }

    fn say_hello(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        let Some(stamp) = self.state.wallet.take_recovery(&[]) else {
            if !std::mem::replace(&mut self.state.hello.told, true) {
                out.noted();
                out.notice(Notice::NoWayBack);
            }
            return;
        };
        // The clock makes incarnations grow even for who has forgotten the last one.
        let incarnation = ctx.now.0.max(self.state.hello.incarnation.saturating_add(1));
        let (account, keys) = new_account();
        let xwing = XWingSecret::generate(rng);
        let stamps = self.state.grants.take(HELLO_STAMPS);
        let content =
            Content { incarnation, identity: keys.identity, one_time: keys.one_time, xwing: xwing.public(), stamps };
        let content = content.seal(ctx.identity);
        let hello = &mut self.state.hello;
        hello.wanted = None;
        hello.made = Some(ctx.now);
        hello.incarnation = incarnation;
        hello.sent = Some(Sent { incarnation, content: content.clone(), account, xwing });
        let row = FlightRow { payload: content, salt: Some(self.state.rk.0.clone()), items: Vec::new() };
        let load = Load { essential: true, ..Load::default() };
        self.launch(ctx, FlightKind::Hello, &load, stamp, &row, out, rng);
        out.notice(Notice::Restoring);
    }

    pub(super) fn on_hello(&mut self, ctx: &Context<'_>, payload: &[u8], out: &mut Out) {
        let content = Content::open(payload, &self.state.peer);
        let Some(content) = content else { return out.notice(Notice::Misbehaved(Fault::Hello)) };
        let (order, hello) = (self.state.order(), &mut self.state.hello);
        // 1. Said before: it is answered already, or will be.
        if content.incarnation <= hello.peer_incarnation {
            return;
        }
        // 2. One a day; clocks differ by hours.
        if hello.taken.is_some_and(|taken| ctx.now < taken.after(ALMOST_A_DAY)) {
            return out.notice(Notice::Misbehaved(Fault::Hello));
        }
        // 3. Both at once: the smaller identity key is the offerer, as long as its own may still be answered.
        let crosses = hello.sent.is_some() && hello.made.is_some_and(|made| ctx.now < made.after(CROSSED));
        if crosses && order == Order::OwnIsLower {
            hello.deferred = Some(Answering { content: payload.to_vec(), since: ctx.now });
            return;
        }
        self.take_hello(ctx, content, payload.to_vec(), out);
    }

    fn take_hello(&mut self, ctx: &Context<'_>, content: Content, bytes: Vec<u8>, out: &mut Out) {
        let hello = &mut self.state.hello;
        hello.sent = None;
        hello.wanted = None;
        hello.peer_incarnation = content.incarnation;
        hello.taken = Some(ctx.now);
        hello.answering = Some(Answering { content: bytes, since: ctx.now });
        // The peer has lost what it had of ours, and what we have of it is for mailboxes that nobody reads.
        self.state.wallet.forget();
        content.stamps.into_iter().for_each(|grant| self.state.wallet.add(grant, ctx.now));
        self.state.grants = Grants::default();
        self.wake(ctx, out);
        out.notice(Notice::Restoring);
    }

    fn answer_hello(&mut self, ctx: &Context<'_>, out: &mut Out, rng: &mut impl CryptoRng) {
        let Some(answering) = self.state.hello.answering.clone() else { return };
        // Without a stamp for a mailbox that takes them, nothing could be said under the new line.
        let ready = self.state.grants.has_ordinary() || ctx.mailboxes.is_empty();
        if !ready && ctx.now < answering.since.after(PATIENCE) {
            return;
        }
        let Some(theirs) = Content::open(&answering.content, &self.state.peer) else { return };
        let Some(stamp) = self.stamp(ctx, Class::S, true, &[]) else { return };
        let (account, keys) = new_account();
        let xwing = XWingSecret::generate(rng);
        let stamps = self.state.grants.take(ANSWER_STAMPS);
        let ours = Content {
            incarnation: self.state.hello.incarnation,
            identity: keys.identity,
            one_time: keys.one_time,
            xwing: xwing.public(),
            stamps,
        };
        let s0 = self.state.rk.hello_s0(theirs.incarnation);
        let sealed = seal_answer(&s0, &answering.content, &theirs.xwing, &ours.seal(ctx.identity), rng);
        let peer = OlmKeys { identity: theirs.identity, one_time: theirs.one_time, fallback: theirs.one_time };
        let Ok(mut olm) = account.outbound(&peer) else { return };
        let Ok(confirm) = olm.encrypt(&statement(&sealed.th)) else { return };
        let payload = serde_cbor::to_vec(&(ByteBuf::from(sealed.bytes), ByteBuf::from(confirm)))
            .expect("writing CBOR to memory does not fail");
        let ratchet = Ratchet::new(sealed.secret, xwing, theirs.xwing, ctx.now);
        self.restart(ctx, Line::new(olm, sealed.th, ratchet), out);
        let row = FlightRow { payload, salt: Some(self.state.rk.0.clone()), items: Vec::new() };
        let load = Load { essential: true, ..Load::default() };
        self.launch(ctx, FlightKind::HelloAnswer, &load, stamp, &row, out, rng);
    }

    pub(super) fn on_hello_answer(&mut self, ctx: &Context<'_>, payload: &[u8], out: &mut Out) {
        let Some(sent) = self.state.hello.sent.clone() else { return };
        let Some((line, stamps)) = self.open_hello_answer(&sent, payload, ctx.now) else {
            return out.notice(Notice::Misbehaved(Fault::Hello));
        };
        self.state.wallet.forget();
        stamps.into_iter().for_each(|grant| self.state.wallet.add(grant, ctx.now));
        self.wake(ctx, out);
        self.restart(ctx, Line { proven: true, ..line }, out);
        self.state.ack_due = Some(ctx.now);
    }

    fn open_hello_answer(&self, sent: &Sent, payload: &[u8], now: UnixMillis) -> Option<(Line, Vec<Grant>)> {
        let (answer, confirm): (ByteBuf, ByteBuf) = serde_cbor::from_slice(payload).ok()?;
        let s0 = self.state.rk.hello_s0(sent.incarnation);
        let opened = open_answer(&s0, &sent.content, &sent.xwing, &answer).ok()?;
        let theirs = Content::open(&opened.plaintext, &self.state.peer)?;
        let (_, olm, plaintext) = sent.account.inbound(theirs.identity, &confirm).ok()?;
        if plaintext != statement(&opened.th) {
            return None;
        }
        let ratchet = Ratchet::new(opened.secret, sent.xwing.clone(), theirs.xwing, now);
        Some((Line::new(olm, opened.th, ratchet), theirs.stamps))
    }

    /// A new line: numbers restart, what was not acknowledged is to be sealed anew, the line before only receives.
    fn restart(&mut self, ctx: &Context<'_>, line: Line, out: &mut Out) {
        if let Some(mut before) = self.state.live.replace(line) {
            flush(&mut before, ctx, out);
            before.large.clear();
            self.state.old = Some(Old { line: before, until: ctx.now.after(KEEP) });
        }
        for flight in std::mem::take(&mut self.state.flights) {
            if flight.kind != FlightKind::Frame {
                flight_rows(&flight).into_iter().for_each(|key| out.delete(key));
                continue;
            }
            flight.unresolved().for_each(|copy| out.delete(RowKey::Copy(flight.id, copy.number)));
            let (copies, next_try) = (Vec::new(), ctx.now);
            self.state.flights.push(super::flight::Flight { copies, next_try, stale: Stale::Line, ..flight });
        }
        self.air.clear();
        self.acks.clear();
        self.state.ack_unsure = false;
        self.fresh.clear();
        self.state.grants.restart();
        self.state.hello.sent = None;
        self.state.hello.answering = None;
        self.state.hello.deferred = None;
        self.state.hello.wanted = None;
        self.state.ack_due = None;
        out.changed();
        out.notice(Notice::Restored);
        out.notice(Notice::Secrets);
    }
}

/// What the Olm message in the answer says.
fn statement(th: &Transcript) -> Vec<u8> {
    [labels::CONFIRM, &th.0, &[Role::Answerer.as_byte()]].concat()
}

fn certified(incarnation: u64, identity: &Curve25519PublicKey, xwing: &[u8]) -> Vec<u8> {
    [&incarnation.to_be_bytes(), identity.as_bytes().as_slice(), xwing].concat()
}

#[derive(Serialize, Deserialize)]
struct Wire(
    u8,
    u64,
    ByteArray<32>,
    ByteArray<32>,
    ByteBuf,
    ByteArray<64>,
    Vec<(crate::host_key::HostKey, bool, StampBatch)>,
);

const VERSION: u8 = 1;
/// One HELLO.
const DAY: Duration = Duration::from_secs(86_400);
const ALMOST_A_DAY: Duration = Duration::from_secs(20 * 3_600);
/// How long the line before receives: as long as a mailbox is open.
const KEEP: Duration = Duration::from_secs(37 * 86_400);
/// Without a stamp and without a word.
const SILENT: Duration = Duration::from_secs(10 * 86_400);
/// How long a HELLO of ours that crossed the peer's has to be answered.
const CROSSED: Duration = Duration::from_secs(3 * 86_400);
/// How long an answer waits for the stamps that it should bring.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of everything but stamps in a HELLO, and in an answer with its Olm message.
const HELLO_FIXED: usize = 1_500;
const ANSWER_FIXED: usize = 3_000;
/// Bytes of stamps in each.
const HELLO_STAMPS: usize = envelope::capacity(Class::S) - HELLO_FIXED;
const ANSWER_STAMPS: usize = envelope::capacity(Class::S) - ANSWER_FIXED;
const _: () = assert!(HELLO_STAMPS > 2_000 && ANSWER_STAMPS > 1_000);

impl Grants {
    /// Stamps for a HELLO, out of what waits, in at most so many bytes.
    fn take(&mut self, budget: usize) -> Vec<Grant> {
        let mut left = budget;
        self.take_pending(|grant| match left.checked_sub(wire_len(grant)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
    }
}
