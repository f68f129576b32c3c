//! An onion service of ours: every stream to its one port is taken in, and nothing is known of who opened it. What is behind it closes strangers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arti_client::config::Reconfigure;
use futures::{Stream, StreamExt};
use millpond_mailbox::discovery::DiscoveryKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tor_cell::relaycell::msg::{Connected, End, EndReason};
use tor_hsservice::config::OnionServiceConfigBuilder;
use tor_hsservice::{OnionServiceConfig, RendRequest, RunningOnionService};
use tor_proto::stream::IncomingStreamRequest;

use super::super::{Incoming, Source, TransportError};
use super::ROUTE;
use super::address::OnionAddress;
use super::arti::Client;
use super::health::with_causes;
use super::keys::for_service;

/// An open service. It is closed by `close`, or by dropping it.
pub(super) struct Service {
    nickname: &'static str,
    address: OnionAddress,
    running: Arc<RunningOnionService>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Service {
    pub(super) fn address(&self) -> OnionAddress {
        self.address.clone()
    }

    /// From now on it is for those with these keys. arti tells the network, once a minute at most.
    pub(super) fn admit(&self, keys: &[DiscoveryKey]) {
        let changed = configuration(self.nickname, Some(keys)).and_then(|config| {
            self.running.reconfigure(config, Reconfigure::AllOrNothing).map_err(|e| failed(with_causes(&e)))
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "who may find the onion service was not changed");
        }
    }

    /// Takes no more streams; those that are open stay until their holders close them.
    pub(super) async fn close(self) {
        self.stop.cancel();
        drop(self.running);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Opens the service of this nickname. Its key is made at first, and then kept in arti's key store: the address stays the same.
pub(super) fn open(
    client: &Client,
    nickname: &'static str,
    admitted: Option<&[DiscoveryKey]>,
    incoming: mpsc::Sender<Incoming>,
) -> Result<Service, TransportError> {
    let config = configuration(nickname, admitted)?;
    let launched = client.launch_onion_service(config).map_err(|e| failed(with_causes(&e)))?;
    let (running, requests) = launched.ok_or_else(|| failed("it is switched off".to_owned()))?;
    let id = running.onion_address().ok_or_else(|| failed("it has no key".to_owned()))?;
    let host = safelog::DisplayRedacted::display_unredacted(&id).to_string();
    let address = OnionAddress::parse(&host, PORT).ok_or_else(|| failed("its address is not one".to_owned()))?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let accept = accept(requests, incoming, tasks.clone(), stop.clone());
    let until = stop.clone();
    tasks.spawn(async move { until.run_until_cancelled(accept).await });
    Ok(Service { nickname, address, running, stop, tasks })
}

/// How the service is to be: for everybody who knows its address, or for those with these keys.
fn configuration(nickname: &str, admitted: Option<&[DiscoveryKey]>) -> Result<OnionServiceConfig, TransportError> {
    let nickname = nickname.parse().map_err(|e| failed(format!("the name of the service: {e}")))?;
    let mut config = OnionServiceConfigBuilder::default();
    config.nickname(nickname).max_concurrent_streams_per_circuit(STREAMS);
    if let Some(keys) = admitted {
        let restricted = config.restricted_discovery();
        restricted.enabled(true);
        let keys = for_service(keys).map_err(failed)?;
        restricted.static_keys().access().extend(keys);
    }
    config.build().map_err(|e| failed(e.to_string()))
}

/// Takes in circuits, so many at once.
async fn accept(
    requests: impl Stream<Item = RendRequest>,
    incoming: mpsc::Sender<Incoming>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let circuits = Arc::new(Semaphore::new(CIRCUITS));
    let numbers = AtomicU64::new(0);
    let mut requests = pin!(requests);
    while let Some(request) = requests.next().await {
        // Too many: the client sees that nobody meets it, and tries again later.
        let Ok(place) = circuits.clone().try_acquire_owned() else { continue };
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (incoming, stop) = (incoming.clone(), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(circuit(request, number, incoming, place)).await });
    }
}

/// Hands on the streams of one circuit.
async fn circuit(request: RendRequest, number: u64, incoming: mpsc::Sender<Incoming>, _place: OwnedSemaphorePermit) {
    let mut streams = match timeout(MEET, request.accept()).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(error)) => return tracing::debug!(why = %with_causes(&error), "a circuit to the onion service failed"),
        Err(_) => return tracing::debug!("a circuit to the onion service took too long"),
    };
    let mut count = 0_u32;
    while let Some(stream) = streams.next().await {
        let ours = matches!(stream.request(), IncomingStreamRequest::Begin(begin) if begin.port() == PORT);
        if !ours {
            // As C tor answers, so that nobody can tell us by it.
            if stream.reject(End::new_with_reason(EndReason::DONE)).await.is_err() {
                return;
            }
            continue;
        }
        let Ok(io) = stream.accept(Connected::new_empty()).await else { return };
        count += 1;
        // By these numbers a test sees that no two connections share a circuit.
        tracing::debug!(circuit = number, stream = count, "a stream came to the onion service");
        let source = Source(format!("{ROUTE}/{number}"));
        let came = Incoming { io: Box::new(io), back: None, source, route: ROUTE };
        if incoming.send(came).await.is_err() {
            return;
        }
    }
}

fn failed(why: String) -> TransportError {
    TransportError::Listen { on: "an onion service".to_owned(), why }
}

/// The one port of our services. Nothing listens on it anywhere else.
const PORT: u16 = 7448;
/// Circuits to a service at once, over all clients.
const CIRCUITS: usize = 512;
/// Streams that a client may have open on one circuit; more ends the circuit.
const STREAMS: u32 = 64;
/// How long meeting a client may take.
const MEET: Duration = Duration::from_secs(60);
