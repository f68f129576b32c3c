//! Nodes that show themselves to contacts only: the overlay gives each dial the keys of its link, and tells the transport whose keys to admit.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, ready};
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use millpond_overlay::transport::memory::{Memory, MemoryNet};
use millpond_overlay::transport::{Address, BoxIo, Incoming, Transport, TransportError};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::support::{Seed, TestNode, link};

/// Who finds whom, by address.
type Directory = Arc<Mutex<HashMap<String, Vec<DiscoveryKey>>>>;

/// Memory, where a dial needs a key that the other end has admitted.
struct Restricted {
    memory: Memory,
    own: String,
    directory: Directory,
}

impl Transport for Restricted {
    fn route(&self) -> &'static str {
        self.memory.route()
    }

    fn carries(&self, address: &Address) -> bool {
        self.memory.carries(address)
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        self.memory.start(incoming)
    }

    fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        ready(Err(TransportError::Unreachable { why: "it asks for a key".to_owned() })).boxed()
    }

    fn dial_with<'a>(
        &'a self,
        address: &'a Address,
        keys: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        let admitted = self.directory.lock().get(&address.to_string()).cloned().unwrap_or_default();
        match keys.iter().any(|key| admitted.contains(&key.public())) {
            true => self.memory.dial(address),
            false => self.dial(address),
        }
    }

    fn is_restricted(&self) -> bool {
        true
    }

    fn admit(&self, keys: Vec<DiscoveryKey>) {
        self.directory.lock().insert(self.own.clone(), keys);
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

struct World {
    net: MemoryNet,
    directory: Directory,
}

impl World {
    fn new() -> Self {
        Self { net: MemoryNet::new(), directory: Directory::default() }
    }

    async fn start(&self, seed: &Seed, name: u64) -> TestNode {
        let (memory, own) = (self.net.transport(name), format!("/memory/{name}"));
        seed.start(Restricted { memory, own, directory: self.directory.clone() }).await
    }

    fn admitted(&self, name: u64) -> usize {
        self.directory.lock().get(&format!("/memory/{name}")).map_or(0, Vec::len)
    }
}

#[tokio::test]
async fn contacts_find_each_other_and_a_removed_one_finds_nobody() {
    let world = World::new();
    let (mut a, mut b) = (world.start(&Seed::new(), 1).await, world.start(&Seed::new(), 2).await);
    b.overlay.listen().await.unwrap();
    assert_eq!(world.admitted(1), 1, "the next contact link's");
    link(&mut a, &mut b).await;
    a.echo(&b.name).await;
    b.echo(&a.name).await;
    // That of the link, that of the contact link, which a second one might answer, and that of the next.
    assert_eq!((world.admitted(1), world.admitted(2)), (3, 3));
    a.overlay.remove(&b.name).await.unwrap();
    assert_eq!(world.admitted(1), 1);
    assert!(b.get(&a.name, "/echo").await.is_err());
}

#[tokio::test]
async fn whoever_is_a_contact_is_admitted_after_a_restart_before_anything_listens() {
    let (world, seed) = (World::new(), Seed::new());
    let (mut a, mut b) = (world.start(&seed, 1).await, world.start(&Seed::new(), 2).await);
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    a.overlay.shutdown().await;
    drop(a);
    world.directory.lock().remove("/memory/1");
    let a = world.start(&seed, 1).await;
    assert_eq!(world.admitted(1), 3);
    a.overlay.listen_again().await.unwrap();
    b.echo(&a.name).await;
}
