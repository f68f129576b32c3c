//! Streams that others open. Nothing is sent before the opening has proven a link; then a first-contact stream carries messages, and a request stream
//! HTTP. A request stream counts only when the peer has said hello on it, because an opening alone may be a recording.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response, StatusCode};
use millpond_mailbox::link::{StreamKind, StreamOwner};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::stream::OPENING_LEN;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::held::{Inbound, StreamId, class_of};
use super::mail::hosting::{HOST_PATH, MAX_SHOWN};
use super::mail::stamps::{MAX_STAMPS, STAMPS_PATH};
use super::{Command, Done, Driver};
use crate::event::{Arrival, LinkClass};
use crate::gate::Place;
use crate::hello::{HELLO_PATH, Hello, MAX_HELLO};
use crate::http::server::{self, Answer};
use crate::secure::{self, SecureStream};
use crate::transport::{Address, BoxIo, Incoming, Source};

/// A stream whose opening was read, or never came.
pub(super) struct Opening {
    io: BoxIo,
    opening: Option<[u8; OPENING_LEN]>,
    came: Came,
}

/// How a stream came.
struct Came {
    back: Option<Address>,
    source: Source,
    route: &'static str,
    place: Place,
}

/// A stream whose opening was answered.
pub(super) struct Accepted {
    owner: StreamOwner,
    stream: SecureStream,
    came: Came,
}

impl Driver {
    /// Takes a stranger's stream, if there is room for one more; else it closes at once.
    pub(super) fn on_incoming(&mut self, incoming: Incoming) {
        let Incoming { mut io, back, source, route } = incoming;
        let Some(place) = self.gate.enter(&source) else { return };
        let within = self.limits.handshake;
        self.work.spawn(async move {
            let opening = secure::read_opening(&mut io, within).await;
            Done::Opening(Opening { io, opening, came: Came { back, source, route, place } })
        });
    }

    /// Judges an opening. Whatever is wrong with it, the stream closes without a byte.
    pub(super) fn on_opening(&mut self, opening: Opening) {
        let Opening { io, opening: Some(bytes), came } = opening else { return };
        if let Some(host) = self.host.as_ref().filter(|host| host.is_meant(&bytes)) {
            let host = host.clone();
            return self.tasks.spawn(async move { host.take(io, &bytes, came.source, came.place).await });
        }
        let Some(accepted) = secure::accept(&self.hints, &bytes) else { return };
        if accepted.owner.kind == StreamKind::FirstContact
            && !self.attempts.allow(accepted.owner.link, tokio::time::Instant::now())
        {
            return;
        }
        let within = self.limits.handshake;
        self.work.spawn(async move {
            let (owner, frames) = (accepted.owner, accepted.transport);
            match secure::reply(io, &accepted.reply, frames, within).await {
                Some(stream) => Done::Accepted(Accepted { owner, stream, came }),
                None => Done::Nothing,
            }
        });
    }

    pub(super) fn on_accepted(&mut self, accepted: Accepted) {
        let Accepted { owner, stream, came } = accepted;
        match (owner.kind, owner.peer) {
            (StreamKind::FirstContact, _) => {
                if let (Some(held), Some(back)) = (self.links.get_mut(&owner.link), came.back) {
                    held.back = Some(back);
                }
                self.converse(owner.link, stream, false);
            }
            (StreamKind::Requests(_), Some(peer)) => self.serve(owner.link, peer, stream, came),
            (StreamKind::Requests(_), None) => {}
        }
    }

    fn serve(&mut self, link: LinkId, peer: NodeName, stream: SecureStream, came: Came) {
        let (id, close) = (self.stream_id(), CancellationToken::new());
        let proven = Arc::new(AtomicBool::new(false));
        let Some(held) = self.links.get_mut(&link) else { return };
        make_room(&mut held.inbound, self.limits.streams_per_peer);
        held.inbound.push(Inbound {
            stream: id,
            route: came.route,
            close: close.clone(),
            back: came.back,
            unproven: Some(came.place),
        });
        let service = PeerService {
            link,
            stream: id,
            peer,
            class: class_of(&held.link),
            arrivals: self.arrivals.clone(),
            driver: self.to_self.clone(),
            proven: proven.clone(),
        };
        let (limits, driver, cut) = (self.limits.clone(), self.to_self.clone(), held.cut.clone());
        let first_word = limits.handshake;
        let served = server::serve(Box::new(stream), service, limits, self.budget.clone(), self.tasks.clone(), close);
        self.tasks.spawn(async move {
            let patient = async {
                let mut served = std::pin::pin!(served);
                tokio::select! {
                    () = served.as_mut() => {}
                    () = sleep(first_word) => if proven.load(Ordering::Relaxed) { served.await },
                }
            };
            cut.run_until_cancelled(patient).await;
            // The driver is gone only when everything ends.
            let _ = driver.send(Command::StreamEnded { link, stream: id }).await;
        });
    }
}

/// Closes the oldest stream when the peer has too many; one without a hello first.
fn make_room(inbound: &mut Vec<Inbound>, limit: usize) {
    if inbound.len() < limit {
        return;
    }
    let oldest = inbound.iter().position(|inbound| inbound.unproven.is_some()).unwrap_or(0);
    inbound.remove(oldest).close.cancel();
}

/// Answers the requests of one stream: hello by the overlay, everything else by the node.
struct PeerService {
    link: LinkId,
    stream: StreamId,
    peer: NodeName,
    class: LinkClass,
    arrivals: mpsc::Sender<Arrival>,
    driver: mpsc::Sender<Command>,
    proven: Arc<AtomicBool>,
}

impl Answer for PeerService {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Option<Response<Bytes>>> {
        async move {
            if request.uri().path() == HELLO_PATH {
                return self.hello(request.body()).await;
            }
            if self.proven.load(Ordering::Acquire) && request.uri().path() == STAMPS_PATH {
                return self.stamps(request.into_body()).await;
            }
            if self.proven.load(Ordering::Acquire) && request.uri().path() == HOST_PATH {
                return self.host(request.into_body()).await;
            }
            if !self.proven.load(Ordering::Acquire) {
                return Some(status(StatusCode::FORBIDDEN));
            }
            let (reply, answer) = oneshot::channel();
            let (peer, class) = (self.peer.clone(), self.class);
            self.arrivals.send(Arrival::Request { peer, class, request, reply }).await.ok()?;
            answer.await.ok()
        }
        .boxed()
    }
}

impl PeerService {
    async fn stamps(&self, body: Bytes) -> Option<Response<Bytes>> {
        if body.len() > MAX_STAMPS {
            return Some(status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let (reply, answer) = oneshot::channel();
        self.driver.send(Command::Stamps { link: self.link, body, reply }).await.ok()?;
        Some(status(if answer.await.ok()? { StatusCode::OK } else { StatusCode::BAD_REQUEST }))
    }

    async fn host(&self, body: Bytes) -> Option<Response<Bytes>> {
        if body.len() > MAX_SHOWN {
            return Some(status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let (reply, answer) = oneshot::channel();
        self.driver.send(Command::HostShown { link: self.link, body, reply }).await.ok()?;
        Some(status(if answer.await.ok()? { StatusCode::OK } else { StatusCode::BAD_REQUEST }))
    }

    async fn hello(&self, body: &Bytes) -> Option<Response<Bytes>> {
        if body.len() > MAX_HELLO {
            return Some(status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let Ok(hello) = Hello::parse(body) else { return Some(status(StatusCode::BAD_REQUEST)) };
        let (reply, answer) = oneshot::channel();
        let (link, stream) = (self.link, self.stream);
        self.driver.send(Command::Hello { link, stream, hello, reply }).await.ok()?;
        let ours = answer.await.ok()?;
        self.proven.store(true, Ordering::Release);
        Some(Response::new(ours.to_bytes().into()))
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}
