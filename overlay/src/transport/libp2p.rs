//! The direct route: libp2p over QUIC and TCP with Noise and yamux, explicit addresses, one connection per peer for all its streams. No identify, no
//! ping, no discovery protocol: a stranger who knows the address learns a throw-away PeerId and that streams are carried here, nothing else.
//! mDNS runs only when the user chose to be visible nearby.

mod behaviour;
mod circuits;
mod handler;
mod listen;
mod observed;
mod swarm;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::{Address, BoxIo, Incoming, Transport, TransportError};
use handler::boxed;
use swarm::{Command, SwarmTask};

/// How the direct route is to run.
#[derive(Clone)]
pub struct Libp2pConfig {
    /// Local addresses to listen on once `listen` is called. Default: every interface.
    pub bind: Vec<IpAddr>,
    /// The port for QUIC and TCP. Without one, the port of last time is taken again if it is free, else any.
    pub port: Option<u16>,
    /// Addresses to tell contacts beside those found, for instance the outer address of a forwarded port.
    pub advertise: Vec<Address>,
    /// Announce this node on the local network by mDNS, and see others that do.
    pub visible_nearby: bool,
    /// Secret half of the PeerId key. Without one every start has a fresh PeerId.
    pub peer_key: Option<Zeroizing<[u8; 32]>>,
    /// Connections that may be open at once.
    pub max_connections: u32,
    /// Share of the machine's memory that this process may use; above it no new connection is taken.
    pub max_memory: f64,
    /// How long a connection without streams stays open.
    pub idle_connection: Duration,
    /// Carry connections between others, so that they can punch holes: for mailbox hosts.
    pub relay_server: bool,
    /// Relays through which this node can be reached: `/ip4/../tcp/../p2p/RELAY`. Contacts then dial this node's PeerId, so
    /// `peer_key` must be given for it to stay.
    pub relays: Vec<Address>,
}

impl Default for Libp2pConfig {
    fn default() -> Self {
        Self {
            bind: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            port: None,
            advertise: Vec::new(),
            visible_nearby: false,
            peer_key: None,
            max_connections: 256,
            max_memory: 0.5,
            idle_connection: Duration::from_secs(20),
            relay_server: false,
            relays: Vec::new(),
        }
    }
}

/// The direct route.
pub struct Libp2p {
    config: Libp2pConfig,
    key: Keypair,
    shared: Arc<Shared>,
    running: Mutex<Option<mpsc::Sender<Command>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What the swarm task knows and others may read.
#[derive(Default)]
struct Shared {
    listening: RwLock<Vec<Address>>,
    nearby: RwLock<Vec<Address>>,
    /// Peers with a connection that no relay carries.
    direct: RwLock<HashSet<PeerId>>,
    changed: Notify,
    /// Somebody new is in `nearby`.
    found: Notify,
}

impl Libp2p {
    /// Prepares the route; nothing runs before the overlay starts it.
    ///
    /// # Errors
    /// When the given PeerId key is not a key.
    pub fn new(config: Libp2pConfig) -> Result<Self, TransportError> {
        let key = match &config.peer_key {
            None => Keypair::generate_ed25519(),
            Some(secret) => {
                let mut secret = secret.clone();
                Keypair::ed25519_from_bytes(&mut secret[..])
                    .map_err(|error| TransportError::Setup { route: ROUTE, why: error.to_string() })?
            }
        };
        Ok(Self {
            config,
            key,
            shared: Arc::default(),
            running: Mutex::new(None),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The name under which libp2p knows this node, for as long as its key stays.
    pub fn peer_id(&self) -> String {
        self.key.public().to_peer_id().to_string()
    }

    /// Ends when there is a connection to the peer of this address that no relay carries. Dropping it is safe.
    pub async fn direct_to(&self, address: &Address) {
        let Some(peer) = parse(address).and_then(|target| target.peer) else { return std::future::pending().await };
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.direct.read().contains(&peer) {
                return;
            }
            changed.await;
        }
    }

    /// Ends when this node can be reached through a relay.
    async fn relayed(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.listening.read().iter().any(|address| Circuit::parse(&address.0).is_some()) {
                return;
            }
            changed.await;
        }
    }

    fn commands(&self) -> Result<mpsc::Sender<Command>, TransportError> {
        self.running.lock().clone().ok_or(TransportError::Stopped)
    }
}

impl Transport for Libp2p {
    fn route(&self) -> &'static str {
        ROUTE
    }

    fn carries(&self, address: &Address) -> bool {
        parse(address).is_some()
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let swarm = swarm::build(&self.config, &self.key, incoming, self.stop.clone(), self.tasks.clone())?;
        let task = SwarmTask::new(swarm, receiver, self.shared.clone(), &self.config);
        let stop = self.stop.clone();
        let advertise = self.config.advertise.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(task.run(&advertise)).await });
        *self.running.lock() = Some(commands);
        Ok(())
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        async move {
            let target = parse(address).ok_or(TransportError::WrongKind { route: ROUTE })?;
            let (reply, answer) = oneshot::channel();
            let commands = self.commands()?;
            commands.send(Command::Dial { target, reply }).await.map_err(|_| TransportError::Stopped)?;
            let lost = TransportError::Unreachable { why: "the connection closed".to_owned() };
            answer.await.map_err(|_| lost)?.map(boxed)
        }
        .boxed()
    }

    fn listen(&self, earlier: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        async move {
            let earlier = earlier.iter().filter_map(parse).find_map(|target| target.address.as_ref().and_then(port));
            let (reply, answer) = oneshot::channel();
            let commands = self.commands()?;
            commands.send(Command::Listen { earlier, reply }).await.map_err(|_| TransportError::Stopped)?;
            answer.await.map_err(|_| TransportError::Stopped)??;
            if !self.config.relays.is_empty() {
                // A relay that does not answer now gets its address into later links.
                let _ = timeout(RELAY_PATIENCE, self.relayed()).await;
            }
            Ok(self.local_addresses())
        }
        .boxed()
    }

    fn local_addresses(&self) -> Vec<Address> {
        let listening = self.shared.listening.read();
        if listening.is_empty() {
            return Vec::new();
        }
        self.config.advertise.iter().chain(listening.iter()).cloned().collect()
    }

    fn shows_address(&self) -> bool {
        true
    }

    fn nearby(&self) -> Vec<Address> {
        self.shared.nearby.read().clone()
    }

    fn nearby_found(&self) -> BoxFuture<'_, ()> {
        self.shared.found.notified().boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async move {
            *self.running.lock() = None;
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.shared.listening.write().clear();
        }
        .boxed()
    }
}

/// Where to open a stream: a peer that is connected already, or an address to dial, or both.
struct Target {
    address: Option<Multiaddr>,
    peer: Option<PeerId>,
    circuit: Option<Circuit>,
}

/// A way through a relay.
#[derive(Clone)]
struct Circuit {
    /// The relay's own address, without its name.
    to: Multiaddr,
    relay: PeerId,
    peer: PeerId,
}

impl Circuit {
    /// `/ip4/../tcp/../p2p/RELAY/p2p-circuit/p2p/PEER`.
    fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts: Vec<Protocol<'_>> = address.iter().collect();
        let (Some(Protocol::P2p(peer)), Some(Protocol::P2pCircuit), Some(Protocol::P2p(relay))) =
            (parts.pop(), parts.pop(), parts.pop())
        else {
            return None;
        };
        let to: Multiaddr = parts.into_iter().collect();
        is_direct(&to).then_some(Self { to, relay, peer })
    }

    /// A relay as the configuration names it: `/ip4/../tcp/../p2p/RELAY`.
    fn of_relay(address: &Address) -> Option<Self> {
        let Target { address: Some(to), peer: Some(relay), .. } = parse(address)? else { return None };
        Some(Self { to, relay, peer: relay })
    }

    fn relay_address(&self) -> Multiaddr {
        self.to.clone().with(Protocol::P2p(self.relay))
    }

    fn address(&self) -> Multiaddr {
        self.relay_address().with(Protocol::P2pCircuit).with(Protocol::P2p(self.peer))
    }
}

/// An IP address and a port of ours to dial, TCP or QUIC, and nothing more.
fn is_direct(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(port)]
        | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(port), Protocol::QuicV1] => *port != 0,
        _ => false,
    }
}

/// Exactly the forms that we dial; in particular no names, which would ask somebody else's DNS server.
fn parse(address: &Address) -> Option<Target> {
    if let Some(circuit) = Circuit::parse(&address.0) {
        return Some(Target { address: None, peer: Some(circuit.peer), circuit: Some(circuit) });
    }
    let mut address = address.0.clone();
    let mut peer = None;
    if let Some(Protocol::P2p(id)) = address.iter().last() {
        peer = Some(id);
        address.pop();
    }
    if address.is_empty() && peer.is_some() {
        return Some(Target { address: None, peer, circuit: None });
    }
    is_direct(&address).then_some(Target { address: Some(address), peer, circuit: None })
}

fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

const ROUTE: &str = "direct";
/// Through a relay, until a hole is punched.
const RELAYED: &str = "relayed";
/// How long `listen` waits for a relay to take us.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);
/// Dials and listens that may wait for the swarm task.
const COMMANDS: usize = 64;
