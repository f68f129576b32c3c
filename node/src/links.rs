//! Links with other nodes: the overlay under this node's name, its records in our database, contacts for the user.
//!
//! The overlay starts with the first use: a node without contacts opens no socket and has nothing to wait for.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use millpond_mailbox::{identity::IdentityKey, name::NodeName, xwing::XWingSecret};
pub use millpond_overlay::{Arrival, LinkClass, LinkState, LodgingInfo, MailInfo, MailboxInfo};
use millpond_overlay::{
    Event, LinkInfo, Me, Overlay, RouteError,
    host_client::{ClientLimits, FreshTransport, HostClient},
    relay::Relay,
    transport::{
        Transport,
        tor::{Tor, TorStatus},
    },
};
use ruma::ServerName;
use tokio::{
    sync::{OnceCell, broadcast, mpsc, watch},
    time::Instant,
};

use crate::{Core, Error, config::Direct, peers};

mod backlog;
mod contacts;
mod mailboxes;
mod records;
mod transports;

pub use contacts::{Contact, Offer};
pub use mailboxes::host_name;
pub(crate) use records::{encoded_key, has_onion_mailbox, record_of};

/// Makes the transports that the overlay runs on.
pub type Transports = Arc<dyn Fn(&Direct) -> Result<Vec<Box<dyn Transport>>, Error> + Send + Sync>;

/// Makes the connections to mailbox hosts, each on a transport of its own; none: there are no mailboxes.
pub type ToHosts = Arc<dyn Fn(&Direct) -> Option<Arc<dyn FreshTransport>> + Send + Sync>;

/// Links with other nodes. Cloning is cheap.
#[derive(Clone)]
pub struct Links {
    core: Core,
    shared: Arc<Shared>,
}

struct Shared {
    overlay: OnceCell<Overlay>,
    /// The overlay has no transports: it knows its links and reaches nobody.
    offline: AtomicBool,
    started: watch::Sender<bool>,
    transports: Transports,
    to_hosts: ToHosts,
    arrivals: mpsc::Sender<Arrival>,
    arrived: Mutex<Option<mpsc::Receiver<Arrival>>>,
    host: OnceLock<Relay>,
    backlog: backlog::Backlog,
}

/// Requests of peers that may wait between the overlay and the router.
const ARRIVALS: usize = 16;

impl Links {
    /// Links over Tor and libp2p, as far as the settings allow either.
    pub fn new(core: Core) -> Self {
        let (routes, hosts, onion) = (core.routes().clone(), core.routes().clone(), core.config().tor.clone());
        let transports = move |settings: &Direct| transports::to_peers(settings, &routes, &onion);
        Self::over(core, Arc::new(transports), Arc::new(move |_| Some(transports::to_hosts(&hosts))))
    }

    /// Links over other transports: for tests.
    pub fn with_transports(core: Core, transports: Transports) -> Self {
        Self::over(core, transports, Arc::new(|_| None))
    }

    /// Links over other transports, with another way to mailbox hosts.
    pub fn over(core: Core, transports: Transports, to_hosts: ToHosts) -> Self {
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let started = watch::Sender::new(false);
        let shared = Shared {
            overlay: OnceCell::new(),
            offline: AtomicBool::new(false),
            started,
            transports,
            to_hosts,
            arrivals,
            arrived: Mutex::new(Some(arrived)),
            host: OnceLock::new(),
            backlog: backlog::Backlog::default(),
        };
        Self { core, shared: Arc::new(shared) }
    }

    /// Lets the overlay start without a network: for those who only want to know what links there are.
    pub fn stay_offline(&self) {
        self.shared.offline.store(true, Ordering::Relaxed);
    }

    /// The requests of peers, for the federation router; `None` when somebody has taken them already.
    pub fn arrivals(&self) -> Option<mpsc::Receiver<Arrival>> {
        self.shared.arrived.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether there is any link or offer, so that the overlay must run.
    ///
    /// # Errors
    /// Storage errors.
    pub fn any(&self) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let kinds = [millpond_overlay::RecordKind::Link, millpond_overlay::RecordKind::Mailbox];
        for kind in kinds {
            if view.any(millpond_store::tables::LINKS, (kind.tag(),))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The overlay, started if it is not running.
    ///
    /// # Errors
    /// When the records cannot be read or a transport cannot be set up.
    pub async fn overlay(&self) -> Result<&Overlay, Error> {
        let overlay = self.shared.overlay.get_or_try_init(|| self.start()).await?;
        self.shared.started.send_replace(true);
        Ok(overlay)
    }

    /// Waits until the overlay runs.
    pub async fn started(&self) {
        // The sender lives as long as this handle.
        let _ = self.shared.started.subscribe().wait_for(|started| *started).await;
    }

    /// The overlay, if it runs.
    pub fn running(&self) -> Option<&Overlay> {
        self.shared.overlay.get()
    }

    /// Starts the overlay and listens, if there is any contact that may call, a host that may be called, or an onion service by the owner's wish.
    ///
    /// # Errors
    /// As [`Links::overlay`].
    pub async fn resume(&self) -> Result<(), Error> {
        let host = self.shared.host.get().is_some();
        if host && !self.may_listen() {
            tracing::warn!(
                "the mailbox host is not reached: this node shows no IP address; give it an onion service (onion = true under [tor])"
            );
        }
        if (host || self.core.config().tor.onion) && self.may_listen() {
            self.overlay().await?.listen().await.map_err(overlay_error)?;
        } else if self.any()? {
            self.overlay().await?.listen_again().await.map_err(overlay_error)?;
        }
        Ok(())
    }

    /// Whether there is an address that others may see.
    fn may_listen(&self) -> bool {
        self.core.routes().shows_address() || self.core.config().tor.onion
    }

    /// What has come out of mailboxes and waits.
    pub(crate) fn backlog(&self) -> &backlog::Backlog {
        &self.shared.backlog
    }

    async fn start(&self) -> Result<Overlay, Error> {
        millpond_overlay::install_crypto_provider();
        let identity = self.core.identity();
        let me = Me {
            identity: IdentityKey::from_seed(&identity.identity_key().to_seed()),
            key_document: identity.key_document().clone(),
            intro_secret: XWingSecret::from_bytes(*identity.intro_secret().as_bytes()),
            signing: identity.node_signing_key().clone(),
        };
        let offline = self.shared.offline.load(Ordering::Relaxed);
        let transports = match offline {
            true => Vec::new(),
            false => (self.shared.transports)(&self.direct()?)?,
        };
        let (limits, host) = (millpond_overlay::Limits::default(), self.shared.host.get().cloned());
        let fresh = (!offline).then(|| (self.shared.to_hosts)(&self.core.config().direct)).flatten();
        let hosts = fresh.map(|fresh| HostClient::new(fresh, ClientLimits::default()));
        let (mode, accept_hosts) = (self.core.config().mail_mode, self.core.config().accept_mailboxes);
        let routes = self.core.routes().clone();
        let config = millpond_overlay::Config { me, limits, host, hosts, mode, accept_hosts, routes };
        let records = records::LinkRows::new(self.core.store().clone(), self.shared.backlog.clone())?;
        let records = Arc::new(records);
        let (overlay, mut received) =
            millpond_overlay::start(config, records, transports).await.map_err(overlay_error)?;
        let arrivals = self.shared.arrivals.clone();
        // Ends with the overlay, which drops its sender.
        tokio::spawn(async move {
            while let Some(arrival) = received.recv().await {
                if arrivals.send(arrival).await.is_err() {
                    break;
                }
            }
        });
        Ok(overlay)
    }

    /// How direct links are made; with relays there is one PeerId for all starts, because contacts dial it.
    fn direct(&self) -> Result<Direct, Error> {
        let mut direct = self.core.config().direct.clone();
        if !direct.relays.is_empty() {
            let key = crate::identity::peer_key(&self.core.config().data_dir);
            direct.peer_key = Some(key.map_err(|e| Error::internal(e.to_string()))?);
        }
        Ok(direct)
    }

    /// Events of links from now on.
    ///
    /// # Errors
    /// As [`Links::overlay`].
    pub async fn events(&self) -> Result<broadcast::Receiver<Event>, Error> {
        Ok(self.overlay().await?.events())
    }

    /// Sends a request to a linked node.
    ///
    /// # Errors
    /// See [`RouteError`]; `NoLink` for a server that is no node, or is not linked.
    pub async fn request(
        &self,
        to: &ServerName,
        request: Request<Bytes>,
        patience: Duration,
    ) -> Result<Response<Bytes>, RouteError> {
        let Some(name) = self.node_of(to) else { return Err(RouteError::NoLink) };
        let overlay = self.overlay().await.map_err(|_| RouteError::Closed)?;
        overlay.request(&name, request, Instant::now() + patience).await
    }

    /// Opens a stream to a linked node if none is open: to see whether it is there.
    ///
    /// # Errors
    /// As [`Links::request`].
    pub async fn connect(&self, to: &ServerName, patience: Duration) -> Result<(), RouteError> {
        let Some(name) = self.node_of(to) else { return Err(RouteError::NoLink) };
        let overlay = self.overlay().await.map_err(|_| RouteError::Closed)?;
        overlay.connect(&name, Instant::now() + patience).await
    }

    /// The node with which there is an established link under a server name.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn established_with(&self, server: &ServerName) -> Result<Option<NodeName>, Error> {
        let node = peers::node_of(self.core.snapshot()?.view(), server)?;
        Ok(node.filter(|node| self.is_established(node)))
    }

    /// Whether there is an established link with a node.
    pub(crate) fn is_established(&self, node: &NodeName) -> bool {
        let Some(overlay) = self.running() else { return false };
        let is_it = |link: &LinkInfo| link.state == LinkState::Established && link.peer.as_ref() == Some(node);
        overlay.links().iter().any(is_it)
    }

    /// The node behind a server name; what cannot be read is no node.
    fn node_of(&self, server: &ServerName) -> Option<NodeName> {
        let snapshot = self.core.snapshot().ok()?;
        peers::node_of(snapshot.view(), server).ok().flatten()
    }

    /// The node of a name that a user gives: the one that its key makes, or a proven one of the DNS.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when it is neither.
    pub(crate) fn node_named(&self, text: &str) -> Result<NodeName, Error> {
        let wrong = match NodeName::parse(text.trim()) {
            Ok(name) => return Ok(name),
            Err(wrong) => wrong,
        };
        let server = <&ServerName>::try_from(text.trim()).ok();
        let found = server.and_then(|server| self.node_of(server));
        found.ok_or_else(|| Error::invalid_param(format!("not the name of a node: {wrong}")))
    }

    /// Hands a request to the router as if it had come over a stream: for what came out of a mailbox. None: nobody answers.
    pub(crate) async fn arrived(&self, arrival: Arrival) -> Option<()> {
        self.shared.arrivals.send(arrival).await.ok()
    }

    /// Whether a stream with a server is open.
    pub fn is_connected(&self, server: &ServerName) -> bool {
        self.info(server).is_some_and(|link| link.is_connected())
    }

    /// What the established link with a server allows it.
    pub fn class_of(&self, server: &ServerName) -> Option<LinkClass> {
        self.info(server).filter(|link| link.state == LinkState::Established).map(|link| link.class)
    }

    /// The best that the overlay says of a link with a server.
    fn info(&self, server: &ServerName) -> Option<LinkInfo> {
        let links = self.running()?.links();
        let node = self.node_of(server)?;
        let with = links.into_iter().filter(|link| link.peer.as_ref() == Some(&node));
        with.max_by_key(|link| {
            (link.state == LinkState::Established, link.is_connected(), link.class == LinkClass::Contact)
        })
    }

    /// Ends all streams, within two seconds.
    pub async fn shutdown(&self) {
        if let Some(overlay) = self.running() {
            overlay.shutdown().await;
        }
        if let Some(host) = self.shared.host.get() {
            host.stop().await;
        }
        if let Some(tor) = self.core.routes().tor() {
            tor.stop().await;
        }
    }

    /// How Tor stands; none if it is switched off.
    pub fn tor(&self) -> Option<TorStatus> {
        self.core.routes().tor().map(Tor::status)
    }

    /// Closes what is open and dials nothing until `wake`.
    pub(crate) async fn suspend(&self) -> Result<(), Error> {
        match self.running() {
            Some(overlay) => overlay.suspend().await.map_err(overlay_error),
            None => Ok(()),
        }
    }

    /// Everything is due.
    pub(crate) async fn wake(&self) -> Result<(), Error> {
        match self.running() {
            Some(overlay) => overlay.resume().await.map_err(overlay_error),
            None => Ok(()),
        }
    }
}

fn overlay_error(error: millpond_overlay::Error) -> Error {
    Error::unknown(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn who_only_looks_opens_no_network() {
        for (offline, expected) in [(false, 1), (true, 0)] {
            let opened = Arc::new(AtomicUsize::new(0));
            let count = opened.clone();
            let transports: Transports = Arc::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(Vec::new())
            });
            let links = Links::with_transports(crate::testing::core(), transports);
            if offline {
                links.stay_offline();
            }
            assert!(links.overlay().await.unwrap().links().is_empty());
            assert_eq!(opened.load(Ordering::Relaxed), expected);
            links.shutdown().await;
        }
    }
}
