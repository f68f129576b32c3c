//! The one task that owns all links: takes commands, incoming streams and finished work in turn, feeds the pure machines of `millpond_mailbox`, and
//! makes what they return durable before it leaves. It never waits for a peer or the node, only for the link store and, once, for its own ports.

mod command;
mod contact;
mod discovery;
mod held;
mod inbound;
mod intro;
mod links;
mod mail;
mod nearby;
mod outbound;
mod sleep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond_mailbox::discovery::DiscoveryKey;
use millpond_mailbox::key_document::KeyDocument;
use millpond_mailbox::link::StreamOwner;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::schedule::Mode;
use millpond_mailbox::secrets::{LinkId, S0};
use millpond_mailbox::stream::HintTable;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::Error;
use crate::event::{Arrival, Event, LinkInfo};
use crate::gate::{Gate, Hourly};
use crate::hello::RunId;
use crate::hosts::Hosts;
use crate::http::body::Budget;
use crate::limits::Limits;
use crate::me::Me;
use crate::relay::Relay;
use crate::routes::Routes;
use crate::store::LinkStore;
use crate::tasks::Tasks;
use crate::transport::tor::is_onion;
use crate::transport::{Address, Incoming, Transport, TransportError};
pub(crate) use command::{Command, Lease, Waiter};
use held::Held;
pub(crate) use held::StreamId;
pub use intro::OpenedIntro;
pub use mail::backed_up;
pub(crate) use mail::rows::is_onion as mailbox_is_onion;
use mail::{Mail, MailDone};

/// What a finished task brings back.
enum Done {
    Opening(inbound::Opening),
    Accepted(inbound::Accepted),
    Opened(links::Opened),
    Dialled(contact::Dialled),
    Mail(MailDone),
    Nothing,
}

/// Everything the driver is started with.
pub(crate) struct Parts {
    pub(crate) me: Me,
    pub(crate) limits: Arc<Limits>,
    pub(crate) host: Option<Relay>,
    pub(crate) store: Arc<dyn LinkStore>,
    pub(crate) transports: Vec<Arc<dyn Transport>>,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) published: watch::Sender<Arc<[LinkInfo]>>,
    pub(crate) commands: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: Tasks,
    pub(crate) hosts: Option<Hosts>,
    pub(crate) mode: Mode,
    pub(crate) accept_hosts: Option<bool>,
    pub(crate) routes: Arc<Routes>,
}

/// The state of the driver.
pub(crate) struct Driver {
    me: Me,
    limits: Arc<Limits>,
    host: Option<Relay>,
    store: Arc<dyn LinkStore>,
    transports: Vec<Arc<dyn Transport>>,
    arrivals: mpsc::Sender<Arrival>,
    events: broadcast::Sender<Event>,
    published: watch::Sender<Arc<[LinkInfo]>>,
    to_self: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    incoming: mpsc::Receiver<Incoming>,
    /// Keeps `incoming` open while no transport runs.
    incoming_sender: mpsc::Sender<Incoming>,
    closing: CancellationToken,
    links: BTreeMap<LinkId, Held>,
    hints: HintTable<StreamOwner>,
    /// The secret of the next contact link: with it we can be found already, because the network takes a minute to hear of one.
    spare: S0,
    /// Who may find us, as the transports know it.
    admitted: Vec<DiscoveryKey>,
    gate: Gate,
    attempts: Hourly<LinkId>,
    intro_attempts: Hourly<NodeName>,
    budget: Budget,
    tasks: Tasks,
    work: JoinSet<Done>,
    next_stream: u64,
    /// Nothing is dialled.
    asleep: bool,
    run: RunId,
    told: Vec<Address>,
    mail: Mail,
    /// Whether mailboxes are made at contacts' hosts unasked; none: where it shows nobody anything new.
    accept_hosts: Option<bool>,
    routes: Arc<Routes>,
}

impl Driver {
    /// Loads what is stored and starts the transports.
    pub(crate) async fn new(parts: Parts) -> Result<Self, Error> {
        let (incoming_sender, incoming) = mpsc::channel(parts.limits.unauthenticated_streams);
        let stored = held::load(&*parts.store).await?;
        for transport in &parts.transports {
            let started = transport.start(incoming_sender.clone());
            started.map_err(|source| Error::Transport { doing: "start a transport", source })?;
        }
        let limits = parts.limits;
        let mut driver = Self {
            me: parts.me,
            gate: Gate::new(limits.unauthenticated_streams, limits.unauthenticated_per_source),
            attempts: Hourly::new(limits.first_contacts_per_hour),
            intro_attempts: Hourly::new(limits.introductions_per_hour),
            budget: Budget::new(limits.body_budget),
            limits,
            host: parts.host,
            store: parts.store,
            transports: parts.transports,
            arrivals: parts.arrivals,
            events: parts.events,
            published: parts.published,
            to_self: parts.commands.0,
            commands: parts.commands.1,
            incoming,
            incoming_sender,
            closing: parts.closing,
            links: stored.links,
            hints: HintTable::new(clock::now().day()),
            spare: S0::generate(&mut clock::random()),
            admitted: Vec::new(),
            tasks: parts.tasks,
            work: JoinSet::new(),
            next_stream: 0,
            asleep: false,
            run: RunId::generate(&mut clock::random()),
            told: stored.told,
            mail: Mail::new(parts.hosts, parts.mode, stored.mail),
            accept_hosts: parts.accept_hosts,
            routes: parts.routes,
        };
        driver.note_onion();
        driver.rebuild_hints();
        driver.publish();
        Ok(driver)
    }

    /// Runs until the overlay closes, then ends every stream, task and transport.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.closing.clone();
        self.begin_sessions().await;
        self.resume_making();
        self.watch_nearby();
        self.watch_tor();
        loop {
            let wait = self.mail_wait();
            tokio::select! {
                () = closing.cancelled() => break,
                () = wait_for(wait) => self.mail_due().await,
                Some(command) = self.commands.recv() => self.on_command(command).await,
                Some(incoming) = self.incoming.recv() => self.on_incoming(incoming),
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.on_done(done).await,
                    Err(error) => tracing::error!(%error, "a task of the overlay failed"),
                },
                _ = tick.tick() => self.on_tick().await,
            }
        }
        self.end().await;
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Lease { to, reply } => self.on_lease(&to, reply),
            Command::Broken { to, stream } => self.on_broken(&to, stream),
            Command::Listen { reply } => respond(reply, self.listen().await),
            Command::ListenAgain { reply } => {
                let listened = if self.told.is_empty() { Ok(Vec::new()) } else { self.listen().await };
                respond(
                    reply,
                    match listened {
                        // Since then an onion route has come into use, and contacts hear of that.
                        Err(Error::Transport { source: TransportError::Hidden, .. }) => Ok(()),
                        other => other.map(drop),
                    },
                );
            }
            Command::Addresses { reply } => respond(reply, Ok(self.addresses())),
            Command::WayBack => {
                self.everything_due().await;
                self.emit(Event::WayBack);
            }
            Command::Suspend { reply } => {
                self.suspend();
                respond(reply, Ok(()));
            }
            Command::Resume { reply } => {
                self.resume().await;
                respond(reply, Ok(()));
            }
            Command::Offer { reply } => respond(reply, self.offer().await),
            Command::Accept { link, reply } => respond(reply, self.accept(&link).await),
            Command::Confirm { peer, reply } => respond(reply, self.confirm(&peer).await),
            Command::Remove { peer, reply } => respond(reply, self.remove(&peer).await),
            Command::Forget { id, reply } => respond(reply, self.drop_link(id).await),
            Command::Introduce { to, room_id, reply } => respond(reply, self.introduce(&to, &room_id).await),
            Command::OpenIntro { intro, reply } => respond(reply, self.open_intro(&intro)),
            Command::TakeIntro { carrier, opened, reply } => respond(reply, self.take_intro(&carrier, opened).await),
            Command::SetKeyDocument { document, reply } => respond(reply, self.set_key_document(document)),
            Command::KeyDocument { peer, reply } => respond(reply, self.key_document_of(&peer)),
            Command::Post { to, items, reply } => {
                self.post(&to, items).await;
                respond(reply, Ok(()));
            }
            Command::AddMailbox { link, leave, instead_of, reply } => {
                self.make_mailbox((link, leave), None, instead_of, Some(reply)).await;
            }
            Command::Mailboxes { reply } => respond(reply, Ok(self.mailboxes())),
            Command::Lodgings { reply } => respond(reply, Ok(self.lodgings())),
            Command::Lodge { with, reply } => self.lodge(&with, reply).await,
            Command::HostShown { link, body, reply } => respond(reply, self.take_host(link, &body).await),
            Command::LeaveHost { host, reply } => respond(reply, self.leave_host(host).await),
            Command::Nearby => self.on_nearby(),
            Command::Announced { mailbox } => self.on_announced(mailbox).await,
            Command::Stamps { link, body, reply } => {
                respond(reply, self.take_stamps(link, &body).await);
                self.publish();
            }
            Command::Hello { link, stream, hello, reply } => self.on_hello(link, stream, hello, reply).await,
            Command::Contact { link, stream, message } => self.on_contact(link, stream, message).await,
            Command::StreamEnded { link, stream } => self.on_stream_ended(link, stream),
        }
    }

    async fn on_done(&mut self, done: Done) {
        match done {
            Done::Opening(opening) => self.on_opening(opening),
            Done::Accepted(accepted) => self.on_accepted(accepted),
            Done::Opened(opened) => self.on_opened(opened).await,
            Done::Dialled(dialled) => self.on_dialled(dialled),
            Done::Mail(done) => self.on_mail(done).await,
            Done::Nothing => {}
        }
    }

    async fn on_tick(&mut self) {
        if self.hints.day() != clock::now().day() {
            self.rebuild_hints();
        }
        self.admit();
        self.close_idle();
        if !self.asleep {
            self.show_host_to_all();
            self.tend_contacts().await;
        }
    }

    async fn listen(&mut self) -> Result<Vec<Address>, Error> {
        let mut told = Vec::new();
        let mut failed = None;
        let shows = self.routes.shows_address();
        let allowed = |transport: &&Arc<dyn Transport>| shows || !transport.shows_address();
        for transport in self.transports.iter().filter(allowed) {
            let earlier = self.told.iter().filter(|address| transport.carries(address)).cloned().collect();
            match transport.listen(earlier).await {
                Ok(addresses) => told.extend(addresses),
                Err(source) => failed = Some(source),
            }
        }
        let doing = "listen for contacts";
        match failed {
            Some(source) if told.is_empty() => return Err(Error::Transport { doing, source }),
            None if told.is_empty() && !self.transports.is_empty() => {
                return Err(Error::Transport { doing, source: TransportError::Hidden });
            }
            Some(error) => tracing::warn!(%error, "one of the transports cannot listen"),
            None => {}
        }
        if told.iter().any(is_onion) {
            self.routes.note_onion();
        }
        if told != self.told {
            self.save(vec![held::told_record(&told)], "remember the listening addresses").await?;
            self.told = told.clone();
        }
        Ok(told)
    }

    fn set_key_document(&mut self, document: KeyDocument) -> Result<(), Error> {
        self.me.set_key_document(document)
    }

    /// Our addresses as they are now.
    fn addresses(&self) -> Vec<Address> {
        self.routes.told(self.transports.iter().flat_map(|transport| transport.local_addresses()).collect())
    }

    fn stream_id(&mut self) -> StreamId {
        self.next_stream += 1;
        StreamId(self.next_stream)
    }

    fn emit(&self, event: Event) {
        // Nobody listens for events: then nobody wants them, and `links` tells the state.
        let _ = self.events.send(event);
    }

    async fn end(mut self) {
        self.commands.close();
        self.mail.stop().await;
        self.links.values_mut().for_each(Held::close);
        self.work.shutdown().await;
        self.tasks.end(GRACE).await;
        for transport in &self.transports {
            transport.stop().await;
        }
        drop(self.incoming_sender);
    }
}

/// Until a moment, or for ever.
async fn wait_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The asker may have gone; what was done stays done.
fn respond<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}

/// How often idle streams, the day and expired offers are looked at.
const TICK: Duration = Duration::from_secs(15);
/// What open requests have to finish in when the overlay closes.
const GRACE: Duration = Duration::from_secs(1);
