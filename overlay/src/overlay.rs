//! The handle that the node holds: asks the driver, waits for the answer. It owns no state of a link itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use millpond_mailbox::contact_link::ContactLink;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::introduction::Introduction;
use millpond_mailbox::key_document::KeyDocument;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::schedule::Mode;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::Offered;
use millpond_mailbox::token::Grant;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::driver::{Command, Driver, Lease, OpenedIntro, Parts, StreamId};
use crate::error::{Error, RouteError};
use crate::event::Arrival;
use crate::event::{Event, LinkInfo, LodgingInfo, MailboxInfo};
use crate::host_client::HostClient;
use crate::hosts::Hosts;
use crate::http::client::{Outcome, outbound};
use crate::limits::Limits;
use crate::me::Me;
use crate::relay::Relay;
use crate::routes::Routes;
use crate::store::LinkStore;
use crate::tasks::Tasks;
use crate::transport::{Address, Transport};

/// A running overlay. Clones are handles to the same one; `shutdown` ends it for all.
#[derive(Clone)]
pub struct Overlay {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    links: watch::Receiver<Arc<[LinkInfo]>>,
    limits: Arc<Limits>,
    closing: CancellationToken,
    tasks: Tasks,
    driver: Mutex<Option<JoinHandle<()>>>,
}

/// Loads the links and starts the transports; nothing listens yet. Requests of peers come out of the receiver. Not to be dropped half-way.
///
/// # Errors
/// When the stored links cannot be read, or a transport cannot be set up.
pub async fn start(
    config: Config,
    links: Arc<dyn LinkStore>,
    transports: Vec<Box<dyn Transport>>,
) -> Result<(Overlay, mpsc::Receiver<Arrival>), Error> {
    let limits = Arc::new(config.limits);
    let (commands, command_receiver) = mpsc::channel(COMMANDS);
    let (arrivals, arrival_receiver) = mpsc::channel(limits.arrivals);
    let (events, _) = broadcast::channel(EVENTS);
    let (published, links_seen) = watch::channel(Arc::from([]));
    let (closing, tasks) = (CancellationToken::new(), Tasks::default());
    let driver = Driver::new(Parts {
        me: config.me,
        limits: limits.clone(),
        host: config.host,
        store: links,
        transports: transports.into_iter().map(Arc::from).collect(),
        arrivals,
        events: events.clone(),
        published,
        commands: (commands.clone(), command_receiver),
        closing: closing.clone(),
        tasks: tasks.clone(),
        hosts: config.hosts.map(Hosts::new),
        mode: config.mode,
        accept_hosts: config.accept_hosts,
        routes: config.routes,
    })
    .await?;
    let driver = Mutex::new(Some(tokio::spawn(driver.run())));
    let inner = Inner { commands, events, links: links_seen, limits, closing, tasks, driver };
    Ok((Overlay { inner: Arc::new(inner) }, arrival_receiver))
}

/// The last handle is gone: nobody can ask for anything any more, so everything ends as in `shutdown`, unwaited for.
impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// What an overlay is started with.
pub struct Config {
    /// Who this node is.
    pub me: Me,
    /// What it lets peers do.
    pub limits: Limits,
    /// A mailbox host that takes the streams which are meant for it. Who started it also stops it.
    pub host: Option<Relay>,
    /// The way to mailbox hosts; none: there are no mailboxes.
    pub hosts: Option<HostClient>,
    /// How it reaches its hosts.
    pub mode: Mode,
    /// Whether mailboxes are made at contacts' hosts unasked; none: only where that shows nobody anything new.
    pub accept_hosts: Option<bool>,
    /// Which addresses it may dial and tell.
    pub routes: Arc<Routes>,
}

impl Overlay {
    /// Sends a request to a linked node and waits for the whole response, at most until `deadline`. A stream is opened if none is; after a broken one
    /// the request goes over a new one only if it certainly never left. Dropping the future cancels the request, as far as it has not been acted on.
    ///
    /// # Errors
    /// See `RouteError`; `is_retriable` tells which are worth another attempt later.
    pub async fn request(
        &self,
        to: &NodeName,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Result<Response<Bytes>, RouteError> {
        let limit = self.inner.limits.max_body;
        if request.body().len() > limit {
            return Err(RouteError::TooLarge { what: "request", limit });
        }
        let message = outbound(to, request)?;
        timeout_at(deadline, self.send(to, message)).await.unwrap_or(Err(RouteError::Timeout))
    }

    async fn send(&self, to: &NodeName, mut message: Request<Full<Bytes>>) -> Result<Response<Bytes>, RouteError> {
        for _ in 0..STREAMS_TRIED {
            let lease = self.lease(to).await?;
            match lease.channel.send(message).await {
                Outcome::Answered(response) => return Ok(response),
                Outcome::Failed(error) => return Err(error),
                Outcome::Unsent(unsent) => message = unsent,
            }
            self.broken(to, lease.stream).await?;
        }
        Err(RouteError::Closed)
    }

    /// Opens a stream to a linked node if none is open, without sending anything: to see who is there. Dropping the future does not stop the attempt.
    ///
    /// # Errors
    /// As `request`.
    pub async fn connect(&self, to: &NodeName, deadline: Instant) -> Result<(), RouteError> {
        timeout_at(deadline, self.lease(to)).await.unwrap_or(Err(RouteError::Timeout)).map(drop)
    }

    /// Whether a stream to or from the node is open.
    pub fn connected(&self, peer: &NodeName) -> bool {
        self.inner.links.borrow().iter().any(|link| link.peer.as_ref() == Some(peer) && link.is_connected())
    }

    /// Every link, pending ones too.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.inner.links.borrow().to_vec()
    }

    /// The links as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<[LinkInfo]>> {
        self.inner.links.clone()
    }

    /// Events from now on. A reader that falls behind gets `Lagged` and asks `links`.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Opens the ports, if they are not open yet, and returns the addresses to tell contacts. Before this call nothing listens.
    ///
    /// # Errors
    /// When no transport can listen.
    pub async fn listen(&self) -> Result<Vec<Address>, Error> {
        self.ask(|reply| Command::Listen { reply }).await
    }

    /// As `listen`, if this node has listened before: what contacts were told stays true.
    ///
    /// # Errors
    /// As `listen`.
    pub async fn listen_again(&self) -> Result<(), Error> {
        self.ask(|reply| Command::ListenAgain { reply }).await
    }

    /// Where this node listens now.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn addresses(&self) -> Result<Vec<Address>, Error> {
        self.ask(|reply| Command::Addresses { reply }).await
    }

    /// The device goes to sleep, or the program to where it may not work: what is open closes, and nothing is dialled, polled or sent until `resume`. A
    /// request meanwhile fails as to a peer that is not there.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn suspend(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Suspend { reply }).await
    }

    /// The device is awake: mailboxes are read at once, and everything goes over new streams.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn resume(&self) -> Result<(), Error> {
        self.ask(|reply| Command::Resume { reply }).await
    }

    /// Makes a contact link with this node's present addresses, listening first if nothing listens yet. Whoever gets the link can answer it once; the
    /// answer comes as `Event::Pending`.
    ///
    /// # Errors
    /// When no transport can listen, too many offers are open, or the store fails.
    pub async fn offer(&self) -> Result<ContactLink, Error> {
        self.ask(|reply| Command::Offer { reply }).await
    }

    /// Takes a contact link that the user pasted: durable on return, and its maker is being dialled; until he is reached the overlay tries again by
    /// itself. When he has confirmed, `Event::Established` comes.
    ///
    /// # Errors
    /// When the link has expired or is our own, too many are pending, or the store fails.
    pub async fn accept(&self, link: &ContactLink) -> Result<LinkId, Error> {
        self.ask(|reply| Command::Accept { link: link.clone(), reply }).await
    }

    /// The user has compared the name of the node that answered our contact link, and says yes.
    ///
    /// # Errors
    /// When no such node waits, or the store fails.
    pub async fn confirm(&self, peer: &NodeName) -> Result<(), Error> {
        self.ask(|reply| Command::Confirm { peer: peer.clone(), reply }).await
    }

    /// Offers items to the mailboxes of a linked node. Each is named by a handle; `LinkStore::commit_delivery` says which the peer has staged. What was
    /// offered before is known. Dropping the future does not take it back.
    ///
    /// # Errors
    /// When the overlay has stopped. Without a session with that node nothing happens.
    pub async fn post(&self, to: &NodeName, items: Vec<Offered>) -> Result<(), Error> {
        self.ask(|reply| Command::Post { to: to.clone(), items, reply }).await
    }

    /// Makes a mailbox at a host, with the leave of its operator, and tells contacts of it. Not to be dropped half-way: the leave is good once.
    ///
    /// # Errors
    /// When the host cannot be reached or refuses, or there are two mailboxes already.
    pub async fn add_mailbox(&self, link: HostLink, leave: Grant) -> Result<(), Error> {
        self.ask(|reply| Command::AddMailbox { link, leave, instead_of: None, reply }).await
    }

    /// As [`Overlay::add_mailbox`], and takes those at another host out of use when it is made: not before, for without a mailbox nothing
    /// arrives, and contact links show addresses.
    ///
    /// # Errors
    /// As [`Overlay::add_mailbox`]; when the store fails.
    pub async fn move_mailbox(&self, from: HostKey, link: HostLink, leave: Grant) -> Result<(), Error> {
        let to = link.way.key();
        self.ask(|reply| Command::AddMailbox { link, leave, instead_of: Some(from), reply }).await?;
        if to != from { self.leave_host(from).await } else { Ok(()) }
    }

    /// Our mailboxes.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn mailboxes(&self) -> Result<Vec<MailboxInfo>, Error> {
        self.ask(|reply| Command::Mailboxes { reply }).await
    }

    /// The mailbox hosts that contacts have shown: each would keep mailboxes for this node.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn lodgings(&self) -> Result<Vec<LodgingInfo>, Error> {
        self.ask(|reply| Command::Lodgings { reply }).await
    }

    /// Makes a mailbox at the host of a contact, with the leave that came with it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// When the contact has shown none; as `add_mailbox`.
    pub async fn lodge(&self, with: &NodeName) -> Result<(), Error> {
        self.ask(|reply| Command::Lodge { with: with.clone(), reply }).await
    }

    /// Takes the mailboxes at a host out of use; they are read until they close.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave_host(&self, host: HostKey) -> Result<(), Error> {
        self.ask(|reply| Command::LeaveHost { host, reply }).await
    }

    /// Ends a link by its id, also one whose peer is not known yet: an offer, or a contact that was never reached.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, id: LinkId) -> Result<(), Error> {
        self.ask(|reply| Command::Forget { id, reply }).await
    }

    /// The newest key document that a linked peer has shown.
    ///
    /// # Errors
    /// When there is no established link to it.
    pub async fn key_document(&self, peer: &NodeName) -> Result<KeyDocument, Error> {
        self.ask(|reply| Command::KeyDocument { peer: peer.clone(), reply }).await
    }

    /// Shows this document to contacts from now on.
    ///
    /// # Errors
    /// When it is of another node, or not of a higher generation.
    pub async fn set_key_document(&self, document: KeyDocument) -> Result<(), Error> {
        self.ask(|reply| Command::SetKeyDocument { document, reply }).await
    }

    /// Offers a link to a member of a shared room, through a member that both are linked to. The answer arrives by the carrier, or directly; then
    /// `Event::Established` comes. Calling it again repeats the same offer. The node checks the membership; dropping the future may leave the offer
    /// unsent, but stored.
    ///
    /// # Errors
    /// When there is a link already, the member publishes no intro key, or the carrier did not take it.
    pub async fn introduce(
        &self,
        carrier: &NodeName,
        to: &KeyDocument,
        room_id: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        let (to, room_id) = (to.clone(), room_id.to_owned());
        let intro = self.ask(|reply| Command::Introduce { to, room_id, reply }).await?;
        self.carry(carrier, &intro, deadline).await
    }

    /// Sends an introduction on to the node that it is for, or to one that will carry it. What a carrier does, once it has checked that sender and
    /// target are joined to the room.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses it.
    pub async fn carry(&self, to: &NodeName, intro: &Introduction, deadline: Instant) -> Result<(), Error> {
        let mut request = Request::new(Bytes::from(intro.to_bytes()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(INTRO_PATH);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cbor"));
        let response = self.request(to, request, deadline).await.map_err(|source| Error::Unreachable { source })?;
        if response.status().is_success() {
            return Ok(());
        }
        let why = format!("the node answered {}", response.status());
        Err(Error::Contact { doing: "have the introduction carried", why })
    }

    /// Opens an introduction that is for this node, so that the node can check who it is and whether both are joined to the room.
    ///
    /// # Errors
    /// When it is not for us, or does not open.
    pub async fn open_introduction(&self, intro: Introduction) -> Result<OpenedIntro, Error> {
        self.ask(|reply| Command::OpenIntro { intro, reply }).await
    }

    /// Goes on with an opened introduction after the node has agreed. What is to be said back goes to `carrier` in the background.
    ///
    /// # Errors
    /// When its messages do not hold, too many came by this carrier, or the store fails.
    pub async fn take_introduction(&self, carrier: &NodeName, opened: OpenedIntro) -> Result<(), Error> {
        let asked = carrier.clone();
        let back = self.ask(|reply| Command::TakeIntro { carrier: asked, opened, reply }).await?;
        if back.is_empty() {
            return Ok(());
        }
        let (overlay, carrier) = (self.clone(), carrier.clone());
        self.inner.tasks.spawn(async move {
            for intro in back {
                let deadline = Instant::now() + INTRO_DEADLINE;
                if let Err(error) = overlay.carry(&carrier, &intro, deadline).await {
                    return tracing::info!(%error, "the answer to an introduction was not carried; it is repeated when the offer is");
                }
            }
        });
        Ok(())
    }

    /// Ends a link: its streams close, later ones are refused. The peer is not told. Not undone by dropping the future.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn remove(&self, peer: &NodeName) -> Result<(), Error> {
        self.ask(|reply| Command::Remove { peer: peer.clone(), reply }).await
    }

    /// Stops: streams finish what they are at for a moment, then everything ends, within two seconds. Dropping the future leaves the rest to the
    /// runtime's end.
    pub async fn shutdown(&self) {
        let driver = self.inner.driver.lock().take();
        self.inner.closing.cancel();
        if let Some(driver) = driver
            && timeout(SHUTDOWN, driver).await.is_err()
        {
            tracing::warn!("the overlay did not stop in time");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.inner.commands.send(command(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    async fn lease(&self, to: &NodeName) -> Result<Lease, RouteError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Lease { to: to.clone(), reply };
        self.inner.commands.send(command).await.map_err(|_| RouteError::Closed)?;
        answer.await.map_err(|_| RouteError::Closed)?
    }

    async fn broken(&self, to: &NodeName, stream: StreamId) -> Result<(), RouteError> {
        let command = Command::Broken { to: to.clone(), stream };
        self.inner.commands.send(command).await.map_err(|_| RouteError::Closed)
    }
}

/// A stream may fall idle just as it is used; more than this is no coincidence.
const STREAMS_TRIED: usize = 3;
const SHUTDOWN: Duration = Duration::from_secs(2);
/// For one message by a carrier, who has to reach the other end himself.
const INTRO_DEADLINE: Duration = Duration::from_secs(60);
/// Where introductions are posted, CBOR of `millpond_mailbox::introduction::Introduction`: to a carrier, and by the carrier to whom it is for. Answered
/// by the node, because it knows who is joined to the room.
pub const INTRO_PATH: &str = "/_millpond/overlay/v1/intro";
/// Events that a slow reader may be behind, and commands that may wait for the driver.
const EVENTS: usize = 256;
const COMMANDS: usize = 256;
