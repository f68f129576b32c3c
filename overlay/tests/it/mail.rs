//! Links over mailboxes: two nodes and two real hosts in one process.

use std::sync::Arc;
use std::time::Duration;

use millpond_mailbox::host::{HostLimits, MemoryRows};
use millpond_mailbox::host_key::HostSecret;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::item::Item;
use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::session::{Handle, Offered, Priority};
use millpond_mailbox::token::TokenSecret;
use millpond_overlay::LinkState;
use millpond_overlay::relay::{Relay, RelayConfig, StreamLimits};
use millpond_overlay::transport::Transport;
use millpond_overlay::transport::memory::MemoryNet;

use crate::support::{Seed, TestNode, link};

/// A host and the link to it.
struct Host {
    relay: Relay,
    link: HostLink,
    tokens: [u8; 32],
}

impl Host {
    async fn start(net: &MemoryNet, name: u8) -> Self {
        let (secret, tokens) = (HostSecret::from_bytes([name; 32]), [name ^ 0x55; 32]);
        let config = RelayConfig {
            secret,
            tokens: TokenSecret::from_bytes(tokens),
            limits: HostLimits::default(),
            streams: StreamLimits::default(),
        };
        let relay = Relay::start(config, Box::new(MemoryRows::default())).unwrap();
        let addresses = relay.serve(vec![Box::new(net.transport(u64::from(name)))], Vec::new()).await.unwrap();
        let link = relay.link(&addresses).unwrap();
        Self { relay, link, tokens }
    }

    async fn give_to(&self, node: &TestNode) {
        let leave = TokenSecret::from_bytes(self.tokens).grant(&mut UnwrapErr(getrandom::SysRng));
        node.overlay.add_mailbox(self.link.clone(), leave).await.unwrap();
    }
}

/// A node that reaches hosts, each connection on a transport of its own.
pub fn seed(net: &MemoryNet) -> Seed {
    let net = net.clone();
    let fresh = move || Ok(Box::new(net.transport(7_000)) as Box<dyn Transport>);
    let mut seed = Seed::new();
    seed.hosts = Some(Arc::new(fresh));
    seed
}

pub fn verdict(handle: u64) -> Offered {
    let item = Item::Verdict(handle.to_be_bytes().to_vec());
    Offered { handle: Handle(handle), item, priority: Priority::Ordinary, room: None, deadline: None }
}

pub async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

pub fn state(node: &TestNode) -> Option<LinkState> {
    node.overlay.links().first().map(|link| link.state)
}

pub fn settled(node: &TestNode) -> bool {
    node.overlay.links().iter().all(|link| link.mail.is_none_or(|mail| !mail.busy))
}

#[tokio::test]
async fn two_who_are_never_on_together_become_contacts_and_exchange_items() {
    let net = MemoryNet::new();
    let hosts = [Host::start(&net, 201).await, Host::start(&net, 202).await];
    let (alice, bob) = (seed(&net), seed(&net));
    // 1. Alice makes mailboxes and a contact link; her box goes to the hosts; she goes.
    let at_alice = alice.start(net.transport(1)).await;
    for host in &hosts {
        host.give_to(&at_alice).await;
    }
    let contact = at_alice.overlay.offer().await.unwrap();
    let left = async || alice.links.rows.lock().keys().all(|key| key.kind != millpond_overlay::RecordKind::Box);
    until("the box lies at both hosts", left).await;
    at_alice.overlay.shutdown().await;
    // 2. Bob answers, and goes.
    let at_bob = bob.start(net.transport(2)).await;
    for host in &hosts {
        host.give_to(&at_bob).await;
    }
    at_bob.overlay.accept(&contact).await.unwrap();
    until("Bob has answered", async || state(&at_bob) == Some(LinkState::AwaitsPeer) && settled(&at_bob)).await;
    at_bob.overlay.shutdown().await;
    // 3. Alice sees him, says yes and sends.
    let at_alice = alice.start(net.transport(1)).await;
    until("Alice sees who answered", async || state(&at_alice) == Some(LinkState::AwaitsUs)).await;
    at_alice.overlay.confirm(&bob.name()).await.unwrap();
    assert_eq!(state(&at_alice), Some(LinkState::Established));
    at_alice.overlay.post(&bob.name(), (1..=30).map(verdict).collect()).await.unwrap();
    until("everything of Alice is at hosts", async || settled(&at_alice)).await;
    at_alice.overlay.shutdown().await;
    // 4. Bob reads, is linked, answers.
    let at_bob = bob.start(net.transport(2)).await;
    until("Bob has it all", async || bob.links.arrived.lock().len() == 30).await;
    assert_eq!(state(&at_bob), Some(LinkState::Established));
    at_bob.overlay.post(&alice.name(), vec![verdict(5)]).await.unwrap();
    until("everything of Bob is at hosts", async || settled(&at_bob)).await;
    at_bob.overlay.shutdown().await;
    // 5. Alice reads; what she sent is acknowledged.
    let at_alice = alice.start(net.transport(1)).await;
    until("Alice has it", async || alice.links.arrived.lock().len() == 1).await;
    until("hers is acknowledged", async || alice.links.done.lock().len() == 30).await;
    at_alice.overlay.shutdown().await;
    for host in hosts {
        host.relay.stop().await;
    }
}

#[tokio::test]
async fn contacts_over_streams_get_stamps_and_go_on_over_mailboxes_when_one_leaves() {
    let net = MemoryNet::new();
    let hosts = [Host::start(&net, 203).await, Host::start(&net, 204).await];
    let (alice, bob) = (seed(&net), seed(&net));
    let (at_alice, at_bob) = (alice.start(net.transport(1)).await, bob.start(net.transport(2)).await);
    at_bob.overlay.listen().await.unwrap();
    let contact = at_alice.overlay.offer().await.unwrap();
    at_bob.overlay.accept(&contact).await.unwrap();
    until("answered", async || state(&at_alice) == Some(LinkState::AwaitsUs)).await;
    at_alice.overlay.confirm(&bob.name()).await.unwrap();
    until("linked", async || state(&at_bob) == Some(LinkState::Established)).await;
    for host in &hosts {
        host.give_to(&at_alice).await;
        host.give_to(&at_bob).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    at_alice.overlay.connect(&bob.name(), deadline).await.unwrap();
    at_bob.overlay.connect(&alice.name(), deadline).await.unwrap();
    let stamps = |node: &TestNode| node.overlay.links()[0].mail.map_or(0, |mail| mail.stamps);
    until("both have stamps", async || stamps(&at_alice) > 0 && stamps(&at_bob) > 0).await;
    at_bob.overlay.shutdown().await;
    at_alice.overlay.post(&bob.name(), vec![verdict(1)]).await.unwrap();
    until("it is at a host", async || settled(&at_alice)).await;
    at_alice.overlay.shutdown().await;
    let at_bob = bob.start(net.transport(2)).await;
    until("Bob has it", async || bob.links.arrived.lock().len() == 1).await;
    at_bob.overlay.shutdown().await;
}

#[tokio::test]
async fn what_a_broken_disk_did_not_keep_is_not_deleted_at_the_host() {
    let net = MemoryNet::new();
    let hosts = [Host::start(&net, 205).await, Host::start(&net, 206).await];
    let (alice, bob) = (seed(&net), seed(&net));
    let at_alice = alice.start(net.transport(1)).await;
    let at_bob = bob.start(net.transport(2)).await;
    for host in &hosts {
        host.give_to(&at_alice).await;
        host.give_to(&at_bob).await;
    }
    let contact = at_alice.overlay.offer().await.unwrap();
    at_bob.overlay.accept(&contact).await.unwrap();
    until("answered", async || state(&at_alice) == Some(LinkState::AwaitsUs)).await;
    at_alice.overlay.confirm(&bob.name()).await.unwrap();
    until("linked", async || state(&at_bob) == Some(LinkState::Established)).await;
    *bob.links.broken.lock() = true;
    at_alice.overlay.post(&bob.name(), vec![verdict(1)]).await.unwrap();
    until("it is at a host", async || settled(&at_alice)).await;
    at_bob.overlay.shutdown().await;
    assert!(bob.links.arrived.lock().is_empty());
    *bob.links.broken.lock() = false;
    let at_bob = bob.start(net.transport(2)).await;
    until("Bob has it all the same", async || bob.links.arrived.lock().len() == 1).await;
    at_bob.overlay.shutdown().await;
    at_alice.overlay.shutdown().await;
}

#[tokio::test]
async fn who_sends_more_than_is_worked_off_is_left_waiting_and_others_are_not() {
    let net = MemoryNet::new();
    let hosts = [Host::start(&net, 207).await, Host::start(&net, 208).await];
    let (alice, bob, carol) = (seed(&net), seed(&net), seed(&net));
    let (mut at_alice, mut at_bob) = (alice.start(net.transport(1)).await, bob.start(net.transport(2)).await);
    let mut at_carol = carol.start(net.transport(3)).await;
    for node in [&at_alice, &at_bob, &at_carol] {
        node.overlay.listen().await.unwrap();
    }
    link(&mut at_bob, &mut at_alice).await;
    link(&mut at_bob, &mut at_carol).await;
    for host in &hosts {
        host.give_to(&at_bob).await;
    }
    for node in [&at_alice, &at_carol] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        node.overlay.connect(&bob.name(), deadline).await.unwrap();
    }
    let stamps = |node: &TestNode| node.overlay.links()[0].mail.map_or(0, |mail| mail.stamps);
    until("both can write to Bob", async || stamps(&at_alice) >= 64 && stamps(&at_carol) >= 64).await;
    // Bob's node does not come to what Alice sends.
    bob.links.full.lock().push(alice.name());
    at_alice.overlay.post(&bob.name(), (1..=30).map(verdict).collect()).await.unwrap();
    until("it is at hosts", async || settled(&at_alice)).await;
    at_carol.overlay.post(&bob.name(), vec![verdict(99)]).await.unwrap();
    let of_carol = Item::Verdict(99_u64.to_be_bytes().to_vec());
    until("what Carol sent is there", async || *bob.links.arrived.lock() == [of_carol.clone()]).await;
    // After a restart too: what was left is fetched and left again.
    at_bob.overlay.shutdown().await;
    let at_bob = bob.start(net.transport(2)).await;
    at_carol.overlay.post(&bob.name(), vec![verdict(100)]).await.unwrap();
    until("what Carol sent then is there", async || bob.links.arrived.lock().len() == 2).await;
    bob.links.full.lock().clear();
    at_carol.overlay.post(&bob.name(), vec![verdict(101)]).await.unwrap();
    until("what Alice sent is there, nothing lost", async || bob.links.arrived.lock().len() == 33).await;
    for node in [at_alice, at_bob, at_carol] {
        node.overlay.shutdown().await;
    }
}

#[tokio::test]
async fn a_mailbox_that_moves_is_left_when_the_new_one_is_made_and_not_before() {
    let net = MemoryNet::new();
    let hosts = [Host::start(&net, 101).await, Host::start(&net, 102).await, Host::start(&net, 103).await];
    let node = seed(&net).start(net.transport(1)).await;
    hosts[0].give_to(&node).await;
    hosts[1].give_to(&node).await;
    let in_use = async || {
        let mailboxes = node.overlay.mailboxes().await.unwrap();
        let in_use = mailboxes.into_iter().filter(|mailbox| !mailbox.draining && !mailbox.recovery);
        in_use.map(|mailbox| mailbox.host).collect::<std::collections::BTreeSet<_>>()
    };
    let key = |at: usize| hosts[at].link.way.key();
    let leave = |at: usize| TokenSecret::from_bytes(hosts[at].tokens).grant(&mut UnwrapErr(getrandom::SysRng));
    let refused = node.overlay.move_mailbox(key(0), hosts[2].link.clone(), leave(1)).await;
    assert!(refused.is_err(), "the leave is of another host");
    assert_eq!(in_use().await, [key(0), key(1)].into());
    node.overlay.move_mailbox(key(0), hosts[2].link.clone(), leave(2)).await.unwrap();
    assert_eq!(in_use().await, [key(1), key(2)].into());
}
