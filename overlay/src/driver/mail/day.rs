//! A day of a node in `paced` mode, on virtual time: the driver, the client of hosts and the hosts as they ship, over streams on which bytes and moments
//! are counted. Nobody writes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use millpond_mailbox::frame::Grant;
use millpond_mailbox::host::{HostLimits, HostRows, HostStore, MailboxRow, MemoryRows};
use millpond_mailbox::host_key::{HostKey, HostSecret};
use millpond_mailbox::host_protocol::{Cursor, Purpose};
use millpond_mailbox::identity::IdentityKey;
use millpond_mailbox::key_document::{DocumentKeys, KeyDocument};
use millpond_mailbox::link::{Effect, Link, Own as OwnSide};
use millpond_mailbox::mailbox::{BatchId, MailboxSecret};
use millpond_mailbox::message::Message;
use millpond_mailbox::schedule::Mode;
use millpond_mailbox::session::{InEvent, MapRows, Session};
use millpond_mailbox::signing_key::{Generation, SigningKey};
use millpond_mailbox::stamp::{Class, Serial};
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::token::TokenSecret;
use millpond_mailbox::way::{HostAddress, Way};
use millpond_mailbox::xwing::XWingSecret;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Carried, Context, Own, rows};
use crate::clock;
use crate::driver::held::{Held, Kept};
use crate::driver::{Driver, Parts};
use crate::host_client::{ClientLimits, FreshTransport, HostClient};
use crate::hosts::{self, Hosts};
use crate::limits::Limits;
use crate::me::Me;
use crate::relay::{Relay, RelayConfig, StreamLimits};
use crate::routes::Routes;
use crate::store::{Change, Delivery, LinkStore, Record, RecordKey, StoreError};
use crate::tasks::Tasks;
use crate::transport::memory::{Memory, MemoryNet};
use crate::transport::{Address, BoxIo, Incoming, Transport, TransportError};

/// What went over the streams of one node.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    bytes: usize,
    /// Moments in which something was sent, in milliseconds: each wakes the device.
    moments: BTreeSet<u64>,
}

/// Streams to hosts, with everything on them counted.
struct Metered {
    memory: Memory,
    meter: Meter,
}

impl Transport for Metered {
    fn route(&self) -> &'static str {
        self.memory.route()
    }

    fn carries(&self, address: &Address) -> bool {
        self.memory.carries(address)
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        self.memory.start(incoming)
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        async move {
            let io = self.memory.dial(address).await?;
            Ok(Box::new(Wire { io, meter: self.meter.clone() }) as BoxIo)
        }
        .boxed()
    }

    fn listen(&self, earlier: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        self.memory.listen(earlier)
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.memory.local_addresses()
    }

    fn nearby(&self) -> Vec<Address> {
        self.memory.nearby()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.memory.stop()
    }
}

struct Wire {
    io: BoxIo,
    meter: Meter,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Task<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.meter.0.lock().bytes += buf.filled().len() - before;
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            let mut counted = self.meter.0.lock();
            counted.bytes += written;
            counted.moments.insert(clock::now().0);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Rows in memory.
#[derive(Default)]
struct Rows(Mutex<BTreeMap<RecordKey, Vec<u8>>>);

impl LinkStore for Rows {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let rows = self.0.lock();
        let records = rows.iter().map(|(key, bytes)| Record { key: key.clone(), bytes: bytes.clone() }).collect();
        async move { Ok(records) }.boxed()
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut rows = self.0.lock();
        for change in changes {
            match change {
                Change::Put(record) => drop(rows.insert(record.key, record.bytes)),
                Change::Remove(key) => drop(rows.remove(&key)),
            }
        }
        async { Ok(()) }.boxed()
    }

    fn commit_delivery(&self, changes: Vec<Change>, _: Delivery) -> BoxFuture<'_, Result<(), StoreError>> {
        self.commit(changes)
    }

    fn takes_more(&self, _: &millpond_mailbox::name::NodeName) -> bool {
        true
    }
}

/// A node's keys.
struct Person {
    identity: IdentityKey,
    signing: SigningKey,
    document: KeyDocument,
}

impl Person {
    fn new() -> Self {
        let rng = &mut clock::random();
        let (identity, signing) = (IdentityKey::generate(rng), SigningKey::generate(Generation::FIRST, rng));
        let keys = DocumentKeys {
            generation: Generation::FIRST,
            current: &[&signing],
            old: &BTreeMap::new(),
            intro_key: None,
        };
        let document = KeyDocument::build(&identity, &keys).unwrap();
        Self { identity, signing, document }
    }

    fn own<'a>(&'a self, ways: &'a [Way]) -> OwnSide<'a> {
        OwnSide { identity: &self.identity, key_document: &self.document, ways, stamps: &[] }
    }
}

fn sent(effects: Vec<Effect>) -> Vec<Message> {
    let message = |effect| match effect {
        Effect::Send(message) => Some(message),
        _ => None,
    };
    effects.into_iter().filter_map(message).collect()
}

/// A whole first contact; Alice's link.
fn linked(alice: &Person, bob: &Person) -> Link {
    let (now, rng, ways) = (clock::now(), &mut clock::random(), [Way::Onion(vec![1; 40])]);
    let (mut at_alice, shown) = Link::offer(&alice.own(&ways), now, rng).unwrap();
    let mut at_bob = Link::add(&shown, &bob.identity.public(), now).unwrap();
    let offers = at_alice.opening(false);
    for offer in offers {
        for answer in sent(at_bob.handle(&bob.own(&ways), &offer, now, rng).unwrap()) {
            at_alice.handle(&alice.own(&ways), &answer, now, rng).unwrap();
        }
    }
    for confirm in sent(at_alice.confirm().unwrap()) {
        for done in sent(at_bob.handle(&bob.own(&ways), &confirm, now, rng).unwrap()) {
            at_alice.handle(&alice.own(&ways), &done, now, rng).unwrap();
        }
    }
    at_alice
}

/// Two hosts with mailboxes of Alice, whose contacts have mailboxes there too.
struct World {
    net: MemoryNet,
    hosts: Vec<(HostKey, HostAddress)>,
    own: Vec<Own>,
    _relays: Vec<Relay>,
}

impl World {
    async fn new() -> Self {
        let net = MemoryNet::new();
        let (mut hosts, mut own, mut relays) = (Vec::new(), Vec::new(), Vec::new());
        for name in [1_u8, 2] {
            let secret = HostSecret::from_bytes([name; 32]);
            let mut rows = MemoryRows::default();
            let mine = [(false, Purpose::Ordinary), (true, Purpose::Recovery)].map(|(recovery, purpose)| {
                let mailbox = MailboxSecret::generate(&mut clock::random());
                create(&mut rows, &mailbox, purpose);
                (mailbox, recovery)
            });
            let config = RelayConfig {
                secret,
                tokens: TokenSecret::from_bytes([name; 32]),
                limits: HostLimits::default(),
                streams: StreamLimits::default(),
            };
            let relay = Relay::start_on_the_runtime(config, Box::new(rows));
            let addresses = relay.serve(vec![Box::new(net.transport(u64::from(name)))], Vec::new()).await.unwrap();
            let at = hosts::address(&relay.link(&addresses).unwrap().way);
            own.extend(mine.map(|(secret, recovery)| Own::new(secret, at.clone(), recovery, clock::now())));
            hosts.push((relay.key(), at));
            relays.push(relay);
        }
        Self { net, hosts, own, _relays: relays }
    }
}

fn create(rows: &mut MemoryRows, mailbox: &MailboxSecret, purpose: Purpose) {
    let closes = clock::now().after(Duration::from_secs(400 * 86_400)).day();
    let (key, read_key) = (mailbox.mailbox_key(), mailbox.read_key().public());
    let row = MailboxRow { purpose, key, read_key, closes, arrived: Cursor(0), envelopes: 0, bytes: 0, boxes: 0 };
    let made = rows.write(&mut |rows: &mut dyn HostRows| rows.create_mailbox(&mailbox.id(), &row));
    made.unwrap();
}

/// The stamps that a contact gave us when he became one.
fn stamps(hosts: &[(HostKey, HostAddress)]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (host, _) in hosts {
        let mailbox = MailboxSecret::generate(&mut clock::random());
        for (class, count) in [(Class::S, 24), (Class::L, 8)] {
            let serials: Vec<Serial> = (0..count).map(Serial).collect();
            let batch = mailbox.issue(BatchId(u64::from(count)), class, &serials);
            grants.push(Grant { host: *host, recovery: false, batch });
        }
    }
    grants
}

/// What so many contacts cost on a day without messages: bytes on the wire, and moments in which the device is woken by its network.
async fn paced_day(contacts: usize, mains: bool, seed: u64) -> (usize, usize) {
    clock::seed(seed);
    let (world, alice, meter) = (World::new().await, Person::new(), Meter::default());
    let store = Arc::new(Rows::default());
    let fresh = {
        let (net, meter) = (world.net.clone(), meter.clone());
        move || -> Result<Box<dyn Transport>, TransportError> {
            Ok(Box::new(Metered { memory: net.transport(77), meter: meter.clone() }))
        }
    };
    let fresh: Arc<dyn FreshTransport> = Arc::new(fresh);
    let identity = IdentityKey::from_seed(&alice.identity.to_seed());
    let me = Me {
        identity,
        key_document: alice.document.clone(),
        intro_secret: XWingSecret::generate(&mut clock::random()),
        signing: alice.signing.clone(),
    };
    let (commands, events, closing) = (mpsc::channel(8), broadcast::channel(8).0, CancellationToken::new());
    let (arrivals, _arrived) = mpsc::channel(8);
    let parts = Parts {
        me,
        limits: Arc::new(Limits::default()),
        host: None,
        store,
        transports: Vec::new(),
        arrivals,
        events,
        published: watch::channel(Arc::from([])).0,
        commands,
        closing: closing.clone(),
        tasks: Tasks::default(),
        hosts: Some(Hosts::new(HostClient::new(fresh, ClientLimits::default()))),
        mode: Mode::Paced { mains },
        accept_hosts: None,
        routes: Arc::new(Routes::without_tor()),
    };
    let mut driver = Driver::new(parts).await.unwrap();
    let World { own, hosts, net: _net, _relays } = world;
    driver.mail.own = own.into_iter().map(|own| (own.secret.id(), own)).collect();
    let told = Some(rows::cbor(&driver.worth_telling()));
    for _ in 0..contacts {
        let mut link = linked(&alice, &Person::new());
        let id = link.id();
        let mut session = Session::begin(&mut link, alice.document.name(), stamps(&hosts), clock::now()).unwrap();
        let (given, _) = driver.first_stamps(id);
        let (shown, none) = (driver.mail.shown(), MapRows::default());
        let ctx = Context { now: clock::now(), identity: &alice.identity, mailboxes: &shown, rows: &none };
        session.handle(&ctx, InEvent::GivenStamps(given), &mut clock::random());
        let mut held = Held::new(link);
        held.kept = Kept { told: told.clone(), ..Kept::default() };
        driver.links.insert(id, held);
        driver.mail.sessions.insert(id, Carried { session, rows: MapRows::default(), in_air: 0 });
    }
    // The draws of the day are the same, however many were needed to come to it.
    clock::seed(seed + 1_000);
    let begin = clock::now();
    let running = tokio::spawn(driver.run());
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let until = clock::now();
    assert!(until >= UnixMillis(begin.0 + 86_400_000), "a day has passed");
    let counted = {
        let counted = meter.0.lock();
        (counted.bytes, counted.moments.len())
    };
    closing.cancel();
    running.await.unwrap();
    println!("{contacts} contacts, mains {mains}, seed {seed}: {} bytes in {} moments", counted.0, counted.1);
    counted
}

#[tokio::test(start_paused = true)]
async fn a_paced_day_without_messages_costs_less_than_a_mebibyte_on_battery_and_on_mains() {
    for seed in 0..3 {
        let (bytes, moments) = paced_day(10, false, seed).await;
        assert!((100..400).contains(&moments), "{moments} moments on battery");
        assert!(bytes < 256 << 10, "{bytes} bytes on battery");
        let (bytes, moments) = paced_day(10, true, seed).await;
        assert!((2_000..4_000).contains(&moments), "{moments} moments on mains");
        assert!(bytes < 1 << 20, "{bytes} bytes on mains");
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_costs_the_same_with_ten_contacts_and_with_a_thousand() {
    let (few, many) = (paced_day(10, false, 7).await, paced_day(1_000, false, 7).await);
    let within = |a: usize, b: usize| a.abs_diff(b) * 20 <= a;
    assert!(within(few.0, many.0), "bytes {few:?} {many:?}");
    assert!(within(few.1, many.1), "moments {few:?} {many:?}");
}
