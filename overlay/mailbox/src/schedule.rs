//! When to poll and when to send, as pure functions (overlay.md, sections 5 and 6). One poll of a mailbox serves all contacts, and
//! sends wait for slots, so what a host sees of a node in `paced` mode does not depend on how many contacts it has.
//!
//! | mode | polls | sends |
//! |---|---|---|
//! | `instant` | an open stream that announces arrivals; a poll when it breaks | at once, a moment apart |
//! | `paced` | Poisson, mean 15 min on battery and 60 s on mains, each mailbox on its own | in slots of a Poisson process of their own, acks too |
//!
//! Poisson, because then a poll says nothing: neither when the last one was, nor that something was sent or read in between. A
//! recovery mailbox is polled once a day, at a random time, on a circuit of its own.

use std::time::Duration;

use rand_core::CryptoRng;

use crate::{
    deposit::deposit_len,
    stamp::{Class, HEADER_LEN},
    time::UnixMillis,
};

/// How a node reaches its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the foreground, and on desktops.
    Instant,
    /// In the background.
    Paced {
        /// Whether it runs on mains.
        mains: bool,
    },
}

/// What is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailboxKind {
    /// In use, or still open.
    Ordinary,
    /// For HELLOs.
    Recovery,
}

/// When this mailbox is to be polled next, counted from the last poll of it. Draw once after each poll, and for each mailbox on its own.
#[must_use]
pub fn next_poll(mode: Mode, kind: MailboxKind, last: UnixMillis, rng: &mut impl CryptoRng) -> UnixMillis {
    match (kind, mode) {
        (MailboxKind::Recovery, _) => last.after(DAY.mul_f64(0.75 + unit(rng) * 0.5)),
        // The stream announces; a poll is only for a host that says nothing although it should.
        (MailboxKind::Ordinary, Mode::Instant) => last.after(exponential(INSTANT_POLL, rng)),
        (MailboxKind::Ordinary, Mode::Paced { mains }) => last.after(exponential(mean(mains), rng)),
    }
}

/// When the next send slot is, counted from the one before. In `paced` mode slots come whether there is something to send or not,
/// so drawing them costs nothing and tells nothing; a slot without anything to send opens no connection.
#[must_use]
pub fn next_slot(mode: Mode, last: UnixMillis, rng: &mut impl CryptoRng) -> UnixMillis {
    match mode {
        Mode::Instant => last.after(INSTANT_SLOT),
        Mode::Paced { mains } => last.after(exponential(mean(mains), rng)),
    }
}

/// The slot in which something that is due at `due` goes, if the next slot is at `slot`.
#[must_use]
pub fn slot_for(mode: Mode, due: UnixMillis, slot: UnixMillis) -> UnixMillis {
    match mode {
        Mode::Instant => due,
        Mode::Paced { .. } => due.max(slot),
    }
}

/// Bytes on the wire of opening a connection to a host: the handshake both ways. An upper bound that the host's protocol is held to.
pub const OPENING_LEN: usize = 300;

/// Bytes on the wire of one poll over an open connection that finds nothing: nonce, signed FETCH, empty answer. Likewise a bound.
pub const EMPTY_FETCH_LEN: usize = 240;

/// How long a connection for polls, or one for deposits, is used at most. The two are never the same one.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(600);

/// Bytes on the wire of a poll that brings this many envelopes, their deletion included.
#[must_use]
pub fn poll_len(small: usize, large: usize) -> usize {
    EMPTY_FETCH_LEN + small * fetched(Class::S) + large * fetched(Class::L)
}

/// Bytes on the wire of a deposit, its answer included; opening a connection comes on top, once a slot and host.
#[must_use]
pub fn put_len(class: Class) -> usize {
    deposit_len(class) + ANSWER_LEN
}

fn fetched(class: Class) -> usize {
    // The envelope itself, and its serial in the DELETE.
    deposit_len(class) + ANSWER_LEN + HEADER_LEN
}

fn mean(mains: bool) -> Duration {
    if mains { MAINS } else { BATTERY }
}

/// A wait of a Poisson process with this mean.
fn exponential(mean: Duration, rng: &mut impl CryptoRng) -> Duration {
    // 1 - unit is never 0, so the logarithm is finite: at most 36 means.
    mean.mul_f64(-(1.0 - unit(rng)).ln())
}

/// Equally likely everywhere from 0 up to, and without, 1.
fn unit(rng: &mut impl CryptoRng) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

const DAY: Duration = Duration::from_secs(86_400);
/// Mean times between polls (overlay.md, section 6).
const BATTERY: Duration = Duration::from_secs(15 * 60);
const MAINS: Duration = Duration::from_secs(60);
/// Between polls beside an open stream.
const INSTANT_POLL: Duration = Duration::from_secs(15 * 60);
/// Between sends in the foreground: what a client sends in one go goes in one envelope.
const INSTANT_SLOT: Duration = Duration::from_millis(50);
/// Bytes around one envelope or answer in a stream: length, kind, and the cipher's tags.
const ANSWER_LEN: usize = 64;
