//! A mailbox host: the real machine over rows in memory, spoken to in its own protocol. A Byzantine one stands in front of it and
//! swallows, refuses, repeats, forges and keeps silent.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_mailbox::{
    deposit::Deposit,
    host::{
        Host, HostLimits, HostRows, InEvent, MailboxRow, MemoryRows, ORDINARY_DAYS, OutEvent, RECOVERY_DAYS, StreamId,
    },
    host_key::{HostKey, HostSecret},
    host_protocol::{Answer, Cursor, Fetched, OwnerAsk, Purpose, Request, Seq},
    mailbox::{HostNonce, MailboxSecret},
    session::Outcome,
    stamp::{MailboxId, Serial},
    time::{UnixMillis, UtcDay},
    token::TokenSecret,
};

use super::random::SimRng;

/// One host.
pub struct MailHost {
    /// Its name.
    pub key: HostKey,
    /// Whether it answers.
    pub up: bool,
    machine: Host,
    rows: MemoryRows,
    rng: SimRng,
    streams: u64,
    temper: Option<Temper>,
}

/// What a Byzantine host does, in thousandths of what it is asked.
pub struct Temper {
    /// Says STORED and keeps nothing.
    pub swallow: u32,
    /// Refuses a good stamp.
    pub refuse: u32,
    /// Keeps it and says nothing, or says it is full.
    pub mute: u32,
    /// Hands out what was deleted, forged or of another mailbox beside what is there.
    pub junk: u32,
    /// Says that something is deleted, and keeps it.
    pub keep: u32,
    /// What it has seen, some of it.
    pub seen: BTreeMap<MailboxId, Vec<Deposit>>,
}

/// What a host answers to who reads a mailbox.
pub enum Page {
    /// What lies there.
    Mail(Fetched),
    /// There is no such mailbox.
    Refused,
}

/// What became of a deposit at a host.
pub struct Put {
    /// What the depositor hears.
    pub outcome: Outcome,
    /// The mailbox whose owner hears of it.
    pub fresh: Option<MailboxId>,
}

impl MailHost {
    /// A host without mailboxes.
    #[must_use]
    pub fn new(number: u8, rng: SimRng, temper: Option<Temper>) -> Self {
        let key = HostSecret::from_bytes([number; 32]).public();
        let machine = Host::new(key, tokens(), HostLimits::default());
        Self { key, up: true, machine, rows: MemoryRows::default(), rng, streams: 0, temper }
    }

    /// Whether it is the Byzantine one.
    #[must_use]
    pub fn is_byzantine(&self) -> bool {
        self.temper.is_some()
    }

    /// Makes a mailbox as if its owner had brought a token: tokens have tests of their own.
    ///
    /// # Panics
    /// Never: memory does not fail.
    pub fn create(&mut self, secret: &MailboxSecret, recovery: bool, now: UnixMillis) -> bool {
        if !self.up {
            return false;
        }
        let (purpose, days) =
            if recovery { (Purpose::Recovery, RECOVERY_DAYS) } else { (Purpose::Ordinary, ORDINARY_DAYS) };
        let row = MailboxRow {
            purpose,
            key: secret.mailbox_key(),
            read_key: secret.read_key().public(),
            closes: UtcDay(now.day().0 + days),
            arrived: Cursor(0),
            envelopes: 0,
            bytes: 0,
            boxes: 0,
        };
        let mut totals = self.rows.totals().expect(MEMORY);
        totals.mailboxes += 1;
        self.rows.create_mailbox(&secret.id(), &row).expect(MEMORY);
        self.rows.put_totals(&totals).expect(MEMORY);
        true
    }

    /// The disk is gone, and all that was on it.
    pub fn wipe(&mut self) {
        self.rows = MemoryRows::default();
        self.restart();
    }

    /// What is in memory is gone.
    pub fn restart(&mut self) {
        self.machine = Host::new(self.key, tokens(), HostLimits::default());
    }

    /// What is over goes.
    ///
    /// # Panics
    /// Never: memory does not fail.
    pub fn tick(&mut self, now: UnixMillis) {
        while self
            .machine
            .handle(&mut self.rows, InEvent::Tick, now, &mut self.rng)
            .expect(MEMORY)
            .contains(&OutEvent::TickAgain)
        {}
    }

    /// Whether a poll would bring anything: others change nothing and are not made.
    ///
    /// # Panics
    /// Never: memory does not fail.
    #[must_use]
    pub fn has_mail(&self, mailbox: &MailboxId) -> bool {
        let there = self.rows.mailbox(mailbox).expect(MEMORY).is_none_or(|row| row.envelopes > 0);
        there || self.temper.as_ref().is_some_and(|temper| temper.seen.contains_key(mailbox))
    }

    /// A deposit arrives.
    pub fn put(&mut self, bytes: Vec<u8>, now: UnixMillis) -> Put {
        let said = |outcome| Put { outcome, fresh: None };
        if !self.up {
            return said(Outcome::Unreachable);
        }
        let Ok(deposit) = Deposit::parse(&bytes.into()) else { return said(Outcome::Refused) };
        let mailbox = deposit.header().mailbox();
        let mut mute = false;
        if let Some(temper) = &mut self.temper {
            if self.rng.chance(temper.swallow) {
                return said(Outcome::Stored);
            }
            if self.rng.chance(temper.refuse) {
                return said(Outcome::Refused);
            }
            mute = self.rng.chance(temper.mute);
            let seen = temper.seen.entry(mailbox).or_default();
            if seen.len() < MAX_SEEN {
                seen.push(deposit.clone());
            }
        }
        let outcome = match self.ask(now, |seq, _| Request::put(seq, &deposit)) {
            Answer::Done => Outcome::Stored,
            Answer::Full => Outcome::Full,
            Answer::Refused => Outcome::Refused,
            _ => Outcome::Unreachable,
        };
        let fresh = (outcome == Outcome::Stored && !mute).then_some(mailbox);
        let lied = if self.rng.chance(500) { Outcome::Full } else { Outcome::Unreachable };
        Put { outcome: if mute { lied } else { outcome }, fresh }
    }

    /// The owner reads a mailbox. `None`: the host does not answer.
    pub fn fetch(&mut self, secret: &MailboxSecret, after: Cursor, now: UnixMillis) -> Option<Page> {
        let key = self.key;
        let fetch = |seq: Seq, nonce: &HostNonce| {
            Request::owner(seq, (&key, nonce), &secret.id(), &secret.read_key(), &OwnerAsk::Fetch { after })
        };
        let mut page = match self.up.then(|| self.ask(now, fetch))? {
            Answer::Page(page) => page,
            Answer::Refused => return Some(Page::Refused),
            _ => return None,
        };
        if let Some(temper) = &mut self.temper
            && self.rng.chance(temper.junk)
        {
            let old = temper.seen.remove(&secret.id()).unwrap_or_default();
            let foreign = temper.seen.values().flatten().next().cloned();
            let forged: Vec<Deposit> =
                page.deposits.iter().chain(&old).take(4).filter_map(|one| forged(one, &mut self.rng)).collect();
            page.deposits.extend(old.into_iter().chain(foreign).chain(forged));
            for at in (1..page.deposits.len()).rev() {
                page.deposits.swap(at, self.rng.index(at + 1));
            }
        }
        Some(Page::Mail(page))
    }

    /// The owner deletes.
    pub fn delete(&mut self, secret: &MailboxSecret, serials: &[Serial], now: UnixMillis) -> bool {
        if !self.up {
            return false;
        }
        if let Some(temper) = &self.temper
            && self.rng.chance(temper.keep)
        {
            return true;
        }
        let key = self.key;
        serials.chunks(MAX_DELETE).all(|serials| {
            let ask = OwnerAsk::Delete { serials: serials.to_vec() };
            let delete = |seq: Seq, nonce: &HostNonce| {
                Request::owner(seq, (&key, nonce), &secret.id(), &secret.read_key(), &ask)
            };
            self.ask(now, delete) == Answer::Done
        })
    }

    /// One request on a stream of its own.
    fn ask(&mut self, now: UnixMillis, request: impl FnOnce(Seq, &HostNonce) -> Vec<u8>) -> Answer {
        self.streams += 1;
        let (stream, nonce) = (StreamId(self.streams), HostNonce(self.rng.bytes()));
        let message = Bytes::from(request(Seq(1), &nonce));
        self.event(InEvent::Opened { stream, nonce }, now);
        let answers = self.event(InEvent::Request { stream, message }, now);
        self.event(InEvent::Closed { stream }, now);
        let answer = answers.into_iter().find_map(|out| match out {
            OutEvent::Answer { stream: of, answer, .. } if of == stream => Some(answer),
            _ => None,
        });
        answer.unwrap_or(Answer::Busy)
    }

    fn event(&mut self, event: InEvent, now: UnixMillis) -> Vec<OutEvent> {
        self.machine.handle(&mut self.rows, event, now, &mut self.rng).expect(MEMORY)
    }
}

impl Temper {
    /// A mixture of vices.
    #[must_use]
    pub fn draw(rng: &mut SimRng) -> Self {
        let mut often = |most: u64| u32::try_from(rng.below(most)).unwrap_or(0);
        let (swallow, refuse, mute, junk, keep) = (often(700), often(400), often(300), often(600), often(500));
        Self { swallow, refuse, mute, junk, keep, seen: BTreeMap::new() }
    }
}

/// An envelope that was altered somewhere.
fn forged(deposit: &Deposit, rng: &mut SimRng) -> Option<Deposit> {
    let mut bytes = deposit.to_bytes();
    let at = if rng.chance(500) { rng.index(150.min(bytes.len())) } else { rng.index(bytes.len()) };
    bytes[at] ^= 1 << rng.index(8);
    Deposit::parse(&bytes.into()).ok()
}

fn tokens() -> TokenSecret {
    TokenSecret::generate(&mut SimRng::new(1))
}

const MEMORY: &str = "memory does not fail";
/// Of one mailbox.
const MAX_SEEN: usize = 16;
/// Serials in one request (`host_protocol`).
const MAX_DELETE: usize = 128;
