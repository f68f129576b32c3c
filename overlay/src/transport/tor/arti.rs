//! The one arti client of a node: made at first use, kept up, and asked for streams.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arti_client::{
    BootstrapBehavior, DataStream, DormantMode, ErrorKind, HasKind, StreamPrefs, TorClient, TorClientConfig,
};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tor_rtcompat::PreferredRuntime;

use super::super::{BoxIo, Incoming, TransportError};
use super::address::OnionAddress;
use super::config::TorConfig;
use super::health::{Health, asks_for_key, is_final, with_causes};
use super::isolation::Isolation;
use super::keys::Keys;
use super::service::{self, Service};
use super::status::{TorState, TorStatus};
use super::{Carrier, PATIENCE, ROUTE};

pub(super) type Client = Arc<TorClient<PreferredRuntime>>;

/// arti, as far as it runs.
pub(super) struct Arti {
    config: TorConfig,
    arti: TorClientConfig,
    client: OnceCell<Client>,
    health: Mutex<Health>,
    back: Notify,
    /// Services that are open, by nickname.
    services: Mutex<HashMap<&'static str, Service>>,
    keys: Keys,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Arti {
    pub(super) fn new(config: TorConfig) -> Result<Self, TransportError> {
        let arti = config.to_arti()?;
        Ok(Self {
            config,
            arti,
            client: OnceCell::new(),
            health: Mutex::default(),
            back: Notify::new(),
            services: Mutex::default(),
            keys: Keys::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The client, made if there is none yet; it then gets ready in the background.
    async fn client(&self) -> Result<&Client, TransportError> {
        if self.stop.is_cancelled() {
            return Err(TransportError::Stopped);
        }
        self.client.get_or_try_init(|| self.start()).await
    }

    async fn start(&self) -> Result<Client, TransportError> {
        crate::install_crypto_provider();
        private_folder(&self.config.folder)
            .map_err(|e| setup(format!("making the folder {}: {}", self.config.folder.display(), e.kind())))?;
        let runtime = PreferredRuntime::current().map_err(|e| setup(e.to_string()))?;
        let client = TorClient::with_runtime(runtime)
            .config(self.arti.clone())
            .bootstrap_behavior(BootstrapBehavior::OnDemand)
            .create_unbootstrapped_async()
            .await
            .map_err(|e| setup(with_causes(&e)))?;
        tracing::info!("Tor is starting");
        let (stop, starting) = (self.stop.clone(), client.clone());
        self.tasks.spawn(async move { stop.run_until_cancelled(get_ready(starting)).await });
        Ok(client)
    }

    /// Opens a stream. Each attempt is on circuits of its own; a second one begins when the first fails or takes long, because it may hang.
    async fn dial(
        &self,
        host: &str,
        port: u16,
        on: &Isolation,
        keys: &[DiscoverySecret],
    ) -> Result<BoxIo, TransportError> {
        let deadline = Instant::now() + PATIENCE;
        let client = self.client().await?;
        // Its own time-outs begin only when there is a network directory to go by.
        let ready = timeout_at(deadline, client.bootstrap()).await;
        ready.map_err(|_| unreachable(self.waits()))?.map_err(|e| unreachable(with_causes(&e)))?;
        let attempts = async {
            let mut pause = BRIDGE_PAUSE;
            loop {
                match self.with_keys(client, (host, port), on, keys).await {
                    // What is known of a bridge comes a moment after arti says that it is ready.
                    Err(error) if self.awaits_bridge(&error) && pause <= BRIDGE_LAST => sleep(pause).await,
                    ended => return ended,
                }
                pause *= 2;
            }
        };
        let Some(ended) = self.stop.run_until_cancelled(timeout_at(deadline, attempts)).await else {
            return Err(TransportError::Stopped);
        };
        if self.health.lock().note(&ended) {
            self.back.notify_one();
        }
        match ended {
            Err(_) => Err(unreachable(self.waits())),
            Ok(Err(error)) => Err(unreachable(with_causes(&error))),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
        }
    }

    fn awaits_bridge(&self, error: &arti_client::Error) -> bool {
        !self.config.bridges.is_empty() && error.kind() == ErrorKind::TorAccessFailed
    }

    /// Opens a stream without a key, unless the service is known to ask for one; if it does, with one of ours after the other.
    async fn with_keys(
        &self,
        client: &Client,
        to: (&str, u16),
        on: &Isolation,
        keys: &[DiscoverySecret],
    ) -> Result<DataStream, arti_client::Error> {
        let mut ended = None;
        if keys.is_empty() || !self.keys.are_asked_for(to.0) {
            let stream = attempts(client, to, on).await;
            match &stream {
                Err(error) if !keys.is_empty() && asks_for_key(error) => self.keys.note_asked(to.0),
                _ => return stream,
            }
            ended = Some(stream);
        }
        for key in keys {
            let _lent = self.keys.lend(client, to.0, key)?;
            let stream = attempts(client, to, on).await;
            if !matches!(&stream, Err(error) if asks_for_key(error)) {
                return stream;
            }
            ended = Some(stream);
        }
        ended.expect("without keys the first attempt is returned")
    }

    /// Opens a service whose key arti made and keeps; streams to it come out of `incoming` until it is closed.
    async fn serve(
        &self,
        nickname: &'static str,
        admitted: Option<Vec<DiscoveryKey>>,
        incoming: mpsc::Sender<Incoming>,
    ) -> Result<OnionAddress, TransportError> {
        let client = self.client().await?;
        let mut services = self.services.lock();
        if let Some(open) = services.get(nickname) {
            return Ok(open.address());
        }
        let service = service::open(client, nickname, admitted.as_deref(), incoming)?;
        let address = service.address();
        services.insert(nickname, service);
        Ok(address)
    }

    /// Closes a service; what streams are open is up to their holders.
    async fn end(&self, nickname: &'static str) {
        let service = self.services.lock().remove(nickname);
        if let Some(service) = service {
            service.close().await;
        }
    }

    fn waits(&self) -> String {
        let TorStatus { state, percent, why } = self.status();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        match state {
            TorState::Up => "no answer in time, on two circuits".to_owned(),
            _ => format!("Tor is not up ({percent} %){why}"),
        }
    }
}

impl Carrier for Arti {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        on: &'a Isolation,
        keys: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        self.dial(host, port, on, keys).boxed()
    }

    fn open(
        &self,
        nickname: &'static str,
        admitted: Option<Vec<DiscoveryKey>>,
        incoming: mpsc::Sender<Incoming>,
    ) -> BoxFuture<'_, Result<OnionAddress, TransportError>> {
        self.serve(nickname, admitted, incoming).boxed()
    }

    fn admit(&self, nickname: &'static str, admitted: Vec<DiscoveryKey>) {
        // One that is not open yet opens with them.
        if let Some(service) = self.services.lock().get(nickname) {
            service.admit(&admitted);
        }
    }

    fn close(&self, nickname: &'static str) -> BoxFuture<'_, ()> {
        self.end(nickname).boxed()
    }

    fn status(&self) -> TorStatus {
        let Some(client) = self.client.get() else {
            let state = if self.stop.is_cancelled() { TorState::Stopped } else { TorState::Idle };
            return TorStatus { state, percent: 0, why: None };
        };
        let status = client.bootstrap_status();
        let mut health = self.health.lock();
        let ready = status.ready_for_traffic() && health.trouble.is_none();
        health.seen_up |= ready;
        let state = match ready {
            _ if self.stop.is_cancelled() => TorState::Stopped,
            true => TorState::Up,
            false if health.seen_up => TorState::Down,
            false => TorState::Starting,
        };
        let blocked = || status.blocked().map(|blocked| blocked.to_string());
        let why = health.trouble.clone().or_else(blocked).filter(|_| state != TorState::Up);
        // Between 0 and 1.
        let percent = (status.as_frac().clamp(0.0, 1.0) * 100.0) as u8;
        TorStatus { state, percent, why }
    }

    fn came_back(&self) -> BoxFuture<'_, ()> {
        self.back.notified().boxed()
    }

    fn set_dormant(&self, dormant: bool) {
        let Some(client) = self.client.get() else { return };
        client.set_dormant(if dormant { DormantMode::Soft } else { DormantMode::Normal });
        if !dormant {
            // What was built before a sleep is dead, whether or not somebody has said so. It fails only while nothing was built yet.
            if let Ok(pool) = client.hs_circ_pool() {
                let _ = pool.retire_all_circuits();
            }
        }
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async move {
            self.stop.cancel();
            let services: Vec<Service> = self.services.lock().drain().map(|(_, service)| service).collect();
            futures::future::join_all(services.into_iter().map(Service::close)).await;
            self.tasks.close();
            self.tasks.wait().await;
            // arti's own tasks end when the last handle of the client is gone, which is with this one.
            if let Some(client) = self.client.get() {
                client.set_dormant(DormantMode::Soft);
            }
        }
        .boxed()
    }
}

/// Each attempt on circuits of its own: the first on those of `on`.
async fn attempts(
    client: &Client,
    (host, port): (&str, u16),
    on: &Isolation,
) -> Result<DataStream, arti_client::Error> {
    let dial = |prefs: StreamPrefs| async move { client.connect_with_prefs((host, port), &prefs).await };
    hedged(|first| dial(if first { on.clone() } else { Isolation::fresh() }.prefs()), is_final).await
}

/// Gets the client ready, again and again until it is. From then on arti itself keeps what it knows of the network fresh.
async fn get_ready(client: Client) {
    let mut pause = FIRST_PAUSE;
    loop {
        match client.bootstrap().await {
            Ok(()) => return tracing::info!("Tor is up"),
            Err(error) => tracing::warn!(why = %with_causes(&error), "Tor does not start; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Runs a first attempt, and a second one beside it when the first has failed or takes longer than `HEDGE`; the first success wins. A failure that
/// `is_final` says is the peer's answer ends it.
async fn hedged<T, E, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut(bool) -> F,
    is_final: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut running = FuturesUnordered::new();
    running.push(attempt(true));
    let (mut second, hedge) = (false, Instant::now() + HEDGE);
    loop {
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(stream) => return Ok(stream),
                Err(error) if is_final(&error) || (second && running.is_empty()) => return Err(error),
                Err(_) if second => {}
                Err(_) => {
                    second = true;
                    running.push(attempt(false));
                }
            },
            () = sleep_until(hedge), if !second => {
                second = true;
                running.push(attempt(false));
            }
        }
    }
}

fn private_folder(folder: &std::path::Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn setup(why: String) -> TransportError {
    TransportError::Setup { route: ROUTE, why }
}

fn unreachable(why: String) -> TransportError {
    TransportError::Unreachable { why }
}

/// What the first attempt has for itself: a circuit of six hops takes a few seconds.
const HEDGE: Duration = Duration::from_secs(8);
/// For a bridge that is not known yet, the first wait and the last.
const BRIDGE_PAUSE: Duration = Duration::from_millis(500);
const BRIDGE_LAST: Duration = Duration::from_secs(4);
/// Between two attempts to get ready.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dial_that_hangs_gets_a_second_attempt_beside_it() {
        let begun = Instant::now();
        let attempts = hedged(
            |first| async move {
                if first {
                    std::future::pending().await
                }
                Ok::<_, ()>(first)
            },
            |()| false,
        );
        assert_eq!(attempts.await, Ok(false));
        assert_eq!(begun.elapsed(), HEDGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_dial_is_tried_once_more_unless_the_answer_is_final() {
        for (is_final, expected) in [(false, 2), (true, 1)] {
            let count = AtomicUsize::new(0);
            let attempt = |_| async {
                count.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>("no")
            };
            assert_eq!(hedged(attempt, |_| is_final).await, Err("no"));
            assert_eq!(count.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_may_still_win_when_it_is_slow() {
        let attempt = |first| async move {
            sleep(if first { HEDGE + Duration::from_secs(1) } else { HEDGE * 10 }).await;
            Ok::<_, ()>(first)
        };
        assert_eq!(tokio::time::timeout(HEDGE * 2, hedged(attempt, |()| false)).await, Ok(Ok(true)));
    }

    #[tokio::test]
    async fn nothing_runs_and_no_folder_is_made_before_something_needs_it() {
        let folder = std::env::temp_dir().join(format!("millpond-no-tor-{}", std::process::id()));
        let arti = Arti::new(TorConfig::new(folder.clone())).unwrap();
        assert_eq!(arti.status().state, TorState::Idle);
        arti.stop().await;
        assert!(!folder.exists());
        let refused = arti.connect("example.org", 80, &Isolation::fresh(), &[]).await;
        assert!(matches!(refused.err(), Some(TransportError::Stopped)));
    }
}
