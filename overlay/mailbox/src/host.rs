//! The host of mailboxes as a state machine: `handle(event, now) -> effects` over rows that somebody keeps (overlay.md,
//! sections 3 and 5). One call is one request; the effects are carried out **after the rows are on the disk**, so that STORED
//! is never said too early. Several calls may share one commit.
//!
//! ```text
//! Opened --> Request* --> Closed        one stream; its nonce is what owners sign
//!               |  put    -> size, mailbox, mac, free serial, signature, quota -> row -> Done, Arrived to who watches
//!               |  fetch  -> page        delete -> rows go, serials stay spent
//!               |  create -> token, signature -> row      tokens -> grant -> evaluation
//!               '  16 refusals: Close
//! Tick: what is over goes (mailboxes, boxes), a little at a time
//! ```
//!
//! The host keeps no accounts, no addresses and no times: a mailbox has its last day, an envelope its place in the order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand_core::CryptoRng;

use crate::{
    host_key::HostKey,
    host_protocol::{Answer, Request, RequestError, Seq},
    mailbox::HostNonce,
    stamp::MailboxId,
    time::UnixMillis,
    token::TokenSecret,
};

mod expiry;
mod limits;
mod memory;
mod opening;
mod owner;
mod pickup;
mod put;
mod rows;

pub use limits::HostLimits;
use limits::{Floods, Rate};
pub use memory::MemoryRows;
pub use opening::{ORDINARY_DAYS, RECOVERY_DAYS};
pub use put::{MAX_BYTES, MAX_ENVELOPES, MAX_RECOVERY_ENVELOPES};
pub use rows::{Due, HostRows, HostStore, HostStoreError, HostTotals, Listed, MailboxRow, PickupRow, PickupState};

/// Tells the streams to the host apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What happens to the host.
#[derive(Clone, Debug)]
pub enum InEvent {
    /// A stream passed its handshake.
    Opened {
        /// Which.
        stream: StreamId,
        /// What was drawn for it.
        nonce: HostNonce,
    },
    /// A message came out of it.
    Request {
        /// Which.
        stream: StreamId,
        /// The message.
        message: Bytes,
    },
    /// It is gone.
    Closed {
        /// Which.
        stream: StreamId,
    },
    /// Some time has passed; at least once a minute.
    Tick,
}

/// What the host does, once its rows are on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutEvent {
    /// Send this.
    Answer {
        /// On which stream.
        stream: StreamId,
        /// To which request.
        seq: Seq,
        /// What.
        answer: Answer,
    },
    /// Close the stream after what was sent.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// More is over than one call removes: another `Tick` soon.
    TickAgain,
}

/// The state machine. What it holds is lost in a crash, and that loses nothing: streams, who watches, and counts against floods.
pub struct Host {
    key: HostKey,
    tokens: TokenSecret,
    limits: HostLimits,
    floods: Floods,
    streams: BTreeMap<StreamId, Stream>,
    watchers: BTreeMap<MailboxId, BTreeSet<StreamId>>,
}

struct Stream {
    nonce: HostNonce,
    /// Number of the last request.
    seq: Seq,
    /// Requests that were refused so far.
    refused: u32,
    watches: BTreeSet<MailboxId>,
}

impl Host {
    /// A host that nobody has a stream to.
    #[must_use]
    pub fn new(key: HostKey, tokens: TokenSecret, limits: HostLimits) -> Self {
        let floods = Floods::new();
        Self { key, tokens, limits, floods, streams: BTreeMap::new(), watchers: BTreeMap::new() }
    }

    /// Takes one event. The effects are to be carried out when the rows are durable; if that fails, every answer among them
    /// becomes `Busy`.
    ///
    /// # Errors
    /// If the rows cannot be read or written. The commit is then to be given up.
    pub fn handle(
        &mut self,
        rows: &mut dyn HostRows,
        event: InEvent,
        now: UnixMillis,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<OutEvent>, HostStoreError> {
        match event {
            InEvent::Opened { stream, nonce } => {
                let fresh = Stream { nonce, seq: Seq::NONE, refused: 0, watches: BTreeSet::new() };
                self.streams.insert(stream, fresh);
                Ok(Vec::new())
            }
            InEvent::Request { stream, message } => self.request(rows, stream, message, now, rng),
            InEvent::Closed { stream } => {
                self.forget(stream);
                Ok(Vec::new())
            }
            InEvent::Tick => {
                self.floods.prune(now);
                let more = expiry::remove_due(rows, now.day())?;
                Ok(if more { vec![OutEvent::TickAgain] } else { Vec::new() })
            }
        }
    }

    /// Streams that are open.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    fn request(
        &mut self,
        rows: &mut dyn HostRows,
        stream: StreamId,
        message: Bytes,
        now: UnixMillis,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<OutEvent>, HostStoreError> {
        let Some(open) = self.streams.get_mut(&stream) else {
            return Ok(Vec::new());
        };
        let (seq, request) = match Request::parse(message) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(self.malformed(stream, &error, now)),
        };
        if seq <= open.seq {
            let answer = Answer::Malformed(SEQ_WORDS.to_owned());
            self.forget(stream);
            return Ok(vec![OutEvent::Answer { stream, seq, answer }, OutEvent::Close { stream }]);
        }
        open.seq = seq;
        let nonce = open.nonce;
        let mut out = Vec::new();
        let answer = match request {
            Request::Put(deposit) => {
                let answer = self.put(rows, &deposit, now)?;
                if answer == Stored::Fresh {
                    self.announce(&deposit.header().mailbox(), &mut out);
                }
                answer.into()
            }
            Request::Take { id, claim } => pickup::take(rows, &id, &claim, now.day())?,
            Request::Tokens { grant, blinded } => self.evaluate(rows, &grant, &blinded, now, rng)?,
            Request::Create(request) => self.create(rows, &request, &nonce, now)?,
            Request::Owner(request) => self.owner(rows, stream, request, &nonce, now)?,
        };
        let strike = is_refusal(&answer);
        out.insert(0, OutEvent::Answer { stream, seq, answer });
        if strike {
            self.strike(stream, now, &mut out);
        }
        Ok(out)
    }

    fn malformed(&mut self, stream: StreamId, error: &RequestError, now: UnixMillis) -> Vec<OutEvent> {
        let seq = error.seq().unwrap_or(Seq::NONE);
        let mut out = vec![OutEvent::Answer { stream, seq, answer: Answer::Malformed(error.to_string()) }];
        self.strike(stream, now, &mut out);
        out
    }

    /// Counts a refusal against the stream; the last one that it may have closes it. When the whole host is flooded with
    /// junk, the first one does.
    fn strike(&mut self, stream: StreamId, now: UnixMillis, out: &mut Vec<OutEvent>) {
        let flooded = !self.floods.allow(Rate::Junk, now);
        let Some(open) = self.streams.get_mut(&stream) else { return };
        open.refused += 1;
        if flooded || open.refused >= MAX_REFUSALS {
            self.forget(stream);
            out.push(OutEvent::Close { stream });
        }
    }

    fn announce(&self, mailbox: &MailboxId, out: &mut Vec<OutEvent>) {
        for stream in self.watchers.get(mailbox).into_iter().flatten() {
            out.push(OutEvent::Answer { stream: *stream, seq: Seq::NONE, answer: Answer::Arrived(*mailbox) });
        }
    }

    fn watch(&mut self, stream: StreamId, mailbox: MailboxId) -> Answer {
        let Some(open) = self.streams.get_mut(&stream) else { return Answer::Busy };
        if open.watches.len() >= MAX_WATCHES && !open.watches.contains(&mailbox) {
            return Answer::Busy;
        }
        open.watches.insert(mailbox);
        self.watchers.entry(mailbox).or_default().insert(stream);
        Answer::Done
    }

    fn forget(&mut self, stream: StreamId) {
        let Some(gone) = self.streams.remove(&stream) else { return };
        for mailbox in gone.watches {
            if let Some(streams) = self.watchers.get_mut(&mailbox) {
                streams.remove(&stream);
                if streams.is_empty() {
                    self.watchers.remove(&mailbox);
                }
            }
        }
    }
}

/// What became of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Fresh,
    /// The same one lies here already.
    Before,
    Refused,
    Full,
    Busy,
}

impl From<Stored> for Answer {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Fresh | Stored::Before => Self::Done,
            Stored::Refused => Self::Refused,
            Stored::Full => Self::Full,
            Stored::Busy => Self::Busy,
        }
    }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused | Answer::TokenRefused | Answer::Taken | Answer::NoBox | Answer::Malformed(_))
}

const SEQ_WORDS: &str = "the number of a request must be greater than that of the one before";
/// Refusals on one stream; an honest client meets a few after a restore, and opens another stream then.
const MAX_REFUSALS: u32 = 16;
/// Mailboxes that one stream may watch: a node has two in use and two to be emptied.
const MAX_WATCHES: usize = 8;
