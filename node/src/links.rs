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
use millpond_mailbox::{
    contact_link::ContactLink, host_link::HostLink, identity::IdentityKey, name::NodeName, session::Offered,
    token::Grant, way::Way, xwing::XWingSecret,
};
pub use millpond_overlay::{Arrival, LinkClass, LinkState, MailInfo, MailboxInfo};
use millpond_overlay::{
    Event, LinkInfo, Me, Overlay, RouteError,
    host_client::{ClientLimits, FreshTransport, HostClient},
    relay::Relay,
    transport::{
        Transport,
        tor::{Tor, TorStatus},
    },
};
use millpond_store::View;
use ruma::{OwnedServerName, ServerName};
use tokio::{
    sync::{OnceCell, broadcast, mpsc, watch},
    time::Instant,
};

use crate::{Core, Error, config::Direct, peers};

mod records;
mod transports;

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
}

/// Requests of peers that may wait between the overlay and the router.
const ARRIVALS: usize = 16;

/// One contact, for the user.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The node's name, as soon as it has shown itself.
    pub name: Option<NodeName>,
    /// The name in the DNS that it says it has, and whether that is proven.
    pub server: Option<(bool, OwnedServerName)>,
    /// How far the link is.
    pub state: LinkState,
    /// How it came about.
    pub class: LinkClass,
    /// The route of the open stream, if one is open.
    pub route: Option<&'static str>,
    /// How it stands over mailboxes.
    pub mail: Option<MailInfo>,
    /// It could be dialled only by showing this node's IP address, which is not to be.
    pub hidden: bool,
}

/// A link for a friend, and what he will see.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The text of the link.
    pub link: String,
    /// The addresses in it.
    pub addresses: Vec<String>,
}

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

    /// Hosts mailboxes beside the node, on the same port. Takes effect when the overlay starts; the host ends with the links.
    pub fn host(&self, relay: Relay) {
        // A node has one host; the first one stays.
        let _ = self.shared.host.set(relay);
    }

    /// The link of the host beside this node, if there is one, with the addresses at which it listens now.
    ///
    /// # Errors
    /// As [`Links::overlay`], and when nothing can listen.
    pub async fn host_link(&self) -> Result<Option<String>, Error> {
        let Some(host) = self.shared.host.get().filter(|_| self.may_listen()) else { return Ok(None) };
        let addresses = self.overlay().await?.listen().await.map_err(overlay_error)?;
        let link = host.link(&addresses).map_err(|e| Error::unknown(format!("the mailbox host has no link: {e}")))?;
        Ok(Some(link.to_uri()))
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
        let mode = self.core.config().mail_mode;
        let routes = self.core.routes().clone();
        let config = millpond_overlay::Config { me, limits, host, hosts, mode, routes };
        let records = Arc::new(records::LinkRows::new(self.core.store().clone()));
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

    /// How the link with a server stands over mailboxes.
    pub fn mail_of(&self, server: &ServerName) -> Option<MailInfo> {
        self.info(server).filter(|link| link.state == LinkState::Established).and_then(|link| link.mail)
    }

    /// Offers items to a server's mailboxes; they are offered again after the next start.
    pub(crate) async fn post(&self, server: &ServerName, items: Vec<Offered>) {
        let (Some(overlay), Some(name)) = (self.running(), self.node_of(server)) else { return };
        // It fails only when the overlay has stopped, and with it everything else.
        let _ = overlay.post(&name, items).await;
    }

    /// Makes a mailbox at a host.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a link or a token that is none; with the reason when the host does not make one.
    pub async fn add_mailbox(&self, link: &str, token: &str) -> Result<(), Error> {
        let link = HostLink::parse(link).map_err(|e| Error::invalid_param(e.to_string()))?;
        let leave = Grant::parse(token.trim()).map_err(|e| Error::invalid_param(e.to_string()))?;
        self.overlay().await?.add_mailbox(link, leave).await.map_err(overlay_error)
    }

    /// Our mailboxes.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn mailboxes(&self) -> Result<Vec<MailboxInfo>, Error> {
        if self.running().is_none() && !self.any()? {
            return Ok(Vec::new());
        }
        self.overlay().await?.mailboxes().await.map_err(overlay_error)
    }

    /// Takes the mailboxes at a host out of use; `host` is the beginning of its key in hex, as they are listed.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn leave_host(&self, host: &str) -> Result<(), Error> {
        let wanted = host.trim().to_lowercase();
        let named =
            |mailbox: &MailboxInfo| data_encoding::HEXLOWER.encode(mailbox.host.as_bytes()).starts_with(&wanted);
        let mut found: Vec<_> = self.mailboxes().await?.into_iter().filter(named).map(|mailbox| mailbox.host).collect();
        found.dedup();
        match found[..] {
            [host] if wanted.len() >= 4 => self.overlay().await?.leave_host(host).await.map_err(overlay_error),
            _ => Err(Error::not_found("no mailbox, or more than one, is at a host of that name")),
        }
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

    /// Makes a contact link with this device's present addresses.
    ///
    /// # Errors
    /// When nothing can listen or too many offers are open.
    pub async fn offer(&self) -> Result<Offer, Error> {
        let overlay = self.overlay().await?;
        let link = overlay.offer().await.map_err(overlay_error)?;
        let addresses = overlay.addresses().await.map_err(overlay_error)?.iter().map(ToString::to_string).collect();
        Ok(Offer { link: link.to_uri(), addresses })
    }

    /// Adds the contact of a pasted link; gives the fingerprint of the node behind it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a text that is no link or has expired.
    pub async fn add(&self, link: &str) -> Result<String, Error> {
        let link =
            ContactLink::parse(link.trim()).map_err(|e| Error::invalid_param(format!("not a contact link: {e}")))?;
        let overlay = self.overlay().await?;
        let routes = self.core.routes();
        let reachable = |way: &Way| match way {
            Way::Direct(_) => routes.shows_address(),
            Way::Onion(_) => routes.tor().is_some(),
            _ => false,
        };
        let direct = link.ways().iter().any(reachable);
        let by_mail = !overlay.mailboxes().await.map_err(overlay_error)?.is_empty();
        if !direct && !by_mail && !routes.shows_address() && link.ways().iter().any(|way| matches!(way, Way::Direct(_)))
        {
            return Err(Error::unknown(
                "this contact is reached at IP addresses only, and this node uses Tor and shows none of its own: make a \
                 mailbox each (`millpond mailbox add`), or allow direct links (direct = true under [tor])",
            ));
        }
        if !direct && !by_mail {
            let message =
                "this contact is reached by mailboxes only: make one of your own first (`millpond mailbox add`)";
            return Err(Error::unknown(message));
        }
        // With mailboxes on both sides, or an onion service at the other, nothing need listen.
        if !by_mail && routes.shows_address() {
            overlay.listen().await.map_err(overlay_error)?;
        }
        overlay.accept(&link).await.map_err(overlay_error)?;
        Ok(data_encoding::HEXLOWER.encode(&link.fingerprint().0))
    }

    /// The user has compared the name of the node that answered, and says yes.
    ///
    /// # Errors
    /// When no such node waits.
    pub async fn confirm(&self, name: &str) -> Result<(), Error> {
        self.overlay().await?.confirm(&self.node_named(name)?).await.map_err(overlay_error)
    }

    /// Ends the link with a node.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn remove(&self, node: &NodeName) -> Result<(), Error> {
        self.overlay().await?.remove(node).await.map_err(overlay_error)
    }

    /// All contacts and open offers.
    ///
    /// # Errors
    /// As [`Links::overlay`].
    pub async fn contacts(&self) -> Result<Vec<Contact>, Error> {
        if self.running().is_none() && !self.any()? {
            return Ok(Vec::new());
        }
        let links = self.overlay().await?.links();
        let snapshot = self.core.snapshot()?;
        links.into_iter().map(|link| contact(snapshot.view(), link)).collect()
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

/// A host's key in hex, as it is shown.
pub fn host_name(mailbox: &MailboxInfo) -> String {
    data_encoding::HEXLOWER.encode(mailbox.host.as_bytes())
}

fn contact(view: View<'_>, link: LinkInfo) -> Result<Contact, Error> {
    let by_key = link.peer.as_ref().and_then(|peer| OwnedServerName::try_from(peer.as_str()).ok());
    let named = by_key.map(|key| view.get(millpond_store::tables::NAMED_NODES, &*key)).transpose()?.flatten();
    let server = named.map(|named| (named.is_proven(), named.server_name));
    Ok(Contact {
        name: link.peer,
        server,
        state: link.state,
        class: link.class,
        route: link.route,
        mail: link.mail,
        hidden: link.hidden,
    })
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
