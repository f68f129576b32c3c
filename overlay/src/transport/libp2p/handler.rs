//! One libp2p connection's part of the stream protocol. Inbound streams wait here, a few of them, until the reader takes them: a reader that is
//! momentarily busy loses none, and a peer that opens more than that gets the surplus reset.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Stream;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, SubstreamProtocol};
use tokio::sync::oneshot;
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::PollSender;

use super::super::{Address, BoxIo, Incoming, Source, TransportError};

/// Where the result of opening a stream goes.
pub(super) type Reply = oneshot::Sender<Result<Stream, TransportError>>;

/// The behaviour asks a connection to open a stream.
#[derive(Debug)]
pub struct Open(pub(super) Reply);

/// The streams of one connection.
pub struct Handler {
    back: Address,
    source: Source,
    route: &'static str,
    incoming: PollSender<Incoming>,
    arrived: VecDeque<Stream>,
    to_open: VecDeque<Reply>,
}

impl Handler {
    pub(super) fn new(back: Address, source: Source, route: &'static str, incoming: PollSender<Incoming>) -> Self {
        Self { back, source, route, incoming, arrived: VecDeque::new(), to_open: VecDeque::new() }
    }

    /// Hands over what has arrived, as far as the reader has room.
    fn hand_over(&mut self, cx: &mut Context<'_>) {
        while !self.arrived.is_empty() {
            match self.incoming.poll_reserve(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.arrived.clear(),
                Poll::Ready(Ok(())) => {
                    let Some(stream) = self.arrived.pop_front() else { return };
                    let (back, source) = (Some(self.back.clone()), self.source.clone());
                    let incoming = Incoming { io: boxed(stream), back, source, route: self.route };
                    if self.incoming.send_item(incoming).is_err() {
                        self.arrived.clear();
                    }
                }
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(NEGOTIATION)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Reply, Infallible>> {
        self.hand_over(cx);
        while let Some(reply) = self.to_open.pop_front() {
            if reply.is_closed() {
                continue;
            }
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), reply).with_timeout(NEGOTIATION);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Open(reply): Open) {
        if self.to_open.len() < MAX_WAITING {
            self.to_open.push_back(reply);
        } else {
            // Nobody waits for the answer if this fails: the dialler gave up.
            let _ = reply.send(Err(TransportError::Busy));
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Reply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if self.arrived.len() < MAX_WAITING =>
            {
                self.arrived.push_back(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                let _ = info.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => TransportError::NotOurs,
                    StreamUpgradeError::Timeout => {
                        TransportError::Unreachable { why: "the peer did not answer to a new stream".to_owned() }
                    }
                    StreamUpgradeError::Io(error) => TransportError::Unreachable { why: error.kind().to_string() },
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            // What is not asked for, and an inbound stream for which there is no room: dropping it resets it.
            _ => {}
        }
    }
}

pub(super) fn boxed(stream: Stream) -> BoxIo {
    Box::new(stream.compat())
}

/// The one protocol that our libp2p nodes speak.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/millpond/stream/1");
/// Inbound streams that may wait for the reader, and opens that may wait for the connection.
const MAX_WAITING: usize = 16;
const NEGOTIATION: Duration = Duration::from_secs(10);
