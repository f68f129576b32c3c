//! A mailbox host at work over streams, and those who use it: deposits, polls, announcements, strangers, a broken disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millpond_mailbox::deposit::Deposit;
use millpond_mailbox::host::{HostLimits, HostRows, HostStore, HostStoreError, MemoryRows};
use millpond_mailbox::host_key::HostSecret;
use millpond_mailbox::host_link::{HostLink, HostWay};
use millpond_mailbox::host_protocol::{BoxId, Claim, Cursor, Purpose};
use millpond_mailbox::mailbox::{BatchId, MailboxSecret};
use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::stamp::{Class, Serial};
use millpond_mailbox::stream::OPENING_LEN;
use millpond_mailbox::token::{Grant, TokenRequest, TokenSecret};
use millpond_overlay::host_client::{ClientLimits, HostClient, HostError};
use millpond_overlay::relay::{Relay, RelayConfig, StreamLimits};
use millpond_overlay::transport::Transport;
use millpond_overlay::transport::libp2p::{Libp2p, Libp2pConfig};
use millpond_overlay::transport::memory::MemoryNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const HOST: u64 = 900;

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// Rows in memory whose disk can be broken.
struct Disk {
    rows: MemoryRows,
    broken: Arc<AtomicBool>,
}

impl HostStore for Disk {
    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn HostRows) -> Result<(), HostStoreError>,
    ) -> Result<(), HostStoreError> {
        if !self.broken.load(Ordering::SeqCst) {
            return self.rows.write(work);
        }
        let mut copy = self.rows.clone();
        copy.write(work)?;
        Err(HostStoreError { doing: "committing", source: "no space left".into() })
    }
}

struct World {
    net: MemoryNet,
    relay: Relay,
    link: HostLink,
    client: HostClient,
    broken: Arc<AtomicBool>,
}

fn grant() -> Grant {
    tokens().grant(&mut rng())
}

fn tokens() -> TokenSecret {
    TokenSecret::from_bytes([10; 32])
}

fn config(streams: StreamLimits) -> RelayConfig {
    let (secret, limits) = (HostSecret::from_bytes([9; 32]), HostLimits::default());
    RelayConfig { secret, tokens: tokens(), limits, streams }
}

impl World {
    async fn start() -> Self {
        Self::with(StreamLimits::default()).await
    }

    async fn with(streams: StreamLimits) -> Self {
        let net = MemoryNet::new();
        let broken = Arc::new(AtomicBool::new(false));
        let disk = Disk { rows: MemoryRows::default(), broken: broken.clone() };
        let relay = Relay::start(config(streams), Box::new(disk)).unwrap();
        let addresses = relay.serve(vec![Box::new(net.transport(HOST))], Vec::new()).await.unwrap();
        let link = relay.link(&addresses).unwrap();
        let from = net.clone();
        let fresh = move || Ok(Box::new(from.transport(1)) as Box<dyn Transport>);
        let client = HostClient::new(Arc::new(fresh), ClientLimits::default());
        Self { net, relay, link, client, broken }
    }

    async fn mailbox(&self) -> MailboxSecret {
        let request = TokenRequest::generate(1, &mut rng());
        let (way, key) = (&self.link.way, &self.link.tokens);
        let token = self.client.tokens(way, key, &grant(), &request).await.unwrap().remove(0);
        let secret = MailboxSecret::generate(&mut rng());
        self.client.create(way, &secret, Purpose::Ordinary, &token).await.unwrap();
        secret
    }

    fn deposit(&self, secret: &MailboxSecret, class: Class, serial: u16) -> Deposit {
        let stamp = secret.issue(BatchId(1), class, &[Serial(serial)]).stamps(self.relay.key()).remove(0);
        stamp.deposit(vec![7; class.body_len()].into()).unwrap()
    }
}

#[tokio::test]
async fn a_deposit_is_fetched_by_the_owner_and_deleted_when_he_says_so() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let depositor = world.client.depositor(&world.link.way).await.unwrap();
    let (small, large) = (world.deposit(&secret, Class::S, 1), world.deposit(&secret, Class::L, 2));
    depositor.put(&small).await.unwrap();
    depositor.put(&large).await.unwrap();
    depositor.put(&small).await.unwrap();

    let (owner, _) = world.client.owner(&world.link.way).await.unwrap();
    let page = owner.fetch(&secret, Cursor(0)).await.unwrap();
    assert_eq!(page.deposits, [small, large]);
    owner.delete(&secret, &[Serial(1)]).await.unwrap();
    assert_eq!(owner.quota(&secret).await.unwrap().envelopes, 1);
    owner.close(&secret).await.unwrap();
    assert!(matches!(owner.fetch(&secret, Cursor(0)).await, Err(HostError::Refused)));
    world.relay.stop().await;
}

#[tokio::test]
async fn arrivals_are_announced_on_an_open_connection() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let (owner, mut arrivals) = world.client.owner(&world.link.way).await.unwrap();
    owner.announce(&secret).await.unwrap();
    let depositor = world.client.depositor(&world.link.way).await.unwrap();
    depositor.put(&world.deposit(&secret, Class::S, 1)).await.unwrap();
    assert_eq!(arrivals.recv().await, Some(secret.id()));
    assert_eq!(owner.fetch(&secret, Cursor(0)).await.unwrap().deposits.len(), 1);
}

#[tokio::test]
async fn a_pickup_box_travels_and_is_read_once() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let (owner, _) = world.client.owner(&world.link.way).await.unwrap();
    let (id, body) = (BoxId([4; 32]), Bytes::from(vec![5; Class::L.body_len()]));
    owner.lay_box(&secret, id, body.clone()).await.unwrap();
    let taker = world.client.depositor(&world.link.way).await.unwrap();
    assert_eq!(taker.take(id, Claim([1; 32])).await.unwrap(), body);
    assert!(matches!(taker.take(id, Claim([2; 32])).await, Err(HostError::Taken)));
    assert!(matches!(taker.take(BoxId([5; 32]), Claim([2; 32])).await, Err(HostError::NoBox)));
}

#[tokio::test]
async fn what_is_not_on_the_disk_is_not_said_to_be_stored() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let depositor = world.client.depositor(&world.link.way).await.unwrap();
    let deposit = world.deposit(&secret, Class::S, 1);
    world.broken.store(true, Ordering::SeqCst);
    assert!(matches!(depositor.put(&deposit).await, Err(HostError::Busy)));
    world.broken.store(false, Ordering::SeqCst);
    let (owner, _) = world.client.owner(&world.link.way).await.unwrap();
    assert!(owner.fetch(&secret, Cursor(0)).await.unwrap().deposits.is_empty());
    depositor.put(&deposit).await.unwrap();
    assert_eq!(owner.fetch(&secret, Cursor(0)).await.unwrap().deposits, [deposit]);
}

#[tokio::test]
async fn many_requests_on_one_connection_each_get_their_own_answer() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let depositor = world.client.depositor(&world.link.way).await.unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for serial in 0..100 {
        let (depositor, deposit) = (depositor.clone(), world.deposit(&secret, Class::S, serial));
        puts.spawn(async move { depositor.put(&deposit).await });
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap().unwrap();
    }
    let (owner, _) = world.client.owner(&world.link.way).await.unwrap();
    assert_eq!(owner.quota(&secret).await.unwrap().envelopes, 100);
}

#[tokio::test]
async fn a_host_answers_no_byte_to_who_does_not_know_its_key() {
    let world = World::start().await;
    let right = millpond_mailbox::stream::host_hint(&world.relay.key()).0;
    for hint in [[0; 16], right] {
        let mut io = world.net.dial(HOST, "stranger").await.unwrap();
        let mut opening = [7; OPENING_LEN];
        opening[..16].copy_from_slice(&hint);
        io.write_all(&opening).await.unwrap();
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty());
    }
}

#[tokio::test]
async fn who_answers_with_another_key_is_not_taken_for_the_host() {
    let world = World::start().await;
    let way = HostWay::new(HostSecret::from_bytes([8; 32]).public(), world.link.way.addresses().to_vec()).unwrap();
    assert!(matches!(world.client.depositor(&way).await, Err(HostError::Handshake)));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_says_nothing_and_an_owner_who_falls_silent_are_closed_in_time() {
    let world = World::start().await;
    let mut io = world.net.dial(HOST, "silent").await.unwrap();
    let waited = timeout(Duration::from_secs(11), io.read_to_end(&mut Vec::new())).await;
    waited.expect("closed after the handshake time").unwrap();
    let (owner, _) = world.client.owner(&world.link.way).await.unwrap();
    timeout(Duration::from_secs(601), owner.closed()).await.expect("closed after ten silent minutes");
}

#[tokio::test]
async fn streams_are_bounded_for_each_source_and_one_that_ends_makes_room() {
    let world = World::with(StreamLimits { per_source: 2, ..StreamLimits::default() }).await;
    let open = async || world.client.owner(&world.link.way).await.unwrap().0;
    let secret = MailboxSecret::generate(&mut rng());
    let (first, second) = (open().await, open().await);
    let third = open().await;
    assert!(matches!(third.quota(&secret).await, Err(HostError::Closed)), "one too many");
    assert!(matches!(first.quota(&secret).await, Err(HostError::Refused)));
    drop(first);
    assert!(matches!(second.quota(&secret).await, Err(HostError::Refused)));
    let closed = async {
        while matches!(open().await.quota(&secret).await, Err(HostError::Closed)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), closed).await.expect("the place was given back");
}

#[tokio::test]
async fn a_stopped_host_has_answered_what_it_stored_and_answers_no_more() {
    let world = World::start().await;
    let secret = world.mailbox().await;
    let depositor = world.client.depositor(&world.link.way).await.unwrap();
    depositor.put(&world.deposit(&secret, Class::S, 1)).await.unwrap();
    world.relay.stop().await;
    let put = depositor.put(&world.deposit(&secret, Class::S, 2)).await;
    assert!(matches!(put, Err(HostError::Closed)), "{put:?}");
    assert!(world.client.depositor(&world.link.way).await.is_err());
}

#[tokio::test]
async fn a_host_serves_over_libp2p_and_every_connection_has_a_peer_id_of_its_own() {
    millpond_overlay::install_crypto_provider();
    let loopback = || Libp2pConfig { bind: vec!["127.0.0.1".parse().unwrap()], ..Libp2pConfig::default() };
    let relay = Relay::start(config(StreamLimits::default()), Box::new(MemoryRows::default())).unwrap();
    let transport = Libp2p::new(loopback()).unwrap();
    let addresses = relay.serve(vec![Box::new(transport)], Vec::new()).await.unwrap();
    let way = relay.link(&addresses).unwrap().way;
    let names = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = names.clone();
    let fresh = move || {
        let transport = Libp2p::new(Libp2pConfig::default())?;
        seen.lock().push(transport.peer_id());
        Ok(Box::new(transport) as Box<dyn Transport>)
    };
    let client = HostClient::new(Arc::new(fresh), ClientLimits::default());
    let request = TokenRequest::generate(2, &mut rng());
    let tokens = client.tokens(&way, &tokens().public(), &grant(), &request).await.unwrap();
    let secret = MailboxSecret::generate(&mut rng());
    client.create(&way, &secret, Purpose::Ordinary, &tokens[0]).await.unwrap();
    let stamp = secret.issue(BatchId(1), Class::L, &[Serial(1)]).stamps(relay.key()).remove(0);
    let deposit = stamp.deposit(vec![7; Class::L.body_len()].into()).unwrap();
    client.depositor(&way).await.unwrap().put(&deposit).await.unwrap();
    let (owner, _) = client.owner(&way).await.unwrap();
    assert_eq!(owner.fetch(&secret, Cursor(0)).await.unwrap().deposits, [deposit]);
    let mut names = std::mem::take(&mut *names.lock());
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "tokens, create, deposit and poll: a PeerId each");
    client.stop().await;
    relay.stop().await;
}
