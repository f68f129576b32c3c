//! Two nodes with sessions, and hosts between them that keep, lose, repeat, reorder and forget: both ends in one value, virtual
//! time. Every node commits before anything leaves; it can be killed between any two effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millpond_mailbox::{
    deposit::Deposit,
    envelope::{self, EnvelopeSecret, Kind},
    frame::Grant,
    host_key::{HostKey, HostSecret},
    link::Link,
    mailbox::{BatchId, Issued, MailboxSecret, SerialSet, Verdict, draw_serials},
    rand_core::Rng,
    secrets::LinkId,
    session::{
        Arrived, Commit, Context, Delivered, DepositId, Handle, InEvent, MapRows, Notice, Offered, OutEvent, Outcome,
        OwnMailbox, RowKey, Session, Wanted,
    },
    stamp::{Class, MailboxId, Serial},
    time::UnixMillis,
};

use crate::{
    hostile_frame::hostile_payload,
    world::{NOW, Node, TestRng},
};

pub const MINUTE_MS: u64 = 60_000;
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// One mailbox host. `faults` decides what it does to each deposit.
pub struct Host {
    pub key: HostKey,
    /// Mailboxes that exist, and what lies in them.
    pub boxes: BTreeMap<MailboxId, Vec<Deposit>>,
    /// Body digests by serial, as a host keeps them.
    spent: BTreeMap<(MailboxId, Serial), [u8; 32]>,
    pub down: bool,
    /// Takes everything, says STORED, keeps nothing.
    pub lies: bool,
    pub full: bool,
    /// Takes what is for these mailboxes, says STORED, keeps nothing.
    pub swallows: BTreeSet<MailboxId>,
    /// Says this to every deposit and keeps none.
    pub says: Option<Outcome>,
    pub puts: usize,
}

impl Host {
    fn new(seed: u8) -> Self {
        Self {
            key: HostSecret::from_bytes([seed; 32]).public(),
            boxes: BTreeMap::new(),
            spent: BTreeMap::new(),
            down: false,
            lies: false,
            full: false,
            swallows: BTreeSet::new(),
            says: None,
            puts: 0,
        }
    }

    pub fn put(&mut self, bytes: &[u8]) -> Outcome {
        if self.down {
            return Outcome::Unreachable;
        }
        let deposit = Deposit::parse(&bytes.to_vec().into()).expect("a deposit of the right size");
        assert!(deposit.is_signed_for(&self.key), "signed for another host");
        self.puts += 1;
        if let Some(said) = self.says {
            return said;
        }
        let key = (deposit.header().mailbox(), deposit.header().serial());
        let digest = deposit.digest().0;
        match self.spent.get(&key) {
            // What was read is deleted, and then no stamp is good twice.
            Some(before) if *before == digest => {
                let lies_here =
                    self.boxes.get(&key.0).is_some_and(|there| there.iter().any(|one| one.digest().0 == digest));
                return if lies_here { Outcome::Stored } else { Outcome::Refused };
            }
            Some(_) => return Outcome::Spent,
            None => {}
        }
        let Some(mailbox) = self.boxes.get_mut(&key.0) else { return Outcome::Refused };
        if self.full {
            return Outcome::Full;
        }
        self.spent.insert(key, digest);
        if !self.lies && !self.swallows.contains(&key.0) {
            mailbox.push(deposit);
        }
        Outcome::Stored
    }
}

/// One of our mailboxes, as its owner keeps it.
pub struct Box {
    pub secret: MailboxSecret,
    pub own: OwnMailbox,
    serials: SerialSet,
    pub issued: BTreeMap<Serial, Issued>,
}

impl Box {
    /// The seed of the stamp of a deposit: what a thief of the mailbox's key would know.
    pub fn seed_of(&self, deposit: &Deposit) -> millpond_mailbox::stamp::StampSeed {
        let serial = deposit.header().serial();
        self.secret.batch_seed(self.issued[&serial].batch).stamp_seed(serial)
    }
}

/// One side: the node, its link, its session with its rows, and what it was given.
pub struct Side {
    pub node: Node,
    pub link: Link,
    pub session: Session,
    pub rows: MapRows,
    pub mailboxes: Vec<Box>,
    /// The outbox: what is offered until it is done.
    pub outbox: BTreeMap<Handle, Offered>,
    pub next_handle: u64,
    pub delivered: Vec<Delivered>,
    pub notices: Vec<Notice>,
    pub awake: bool,
    pub done: usize,
    /// Outcomes that have not come back yet.
    pending: VecDeque<(DepositId, HostKey, Vec<u8>)>,
}

impl Side {
    pub fn new(node: Node, link: Link, session: Session) -> Self {
        let mut rows = MapRows::default();
        if let OutEvent::Persist(commit) = session.first_commit() {
            rows.apply(&commit);
        }
        Self {
            node,
            link,
            session,
            rows,
            mailboxes: Vec::new(),
            outbox: BTreeMap::new(),
            next_handle: 1,
            delivered: Vec::new(),
            notices: Vec::new(),
            awake: true,
            done: 0,
            pending: VecDeque::new(),
        }
    }

    pub fn own(&self) -> Vec<OwnMailbox> {
        self.mailboxes.iter().map(|mailbox| mailbox.own).collect()
    }

    pub fn open_mailbox(&mut self, host: &mut Host, recovery: bool) -> usize {
        let secret = MailboxSecret::generate(&mut self.node.rng);
        host.boxes.insert(secret.id(), Vec::new());
        let own = OwnMailbox { id: secret.id(), host: host.key, recovery, draining: false };
        self.mailboxes.push(Box { secret, own, serials: SerialSet::new(), issued: BTreeMap::new() });
        self.mailboxes.len() - 1
    }

    pub fn issue(&mut self, mailbox: usize, class: Class, count: usize) -> Grant {
        let link = self.link.id();
        issue(&mut self.mailboxes[mailbox], link, class, count, &mut self.node.rng)
    }

    /// Feeds an event and does what comes of it, as a driver would.
    pub fn feed(&mut self, now: UnixMillis, event: InEvent) {
        let (own, rows) = (self.own(), self.rows.clone());
        let ctx = Context { now, identity: &self.node.identity, mailboxes: &own, rows: &rows };
        let effects = self.session.handle(&ctx, event, &mut self.node.rng);
        self.perform(effects);
    }

    pub fn perform(&mut self, effects: Vec<OutEvent>) {
        let mut left = false;
        for effect in effects {
            match effect {
                OutEvent::Persist(commit) => {
                    assert!(!left, "something left before it was on disk");
                    self.commit(&commit);
                }
                OutEvent::Deposit { id, host, bytes } => {
                    left = true;
                    assert_eq!(bytes.len() % 4_096, 148, "header, signature and a body of its class");
                    self.pending.push_back((id, host, bytes));
                }
                OutEvent::Notice(notice) => self.on_notice(notice),
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.rows.apply(commit);
        self.delivered.extend(commit.deliver.iter().cloned());
        for handle in &commit.done {
            if self.outbox.remove(handle).is_some() {
                self.done += 1;
            }
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Established => {
                let _ = self.link.established_by_session();
            }
            Notice::Secrets => {
                let _ = self.link.adopt_secrets(self.session.link_secrets());
            }
            Notice::Delivered => {
                let _ = self.link.note_request_stream();
            }
            _ => {}
        }
        self.notices.push(notice);
    }

    pub fn offer(&mut self, item: millpond_mailbox::item::Item) -> Handle {
        self.offer_as(item, millpond_mailbox::session::Priority::Ordinary)
    }

    pub fn offer_as(
        &mut self,
        item: millpond_mailbox::item::Item,
        priority: millpond_mailbox::session::Priority,
    ) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        let room = Some(millpond_mailbox::session::RoomTag(1));
        self.outbox.insert(handle, Offered { handle, item, priority, room, deadline: None });
        handle
    }

    /// Offers the outbox, issues what is wanted, and holds a slot if one is wanted.
    pub fn slot(&mut self, now: UnixMillis) -> bool {
        let offers: Vec<Offered> = self.outbox.values().cloned().collect();
        self.feed(now, InEvent::Offer(offers));
        let own = self.own();
        if self.session.wants_slot(now, &own).is_none_or(|at| at > now) {
            return false;
        }
        let wanted = self.session.stamps_wanted(&own);
        let link = self.link.id();
        let grants: Vec<Grant> = wanted
            .into_iter()
            .filter_map(|Wanted { mailbox, class, count }| {
                let mailbox = self.mailboxes.iter_mut().find(|known| known.own.id == mailbox.id)?;
                Some(issue(mailbox, link, class, usize::from(count), &mut self.node.rng))
            })
            .collect();
        if !grants.is_empty() {
            self.feed(now, InEvent::Granted(grants));
        }
        self.feed(now, InEvent::Slot);
        true
    }

    /// Kills the node and starts it from its rows: everything in memory is gone, deposits under way too.
    pub fn restart(&mut self) {
        self.pending.clear();
        let record = self.rows.0.get(&RowKey::Record).expect("a record").clone();
        self.session = Session::from_record(&record).expect("what was stored can be read");
        let bytes = self.link.to_bytes();
        self.link = Link::from_bytes(&bytes).expect("what was stored can be read");
    }

    /// Stamps that were issued for an earlier link belong to this one from here on.
    pub fn rebind(&mut self) {
        let link = self.link.id();
        for issued in self.mailboxes.iter_mut().flat_map(|mailbox| mailbox.issued.values_mut()) {
            issued.link = link;
        }
    }

    /// How often each of these bodies was delivered.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.delivered.iter().map(|delivered| delivered.item.body()).collect()
    }

    pub fn saw(&self, notice: Notice) -> bool {
        self.notices.contains(&notice)
    }
}

fn issue(mailbox: &mut Box, link: LinkId, class: Class, count: usize, rng: &mut TestRng) -> Grant {
    let (host, recovery) = (mailbox.own.host, mailbox.own.recovery);
    let batch = if recovery { mailbox.secret.recovery_batch(link) } else { BatchId::generate(rng) };
    let serials = draw_serials(&mut mailbox.serials, count, rng).expect("serials are left");
    for serial in &serials {
        mailbox.issued.insert(*serial, Issued { link, batch, class, used: false, revoked: false });
    }
    Grant { host, recovery, batch: mailbox.secret.issue(batch, class, &serials) }
}

/// Two sides and their hosts.
pub struct World {
    pub now: UnixMillis,
    pub sides: [Side; 2],
    pub hosts: Vec<Host>,
    pub rng: TestRng,
    /// In thousandths: lost, answer lost, delivered twice.
    pub lose: u32,
    pub lose_answer: u32,
    pub repeat: u32,
}

pub const ALICE: usize = 0;
pub const BOB: usize = 1;

impl World {
    /// Alice and Bob with an established link, two mailboxes and a recovery mailbox each, and stamps for each other's.
    pub fn new(seed: u64) -> Self {
        let (mut alice, mut bob) = (Node::new(seed * 2 + 1), Node::new(seed * 2 + 2));
        let (mut at_alice, mut at_bob) = crate::world::linked(&mut alice, &mut bob);
        let begin = |link: &mut Link, node: &Node| Session::begin(link, &node.name(), Vec::new(), NOW).expect("ready");
        let (session_a, session_b) = (begin(&mut at_alice, &alice), begin(&mut at_bob, &bob));
        let mut world = Self {
            now: NOW,
            sides: [Side::new(alice, at_alice, session_a), Side::new(bob, at_bob, session_b)],
            hosts: vec![Host::new(1), Host::new(2)],
            rng: TestRng::new(seed ^ 0x5eed),
            lose: 0,
            lose_answer: 0,
            repeat: 0,
        };
        world.open_mailboxes();
        world.exchange_stamps();
        world
    }

    pub fn open_mailboxes(&mut self) {
        for side in 0..2 {
            for recovery in [false, true] {
                for host in 0..2 {
                    self.sides[side].open_mailbox(&mut self.hosts[host], recovery);
                }
            }
        }
    }

    /// As over a stream of the link.
    fn exchange_stamps(&mut self) {
        for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
            let own = self.sides[from].own();
            let mut grants = Vec::new();
            for (index, mailbox) in own.iter().enumerate() {
                if mailbox.recovery {
                    grants.push(self.sides[from].issue(index, Class::S, 1));
                } else {
                    grants.push(self.sides[from].issue(index, Class::S, 24));
                    grants.push(self.sides[from].issue(index, Class::L, 8));
                }
            }
            let now = self.now;
            self.sides[from].feed(now, InEvent::GivenStamps(grants.clone()));
            self.sides[to].feed(now, InEvent::PeerStamps(grants));
        }
    }

    /// What the HELLO that this side has just made says, opened with its own key: for who wants to seal it elsewhere.
    pub fn hello_payload(&mut self, side: usize) -> Option<Vec<u8>> {
        let rk = self.sides[1 - side].session.link_secrets().last()?.restore_key();
        self.hello_payload_under(side, &rk.envelope_secret())
    }

    /// The same, where the link is on a later line than its first.
    pub fn hello_payload_under(&mut self, side: usize, rk: &EnvelopeSecret) -> Option<Vec<u8>> {
        let (_, host, bytes) = self.sides[side].pending.pop_front()?;
        let deposit = Deposit::parse(&bytes.into()).ok()?;
        let other = &self.sides[1 - side];
        let mailbox = other.mailboxes.iter().find(|mailbox| mailbox.own.id == deposit.header().mailbox())?;
        assert_eq!(mailbox.own.host, host);
        let seed = mailbox.seed_of(&deposit);
        let opened = envelope::open([rk], &seed, deposit.header(), deposit.body()).ok()?;
        Some(opened.1.payload)
    }

    /// An envelope of this side whose Olm message says these bytes: what a hostile contact can make out of its own record. Its frame
    /// has the next number, and its record goes on from there.
    pub fn arrived_from(&mut self, side: usize, plaintext: &[u8]) -> Arrived {
        let secret = EnvelopeSecret::from(&self.sides[side].session.link_secrets()[0]);
        let record = self.sides[side].rows.0.get_mut(&RowKey::Record).expect("a record");
        let (frame_no, payload) = hostile_payload(record, plaintext);
        self.sides[side].restart();
        let grant = self.sides[1 - side].issue(0, Class::S, 1);
        let stamp = grant.batch.stamps(grant.host).remove(0);
        let header = stamp.header();
        let body = envelope::seal(&secret, &stamp.seed, &header, Kind::Frame, frame_no, &payload, &mut self.rng);
        Arrived { header, seed: stamp.seed.clone(), body: body.expect("fits").into() }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = UnixMillis(self.now.0 + ms);
    }

    /// One side, if it is awake: polls, answers deposits, holds a slot.
    pub fn turn(&mut self, side: usize) -> bool {
        if !self.sides[side].awake {
            return false;
        }
        let polled = self.poll(side);
        let slot = self.sides[side].slot(self.now);
        self.deliver(side) || polled || slot
    }

    /// Brings deposits to their hosts, and the outcomes back.
    pub fn deliver(&mut self, side: usize) -> bool {
        let mut any = false;
        while let Some((deposit, host, bytes)) = self.sides[side].pending.pop_front() {
            any = true;
            let outcome = self.carry(host, &bytes);
            let now = self.now;
            self.sides[side].feed(now, InEvent::Outcome { deposit, outcome });
        }
        any
    }

    fn carry(&mut self, host: HostKey, bytes: &[u8]) -> Outcome {
        if self.rng.next_u32() % 1_000 < self.lose {
            return Outcome::Unreachable;
        }
        let Some(host) = self.hosts.iter_mut().find(|known| known.key == host) else { return Outcome::Unreachable };
        let outcome = host.put(bytes);
        if self.rng.next_u32() % 1_000 < self.lose_answer { Outcome::Unreachable } else { outcome }
    }

    /// Fetches and hands in what is there.
    pub fn poll(&mut self, side: usize) -> bool {
        let arrived = self.fetch(side);
        if arrived.is_empty() {
            return false;
        }
        let now = self.now;
        self.sides[side].feed(now, InEvent::Arrived(arrived));
        true
    }

    /// Everything from all mailboxes of a side, in any order, some of it twice.
    pub fn fetch(&mut self, side: usize) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        for index in 0..self.sides[side].mailboxes.len() {
            let host = self.sides[side].mailboxes[index].own.host;
            let host = self.hosts.iter_mut().find(|known| known.key == host).expect("a known host");
            if host.down {
                continue;
            }
            let id = self.sides[side].mailboxes[index].own.id;
            let Some(lying) = host.boxes.get_mut(&id) else { continue };
            let mut fetched = std::mem::take(lying);
            if !fetched.is_empty() && self.rng.next_u32() % 1_000 < self.repeat {
                lying.extend(fetched.iter().cloned());
            }
            for at in (1..fetched.len()).rev() {
                fetched.swap(at, (self.rng.next_u32() as usize) % (at + 1));
            }
            let key = host.key;
            for deposit in fetched {
                let link = self.sides[side].link.id();
                arrived.extend(judge(&mut self.sides[side].mailboxes[index], link, &key, &deposit));
            }
        }
        arrived
    }

    /// Lets both go on until nothing moves for this long.
    pub fn run(&mut self, span_ms: u64) {
        let end = self.now.0 + span_ms;
        while self.now.0 < end {
            let mut moved = true;
            while moved {
                moved = self.turn(ALICE);
                moved |= self.turn(BOB);
            }
            self.advance(self.step(end));
        }
    }

    /// To the next moment at which somebody wants a slot, but a poll at least every ten minutes.
    fn step(&self, end: u64) -> u64 {
        let wants = self.sides.iter().filter(|side| side.awake);
        let next = wants.filter_map(|side| side.session.wants_slot(self.now, &side.own())).map(|at| at.0).min();
        let next = next.unwrap_or(end).clamp(self.now.0 + 1, self.now.0 + 10 * MINUTE_MS);
        next.min(end).max(self.now.0 + 1) - self.now.0
    }
}

fn judge(mailbox: &mut Box, link: LinkId, host: &HostKey, deposit: &Deposit) -> Option<Arrived> {
    let serial = deposit.header().serial();
    if mailbox.own.recovery && !mailbox.issued.contains_key(&serial) {
        mailbox.issued.extend(mailbox.secret.recognise(deposit, [link]).map(|issued| (serial, issued)));
    }
    let verdict = mailbox.secret.judge(host, deposit, mailbox.issued.get(&serial));
    let Verdict::Contact { seed, .. } = verdict else { return None };
    if let Some(issued) = mailbox.issued.get_mut(&serial) {
        issued.used = true;
    }
    Some(Arrived { header: *deposit.header(), seed, body: deposit.body().clone() })
}
