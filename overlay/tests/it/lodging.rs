//! A node that hosts mailboxes for its contacts: they are offered them with a leave of their own, and nobody copies a token.

use bytes::Bytes;
use http::{Request, StatusCode};
use millpond_mailbox::host::{HostLimits, MemoryRows};
use millpond_mailbox::host_key::{HostKey, HostSecret};
use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::token::{Grant, TokenSecret};
use millpond_overlay::RecordKind;
use millpond_overlay::relay::{Relay, RelayConfig, StreamLimits};
use millpond_overlay::transport::Transport;
use millpond_overlay::transport::memory::MemoryNet;
use serde::Serialize;

use crate::mail::{seed, settled, state, until, verdict};
use crate::support::{Seed, TestNode, link, soon};

const SECRET: [u8; 32] = [77; 32];

fn host_key() -> HostKey {
    HostSecret::from_bytes(SECRET).public()
}

/// A host that runs beside a node.
fn beside(rows: MemoryRows) -> Relay {
    let config = RelayConfig {
        secret: HostSecret::from_bytes(SECRET),
        tokens: TokenSecret::from_bytes([78; 32]),
        limits: HostLimits::default(),
        streams: StreamLimits::default(),
    };
    Relay::start(config, Box::new(rows)).unwrap()
}

/// Alice hosts mailboxes; Bob is her contact and does as he is told with what he is offered.
async fn alice_and_bob(net: &MemoryNet, accept: Option<bool>) -> (Seed, Seed, TestNode, TestNode) {
    let (mut alice, mut bob) = (seed(net), seed(net));
    alice.host = Some(beside(MemoryRows::default()));
    bob.accept_hosts = accept;
    let (mut at_alice, mut at_bob) = (alice.start(net.transport(1)).await, bob.start(net.transport(2)).await);
    at_alice.overlay.listen().await.unwrap();
    at_bob.overlay.listen().await.unwrap();
    link(&mut at_alice, &mut at_bob).await;
    at_alice.overlay.connect(&bob.name(), soon()).await.unwrap();
    (alice, bob, at_alice, at_bob)
}

async fn hosts(node: &TestNode) -> Vec<HostKey> {
    let mailboxes = node.overlay.mailboxes().await.unwrap();
    mailboxes.iter().filter(|mailbox| !mailbox.recovery && !mailbox.draining).map(|mailbox| mailbox.host).collect()
}

async fn offered(node: &TestNode) -> usize {
    node.overlay.lodgings().await.unwrap().len()
}

fn stamps(node: &TestNode) -> usize {
    node.overlay.links().iter().filter_map(|link| link.mail).map(|mail| mail.stamps).sum()
}

#[tokio::test]
async fn a_contact_keeps_a_mailbox_at_our_host_and_nobody_copied_a_token() {
    let net = MemoryNet::new();
    let (_alice, bob, at_alice, at_bob) = alice_and_bob(&net, Some(true)).await;
    until("Bob keeps a mailbox there", async || hosts(&at_bob).await == [host_key()]).await;
    until("Alice has stamps for it", async || stamps(&at_alice) > 0).await;
    at_bob.overlay.shutdown().await;
    at_alice.overlay.post(&bob.name(), vec![verdict(1)]).await.unwrap();
    until("it is at her host", async || settled(&at_alice)).await;
    let at_bob = bob.start(net.transport(2)).await;
    until("Bob has it", async || bob.links.arrived.lock().len() == 1).await;
    assert_eq!(hosts(&at_bob).await, [host_key()], "and no second one");
    at_bob.overlay.shutdown().await;
    at_alice.overlay.shutdown().await;
}

#[tokio::test]
async fn what_a_contact_offers_at_an_open_address_waits_for_the_users_word() {
    let net = MemoryNet::new();
    let (alice, bob, at_alice, at_bob) = alice_and_bob(&net, None).await;
    until("Bob is offered one", async || offered(&at_bob).await == 1).await;
    let offer = at_bob.overlay.lodgings().await.unwrap().remove(0);
    assert_eq!((offer.peer, offer.host, offer.onion, offer.in_use), (alice.name(), host_key(), false, false));
    assert!(hosts(&at_bob).await.is_empty());
    // Nothing is begun either: that would be on the disk before the offer is shown.
    assert!(bob.links.rows.lock().keys().all(|key| key.kind != RecordKind::Leave));
    at_bob.overlay.lodge(&alice.name()).await.unwrap();
    assert_eq!(hosts(&at_bob).await, [host_key()]);
    assert!(at_bob.overlay.lodgings().await.unwrap()[0].in_use);
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
}

#[tokio::test]
async fn a_host_that_the_user_left_is_not_used_again_by_itself() {
    let net = MemoryNet::new();
    let (alice, bob, at_alice, at_bob) = alice_and_bob(&net, Some(true)).await;
    until("Bob keeps a mailbox there", async || hosts(&at_bob).await == [host_key()]).await;
    at_bob.overlay.leave_host(host_key()).await.unwrap();
    at_bob.overlay.shutdown().await;
    let at_bob = bob.start(net.transport(2)).await;
    at_bob.overlay.listen().await.unwrap();
    at_alice.overlay.connect(&bob.name(), soon()).await.unwrap();
    assert_eq!((offered(&at_bob).await, hosts(&at_bob).await), (1, Vec::new()));
    at_bob.overlay.remove(&alice.name()).await.unwrap();
    assert_eq!(offered(&at_bob).await, 0, "who is no contact offers nothing");
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
}

#[tokio::test]
async fn a_leave_is_given_once_to_a_contact_and_again_after_a_restart_the_same() {
    let net = MemoryNet::new();
    let (alice, bob, at_alice, at_bob) = alice_and_bob(&net, Some(false)).await;
    until("Bob is offered one", async || offered(&at_bob).await == 1).await;
    let row = |seed: &Seed, kind: RecordKind| {
        let rows = seed.links.rows.lock();
        rows.iter().filter(|(key, _)| key.kind == kind).map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
    };
    until("Alice has noted it", async || row(&alice, RecordKind::Hosted).len() == 1).await;
    let first = row(&bob, RecordKind::Lodging);
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
    // Bob loses what he was shown, and Alice's address is another one: she tells it again.
    bob.links.rows.lock().retain(|key, _| key.kind != RecordKind::Lodging);
    let (at_alice, at_bob) = (alice.start(net.transport(11)).await, bob.start(net.transport(2)).await);
    at_alice.overlay.listen().await.unwrap();
    at_bob.overlay.listen().await.unwrap();
    at_alice.overlay.connect(&bob.name(), soon()).await.unwrap();
    until("Bob is offered it again", async || offered(&at_bob).await == 1).await;
    let again = row(&bob, RecordKind::Lodging);
    let leave = |row: &[u8]| serde_cbor::from_slice::<(u8, String, Grant, bool, bool)>(row).unwrap();
    let (first, again) = (leave(&first[0]), leave(&again[0]));
    assert!(first.1 != again.1 && first.2 == again.2, "another address, the same leave");
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
}

#[tokio::test]
async fn a_host_that_moves_is_found_at_its_new_address() {
    let net = MemoryNet::new();
    let (alice, bob, at_alice, at_bob) = alice_and_bob(&net, Some(true)).await;
    until("Bob keeps a mailbox there", async || hosts(&at_bob).await == [host_key()]).await;
    until("Alice has stamps for it", async || stamps(&at_alice) > 0).await;
    at_alice.overlay.shutdown().await;
    let at_alice = alice.start(net.transport(11)).await;
    at_alice.overlay.listen().await.unwrap();
    at_alice.overlay.connect(&bob.name(), soon()).await.unwrap();
    let address = at_alice.overlay.addresses().await.unwrap().remove(0);
    let length = u8::try_from(address.as_bytes().len()).unwrap();
    let elsewhere = [host_key().as_bytes().as_slice(), &[length], address.as_bytes()].concat();
    let knows = async || {
        let rows = alice.links.rows.lock();
        let mut links = rows.iter().filter(|(key, _)| key.kind == RecordKind::Link).map(|(_, bytes)| bytes);
        links.any(|bytes| bytes.windows(elsewhere.len()).any(|part| part == elsewhere))
    };
    until("Bob has moved, and Alice knows it", knows).await;
    at_bob.overlay.shutdown().await;
    at_alice.overlay.post(&bob.name(), vec![verdict(1)]).await.unwrap();
    until("it is at her host", async || settled(&at_alice)).await;
    let at_bob = bob.start(net.transport(2)).await;
    until("Bob has it", async || bob.links.arrived.lock().len() == 1).await;
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
}

#[derive(Serialize)]
struct Shown {
    link: String,
    leave: Grant,
}

#[tokio::test]
async fn another_contact_moves_no_mailbox_by_showing_the_same_host_elsewhere() {
    let net = MemoryNet::new();
    let (_alice, bob, at_alice, mut at_bob) = alice_and_bob(&net, Some(true)).await;
    until("Bob keeps a mailbox there", async || hosts(&at_bob).await == [host_key()]).await;
    let mut carol = Seed::new().start(net.transport(3)).await;
    carol.overlay.listen().await.unwrap();
    link(&mut at_bob, &mut carol).await;
    let rows = |kind: RecordKind| {
        let rows = bob.links.rows.lock();
        rows.iter().filter(|(key, _)| key.kind == kind).map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
    };
    let before = rows(RecordKind::Mailbox);
    // Carol knows Alice's host as every depositor does, and says that it is elsewhere.
    let elsewhere = net.transport(4);
    elsewhere.start(tokio::sync::mpsc::channel(1).0).unwrap();
    let addresses = elsewhere.listen(Vec::new()).await.unwrap();
    let shown = Shown {
        link: beside(MemoryRows::default()).link(&addresses).unwrap().to_uri(),
        leave: TokenSecret::from_bytes([1; 32]).grant(&mut UnwrapErr(getrandom::SysRng)),
    };
    let body = Bytes::from(serde_cbor::to_vec(&shown).unwrap());
    let post = |body: Bytes| Request::post("/_millpond/overlay/v1/host").body(body).unwrap();
    let answer = carol.overlay.request(&bob.name(), post(body), soon()).await.unwrap();
    assert_eq!((answer.status(), offered(&at_bob).await), (StatusCode::OK, 2));
    assert!(rows(RecordKind::Mailbox) == before, "nothing has moved");
    assert_eq!(hosts(&at_bob).await, [host_key()]);
    for junk in [Bytes::new(), Bytes::from_static(b"\x00"), Bytes::from(vec![0xa0; 200])] {
        let answer = carol.overlay.request(&bob.name(), post(junk), soon()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    let answer = carol.overlay.request(&bob.name(), post(Bytes::from(vec![0; 9 << 10])), soon()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(offered(&at_bob).await, 2);
    at_alice.overlay.shutdown().await;
    at_bob.overlay.shutdown().await;
}

#[tokio::test]
async fn a_member_that_was_introduced_is_offered_nothing() {
    let net = MemoryNet::new();
    let (mut alice, bob) = (seed(&net), seed(&net));
    alice.host = Some(beside(MemoryRows::default()));
    let (mut at_alice, mut at_bob) = (alice.start(net.transport(1)).await, bob.start(net.transport(2)).await);
    let mut carol = Seed::new().start(net.transport(3)).await;
    at_alice.overlay.listen().await.unwrap();
    at_bob.overlay.listen().await.unwrap();
    link(&mut carol, &mut at_alice).await;
    link(&mut carol, &mut at_bob).await;
    let room = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";
    at_alice.overlay.introduce(&carol.name, &bob.document(1), room, soon()).await.unwrap();
    at_alice.established(&bob.name()).await;
    at_bob.established(&alice.name()).await;
    assert!(at_alice.echo(&bob.name()).await.contains("Room"));
    until("Carol, a contact, is offered one", async || offered(&carol).await == 1).await;
    assert_eq!(offered(&at_bob).await, 0);
    assert!(state(&at_bob).is_some());
    at_alice.overlay.shutdown().await;
}
