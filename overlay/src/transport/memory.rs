//! Streams inside one process, for tests and simulation: a registry of names instead of a network. Pulling a name out of the registry is how a test
//! makes a node unreachable.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use parking_lot::Mutex;
use tokio::io::duplex;
use tokio::sync::{Notify, mpsc};

use super::{Address, BoxIo, Incoming, Source, Transport, TransportError};

/// The "network": names and who listens at them. Clones share the registry.
#[derive(Clone, Default)]
pub struct MemoryNet {
    listeners: Arc<Mutex<BTreeMap<u64, mpsc::Sender<Incoming>>>>,
    /// By name, whom it sees on its local network.
    nearby: Arc<Mutex<BTreeMap<u64, Arc<Nearby>>>>,
}

#[derive(Default)]
struct Nearby {
    seen: Mutex<Vec<Address>>,
    found: Notify,
}

impl MemoryNet {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transport whose address is `/memory/<name>`.
    pub fn transport(&self, name: u64) -> Memory {
        Memory { net: self.clone(), nearby: self.nearby_of(name), name, state: Mutex::default() }
    }

    /// From now on a name sees another one on its local network, as if by mDNS.
    pub fn show(&self, to: u64, newcomer: u64) {
        let nearby = self.nearby_of(to);
        nearby.seen.lock().push(address_of(newcomer));
        nearby.found.notify_one();
    }

    /// Listens at a name as something that is no node: what is dialled there comes out here.
    pub fn occupy(&self, name: u64) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(1);
        self.listeners.lock().insert(name, sender);
        receiver
    }

    fn nearby_of(&self, name: u64) -> Arc<Nearby> {
        self.nearby.lock().entry(name).or_default().clone()
    }

    /// Opens a stream to a name, as a stranger without a transport would.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn dial(&self, name: u64, source: &str) -> Result<BoxIo, TransportError> {
        let listener = self.listeners.lock().get(&name).cloned();
        let nobody = || TransportError::Unreachable { why: "nobody listens under this name".to_owned() };
        let listener = listener.ok_or_else(nobody)?;
        let (ours, theirs) = duplex(PIPE_BYTES);
        let source = Source(source.to_owned());
        let incoming = Incoming { io: Box::new(theirs), back: None, source, route: ROUTE };
        listener.send(incoming).await.map_err(|_| nobody())?;
        Ok(Box::new(ours))
    }
}

/// One node's end of a `MemoryNet`.
pub struct Memory {
    net: MemoryNet,
    nearby: Arc<Nearby>,
    name: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    incoming: Option<mpsc::Sender<Incoming>>,
    listening: bool,
}

impl Memory {
    fn address(&self) -> Address {
        address_of(self.name)
    }
}

impl Transport for Memory {
    fn route(&self) -> &'static str {
        ROUTE
    }

    fn carries(&self, address: &Address) -> bool {
        name_of(address).is_some()
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        self.state.lock().incoming = Some(incoming);
        Ok(())
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        async move {
            let name = name_of(address).ok_or(TransportError::WrongKind { route: ROUTE })?;
            self.net.dial(name, &self.name.to_string()).await
        }
        .boxed()
    }

    fn listen(&self, _: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        async move {
            let mut state = self.state.lock();
            let incoming = state.incoming.clone().ok_or(TransportError::Stopped)?;
            state.listening = true;
            self.net.listeners.lock().insert(self.name, incoming);
            Ok(vec![self.address()])
        }
        .boxed()
    }

    fn local_addresses(&self) -> Vec<Address> {
        if self.state.lock().listening { vec![self.address()] } else { Vec::new() }
    }

    fn nearby(&self) -> Vec<Address> {
        self.nearby.seen.lock().clone()
    }

    fn nearby_found(&self) -> BoxFuture<'_, ()> {
        self.nearby.found.notified().boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async move {
            let mut state = self.state.lock();
            if state.listening {
                self.net.listeners.lock().remove(&self.name);
            }
            *state = State::default();
        }
        .boxed()
    }
}

fn address_of(name: u64) -> Address {
    Address(Multiaddr::empty().with(Protocol::Memory(name)))
}

fn name_of(address: &Address) -> Option<u64> {
    match address.0.iter().next() {
        Some(Protocol::Memory(name)) => Some(name),
        _ => None,
    }
}

const ROUTE: &str = "memory";
/// What a sender may be ahead of its reader: about one socket buffer.
const PIPE_BYTES: usize = 64 * 1024;
