//! The runtime of a mailbox host: streams that begin with the host's opening go through the pure machine of
//! `millpond_mailbox::host`, whose rows a `HostStore` keeps. Knows neither Matrix nor whose mailboxes they are.
//!
//! ```text
//! transport --stream--> gate --opening--> stream task <--> worker thread: many requests, one commit, then the answers
//! ```
//!
//! A host stands alone (`Relay::serve`) or beside a node, whose overlay hands over the streams that are meant for it.

mod purpose;
mod stream;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_mailbox::host::{HostLimits, HostStore, InEvent, StreamId};
use millpond_mailbox::host_key::{HostKey, HostSecret};
use millpond_mailbox::host_link::{HostLink, HostLinkError, HostWay};
use millpond_mailbox::rand_core::CryptoRng;
use millpond_mailbox::stream::{HINT_LEN, OPENING_LEN, host_hint};
use millpond_mailbox::token::{Grant, TokenKey, TokenSecret};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::Error;
use crate::gate::{Gate, Place};
use crate::secure;
use crate::tasks::Tasks;
use crate::transport::{Address, BoxIo, Incoming, Source, Transport};
use worker::{Work, Worker};

/// What a host is started with.
pub struct RelayConfig {
    /// Its static key.
    pub secret: HostSecret,
    /// What its tokens are made with.
    pub tokens: TokenSecret,
    /// How much it keeps.
    pub limits: HostLimits,
    /// How much it lets streams do.
    pub streams: StreamLimits,
}

/// Bounds on the streams to a host, in count and time.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Streams at once, over all sources.
    pub all: usize,
    /// The same, for one source.
    pub per_source: usize,
    /// Streams that have not passed the handshake, over all sources.
    pub unproven: usize,
    /// The same, for one source.
    pub unproven_per_source: usize,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// How long one message may take to go out.
    pub write: Duration,
    /// A stream without requests closes after this.
    pub idle: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            all: 512,
            per_source: 128,
            unproven: 64,
            unproven_per_source: 16,
            handshake: Duration::from_secs(10),
            write: Duration::from_secs(60),
            idle: Duration::from_secs(600),
        }
    }
}

/// A running host. Clones are handles to the same one; `stop` ends it for all.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    secret: HostSecret,
    key: HostKey,
    tokens: TokenSecret,
    token_key: TokenKey,
    hint: [u8; HINT_LEN],
    limits: StreamLimits,
    unproven: Gate,
    open: Gate,
    streams: AtomicU64,
    work: Mutex<Option<mpsc::Sender<Work>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    transports: Mutex<Vec<Arc<dyn Transport>>>,
    tasks: Tasks,
}

impl Relay {
    /// Starts the worker. No stream comes in yet. To be called inside the runtime.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: RelayConfig, store: Box<dyn HostStore>) -> Result<Self, Error> {
        let run = |worker: Worker, queue| {
            let thread = std::thread::Builder::new().name("millpond-host".to_owned());
            let started = thread.spawn(move || worker.run(queue));
            let failed = |error: std::io::Error| Error::Host { why: format!("starting its thread: {}", error.kind()) };
            started.map(Some).map_err(failed)
        };
        Self::start_with(config, store, run)
    }

    /// As `start`, with the worker among the tasks, so that it lives on the runtime's time.
    #[cfg(test)]
    pub(crate) fn start_on_the_runtime(config: RelayConfig, store: Box<dyn HostStore>) -> Self {
        let run = |worker: Worker, queue| {
            tokio::spawn(worker.run_here(queue));
            Ok(None)
        };
        Self::start_with(config, store, run).expect("nothing is started that could fail")
    }

    fn start_with(
        config: RelayConfig,
        store: Box<dyn HostStore>,
        run: impl FnOnce(Worker, mpsc::Receiver<Work>) -> Result<Option<JoinHandle<()>>, Error>,
    ) -> Result<Self, Error> {
        let (key, token_key) = (config.secret.public(), config.tokens.public());
        let tokens = TokenSecret::from_bytes(*config.tokens.as_bytes());
        let (work, queue) = mpsc::channel(worker::QUEUE);
        let worker = Worker::new(key, config.tokens, config.limits, store);
        let thread = run(worker, queue)?;
        let limits = config.streams;
        let inner = Arc::new(Inner {
            secret: config.secret,
            key,
            tokens,
            token_key,
            hint: host_hint(&key).0,
            limits,
            unproven: Gate::new(limits.unproven, limits.unproven_per_source),
            open: Gate::new(limits.all, limits.per_source),
            streams: AtomicU64::new(0),
            work: Mutex::new(Some(work.clone())),
            worker: Mutex::new(thread),
            transports: Mutex::default(),
            tasks: Tasks::default(),
        });
        inner.tasks.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if work.send(Work::Event(InEvent::Tick)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { inner })
    }

    /// Takes streams from these transports, which begin to listen; the addresses at which the host can be reached. `earlier`
    /// are those of last time. Not to be dropped half-way.
    ///
    /// # Errors
    /// When a transport cannot be set up or cannot listen.
    pub async fn serve(
        &self,
        transports: Vec<Box<dyn Transport>>,
        earlier: Vec<Address>,
    ) -> Result<Vec<Address>, Error> {
        let (incoming, mut streams) = mpsc::channel(INCOMING);
        let mut addresses = Vec::new();
        for transport in transports {
            let transport: Arc<dyn Transport> = transport.into();
            let failed = |source| Error::Transport { doing: "start the host's transport", source };
            transport.start(incoming.clone()).map_err(failed)?;
            let listening = transport.listen(earlier.clone()).await.map_err(failed)?;
            addresses.extend(listening);
            self.inner.transports.lock().push(transport);
        }
        let relay = self.clone();
        self.inner.tasks.spawn(async move {
            while let Some(stream) = streams.recv().await {
                relay.incoming(stream);
            }
        });
        Ok(addresses)
    }

    /// Takes one stream, unless there are too many.
    fn incoming(&self, incoming: Incoming) {
        let Incoming { mut io, source, .. } = incoming;
        let Some(place) = self.inner.unproven.enter(&source) else { return };
        let relay = self.clone();
        self.inner.tasks.spawn(async move {
            let within = relay.inner.limits.handshake;
            if let Some(opening) = secure::read_opening(&mut io, within).await {
                relay.take(io, &opening, source, place).await;
            }
        });
    }

    /// Whether an opening is meant for this host. It may still be none.
    pub(crate) fn is_meant(&self, opening: &[u8; OPENING_LEN]) -> bool {
        opening.starts_with(&self.inner.hint)
    }

    /// Takes a stream whose opening a node's overlay has read, and is done when the stream ends. Dropping it closes the stream.
    pub(crate) async fn take(&self, io: BoxIo, opening: &[u8; OPENING_LEN], source: Source, unproven: Place) {
        let Some(work) = self.inner.work.lock().clone() else { return };
        let Some(accepted) = stream::accept(&self.inner.secret, io, opening, &self.inner.limits).await else { return };
        let Some(_place) = self.inner.open.enter(&source) else { return };
        drop(unproven);
        let id = StreamId(self.inner.streams.fetch_add(1, Ordering::Relaxed));
        stream::run(id, accepted, work, &self.inner.limits).await;
    }

    /// The key that names the host.
    pub fn key(&self) -> HostKey {
        self.inner.key
    }

    /// What owners need to keep a mailbox here, with these addresses.
    ///
    /// # Errors
    /// If there is no address, or they are too long together.
    pub fn link(&self, addresses: &[Address]) -> Result<HostLink, HostLinkError> {
        let addresses = addresses.iter().map(|address| address.as_bytes().to_vec()).collect();
        Ok(HostLink { way: HostWay::new(self.inner.key, addresses)?, tokens: self.inner.token_key })
    }

    /// An operator's leave: good for one person's mailboxes here, for about a year.
    pub fn grant(&self, rng: &mut impl CryptoRng) -> Grant {
        self.inner.tokens.grant(rng)
    }

    /// Takes no stream any more, lets what was asked be answered, and closes. Not to be dropped half-way.
    pub async fn stop(&self) {
        let transports = std::mem::take(&mut *self.inner.transports.lock());
        for transport in transports {
            transport.stop().await;
        }
        self.inner.work.lock().take();
        self.inner.tasks.end(GRACE).await;
        let thread = self.inner.worker.lock().take();
        if let Some(thread) = thread {
            // The worker ends when the last stream has dropped its queue; a panic in it was reported by the thread itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// How often the host looks for what is over.
const TICK: Duration = Duration::from_secs(30);
/// Streams that may wait to be looked at.
const INCOMING: usize = 16;
/// For streams that are in the middle of an answer.
const GRACE: Duration = Duration::from_millis(500);
