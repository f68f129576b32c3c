//! At which address others see us: a relay tells whoever asks on a connection where that connection comes from, and nothing
//! else. A node asks only the relays that it uses; hole punching needs the answer. (libp2p's identify would tell every stranger
//! what we speak.)

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream};

use super::is_direct;

/// Asks relays, or answers as one.
pub struct Observed {
    answer: bool,
    ask: HashSet<PeerId>,
    events: VecDeque<ToSwarm<PeerId, Infallible>>,
}

impl Observed {
    pub(super) fn new(answer: bool) -> Self {
        Self { answer, ask: HashSet::new(), events: VecDeque::new() }
    }

    /// On the next connection to this peer we ask.
    pub(super) fn ask(&mut self, relay: PeerId) {
        self.ask.insert(relay);
    }

    fn handler(&self, peer: &PeerId, remote: &Multiaddr, dialled: bool) -> Handler {
        let state = if dialled && self.ask.contains(peer) { State::ToAsk } else { State::Idle };
        Handler { answer: self.answer, remote: remote.to_vec(), state, answering: None }
    }
}

impl NetworkBehaviour for Observed {
    type ConnectionHandler = Handler;
    /// A relay has told us where it sees us, or would not.
    type ToSwarm = PeerId;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer, remote, false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer, address, true))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, seen: THandlerOutEvent<Self>) {
        if let Some(address) = seen.and_then(|bytes| Multiaddr::try_from(bytes).ok()).filter(is_direct) {
            self.events.push_back(ToSwarm::NewExternalAddrCandidate(address));
        }
        self.events.push_back(ToSwarm::GenerateEvent(peer));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection.
pub struct Handler {
    answer: bool,
    remote: Vec<u8>,
    state: State,
    answering: Option<BoxFuture<'static, io::Result<()>>>,
}

enum State {
    Idle,
    ToAsk,
    Asked,
    Reading(BoxFuture<'static, io::Result<Vec<u8>>>),
    Tell(Option<Vec<u8>>),
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Option<Vec<u8>>;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(PATIENCE)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(answering) = &mut self.answering
            && answering.poll_unpin(cx).is_ready()
        {
            self.answering = None;
        }
        if let State::Reading(reading) = &mut self.state
            && let Poll::Ready(read) = reading.poll_unpin(cx)
        {
            self.state = State::Tell(read.ok());
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::ToAsk => {
                self.state = State::Asked;
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(PATIENCE);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            State::Tell(seen) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(seen)),
            other => {
                self.state = other;
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if self.answer && self.answering.is_none() =>
            {
                self.answering = Some(tell(protocol, self.remote.clone()).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.state = State::Reading(listen(protocol).boxed());
            }
            ConnectionEvent::DialUpgradeError(_) => self.state = State::Tell(None),
            // A node is no relay and answers nobody: dropping the stream resets it.
            _ => {}
        }
    }
}

async fn tell(mut stream: Stream, address: Vec<u8>) -> io::Result<()> {
    stream.write_all(&address).await?;
    stream.close().await
}

async fn listen(stream: Stream) -> io::Result<Vec<u8>> {
    let mut address = Vec::new();
    stream.take(MAX_ADDRESS).read_to_end(&mut address).await?;
    Ok(address)
}

const PROTOCOL: StreamProtocol = StreamProtocol::new("/millpond/observed/1");
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes.
const MAX_ADDRESS: u64 = 256;
