//! What outlives the process: links, addresses, unfinished first contacts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, pending};
use millpond_mailbox::link::OFFER_LIFE;
use millpond_overlay::transport::memory::{Memory, MemoryNet};
use millpond_overlay::transport::{Address, BoxIo, Incoming, Transport, TransportError};
use millpond_overlay::{Event, LinkState, RouteError};

use tokio::sync::mpsc;

use crate::support::{Seed, libp2p, link};

#[tokio::test]
async fn a_peer_is_unreachable_while_it_is_down_and_back_on_its_port() {
    let a_seed = Seed::new();
    let mut a = a_seed.start(libp2p()).await;
    let mut b = Seed::new().start(libp2p()).await;
    link(&mut a, &mut b).await;
    b.echo(&a.name).await;
    let before = a.overlay.listen().await.unwrap();
    a.overlay.shutdown().await;
    let name = a.name.clone();
    b.until(|event| matches!(event, Event::LinkDown { peer } if *peer == name)).await;
    assert_eq!(b.get(&a.name, "/echo").await.unwrap_err(), RouteError::Unreachable);

    let a = a_seed.start(libp2p()).await;
    let after = a.overlay.listen().await.unwrap();
    let text = |addresses: &[Address]| addresses.iter().map(Address::to_string).collect::<Vec<_>>();
    assert_eq!(text(&before), text(&after), "the port of last time is taken again");
    assert!(b.echo(&a.name).await.starts_with(b.name.as_str()));
    b.until(|event| matches!(event, Event::LinkUp { peer } if *peer == name)).await;
    assert!(a.echo(&b.name).await.starts_with(a.name.as_str()));
}

/// A process that is killed says nothing to anybody.
#[test]
fn a_peer_that_was_killed_is_reached_as_soon_as_it_comes_back() {
    let (first_life, second_life) = (runtime(), runtime());
    let a_seed = Seed::new();
    let b_seed = Seed::new();
    let others = runtime();
    let mut b = others.block_on(b_seed.start(libp2p()));
    let mut a = first_life.block_on(a_seed.start(libp2p()));
    others.block_on(async {
        b.overlay.listen().await.unwrap();
        link(&mut a, &mut b).await;
        assert!(b.echo(&a.name).await.starts_with(b.name.as_str()));
    });
    first_life.shutdown_background();

    let a = second_life.block_on(async {
        let a = a_seed.start(libp2p()).await;
        a.overlay.listen().await.unwrap();
        assert!(a.echo(&b.name).await.starts_with(a.name.as_str()), "A dials B again");
        a
    });
    others.block_on(async {
        let began = tokio::time::Instant::now();
        assert!(b.echo(&a.name).await.starts_with(b.name.as_str()), "and B does not wait for the dead stream");
        assert!(began.elapsed() < Duration::from_secs(5));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_contact_link_is_tried_again_until_its_maker_is_there() {
    let net = MemoryNet::new();
    let a_seed = Seed::new();
    let mut b = Seed::new().start(net.transport(2)).await;
    let a = a_seed.start(net.transport(1)).await;
    let shown = a.overlay.offer().await.unwrap();
    a.overlay.shutdown().await;
    b.overlay.accept(&shown).await.unwrap();
    b.until(|event| matches!(event, Event::ContactFailed { error: RouteError::Unreachable, .. })).await;

    let mut a = a_seed.start(net.transport(1)).await;
    a.overlay.listen().await.unwrap();
    a.until(|event| matches!(event, Event::Pending { .. })).await;
}

#[tokio::test]
async fn a_peer_tells_its_new_address_when_it_comes() {
    let net = MemoryNet::new();
    let (a_seed, b_seed) = (Seed::new(), Seed::new());
    let mut a = a_seed.start(net.transport(1)).await;
    let mut b = b_seed.start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    b.overlay.shutdown().await;
    let b = b_seed.start(net.transport(22)).await;
    b.overlay.listen().await.unwrap();
    b.echo(&a.name).await;
    a.overlay.shutdown().await;
    let a = a_seed.start(net.transport(1)).await;
    assert!(a.echo(&b.name).await.starts_with(a.name.as_str()), "the new address was kept on disk");
}

#[tokio::test]
async fn first_contact_goes_on_after_both_sides_restart() {
    let net = MemoryNet::new();
    let (a_seed, b_seed) = (Seed::new(), Seed::new());
    let mut a = a_seed.start(net.transport(1)).await;
    let b = b_seed.start(net.transport(2)).await;
    let shown = a.overlay.offer().await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    a.until(|event| matches!(event, Event::Pending { .. })).await;
    a.overlay.shutdown().await;
    b.overlay.shutdown().await;

    let a = a_seed.start(net.transport(1)).await;
    a.overlay.listen().await.unwrap();
    assert_eq!(a.overlay.links()[0].state, LinkState::AwaitsUs);
    a.overlay.confirm(&b.name).await.unwrap();
    let mut b = b_seed.start(net.transport(2)).await;
    b.established(&a.name).await;
    assert!(b.echo(&a.name).await.starts_with(b.name.as_str()));
}

#[tokio::test]
async fn what_the_store_did_not_take_never_leaves() {
    let net = MemoryNet::new();
    let (a_seed, b_seed) = (Seed::new(), Seed::new());
    let a = a_seed.start(net.transport(1)).await;
    let b = b_seed.start(net.transport(2)).await;
    a.overlay.listen().await.unwrap();
    *a_seed.links.broken.lock() = true;
    assert!(a.overlay.offer().await.is_err());
    assert!(a.overlay.links().is_empty());
    *a_seed.links.broken.lock() = false;
    let shown = a.overlay.offer().await.unwrap();
    *b_seed.links.broken.lock() = true;
    assert!(b.overlay.accept(&shown).await.is_err());
    assert!(b.overlay.links().is_empty());
    assert_eq!(a.overlay.links()[0].state, LinkState::Offered);
    assert!(shown.expiry().0 > OFFER_LIFE.as_millis() as u64);
}

#[tokio::test]
async fn a_newer_key_document_reaches_the_peer() {
    let net = MemoryNet::new();
    let (a_seed, b_seed) = (Seed::new(), Seed::new());
    let mut a = a_seed.start(net.transport(1)).await;
    let mut b = b_seed.start(net.transport(2)).await;
    link(&mut a, &mut b).await;
    let newer = b_seed.document(2);
    b.overlay.set_key_document(newer.clone()).await.unwrap();
    b.echo(&a.name).await;
    let name = b.name.clone();
    a.until(|event| matches!(event, Event::KeyDocument { peer } if *peer == name)).await;
    assert_eq!(a.overlay.key_document(&name).await.unwrap().as_bytes(), newer.as_bytes());
    assert!(b.overlay.set_key_document(b_seed.document(1)).await.is_err(), "an older one is not taken");
}

/// Memory in which nobody answers for a while, and nobody says so: as a dial to an onion service whose node has died.
struct Silent {
    memory: Memory,
    silent: Arc<AtomicBool>,
}

impl Transport for Silent {
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
        match self.silent.load(Ordering::SeqCst) {
            true => pending().boxed(),
            false => self.memory.dial(address),
        }
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

#[tokio::test]
async fn a_dial_that_hangs_does_not_keep_a_peer_waiting_that_is_back() {
    let (net, silent, b_seed) = (MemoryNet::new(), Arc::new(AtomicBool::new(false)), Seed::new());
    let mut a_seed = Seed::new();
    a_seed.limits.dial = Duration::from_secs(600);
    let mut a = a_seed.start(Silent { memory: net.transport(1), silent: silent.clone() }).await;
    let mut b = b_seed.start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    b.echo(&a.name).await;
    let (a_name, b_name) = (a.name.clone(), b.name.clone());
    b.overlay.shutdown().await;
    a.until(|event| matches!(event, Event::LinkDown { peer } if *peer == b_name)).await;
    silent.store(true, Ordering::SeqCst);
    let (asks, asked) = (a.overlay.clone(), b_name.clone());
    let hanging = tokio::spawn(async move { asks.connect(&asked, crate::support::soon()).await });
    // It has been begun when the overlay answers what it was asked later.
    a.overlay.addresses().await.unwrap();
    tokio::task::yield_now().await;
    a.overlay.addresses().await.unwrap();
    silent.store(false, Ordering::SeqCst);

    let b = b_seed.start(net.transport(2)).await;
    b.overlay.listen_again().await.unwrap();
    b.echo(&a_name).await;
    hanging.await.unwrap().unwrap();
    a.echo(&b_name).await;
}
