//! Nodes that are reached through a relay, on 127.0.0.1: the stream comes through, and a direct connection takes over.

use std::time::Duration;

use millpond_overlay::transport::libp2p::{Libp2p, Libp2pConfig};
use millpond_overlay::transport::{Address, Incoming, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

fn loopback() -> Libp2pConfig {
    Libp2pConfig { bind: vec!["127.0.0.1".parse().unwrap()], ..Libp2pConfig::default() }
}

async fn started(config: Libp2pConfig) -> (Libp2p, mpsc::Receiver<Incoming>, Vec<Address>) {
    millpond_overlay::install_crypto_provider();
    let transport = Libp2p::new(config).unwrap();
    let (streams, incoming) = mpsc::channel(4);
    transport.start(streams).unwrap();
    let addresses = transport.listen(Vec::new()).await.unwrap();
    (transport, incoming, addresses)
}

fn named(address: &Address, transport: &Libp2p) -> Address {
    Address::parse(&format!("{address}/p2p/{}", transport.peer_id())).unwrap()
}

/// Opens a stream and says hello; the route by which it came.
async fn talk(caller: &Libp2p, to: &Address, incoming: &mut mpsc::Receiver<Incoming>) -> &'static str {
    let mut stream = timeout(Duration::from_secs(20), caller.dial(to)).await.expect("in time").unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let (mut text, mut arrived) = ([0; 5], incoming.recv().await.unwrap());
    arrived.io.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    arrived.route
}

#[tokio::test]
async fn a_node_is_reached_through_a_relay_and_stays_reached_when_the_relay_is_gone() {
    let (relay, _in, relay_addresses) = started(Libp2pConfig { relay_server: true, ..loopback() }).await;
    let relays = vec![named(&relay_addresses[0], &relay)];
    let (hidden, mut arrivals, addresses) = started(Libp2pConfig { relays, ..loopback() }).await;
    let circuit = addresses.iter().find(|address| address.to_string().contains("p2p-circuit")).expect("a circuit");
    let (caller, _none, _) = started(loopback()).await;
    talk(&caller, circuit, &mut arrivals).await;
    timeout(Duration::from_secs(30), caller.direct_to(circuit)).await.expect("a hole is punched");
    relay.stop().await;
    assert_eq!(talk(&caller, circuit, &mut arrivals).await, "direct");
    caller.stop().await;
    hidden.stop().await;
}

#[tokio::test]
async fn a_node_that_is_no_relay_carries_nobody_and_tells_nobody_how_it_sees_them() {
    let (plain, _in, plain_addresses) = started(loopback()).await;
    let relays = vec![named(&plain_addresses[0], &plain)];
    let (_hidden, _arrivals, addresses) = started(Libp2pConfig { relays, ..loopback() }).await;
    assert!(!addresses.iter().any(|address| address.to_string().contains("p2p-circuit")));
}
