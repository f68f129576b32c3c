//! Other homeservers: who is linked, what their keys are, and how to ask them something: over a link where there is one, by
//! the classic route where that is allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use millpond_mailbox::{name::NodeName, session::Offered};
use millpond_overlay::{Event, LinkState};
use millpond_store::{Topic, View, WriteTxn, job, rows::Peer, tables};
use ruma::{
    OwnedServerName, ServerName,
    api::{IncomingResponseExt, OutgoingRequest, path_builder::SinglePath},
};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::{
    Core, Error,
    classic::{AnyPdu, Classic, ClassicError, Outgoing, Question, http_request, transaction_request},
    keys as e2ee,
    links::{LinkClass, Links},
};

mod error;
mod keys;
mod names;
mod route;
mod sources;
mod standing;

pub use error::PeerError;

pub(crate) use self::{
    keys::held,
    names::{node_of, note_proof, server_of},
    route::{Route, route},
    standing::{Answered, take_answer},
};

/// Bytes of the answer to a join: the room's state with its auth chain.
const ROOM_MOST: u64 = 256 << 20;
/// Bytes of the answer to a transaction: a line for each PDU.
const RECEIPT_MOST: u64 = 1 << 20;

/// Files of other servers that are fetched at once.
const FILES_AT_ONCE: usize = 4;
/// Link-ups that a slow reader may be behind.
const LINK_UPS: usize = 64;

/// How often a node that is visible nearby tries those there again; newcomers the overlay tries at once.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long a question to a peer may take when a client waits for the answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Other homeservers. Cloning is cheap.
#[derive(Clone)]
pub struct Peers {
    core: Core,
    links: Links,
    classic: Classic,
    awaited: Arc<Mutex<BTreeSet<OwnedServerName>>>,
    files: Arc<Semaphore>,
    link_ups: broadcast::Sender<OwnedServerName>,
    mail_forgotten: broadcast::Sender<OwnedServerName>,
    looking: names::Looking,
    answers: broadcast::Sender<Answered>,
    /// Since when peers with mailboxes are taken to sleep.
    asleep: Arc<Mutex<BTreeMap<OwnedServerName, std::time::Instant>>>,
    /// Counts how often this device woke.
    woken: watch::Sender<u64>,
}

impl Peers {
    /// The service over links.
    pub fn new(core: Core, links: Links) -> Self {
        let classic = Classic::new(core.clone());
        let files = Arc::new(Semaphore::new(FILES_AT_ONCE));
        let (link_ups, mail_forgotten) = (broadcast::Sender::new(LINK_UPS), broadcast::Sender::new(LINK_UPS));
        let (awaited, looking) = (Arc::default(), names::Looking::default());
        let (answers, asleep) = (broadcast::Sender::new(LINK_UPS), Arc::default());
        let woken = watch::Sender::new(0);
        Self { core, links, classic, awaited, files, link_ups, mail_forgotten, looking, answers, asleep, woken }
    }

    /// Classic federation.
    pub fn classic(&self) -> &Classic {
        &self.classic
    }

    /// The servers with which a stream comes up, from now on.
    pub fn link_ups(&self) -> broadcast::Receiver<OwnedServerName> {
        self.link_ups.subscribe()
    }

    /// The servers whose mail is to be offered again, from now on.
    pub fn mail_forgotten(&self) -> broadcast::Receiver<OwnedServerName> {
        self.mail_forgotten.subscribe()
    }

    /// How many bytes of items can be offered to a server's mailboxes; none: it is not reached over any.
    pub fn mail_room(&self, server: &ServerName) -> Option<usize> {
        self.links.mail_of(server).map(|mail| mail.room)
    }

    /// Offers items to a server's mailboxes.
    pub async fn post(&self, server: &ServerName, items: Vec<Offered>) {
        self.links.post(server, items).await;
    }

    /// Asks a server something that carries no event. Inside a link there is no X-Matrix: the link names who asks
    /// (overlay.md section 7).
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn ask<R: Question>(
        &self,
        to: &ServerName,
        request: R,
        patience: Duration,
    ) -> Result<R::IncomingResponse, PeerError> {
        self.ask_for(to, request, patience, R::MOST).await
    }

    /// As [`Peers::ask`], for an answer that may have fewer bytes than others of its kind.
    pub(crate) async fn ask_for<R: Question>(
        &self,
        to: &ServerName,
        request: R,
        patience: Duration,
        most: u64,
    ) -> Result<R::IncomingResponse, PeerError> {
        let answer = match self.route(to)? {
            Route::Classic if R::CAN_WAIT && self.classic.is_down(to) => return Err(ClassicError::Down.into()),
            Route::Classic => {
                self.check_about(to, request.about())?;
                let outgoing = Outgoing::question(request).map_err(PeerError::Malformed)?;
                self.classic.send(to, outgoing, patience, most.min(R::MOST)).await?
            }
            Route::Link => {
                let request = http_request(request).map_err(PeerError::Malformed)?;
                match R::BY_MAIL {
                    // On the heap: every question holds the state of its asking, and few go this way.
                    true => Box::pin(self.ask_or_post(to, request, patience)).await?,
                    false => self.links.request(to, request, patience).await?,
                }
            }
        };
        parsed::<R>(answer)
    }

    /// Sends a server a request that brings an event.
    ///
    /// # Errors
    /// [`PeerError`]; an event of an overlay room goes over a link or not at all.
    pub async fn bring<R>(
        &self,
        to: &ServerName,
        pdu: AnyPdu,
        request: impl FnOnce(Box<RawValue>) -> R,
        patience: Duration,
    ) -> Result<R::IncomingResponse, PeerError>
    where
        R: OutgoingRequest<PathBuilder = SinglePath>,
    {
        let answer = match (self.route(to)?, pdu) {
            (Route::Link, pdu) => {
                let request = http_request(request(pdu.for_link())).map_err(PeerError::Malformed)?;
                self.links.request(to, request, patience).await?
            }
            (Route::Classic, AnyPdu::Classic(pdu)) => {
                let outgoing = Outgoing::bringing(pdu, request).map_err(PeerError::Malformed)?;
                self.classic.send(to, outgoing, patience, ROOM_MOST).await?
            }
            (Route::Classic, AnyPdu::Overlay(_)) => return Err(PeerError::NotForClassic),
        };
        parsed::<R>(answer)
    }

    /// Sends a server a transaction; `body` makes it of the events.
    ///
    /// # Errors
    /// As [`Peers::bring`].
    pub async fn transact(
        &self,
        to: &ServerName,
        txn_id: &str,
        pdus: Vec<AnyPdu>,
        body: impl FnOnce(Vec<Box<RawValue>>) -> Result<Vec<u8>, String>,
        patience: Duration,
    ) -> Result<(), PeerError> {
        let answer = match self.route(to)? {
            Route::Link => {
                let pdus = pdus.into_iter().map(AnyPdu::for_link).collect();
                let request = body(pdus).and_then(|body| transaction_request(txn_id, body));
                self.links.request(to, request.map_err(PeerError::Malformed)?, patience).await?
            }
            Route::Classic => {
                let classic = |pdu| match pdu {
                    AnyPdu::Classic(pdu) => Ok(pdu),
                    AnyPdu::Overlay(_) => Err(PeerError::NotForClassic),
                };
                let pdus = pdus.into_iter().map(classic).collect::<Result<Vec<_>, _>>()?;
                let outgoing = Outgoing::transaction(txn_id, pdus, body).map_err(PeerError::Malformed)?;
                self.classic.send(to, outgoing, patience, RECEIPT_MOST).await?
            }
        };
        accepted(answer).map(drop)
    }

    /// Sends a linked server a request that is already HTTP; an answer that is an error comes as [`PeerError::Refused`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub(crate) async fn send_over_link(
        &self,
        to: &ServerName,
        request: http::Request<Bytes>,
        patience: Duration,
    ) -> Result<http::Response<Bytes>, PeerError> {
        accepted(self.links.request(to, request, patience).await?)
    }

    /// Whether there is an established link to a server.
    ///
    /// # Errors
    /// Storage errors.
    pub fn is_linked(&self, server: &ServerName) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        Ok(is_linked(snapshot.view(), server)?)
    }

    /// Whether a stream with a server is open.
    pub fn is_connected(&self, server: &ServerName) -> bool {
        self.links.is_connected(server)
    }

    /// What the link with a server allows it, as the overlay knows.
    pub fn class_of(&self, server: &ServerName) -> Option<LinkClass> {
        self.links.class_of(server)
    }

    /// As [`Peers::is_linked`], asking the overlay too: it knows of a link a moment before our rows do, and shows it to the user.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn is_linked_by_now(&self, server: &ServerName) -> Result<bool, Error> {
        if self.is_linked(server)? {
            return Ok(true);
        }
        match self.links.established_with(server)? {
            Some(node) => {
                self.linked(&node).await?;
                self.is_linked(server)
            }
            None => Ok(false),
        }
    }

    /// Follows the links: keeps the rows of linked peers as the overlay has them, and wakes what waits for one. Ends with
    /// the overlay.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn follow(&self) -> Result<(), Error> {
        let mut events = self.links.events().await?;
        self.reconcile().await?;
        self.say_hello();
        let nearby = self.core.config().direct.visible_nearby;
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // Who was there already, and could not be reached then, is not announced again.
                _ = looks.tick(), if nearby => {
                    self.say_hello();
                    continue;
                }
            };
            match event {
                Ok(Event::Established { peer }) => self.linked(&peer).await?,
                Ok(Event::LinkUp { peer }) => {
                    self.look_again(&peer)?;
                    if let Some(server) = self.server_of(&peer)? {
                        // Nobody may be listening: then nothing waits for it.
                        let _ = self.link_ups.send(server);
                    }
                }
                Ok(Event::MailForgotten { peer }) => {
                    if let Some(server) = self.server_of(&peer)? {
                        let _ = self.mail_forgotten.send(server);
                    }
                }
                Ok(Event::KeyDocument { peer }) => self.take_link_document(&peer).await?,
                Ok(Event::Restored { peer }) => {
                    let write = move |(), txn: &mut WriteTxn<'_>| match server_of(txn.view(), &peer)? {
                        Some(server) => e2ee::all_due(txn, &server),
                        None => Ok(()),
                    };
                    self.core.write(job(|_| Ok::<_, Error>(()), write)).await?;
                }
                Ok(Event::WayBack) => self.wake(),
                // It has names: `millpond contact list` shows them.
                Ok(Event::Alarm { .. }) => tracing::warn!("a link raised an alarm: see `millpond contact list`"),
                Ok(
                    Event::Pending { .. } | Event::Mail { .. } | Event::LinkDown { .. } | Event::ContactFailed { .. },
                ) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => self.reconcile().await?,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Opens a stream to each contact: who was waiting for us to come back hears of it so.
    fn say_hello(&self) {
        let Some(overlay) = self.links.running() else { return };
        for link in overlay.links() {
            let Some(peer) = link.peer.filter(|_| link.state == LinkState::Established && link.route.is_none()) else {
                continue;
            };
            let overlay = overlay.clone();
            // Ends by its deadline; that somebody is not there is no news.
            tokio::spawn(async move { drop(overlay.connect(&peer, tokio::time::Instant::now() + PATIENCE).await) });
        }
    }

    fn server_of(&self, node: &NodeName) -> Result<Option<OwnedServerName>, Error> {
        Ok(server_of(self.core.snapshot()?.view(), node)?)
    }

    /// A link is established: its rows are made now, or when its peer's name in the DNS is proven.
    async fn linked(&self, node: &NodeName) -> Result<(), Error> {
        self.take_link_document(node).await?;
        self.known_by_link(node).await?;
        match self.name_at_linking(node)? {
            Some(server) => self.linked_as(node, server).await,
            None => Ok(()),
        }
    }

    /// Owes a linked server what its rooms bring from now on.
    async fn linked_as(&self, node: &NodeName, server: OwnedServerName) -> Result<(), Error> {
        if self.is_linked(&server)? || !self.links.is_established(node) {
            return Ok(());
        }
        self.set_linked(server.clone(), true).await?;
        if self.links.is_connected(&server) {
            // What came while it had no name was put off: it is asked for.
            let _ = self.link_ups.send(server);
        }
        Ok(())
    }

    /// Ends the link with a node and stops owing it anything new.
    ///
    /// # Errors
    /// When there is no such link; storage errors.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let node = self.links.node_named(name)?;
        self.links.remove(&node).await?;
        match self.server_of(&node)? {
            Some(server) => self.set_linked(server, false).await,
            None => Ok(()),
        }
    }

    /// Makes the rows say what the overlay says.
    async fn reconcile(&self) -> Result<(), Error> {
        let Some(overlay) = self.links.running() else { return Ok(()) };
        let established: Vec<_> =
            overlay.links().into_iter().filter(|link| link.state == LinkState::Established).collect();
        let mut linked = Vec::new();
        for node in established.into_iter().filter_map(|link| link.peer) {
            let before = self.server_of(&node)?;
            if before.as_ref().map(|server| self.is_linked(server)).transpose()? != Some(true) {
                self.linked(&node).await?;
            }
            linked.extend(self.server_of(&node)?);
        }
        let gone: Vec<_> = {
            let snapshot = self.core.snapshot()?;
            linked_servers(snapshot.view())?.into_iter().filter(|server| !linked.contains(server)).collect()
        };
        for server in gone {
            self.set_linked(server, false).await?;
        }
        Ok(())
    }

    async fn set_linked(&self, server: OwnedServerName, linked: bool) -> Result<(), Error> {
        let key = server.clone();
        let write = job(
            move |view| Ok::<_, Error>(view.get(tables::PEERS, &*server)?.unwrap_or_default()),
            move |peer: Peer, txn| {
                let linked_since = match peer.linked {
                    true => peer.linked_since,
                    false => txn.next_position().0,
                };
                txn.put(tables::PEERS, &*key, &Peer { linked, linked_since, ..peer })?;
                match linked {
                    true => e2ee::all_due(txn, &key)?,
                    false => {
                        e2ee::link_ended(txn, &key)?;
                        route::forget_overlay(txn, &key)?;
                        standing::forget_questions(txn, &key)?;
                    }
                }
                txn.touch(Topic::Outbox(key.clone()));
                txn.touch(Topic::Mail);
                Ok(())
            },
        );
        self.core.write(write).await?;
        Ok(())
    }
}

/// The answer as ruma's type.
fn parsed<R>(answer: http::Response<Bytes>) -> Result<R::IncomingResponse, PeerError>
where
    R: OutgoingRequest<PathBuilder = SinglePath>,
{
    let (head, body) = accepted(answer)?.into_parts();
    R::IncomingResponse::try_from_http_response(http::Response::from_parts(head, &body[..]))
        .map_err(|e| PeerError::Malformed(e.to_string()))
}

/// The answer, unless it is an error.
fn accepted(answer: http::Response<Bytes>) -> Result<http::Response<Bytes>, PeerError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    #[derive(serde::Deserialize)]
    struct Body {
        errcode: Option<String>,
        #[serde(default)]
        error: String,
    }
    let body: Option<Body> = serde_json::from_slice(answer.body()).ok();
    let (code, mut message) = body.map_or((None, String::new()), |body| (body.errcode, body.error));
    // A peer's text ends up before a user: bounded.
    message.truncate(message.floor_char_boundary(512));
    Err(PeerError::Refused { status: answer.status().as_u16(), code, message })
}

/// Whether a server is linked, by its row.
pub(crate) fn is_linked(view: View<'_>, server: &ServerName) -> Result<bool, millpond_store::Error> {
    Ok(view.get(tables::PEERS, server)?.is_some_and(|peer| peer.linked))
}

/// Since which position a server is linked, if it is.
pub(crate) fn linked_since(view: View<'_>, server: &ServerName) -> Result<Option<u64>, millpond_store::Error> {
    Ok(view.get(tables::PEERS, server)?.filter(|peer| peer.linked).map(|peer| peer.linked_since))
}

/// All linked servers.
pub(crate) fn linked_servers(view: View<'_>) -> Result<Vec<OwnedServerName>, millpond_store::Error> {
    let mut servers = Vec::new();
    for row in view.scan(tables::PEERS, ())? {
        let (server, peer) = row?;
        if peer.linked {
            servers.push(server);
        }
    }
    Ok(servers)
}
