//! The one task that owns the swarm: dials, remembers who waits for which connection, and keeps the list of our own addresses.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{Config, ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, mdns, memory_connection_limits, noise, relay, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Address, Incoming, TransportError};
use super::behaviour::Streams;
use super::circuits::Circuits;
use super::handler::Reply;
use super::listen::Listeners;
use super::observed::Observed;
use super::{Circuit, Libp2pConfig, ROUTE, Shared, Target};

/// What the transport asks of the swarm task.
#[allow(clippy::large_enum_variant, reason = "dials are few")]
pub(super) enum Command {
    Dial { target: Target, reply: Reply },
    Listen { earlier: Option<u16>, reply: oneshot::Sender<Result<(), TransportError>> },
}

/// Everything that runs on the swarm. Limits stand first, so that they are asked before a handler is made.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    /// Carries connections of others: a mailbox host.
    relay: Toggle<relay::Behaviour>,
    /// Is carried by others.
    relayed: relay::client::Behaviour,
    /// Turns a carried connection into a direct one.
    punch: dcutr::Behaviour,
    observed: Observed,
    streams: Streams,
}

pub(super) fn build(
    config: &Libp2pConfig,
    key: &Keypair,
    incoming: mpsc::Sender<Incoming>,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<Swarm<Behaviour>, TransportError> {
    let failed = |why: String| TransportError::Setup { route: ROUTE, why };
    let parts = parts(config, key).map_err(|error| failed(error.to_string()))?;
    let muxer = || {
        let mut muxer = yamux::Config::default();
        muxer.set_max_num_streams(STREAMS_PER_CONNECTION as usize);
        muxer
    };
    let idle = config.idle_connection;
    let executor = move |task| {
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    };
    let swarm = SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, muxer)
        .map_err(|error| failed(error.to_string()))?
        .with_quic_config(|mut quic| {
            quic.max_concurrent_stream_limit = STREAMS_PER_CONNECTION;
            quic.max_stream_data = QUIC_STREAM_WINDOW;
            quic.max_connection_data = 2 * QUIC_STREAM_WINDOW;
            quic
        })
        .with_relay_client(noise::Config::new, muxer)
        .map_err(|error| failed(error.to_string()))?
        .with_behaviour(|key, relayed| parts.together(key, relayed, incoming))
        .map_err(|never| failed(format!("{never:?}")))?
        .with_swarm_config(|_| {
            Config::with_executor(Box::new(executor) as Box<dyn Fn(_) + Send>)
                .with_idle_connection_timeout(idle)
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
                .with_notify_handler_buffer_size(NonZeroUsize::MIN.saturating_add(15))
        })
        .build();
    Ok(swarm)
}

/// What of the behaviour can fail, or needs the configuration.
struct Prepared {
    limits: ConnectionLimits,
    max_memory: f64,
    mdns: Option<mdns::tokio::Behaviour>,
    relays: bool,
}

impl Prepared {
    fn together(self, key: &Keypair, relayed: relay::client::Behaviour, incoming: mpsc::Sender<Incoming>) -> Behaviour {
        let me = key.public().to_peer_id();
        Behaviour {
            limits: connection_limits::Behaviour::new(self.limits),
            memory: memory_connection_limits::Behaviour::with_max_percentage(self.max_memory),
            mdns: self.mdns.into(),
            relay: self.relays.then(|| relay::Behaviour::new(me, relay_limits())).into(),
            relayed,
            punch: dcutr::Behaviour::new(me),
            observed: Observed::new(self.relays),
            streams: Streams::new(me, incoming),
        }
    }
}

/// A circuit is for two nodes that are about to punch a hole, and for a little talk where that fails.
fn relay_limits() -> relay::Config {
    relay::Config {
        max_reservations: 512,
        max_circuits: 64,
        max_circuit_duration: CIRCUIT_DURATION,
        max_circuit_bytes: CIRCUIT_BYTES,
        ..relay::Config::default()
    }
}

fn parts(config: &Libp2pConfig, key: &Keypair) -> Result<Prepared, std::io::Error> {
    let me = key.public().to_peer_id();
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_CONNECTIONS))
        .with_max_pending_outgoing(Some(PENDING_CONNECTIONS))
        .with_max_established_incoming(Some(config.max_connections / 4 * 3))
        .with_max_established(Some(config.max_connections))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER));
    let mdns = match config.visible_nearby {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), me)?),
        false => None,
    };
    Ok(Prepared { limits, max_memory: config.max_memory, mdns, relays: config.relay_server })
}

/// The state of the swarm task.
pub(super) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    shared: std::sync::Arc<Shared>,
    listeners: Listeners,
    /// Dials under way, by connection, with those who wait for a stream on them.
    dialling: HashMap<ConnectionId, (Multiaddr, Vec<Reply>)>,
    /// Dials through a relay that has not yet told us how it sees us.
    through: Vec<(Circuit, Reply)>,
    /// Relays that have.
    seen_by: HashSet<PeerId>,
    circuits: Circuits,
    relay_server: bool,
    /// Connections that we dialled: a second dial of the same address uses them.
    dialled: HashMap<Multiaddr, (ConnectionId, PeerId)>,
    nearby: Vec<(PeerId, Multiaddr)>,
}

impl SwarmTask {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        shared: std::sync::Arc<Shared>,
        config: &Libp2pConfig,
    ) -> Self {
        Self {
            swarm,
            commands,
            shared,
            listeners: Listeners::new(config),
            dialling: HashMap::new(),
            through: Vec::new(),
            seen_by: HashSet::new(),
            circuits: Circuits::new(config.relays.iter().filter_map(Circuit::of_relay).collect()),
            relay_server: config.relay_server,
            dialled: HashMap::new(),
            nearby: Vec::new(),
        }
    }

    /// Runs until every handle of the transport is gone.
    pub(super) async fn run(mut self, advertise: &[Address]) {
        if self.relay_server {
            advertise.iter().for_each(|address| self.swarm.add_external_address(address.0.clone()));
        }
        let relays: Vec<PeerId> = self.circuits.relays().collect();
        relays.into_iter().for_each(|relay| self.swarm.behaviour_mut().observed.ask(relay));
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Dial { target, reply }) => self.dial(target, reply),
                    Some(Command::Listen { earlier, reply }) => {
                        self.listeners.listen(&mut self.swarm, earlier, reply);
                        self.circuits.listen();
                    }
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = self.listeners.due() => self.listeners.on_due(&mut self.swarm),
                () = self.circuits.due() => self.circuits.on_due(&mut self.swarm),
            }
        }
    }

    fn dial(&mut self, target: Target, reply: Reply) {
        if let Some(peer) = target.peer.filter(|peer| self.swarm.is_connected(peer)) {
            return self.open(peer, reply);
        }
        if let Some(circuit) = target.circuit {
            return self.dial_through(circuit, reply);
        }
        let Some(address) = target.address else {
            let why = "the connection to this peer is gone".to_owned();
            return refuse(reply, TransportError::Unreachable { why });
        };
        if let Some((_, peer)) = self.dialled.get(&address) {
            return self.open(*peer, reply);
        }
        if let Some((_, waiting)) = self.dialling.values_mut().find(|(dialled, _)| *dialled == address) {
            return if waiting.len() < WAITING_PER_DIAL {
                waiting.push(reply)
            } else {
                refuse(reply, TransportError::Busy)
            };
        }
        let options = match target.peer {
            Some(peer) => {
                let options = DialOpts::peer_id(peer).condition(PeerCondition::Always);
                options.addresses(vec![address.clone()]).build()
            }
            None => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dialling.insert(connection, (address, vec![reply]))),
            Err(error) => refuse(reply, TransportError::Unreachable { why: kind_of(&error).to_owned() }),
        }
    }

    /// The relay first: both ends must know how they are seen before a hole can be punched.
    fn dial_through(&mut self, circuit: Circuit, reply: Reply) {
        if self.seen_by.contains(&circuit.relay) && self.swarm.is_connected(&circuit.relay) {
            return self.dial_circuit(circuit, reply);
        }
        self.through.retain(|(_, waiting)| !waiting.is_closed());
        if self.through.len() >= WAITING_PER_DIAL {
            return refuse(reply, TransportError::Busy);
        }
        self.swarm.behaviour_mut().observed.ask(circuit.relay);
        let address = vec![circuit.relay_address()];
        let options = DialOpts::peer_id(circuit.relay).condition(PeerCondition::DisconnectedAndNotDialing);
        // A dial that is under way already is as good.
        let _ = self.swarm.dial(options.addresses(address).build());
        self.through.push((circuit, reply));
    }

    fn dial_circuit(&mut self, circuit: Circuit, reply: Reply) {
        let address = circuit.address();
        let options = DialOpts::peer_id(circuit.peer).addresses(vec![address.clone()]).build();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dialling.insert(connection, (address, vec![reply]))),
            Err(error) => refuse(reply, TransportError::Unreachable { why: kind_of(&error).to_owned() }),
        }
    }

    /// A relay has told us how it sees us, or cannot be reached: those who wait for it go on, or are refused.
    fn on_relay(&mut self, relay: PeerId, reached: bool) {
        let (ready, waiting) = std::mem::take(&mut self.through).into_iter().partition(|(one, _)| one.relay == relay);
        self.through = waiting;
        for (circuit, reply) in Vec::into_iter(ready) {
            if reached {
                self.dial_circuit(circuit, reply);
            } else {
                let why = "the relay before the node does not answer".to_owned();
                refuse(reply, TransportError::Unreachable { why });
            }
        }
    }

    fn open(&mut self, peer: PeerId, reply: Reply) {
        self.swarm.behaviour_mut().streams.open(peer, reply);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if !endpoint.is_relayed() {
                    self.shared.direct.write().insert(peer_id);
                }
                if let Some((address, waiting)) = self.dialling.remove(&connection_id) {
                    self.dialled.insert(address, (connection_id, peer_id));
                    waiting.into_iter().for_each(|reply| self.open(peer_id, reply));
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, peer_id, num_established, .. } => {
                if num_established == 0 {
                    self.shared.direct.write().remove(&peer_id);
                }
                self.dialled.retain(|_, (connection, _)| *connection != connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, peer_id, .. } => {
                if let Some(peer) = peer_id.filter(|peer| !self.swarm.is_connected(peer)) {
                    self.on_relay(peer, false);
                }
                if let Some((_, waiting)) = self.dialling.remove(&connection_id) {
                    let why = kind_of(&error);
                    tracing::debug!(why, "a dial failed");
                    let unreachable = || TransportError::Unreachable { why: why.to_owned() };
                    waiting.into_iter().for_each(|reply| refuse(reply, unreachable()));
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                if !self.circuits.added(listener_id, &address) {
                    if self.relay_server {
                        self.swarm.add_external_address(address.clone());
                    }
                    self.listeners.added(listener_id, address);
                }
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.circuits.expired(listener_id);
                self.listeners.expired(listener_id, &address);
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.circuits.closed(listener_id);
                self.listeners.closed(listener_id);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Observed(relay)) => {
                self.seen_by.insert(relay);
                return self.on_relay(relay, true);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Punch(event)) => {
                return tracing::debug!(direct = event.result.is_ok(), "a hole was tried to be punched");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => return self.on_mdns(event),
            _ => return,
        }
        let relayed = self.circuits.addresses().filter_map(|address| Address::checked(address.clone()).ok());
        let addresses = self.listeners.addresses().into_iter().chain(relayed).collect();
        *self.shared.listening.write() = addresses;
        self.shared.changed.notify_waiters();
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        let before = self.nearby.len();
        let gone = match event {
            mdns::Event::Discovered(found) => {
                for pair in found {
                    if self.nearby.len() < MAX_NEARBY && !self.nearby.contains(&pair) {
                        self.nearby.push(pair);
                    }
                }
                Vec::new()
            }
            mdns::Event::Expired(gone) => gone,
        };
        let found = self.nearby.len() > before;
        self.nearby.retain(|pair| !gone.contains(pair));
        let addresses = self.nearby.iter().filter_map(|(_, address)| Address::checked(address.clone()).ok());
        *self.shared.nearby.write() = addresses.collect();
        if found {
            self.shared.found.notify_one();
        }
    }
}

/// Nobody may be waiting any more; then there is nobody to tell.
fn refuse(reply: Reply, error: TransportError) {
    let _ = reply.send(Err(error));
}

/// libp2p's own text shows addresses, which stay out of errors and logs.
fn kind_of(error: &libp2p::swarm::DialError) -> &'static str {
    use libp2p::swarm::DialError as E;
    match error {
        E::LocalPeerId { .. } => "the address is our own",
        E::NoAddresses => "no address to dial",
        E::DialPeerConditionFalse(_) => "already dialling",
        E::Aborted => "the dial was given up",
        E::WrongPeerId { .. } => "another node answered",
        E::Denied { .. } => "too many connections, or memory is short",
        E::Transport(_) => "no connection",
    }
}

/// Punching takes seconds; the rest is for nodes between whom it fails.
const CIRCUIT_DURATION: Duration = Duration::from_secs(120);
/// Bytes each way.
const CIRCUIT_BYTES: u64 = 1 << 20;
const STREAMS_PER_CONNECTION: u32 = 64;
const NEGOTIATING_STREAMS: usize = 16;
const PENDING_CONNECTIONS: u32 = 64;
/// A restarted peer with the same PeerId may find its old connections not yet timed out.
const CONNECTIONS_PER_PEER: u32 = 4;
const WAITING_PER_DIAL: usize = 32;
const MAX_NEARBY: usize = 64;
/// Twice a 100 ms round trip at 100 Mbit/s.
const QUIC_STREAM_WINDOW: u32 = 2_500_000;
