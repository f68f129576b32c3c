//! The accept loop: bounded connections with time-outs, and an end that lets answers finish.

mod peers;
mod tls;

pub use tls::{CertificateError, Certificates};

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use millpond_node::{NodeHandle, links::Arrival};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{App, glue::ClientAddr};

/// Where requests come from.
#[non_exhaustive]
pub enum Listener {
    /// Clients on a TCP port.
    Client(TcpListener),
    /// Linked nodes, through the overlay (`node.links.arrivals()`).
    Peers(mpsc::Receiver<Arrival>),
    /// Classic servers, with TLS.
    Tls(TcpListener, Certificates),
    /// Classic servers behind a reverse proxy, which has ended the TLS.
    Proxied(TcpListener),
}

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task of a listener died.
    #[error("the accept loop of a listener died: {0}")]
    Listener(tokio::task::JoinError),
}

/// Connections at once; more wait in the kernel's queue. A node has a handful of clients with a few connections each.
const MAX_CONNECTIONS: usize = 1024;
/// For the head of a request, and so also for an idle connection between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// The same for classic servers, which are strangers and keep connections open no longer than that.
const CLASSIC_HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections of one address through the classic door.
const MAX_OF_ADDRESS: usize = 64;
/// How long running requests may take to finish after `stop`.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets running requests finish for a moment. Dropping it cuts all connections.
///
/// # Errors
/// [`Error::Listener`] when a loop died of a bug.
pub async fn serve(node: NodeHandle, listeners: Vec<Listener>, stop: CancellationToken) -> Result<(), Error> {
    let (app, for_peers) = (App::new(node.clone()), App::for_peers(node.clone()));
    let names = node.peers.clone();
    let for_classic = App::for_classic(node);
    let of_classic =
        |tls, per_address| Door { app: for_classic.clone(), tls, head: CLASSIC_HEADER_TIMEOUT, per_address };
    let mut loops = JoinSet::new();
    for listener in listeners {
        match listener {
            Listener::Client(listener) => {
                let door = Door { app: app.clone(), tls: None, head: HEADER_TIMEOUT, per_address: MAX_CONNECTIONS };
                loops.spawn(accept(listener, door, stop.clone()))
            }
            Listener::Tls(listener, certificates) => {
                let door = of_classic(Some(certificates.acceptor()), MAX_OF_ADDRESS);
                loops.spawn(accept(listener, door, stop.clone()))
            }
            Listener::Proxied(listener) => {
                loops.spawn(accept(listener, of_classic(None, MAX_CONNECTIONS), stop.clone()))
            }
            Listener::Peers(arrivals) => {
                loops.spawn(peers::accept(arrivals, (for_peers.clone(), names.clone()), stop.clone()))
            }
        };
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(Error::Listener)?;
    }
    Ok(())
}

/// What is behind a listener.
#[derive(Clone)]
struct Door {
    app: App,
    tls: Option<TlsAcceptor>,
    /// For the head of a request.
    head: Duration,
    /// Connections of one address at once.
    per_address: usize,
}

async fn accept(listener: TcpListener, door: Door, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let counts = Counts::default();
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(next(&listener, &slots, &mut connections)).await {
        match accepted {
            Ok((stream, address, slot)) => {
                // One address does not take all the places; what it has too much of is closed.
                let Some(counted) = counts.enter(address, door.per_address) else { continue };
                let (door, stop) = (door.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, address, door, stop).await;
                    drop((slot, counted));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(connections).await;
}

/// Open connections by address.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
struct Counted(Counts, IpAddr);

impl Counts {
    fn enter(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// Lets what runs finish for a moment, then cuts it.
async fn drain(mut connections: JoinSet<()>) {
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        connections.shutdown().await;
    }
}

type Accepted = (TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit);

async fn next(listener: &TcpListener, slots: &Arc<Semaphore>, ended: &mut JoinSet<()>) -> io::Result<Accepted> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        tokio::select! {
            Some(_) = ended.join_next(), if !ended.is_empty() => {}
            accepted = listener.accept() => {
                let (stream, address) = accepted?;
                return Ok((stream, address.ip(), slot));
            }
        }
    }
}

async fn connection(stream: TcpStream, address: IpAddr, door: Door, stop: CancellationToken) {
    // Answers are small and whole: waiting to fill a segment only adds latency. A refusal costs nothing else.
    let _ = stream.set_nodelay(true);
    match &door.tls {
        None => http(TokioIo::new(stream), address, door, stop).await,
        Some(tls) => {
            // How a handshake fails is no news: the internet is full of them.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                http(TokioIo::new(stream), address, door, stop).await;
            }
        }
    }
}

async fn http<I>(io: I, address: IpAddr, door: Door, stop: CancellationToken)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let Door { app, head, .. } = door;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let app = app.clone();
        request.extensions_mut().insert(ClientAddr(address));
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(Streams::default());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(head);
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        // How a client ends its connection is no news.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Runs the streams of one HTTP/2 connection; they end with it.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(stream);
    }
}
