//! The accept loop: bounded connections with time-outs, and an end that lets answers finish.

mod peers;

use std::{
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
use tokio_util::sync::CancellationToken;

use crate::{App, glue::ClientAddr};

/// Where requests come from.
#[non_exhaustive]
pub enum Listener {
    /// Clients on a TCP port.
    Client(TcpListener),
    /// Linked nodes, through the overlay (`node.links.arrivals()`).
    Peers(mpsc::Receiver<Arrival>),
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
/// How long running requests may take to finish after `stop`.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets running requests finish for a moment. Dropping it cuts all connections.
///
/// # Errors
/// [`Error::Listener`] when a loop died of a bug.
pub async fn serve(node: NodeHandle, listeners: Vec<Listener>, stop: CancellationToken) -> Result<(), Error> {
    let (app, for_peers) = (App::new(node.clone()), App::for_peers(node));
    let mut loops = JoinSet::new();
    for listener in listeners {
        match listener {
            Listener::Client(listener) => loops.spawn(accept(listener, app.clone(), stop.clone())),
            Listener::Peers(arrivals) => loops.spawn(peers::accept(arrivals, for_peers.clone(), stop.clone())),
        };
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(Error::Listener)?;
    }
    Ok(())
}

async fn accept(listener: TcpListener, app: App, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(next(&listener, &slots, &mut connections)).await {
        match accepted {
            Ok((stream, address, slot)) => {
                let (app, stop) = (app.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, address, app, stop).await;
                    drop(slot);
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

async fn connection(stream: TcpStream, address: IpAddr, app: App, stop: CancellationToken) {
    // Answers are small and whole: waiting to fill a segment only adds latency. A refusal costs nothing else.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let app = app.clone();
        request.extensions_mut().insert(ClientAddr(address));
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(Streams::default());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
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
