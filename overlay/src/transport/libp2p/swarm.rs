//! The one task that owns the swarm: dials, remembers who waits for which connection, and keeps the list of our own addresses.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{Config, ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, mdns, memory_connection_limits, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Address, Incoming, TransportError};
use super::behaviour::Streams;
use super::handler::Reply;
use super::listen::Listeners;
use super::{Libp2pConfig, ROUTE, Shared, Target};

/// What the transport asks of the swarm task.
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
    let behaviour = behaviour(config, key, incoming).map_err(|error| failed(error.to_string()))?;
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
        .with_behaviour(|_| behaviour)
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

fn behaviour(
    config: &Libp2pConfig,
    key: &Keypair,
    incoming: mpsc::Sender<Incoming>,
) -> Result<Behaviour, std::io::Error> {
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
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_percentage(config.max_memory),
        mdns: mdns.into(),
        streams: Streams::new(me, incoming),
    })
}

/// The state of the swarm task.
pub(super) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    shared: std::sync::Arc<Shared>,
    listeners: Listeners,
    /// Dials under way, by connection, with those who wait for a stream on them.
    dialling: HashMap<ConnectionId, (Multiaddr, Vec<Reply>)>,
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
            dialled: HashMap::new(),
            nearby: Vec::new(),
        }
    }

    /// Runs until every handle of the transport is gone.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Dial { target, reply }) => self.dial(target, reply),
                    Some(Command::Listen { earlier, reply }) => self.listeners.listen(&mut self.swarm, earlier, reply),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                () = self.listeners.due() => self.listeners.on_due(&mut self.swarm),
            }
        }
    }

    fn dial(&mut self, target: Target, reply: Reply) {
        if let Some(peer) = target.peer.filter(|peer| self.swarm.is_connected(peer)) {
            return self.open(peer, reply);
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

    fn open(&mut self, peer: PeerId, reply: Reply) {
        self.swarm.behaviour_mut().streams.open(peer, reply);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                if let Some((address, waiting)) = self.dialling.remove(&connection_id) {
                    self.dialled.insert(address, (connection_id, peer_id));
                    waiting.into_iter().for_each(|reply| self.open(peer_id, reply));
                }
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.dialled.retain(|_, (connection, _)| *connection != connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some((_, waiting)) = self.dialling.remove(&connection_id) {
                    let why = kind_of(&error);
                    tracing::debug!(why, "a dial failed");
                    let unreachable = || TransportError::Unreachable { why: why.to_owned() };
                    waiting.into_iter().for_each(|reply| refuse(reply, unreachable()));
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.listeners.added(listener_id, address),
            SwarmEvent::ExpiredListenAddr { listener_id, address } => self.listeners.expired(listener_id, &address),
            SwarmEvent::ListenerClosed { listener_id, .. } => self.listeners.closed(listener_id),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => return self.on_mdns(event),
            _ => return,
        }
        *self.shared.listening.write() = self.listeners.addresses();
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for pair in found {
                    if self.nearby.len() < MAX_NEARBY && !self.nearby.contains(&pair) {
                        self.nearby.push(pair);
                    }
                }
            }
            mdns::Event::Expired(gone) => self.nearby.retain(|pair| !gone.contains(pair)),
        }
        let addresses = self.nearby.iter().filter_map(|(_, address)| Address::checked(address.clone()).ok());
        *self.shared.nearby.write() = addresses.collect();
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

const STREAMS_PER_CONNECTION: u32 = 64;
const NEGOTIATING_STREAMS: usize = 16;
const PENDING_CONNECTIONS: u32 = 64;
/// A restarted peer with the same PeerId may find its old connections not yet timed out.
const CONNECTIONS_PER_PEER: u32 = 4;
const WAITING_PER_DIAL: usize = 32;
const MAX_NEARBY: usize = 64;
/// Twice a 100 ms round trip at 100 Mbit/s.
const QUIC_STREAM_WINDOW: u32 = 2_500_000;
