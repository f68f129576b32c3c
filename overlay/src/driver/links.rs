//! Request streams to peers: lending them to requests, opening and closing them, and what the hello on each brings.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use millpond_mailbox::key_document::{KeyDocument, Verdict};
use millpond_mailbox::link::{Effect, Link, hint_table};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::way::Way;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::held::{self, Held, Kept, Outbound, StreamId};
use super::nearby::MAX_NEARBY;
use super::outbound::{Candidate, Reached, reach};
use super::{Command, Done, Driver, Lease, Waiter, respond};
use crate::clock;
use crate::error::{Error, RouteError};
use crate::event::{Alarm, Event, LinkInfo};
use crate::hello::{HELLO_PATH, Hello, MAX_ADDRESSES, MAX_HELLO};
use crate::http::body::Budget;
use crate::http::client::{Channel, Outcome, outbound};
use crate::limits::Limits;
use crate::secure::{Knock, KnockKind};
use crate::store::{Change, Record};
use crate::tasks::Tasks;
use crate::transport::tor::is_onion;
use crate::transport::{Address, Transport};

/// What became of opening a stream to a peer.
pub(super) struct Opened {
    link: LinkId,
    tried: Vec<Address>,
    result: Result<Ready, RouteError>,
}

/// A stream on which hellos were exchanged.
struct Ready {
    channel: Channel,
    stream: StreamId,
    route: &'static str,
    address: Address,
    close: CancellationToken,
    hello: Hello,
}

/// Everything that opening a stream takes.
struct Opener {
    link: LinkId,
    peer: NodeName,
    stream: StreamId,
    knock: Knock,
    candidates: Vec<Candidate>,
    hello: Hello,
    limits: Arc<Limits>,
    budget: Budget,
    tasks: Tasks,
    driver: tokio::sync::mpsc::Sender<Command>,
}

impl Driver {
    pub(super) fn on_lease(&mut self, to: &NodeName, reply: Waiter) {
        let Some(id) = held::best(&self.links, to).map(|held| held.link.id()) else {
            return respond(reply, Err(RouteError::NoLink));
        };
        if self.asleep {
            return respond(reply, Err(RouteError::Unreachable));
        }
        let Some(held) = self.links.get_mut(&id) else { return };
        match &mut held.outbound {
            Outbound::Open { channel, stream, .. } if !channel.is_closed() => {
                respond(reply, Ok(Lease { channel: channel.clone(), stream: *stream }));
            }
            Outbound::Opening(waiters) if waiters.len() >= MAX_WAITERS => respond(reply, Err(RouteError::Unreachable)),
            Outbound::Opening(waiters) => waiters.push(reply),
            Outbound::Open { .. } | Outbound::Closed => {
                let unheard = held.link.wants_first_contact(clock::now());
                let before = std::mem::replace(&mut held.outbound, Outbound::Opening(vec![reply]));
                if let Outbound::Open { close, .. } = before {
                    close.cancel();
                }
                // The peer does not answer requests before it has our confirmation.
                if unheard { self.contact_now(id) } else { self.open_stream(id) }
            }
        }
    }

    /// Dials the peer; those who wait are in `Outbound::Opening` already.
    pub(super) fn open_stream(&mut self, id: LinkId) {
        let stream = self.stream_id();
        let Some(held) = self.links.get(&id) else { return };
        let Some(peer) = held.link.established_peer().cloned() else { return };
        let opener = Opener {
            link: id,
            peer,
            stream,
            knock: Knock { link: held.link.clone(), kind: KnockKind::Requests },
            candidates: self.candidates(held, KnockKind::Requests),
            hello: self.hello(),
            limits: self.limits.clone(),
            budget: self.budget.clone(),
            tasks: self.tasks.clone(),
            driver: self.to_self.clone(),
        };
        self.work.spawn(async move { Done::Opened(opener.open().await) });
        if let Some(held) = self.links.get_mut(&id) {
            held.opening = true;
        }
    }

    pub(super) fn candidates(&self, held: &Held, kind: KnockKind) -> Vec<Candidate> {
        let mut addresses = held.addresses();
        addresses.extend(self.nearby());
        let addresses = self.routes.to_contact(addresses);
        let carrier = |address: &Address| -> Option<Arc<dyn Transport>> {
            self.transports.iter().find(|transport| transport.carries(address)).cloned()
        };
        let keys = self.keys_to(held, kind);
        let candidates = addresses.into_iter().filter_map(|address| {
            carrier(&address).map(|transport| Candidate { transport, address, keys: keys.clone() })
        });
        candidates.take(MAX_CANDIDATES).collect()
    }

    /// Whether an address has become known since the attempt began.
    fn has_another_way(&self, id: LinkId, tried: &[Address]) -> bool {
        let now = self.links.get(&id).map(|held| self.candidates(held, KnockKind::Requests)).unwrap_or_default();
        now.iter().any(|candidate| !tried.contains(&candidate.address))
    }

    fn hello(&self) -> Hello {
        Hello::new(self.run, &self.addresses(), self.me.key_document.as_bytes().to_vec())
    }

    pub(super) async fn on_opened(&mut self, opened: Opened) {
        let Opened { link: id, tried, result } = opened;
        let Some(held) = self.links.get_mut(&id) else { return };
        held.opening = false;
        let ready = match result {
            Ok(ready) => ready,
            Err(error) => {
                held.back = None;
                if !self.asleep && self.has_another_way(id, &tried) {
                    return self.open_stream(id);
                }
                let Some(held) = self.links.get_mut(&id) else { return };
                return held.fail_waiters(error);
            }
        };
        if matches!(held.outbound, Outbound::Open { .. }) {
            // One that was begun after it, when the peer or we were back, was faster.
            return ready.close.cancel();
        }
        if held.back.as_ref() != Some(&ready.address) {
            held.good = Some(ready.address);
        }
        let Ready { channel, stream, route, close, hello, .. } = ready;
        held.heard(hello.run);
        let open = Outbound::Open { channel: channel.clone(), stream, route, close };
        if let Outbound::Opening(waiters) = std::mem::replace(&mut held.outbound, open) {
            for waiter in waiters {
                respond(waiter, Ok(Lease { channel: channel.clone(), stream }));
            }
        }
        if let Err(error) = self.take_hello(id, &hello).await {
            tracing::warn!(%error, "what a peer said at the opening of a stream was not kept");
        }
        self.give_stamps(id);
        self.show_host(id);
        self.seen(id).await;
    }

    pub(super) async fn on_hello(&mut self, id: LinkId, stream: StreamId, hello: Hello, reply: oneshot::Sender<Hello>) {
        if let Err(error) = self.take_hello(id, &hello).await {
            // The reply is dropped, so that the peer tries again.
            tracing::warn!(%error, "what a peer said at the opening of a stream was not kept");
            return;
        }
        let ours = self.hello();
        let Some(held) = self.links.get_mut(&id) else { return };
        if held.heard(hello.run) {
            // A dial that was begun while the peer was dead may hang for a minute, though he is back.
            let hangs = held.opening;
            // The node sees the link go down and up, and tries again at once what it had sent into the void.
            self.publish();
            if hangs {
                self.open_stream(id);
            }
        }
        let Some(held) = self.links.get_mut(&id) else { return };
        let Some(inbound) = held.inbound.iter_mut().find(|inbound| inbound.stream == stream) else { return };
        inbound.unproven = None;
        held.back = inbound.back.clone().or(held.back.take());
        respond(reply, ours);
        let mut link = held.link.clone();
        let effects = link.note_request_stream();
        if let Err(error) = self.apply(id, link, effects).await {
            tracing::warn!(%error, "the end of a first contact was not kept");
        }
        self.contact_delivered(id);
        self.answer_with_stamps(id);
        self.seen(id).await;
    }

    /// A peer that came to us gets our stamps over a stream of ours, and hears of our host.
    pub(super) fn answer_with_stamps(&mut self, id: LinkId) {
        let untold = self.mail.is_carried(id) && self.is_untold(id);
        let wanted = self.lacks_stamps(id) || untold || self.would_show_host(id);
        if wanted && self.links.get(&id).is_some_and(|held| matches!(held.outbound, Outbound::Closed)) {
            if let Some(held) = self.links.get_mut(&id) {
                held.outbound = Outbound::Opening(Vec::new());
            }
            self.open_stream(id);
        }
    }

    /// Keeps the peer's addresses and key document, if they are new.
    async fn take_hello(&mut self, id: LinkId, hello: &Hello) -> Result<(), Error> {
        let Some(held) = self.links.get(&id) else { return Ok(()) };
        let (mut link, mut kept, mut event) = (held.link.clone(), held.kept.clone(), None);
        let mut ways: Vec<Way> = hello.addresses().iter().map(way_of).collect();
        let mut changed = false;
        if !ways.is_empty() {
            // The hosts of its mailboxes are told in another way, and stay.
            let hosts = link.peer_ways().iter().filter(|way| !is_address(way)).cloned();
            ways = hosts.chain(ways).take(millpond_mailbox::way::MAX_WAYS).collect();
            let effects = link.set_peer_ways(ways);
            changed = effects.map_err(|error| contact("take the peer's addresses", &error))?.contains(&Effect::Persist);
        }
        if let Some(peer) = link.established_peer().cloned()
            && let Ok(document) = KeyDocument::verify_for(&peer, &hello.key_document)
        {
            match document.against(held.key_document().as_ref()) {
                Verdict::Newer => {
                    kept.key_document = Some(document.as_bytes().to_vec());
                    changed = true;
                    event = Some(Event::KeyDocument { peer });
                }
                Verdict::Alarm => event = Some(Event::Alarm { alarm: Alarm::KeyDocument { peer } }),
                Verdict::Same | Verdict::Older | Verdict::OtherNode => {}
            }
        }
        if changed {
            self.keep(id, link, kept).await?;
        }
        if let Some(event) = event {
            self.emit(event);
        }
        Ok(())
    }

    /// The peer has proven to be there: note when, tell the node, drop worse links with the same peer.
    async fn seen(&mut self, id: LinkId) {
        let now = clock::now();
        let Some(held) = self.links.get_mut(&id) else { return };
        let stored = held.kept.last_seen;
        if stored.is_none_or(|seen| now >= seen.after(SEEN_EVERY)) {
            let (link, kept) = (held.link.clone(), Kept { last_seen: Some(now), ..held.kept.clone() });
            if let Err(error) = self.keep(id, link, kept).await {
                tracing::warn!(%error, "when a peer was last seen was not kept");
            }
        }
        self.drop_worse(id).await;
        self.publish();
    }

    async fn drop_worse(&mut self, id: LinkId) {
        let Some(held) = self.links.get(&id) else { return };
        let Some(peer) = held.link.established_peer() else { return };
        let worse = |other: &&Held| {
            other.link.established_peer() == Some(peer) && held::rank(&other.link) < held::rank(&held.link)
        };
        let worse: Vec<LinkId> = self.links.values().filter(worse).map(|held| held.link.id()).collect();
        for id in worse {
            if let Err(error) = self.drop_link(id).await {
                tracing::warn!(%error, "a link that a newer one replaces was not removed");
            }
        }
    }

    pub(super) fn on_broken(&mut self, to: &NodeName, stream: StreamId) {
        if let Some(id) = held::best(&self.links, to).map(|held| held.link.id()) {
            self.on_stream_ended(id, stream);
        }
    }

    pub(super) fn on_stream_ended(&mut self, id: LinkId, ended: StreamId) {
        let Some(held) = self.links.get_mut(&id) else { return };
        if matches!(&held.outbound, Outbound::Open { stream, .. } if *stream == ended) {
            held.close_outbound();
        }
        held.inbound.retain(|inbound| inbound.stream != ended);
        if held.contact.as_ref().is_some_and(|contact| contact.stream == ended) {
            held.contact = None;
            if held.link.wants_first_contact(clock::now()) {
                held.retry.later();
                held.fail_waiters(RouteError::Unreachable);
            }
        }
        self.publish();
    }

    pub(super) fn close_idle(&mut self) {
        let mut closed = false;
        for held in self.links.values_mut() {
            if matches!(&held.outbound, Outbound::Open { channel, .. } if channel.is_idle()) {
                held.close_outbound();
                closed = true;
            }
        }
        if closed {
            self.publish();
        }
    }

    /// Ends the links with a peer, whatever their state.
    pub(super) async fn remove(&mut self, peer: &NodeName) -> Result<(), Error> {
        let with = |held: &&Held| held.link.peer() == Some(peer);
        let ids: Vec<LinkId> = self.links.values().filter(with).map(|held| held.link.id()).collect();
        if ids.is_empty() {
            return Err(Error::Unknown { what: "link", peer: peer.clone() });
        }
        let mut removals: Vec<Change> = ids.iter().map(|id| Change::Remove(held::link_key(*id))).collect();
        ids.iter().for_each(|id| removals.extend(self.mail_removal(*id)));
        self.commit(removals, "remove the link").await?;
        ids.into_iter().for_each(|id| self.drop_held(id));
        Ok(())
    }

    /// Ends one link.
    pub(super) async fn drop_link(&mut self, id: LinkId) -> Result<(), Error> {
        let mut removals = vec![Change::Remove(held::link_key(id))];
        removals.extend(self.mail_removal(id));
        self.commit(removals, "remove the link").await?;
        self.drop_held(id);
        Ok(())
    }

    fn drop_held(&mut self, id: LinkId) {
        self.mail.forget(id);
        if let Some(mut held) = self.links.remove(&id) {
            held.fail_waiters(RouteError::NoLink);
            held.cut();
        }
        self.rebuild_hints();
        self.publish();
    }

    pub(super) fn key_document_of(&self, peer: &NodeName) -> Result<KeyDocument, Error> {
        let document = held::best(&self.links, peer).and_then(Held::key_document);
        document.ok_or_else(|| Error::Unknown { what: "link", peer: peer.clone() })
    }

    /// Makes a changed link durable, then takes it over.
    pub(super) async fn keep(&mut self, id: LinkId, link: Link, kept: Kept) -> Result<(), Error> {
        self.save(vec![Held::record(&link, &kept)], "store the link").await?;
        if let Some(held) = self.links.get_mut(&id) {
            (held.link, held.kept) = (link, kept);
        }
        Ok(())
    }

    pub(super) async fn save(&self, records: Vec<Record>, doing: &'static str) -> Result<(), Error> {
        self.commit(records.into_iter().map(Change::Put).collect(), doing).await
    }

    pub(super) async fn commit(&self, changes: Vec<Change>, doing: &'static str) -> Result<(), Error> {
        self.store.commit(changes).await.map_err(|source| Error::Store { doing, source })
    }

    pub(super) fn rebuild_hints(&mut self) {
        self.hints = hint_table(self.links.values().map(|held| &held.link), clock::now());
        self.admit();
    }

    /// Shows the present state of all links, and tells who came and went.
    pub(super) fn publish(&mut self) {
        let hidden = |held: &Held| {
            let known = held.addresses();
            !known.is_empty() && self.routes.to_contact(known).is_empty()
        };
        let info = |held: &Held| LinkInfo { mail: self.mail.info(held.link.id()), hidden: hidden(held), ..held.info() };
        let now: Arc<[LinkInfo]> = self.links.values().map(info).collect();
        let before = self.published.send_replace(now.clone());
        let up = |links: &[LinkInfo]| -> Vec<NodeName> {
            links.iter().filter(|link| link.is_connected()).filter_map(|link| link.peer.clone()).collect()
        };
        let (before, now) = (up(&before), up(&now));
        now.iter()
            .filter(|peer| !before.contains(peer))
            .for_each(|peer| self.emit(Event::LinkUp { peer: peer.clone() }));
        before
            .iter()
            .filter(|peer| !now.contains(peer))
            .for_each(|peer| self.emit(Event::LinkDown { peer: peer.clone() }));
    }
}

impl Opener {
    async fn open(self) -> Opened {
        let link = self.link;
        let tried = self.candidates.iter().map(|candidate| candidate.address.clone()).collect();
        Opened { link, tried, result: self.try_open().await }
    }

    async fn try_open(self) -> Result<Ready, RouteError> {
        let Reached { stream: io, route, address } = reach(self.candidates, self.knock, self.limits.clone()).await?;
        let opened = Channel::open(Box::new(io), self.limits.clone(), self.budget, self.tasks.clone());
        let (channel, driven) = timeout(self.limits.handshake, opened).await.map_err(|_| RouteError::Unreachable)??;
        let close = CancellationToken::new();
        let (closed, driver, link, stream) = (close.clone(), self.driver, self.link, self.stream);
        self.tasks.spawn(async move {
            closed.run_until_cancelled(driven).await;
            // The driver is gone only when everything ends.
            let _ = driver.send(Command::StreamEnded { link, stream }).await;
        });
        let guard = close.clone().drop_guard();
        let said = say_hello(channel.clone(), &self.peer, &self.hello);
        let hello = timeout(self.limits.handshake, said).await.map_err(|_| RouteError::Unreachable)??;
        let _ = guard.disarm();
        Ok(Ready { channel, stream, route, address, close, hello })
    }
}

async fn say_hello(channel: Channel, peer: &NodeName, hello: &Hello) -> Result<Hello, RouteError> {
    let mut request = Request::new(Bytes::from(hello.to_bytes()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = HELLO_PATH.parse().map_err(|_| RouteError::Closed)?;
    let response = match channel.send(outbound(peer, request)?).await {
        Outcome::Answered(response) => response,
        Outcome::Unsent(_) => return Err(RouteError::Refused),
        Outcome::Failed(error) => return Err(error),
    };
    if response.status() != StatusCode::OK || response.body().len() > MAX_HELLO {
        return Err(RouteError::Refused);
    }
    Hello::parse(response.body()).map_err(|_| RouteError::Refused)
}

pub(super) fn way_of(address: &Address) -> Way {
    let bytes = address.as_bytes().to_vec();
    if is_onion(address) { Way::Onion(bytes) } else { Way::Direct(bytes) }
}

/// Whether a way is the peer's own address, and no host's.
pub(super) fn is_address(way: &Way) -> bool {
    matches!(way, Way::Direct(_) | Way::Onion(_))
}

pub(super) fn contact(doing: &'static str, why: &dyn std::fmt::Display) -> Error {
    Error::Contact { doing, why: why.to_string() }
}

/// Requests that may wait for one stream.
const MAX_WAITERS: usize = 256;
/// The way back, the one that worked last, what the peer told, and those nearby.
const MAX_CANDIDATES: usize = 2 + MAX_ADDRESSES + MAX_NEARBY;
/// How fine "last seen" is stored; a commit for every stream would wear out a phone's flash.
const SEEN_EVERY: std::time::Duration = std::time::Duration::from_secs(600);
