//! A host in one value, without a network: messages are handed over by hand, time is a number.

use bytes::Bytes;
use millpond_mailbox::{
    deposit::Deposit,
    host::{Host, HostLimits, HostRows, HostTotals, InEvent, MemoryRows, OutEvent, StreamId},
    host_key::{HostKey, HostSecret},
    host_protocol::{Answer, Cursor, Fetched, OwnerAsk, Purpose, Request, Seq},
    mailbox::{BatchId, HostNonce, MailboxSecret},
    stamp::{Class, Serial, Stamp},
    time::UnixMillis,
    token::{Grant, Token, TokenKey, TokenRequest, TokenSecret},
};

use crate::world::{DAY_MS, NOW, TestRng};

/// A host with its rows, at one moment.
pub struct Hosting {
    pub machine: Host,
    pub rows: MemoryRows,
    pub now: UnixMillis,
    pub rng: TestRng,
    streams: u64,
}

/// One stream to it.
pub struct Conn {
    pub stream: StreamId,
    pub nonce: HostNonce,
    pub seq: u32,
}

impl Hosting {
    pub fn new() -> Self {
        Self::with(HostLimits::default())
    }

    pub fn with(limits: HostLimits) -> Self {
        let machine = Host::new(key(), tokens(), limits);
        Self { machine, rows: MemoryRows::default(), now: NOW, rng: TestRng::new(77), streams: 0 }
    }

    pub fn days_pass(&mut self, days: u64) {
        self.now = UnixMillis(self.now.0 + days * DAY_MS);
    }

    /// Forgets all that is in memory.
    pub fn restart(&mut self) {
        self.machine = Host::new(key(), tokens(), HostLimits::default());
    }

    pub fn event(&mut self, event: InEvent) -> Vec<OutEvent> {
        self.machine.handle(&mut self.rows, event, self.now, &mut self.rng).expect("memory does not fail")
    }

    pub fn open(&mut self) -> Conn {
        self.streams += 1;
        let (stream, nonce) = (StreamId(self.streams), HostNonce([u8::try_from(self.streams % 251).unwrap(); 32]));
        self.event(InEvent::Opened { stream, nonce });
        Conn { stream, nonce, seq: 0 }
    }

    pub fn send(&mut self, conn: &Conn, message: impl Into<Bytes>) -> Vec<OutEvent> {
        self.event(InEvent::Request { stream: conn.stream, message: message.into() })
    }

    /// One request, and its answer.
    pub fn ask(&mut self, conn: &mut Conn, request: impl FnOnce(Seq, &HostNonce) -> Vec<u8>) -> Answer {
        conn.seq += 1;
        let seq = Seq(conn.seq);
        let message = request(seq, &conn.nonce);
        let out = self.send(conn, message);
        let Some(OutEvent::Answer { stream, seq: answered, answer }) = out.first() else {
            panic!("no answer: {out:?}")
        };
        assert_eq!((*stream, *answered), (conn.stream, seq));
        answer.clone()
    }

    pub fn put(&mut self, deposit: &Deposit) -> Answer {
        let mut conn = self.open();
        let answer = self.ask(&mut conn, |seq, _| Request::put(seq, deposit));
        self.event(InEvent::Closed { stream: conn.stream });
        answer
    }

    pub fn owner(&mut self, secret: &MailboxSecret, ask: &OwnerAsk) -> Answer {
        let mut conn = self.open();
        self.owner_on(&mut conn, secret, ask)
    }

    pub fn owner_on(&mut self, conn: &mut Conn, secret: &MailboxSecret, ask: &OwnerAsk) -> Answer {
        self.ask(conn, |seq, nonce| Request::owner(seq, (&key(), nonce), &secret.id(), &secret.read_key(), ask))
    }

    pub fn create(&mut self, secret: &MailboxSecret, purpose: Purpose, token: &Token) -> Answer {
        let mut conn = self.open();
        self.ask(&mut conn, |seq, nonce| Request::create(seq, (&key(), nonce), secret, purpose, token))
    }

    pub fn mailbox(&mut self, seed: u8, purpose: Purpose) -> MailboxSecret {
        let secret = MailboxSecret::from_bytes([seed; 32]);
        let token = self.tokens(1).remove(0);
        assert_eq!(self.create(&secret, purpose, &token), Answer::Done);
        secret
    }

    /// Tokens from a fresh grant, over the protocol.
    pub fn tokens(&mut self, count: usize) -> Vec<Token> {
        let grant = self.grant();
        let request = TokenRequest::generate(count, &mut self.rng);
        let answer = self.exchange(&grant, &request);
        let Answer::Tokens(evaluated) = answer else { panic!("no tokens: {answer:?}") };
        request.finish(&token_key(), &evaluated).expect("made with the key in the link")
    }

    pub fn grant(&mut self) -> Grant {
        tokens().grant(&mut self.rng)
    }

    pub fn exchange(&mut self, grant: &Grant, request: &TokenRequest) -> Answer {
        let mut conn = self.open();
        self.ask(&mut conn, |seq, _| Request::tokens(seq, grant, &request.blinded()))
    }

    pub fn fetch(&mut self, secret: &MailboxSecret, after: u64) -> Fetched {
        let answer = self.owner(secret, &OwnerAsk::Fetch { after: Cursor(after) });
        let Answer::Page(page) = answer else { panic!("no page: {answer:?}") };
        page
    }

    pub fn totals(&self) -> HostTotals {
        self.rows.totals().expect("memory does not fail")
    }

    /// What is answered must be there after the machine's memory is gone.
    pub fn count(&mut self, secret: &MailboxSecret) -> usize {
        self.fetch(secret, 0).deposits.len()
    }
}

pub fn key() -> HostKey {
    HostSecret::from_bytes([9; 32]).public()
}

pub fn tokens() -> TokenSecret {
    TokenSecret::from_bytes([10; 32])
}

pub fn token_key() -> TokenKey {
    tokens().public()
}

pub fn stamp(secret: &MailboxSecret, class: Class, serial: u16) -> Stamp {
    secret.issue(BatchId(1), class, &[Serial(serial)]).stamps(key()).remove(0)
}

pub fn deposit(secret: &MailboxSecret, class: Class, serial: u16) -> Deposit {
    deposit_of(secret, class, serial, 0)
}

pub fn deposit_of(secret: &MailboxSecret, class: Class, serial: u16, fill: u8) -> Deposit {
    stamp(secret, class, serial).deposit(vec![fill; class.body_len()].into()).expect("the length of the class")
}
