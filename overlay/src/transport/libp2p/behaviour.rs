//! Which connections exist, and on which of them a new stream opens. When two nodes dialled each other at the same moment there are two
//! connections; both nodes then use the one dialled by the smaller PeerId, and the other falls idle and closes.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::super::{Address, Incoming, Source, TransportError};
use super::handler::{Handler, Open, Reply};
use super::{RELAYED, ROUTE};

/// The stream protocol over all connections.
pub struct Streams {
    me: PeerId,
    incoming: mpsc::Sender<Incoming>,
    connections: HashMap<PeerId, Vec<Connection>>,
    to_handlers: VecDeque<(PeerId, ConnectionId, Open)>,
}

struct Connection {
    id: ConnectionId,
    dialled_by_us: bool,
    /// Through a relay, which ends it after a while: only until there is a direct one.
    relayed: bool,
}

impl Streams {
    pub(super) fn new(me: PeerId, incoming: mpsc::Sender<Incoming>) -> Self {
        Self { me, incoming, connections: HashMap::new(), to_handlers: VecDeque::new() }
    }

    /// Opens a stream on the connection to `peer`; the answer goes to `reply`.
    pub(super) fn open(&mut self, peer: PeerId, reply: Reply) {
        match self.preferred(&peer) {
            Some(id) => self.to_handlers.push_back((peer, id, Open(reply))),
            None => {
                let why = "there is no connection to this peer any more".to_owned();
                let _ = reply.send(Err(TransportError::Unreachable { why }));
            }
        }
    }

    fn preferred(&self, peer: &PeerId) -> Option<ConnectionId> {
        let connections = self.connections.get(peer)?;
        let ours_first = self.me < *peer;
        let direct = || connections.iter().rev().filter(|connection| !connection.relayed);
        let best = direct().find(|connection| connection.dialled_by_us == ours_first).or_else(|| direct().next());
        best.or(connections.last()).map(|connection| connection.id)
    }

    /// `seen`: what the connection shows of the other side; behind a relay that is the relay, whose visitors share one allowance.
    fn handler(&self, peer: PeerId, seen: &Multiaddr) -> Handler {
        let back = Address(Multiaddr::empty().with(Protocol::P2p(peer)));
        let source = Source(ip_of(seen).map_or_else(|| peer.to_string(), |ip| ip.to_string()));
        let route = if is_circuit(seen) { RELAYED } else { ROUTE };
        Handler::new(back, source, route, PollSender::new(self.incoming.clone()))
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, if is_circuit(local) { local } else { remote }))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let (id, endpoint) = (event.connection_id, event.endpoint);
                let connection = Connection { id, dialled_by_us: endpoint.is_dialer(), relayed: endpoint.is_relayed() };
                self.connections.entry(event.peer_id).or_default().push(connection);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.retain(|connection| connection.id != event.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.to_handlers.pop_front() {
            Some((peer_id, id, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event })
            }
            // No waker is kept: `open` is called by the task that polls the swarm, which polls again afterwards.
            None => Poll::Pending,
        }
    }
}

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}
