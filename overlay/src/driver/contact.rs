//! First contact: offers, the streams on which it goes on, and doing what the machine of a link returns. The machine makes every message once and keeps
//! it, so all of this can be cut off anywhere and tried again.

use bytes::BytesMut;
use millpond_mailbox::contact_link::ContactLink;
use millpond_mailbox::link::{Effect, Link, Own, Phase};
use millpond_mailbox::message::Message;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::rand_core::Rng;
use millpond_mailbox::secrets::{LinkId, S0};
use millpond_mailbox::way::Way;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::held::{ContactStream, Held, Kept, StreamId};
use super::links::{contact, way_of};
use super::outbound::{Reached, reach};
use super::{Command, Done, Driver};
use crate::clock;
use crate::error::{Error, RouteError};
use crate::event::{Alarm, Event};
use crate::secure::{Knock, KnockKind, SecureStream};

/// What became of dialling for first contact.
pub(super) struct Dialled {
    link: LinkId,
    result: Result<Reached, RouteError>,
}

impl Driver {
    /// Makes a contact link with our present addresses; listens first, because there are none before.
    pub(super) async fn offer(&mut self) -> Result<ContactLink, Error> {
        let limit = self.limits.open_offers;
        if self.links.values().filter(|held| held.link.phase() == Phase::Offered).count() >= limit {
            return Err(Error::Full { what: "open contact links; forget one, or wait until one expires", limit });
        }
        let intro = self.intro();
        // With mailboxes nothing need listen; who listens anyway is found directly as well.
        if self.addresses().is_empty() && intro.ways.is_empty() {
            self.listen().await?;
        }
        let mut ways = intro.ways.clone();
        ways.extend(self.ways());
        ways.truncate(MAX_WAYS);
        let s0 = std::mem::replace(&mut self.spare, S0::generate(&mut clock::random()));
        let (link, shown) =
            Link::offer_under(s0, &self.own_with(&ways, &intro.stamps), clock::now(), &mut clock::random())
                .map_err(|error| contact("make a contact link", &error))?;
        self.offer_over_hosts(link, intro).await?;
        Ok(shown)
    }

    /// Takes a contact link that the user pasted, and begins to dial. The same link again begins again.
    pub(super) async fn accept(&mut self, shown: &ContactLink) -> Result<LinkId, Error> {
        let id = shown.s0().link_id();
        if !self.links.contains_key(&id) {
            let limit = self.limits.pending_links;
            let pending = |held: &&Held| matches!(held.link.phase(), Phase::Added | Phase::Pending { .. });
            if self.links.values().filter(pending).count() >= limit {
                return Err(Error::Full { what: "pending contacts; remove one", limit });
            }
            let link = Link::add(shown, self.me.name().identity_key(), clock::now())
                .map_err(|error| contact("add the contact", &error))?;
            let kept = Kept { claim: Some(claim()), ..Kept::default() };
            self.save(vec![Held::record(&link, &kept)], "store the new link").await?;
            self.links.insert(id, Held { kept, ..Held::new(link) });
            self.rebuild_hints();
            self.publish();
        }
        self.contact_now(id);
        Ok(id)
    }

    /// The user says yes to the node that answered.
    pub(super) async fn confirm(&mut self, peer: &NodeName) -> Result<(), Error> {
        let waiting = |held: &&Held| {
            held.link.peer() == Some(peer) && held.link.phase() == Phase::Pending { by_us: false, by_them: true }
        };
        let unknown = || Error::Unknown { what: "contact to confirm", peer: peer.clone() };
        let held = self.links.values().find(waiting).ok_or_else(unknown)?;
        let (id, mut link) = (held.link.id(), held.link.clone());
        let effects = link.confirm().map_err(|error| contact("confirm the contact", &error))?;
        self.apply(id, link, effects).await
    }

    pub(super) async fn insert(&mut self, link: Link) -> Result<(), Error> {
        self.save(vec![Held::record(&link, &Kept::default())], "store the new link").await?;
        self.links.insert(link.id(), Held::new(link));
        self.rebuild_hints();
        self.publish();
        Ok(())
    }

    pub(super) fn ways(&self) -> Vec<Way> {
        self.addresses().iter().take(MAX_WAYS).map(way_of).collect()
    }

    pub(super) fn own<'a>(&'a self, ways: &'a [Way]) -> Own<'a> {
        self.own_with(ways, &[])
    }

    /// As `own`, with stamps for our mailboxes.
    pub(super) fn own_with<'a>(&'a self, ways: &'a [Way], stamps: &'a [Vec<u8>]) -> Own<'a> {
        Own { identity: &self.me.identity, key_document: &self.me.key_document, ways, stamps }
    }

    /// Dials the peer for first contact, unless a stream for it is open or being dialled.
    pub(super) fn contact_now(&mut self, id: LinkId) {
        let Some(held) = self.links.get(&id) else { return };
        if self.asleep || held.contact.is_some() || held.retry.dialling || !held.link.wants_first_contact(clock::now())
        {
            return;
        }
        let knock = Knock { link: held.link.clone(), kind: KnockKind::FirstContact };
        let (candidates, limits) = (self.candidates(held, KnockKind::FirstContact), self.limits.clone());
        if candidates.is_empty() {
            if let Some(held) = self.links.get_mut(&id) {
                held.retry.later();
                held.fail_waiters(RouteError::Unreachable);
            }
            return self.take_box_now(id);
        }
        self.work
            .spawn(async move { Done::Dialled(Dialled { link: id, result: reach(candidates, knock, limits).await }) });
        if let Some(held) = self.links.get_mut(&id) {
            held.retry.dialling = true;
        }
    }

    pub(super) fn on_dialled(&mut self, dialled: Dialled) {
        let Some(held) = self.links.get_mut(&dialled.link) else { return };
        match dialled.result {
            Ok(Reached { stream, address, .. }) => {
                held.retry.dialling = false;
                held.good = Some(address);
                self.converse(dialled.link, stream, true);
            }
            Err(error) => {
                held.back = None;
                held.retry.later();
                held.fail_waiters(error.clone());
                self.emit(Event::ContactFailed { id: dialled.link, error });
                self.take_box_now(dialled.link);
            }
        }
    }

    /// Carries first contact on over a stream; an earlier one is given up.
    pub(super) fn converse(&mut self, id: LinkId, stream: SecureStream, dialled: bool) {
        let stream_id = self.stream_id();
        let Some(held) = self.links.get_mut(&id) else { return };
        let (messages, queue) = mpsc::channel(MESSAGES);
        for message in held.link.opening(dialled) {
            // Two at most, into an empty queue of eight.
            let _ = messages.try_send(message);
        }
        let close = CancellationToken::new();
        if let Some(earlier) = held.contact.replace(ContactStream { stream: stream_id, messages, close: close.clone() })
        {
            earlier.close.cancel();
        }
        let (driver, within) = (self.to_self.clone(), self.limits.contact);
        self.tasks.spawn(async move {
            let talk = Talk { link: id, id: stream_id, stream, queue, driver: driver.clone() };
            // Either end may close it, and so does time: nothing is lost by that.
            let _ = timeout(within, close.run_until_cancelled(talk.run())).await;
            let _ = driver.send(Command::StreamEnded { link: id, stream: stream_id }).await;
        });
    }

    pub(super) async fn on_contact(&mut self, id: LinkId, stream: StreamId, message: Message) {
        // The error may name a node.
        if self.take_message(id, &message).await.is_err() {
            tracing::info!("a first contact did not go on");
            self.close_contact(id, stream);
        }
    }

    pub(super) async fn take_message(&mut self, id: LinkId, message: &Message) -> Result<(), Error> {
        let doing = "go on with a first contact";
        let Some(held) = self.links.get(&id) else { return Ok(()) };
        let (ways, mut link) = (self.ways(), held.link.clone());
        let effects = link
            .handle(&self.own(&ways), message, clock::now(), &mut clock::random())
            .map_err(|error| contact(doing, &error))?;
        self.apply(id, link, effects).await?;
        self.contact_delivered(id);
        Ok(())
    }

    fn close_contact(&mut self, id: LinkId, stream: StreamId) {
        if let Some(held) = self.links.get_mut(&id)
            && let Some(open) = held.contact.take_if(|contact| contact.stream == stream)
        {
            open.close.cancel();
            held.retry.later();
        }
    }

    /// Takes a link to its next state and does what the machine asks for, in its order: first of all the commit.
    pub(super) async fn apply(&mut self, id: LinkId, link: Link, effects: Vec<Effect>) -> Result<(), Error> {
        if effects.contains(&Effect::Persist) {
            let kept = self.links.get(&id).map(|held| held.kept.clone()).unwrap_or_default();
            self.keep(id, link, kept).await?;
            self.rebuild_hints();
        }
        let established = effects.iter().any(|effect| matches!(effect, Effect::Established { .. }));
        for effect in effects {
            match effect {
                Effect::Persist => {}
                Effect::Send(message) => self.send_contact(id, message),
                Effect::AskUser { peer } => self.emit(Event::Pending { peer }),
                Effect::Established { peer } => self.emit(Event::Established { peer }),
                Effect::Alarm { first, second } => {
                    if let Some(held) = self.links.get_mut(&id) {
                        held.cut();
                    }
                    self.emit(Event::Alarm { alarm: Alarm::TwoAnswers { first, second } });
                }
                Effect::Expired => self.drop_link(id).await?,
            }
        }
        if established {
            Box::pin(self.begin_sessions()).await;
        }
        self.publish();
        Ok(())
    }

    /// On the stream at hand, or with the next one: each begins with what the peer does not have yet.
    fn send_contact(&mut self, id: LinkId, message: Message) {
        let Some(held) = self.links.get_mut(&id) else { return };
        let sent = held.contact.as_ref().is_some_and(|contact| contact.messages.try_send(message).is_ok());
        if !sent {
            held.contact = None;
            self.contact_now(id);
        }
    }

    /// Once the peer has our confirmation the stream is of no use, and requests can go.
    pub(super) fn contact_delivered(&mut self, id: LinkId) {
        let Some(held) = self.links.get_mut(&id) else { return };
        if held.link.phase() != Phase::Established || held.link.wants_first_contact(clock::now()) {
            return;
        }
        // Not cut: what is queued is still sent.
        held.contact = None;
        if held.awaits_contact() {
            return self.open_stream(id);
        }
        // A new contact hears at once where our mail waits, and that his may wait at ours.
        self.answer_with_stamps(id);
    }

    /// Unfinished first contacts are the one thing that the overlay tries again by itself, because nothing else would.
    pub(super) async fn tend_contacts(&mut self) {
        let now = Instant::now();
        let due = |held: &&Held| held.retry.at <= now && held.link.wants_first_contact(clock::now());
        let due: Vec<LinkId> = self.links.values().filter(due).map(|held| held.link.id()).collect();
        due.into_iter().for_each(|id| self.contact_now(id));
        let wall = clock::now();
        let over = |held: &&Held| held.link.is_due(wall);
        let ids: Vec<LinkId> = self.links.values().filter(over).map(|held| held.link.id()).collect();
        for id in ids {
            let Some(mut link) = self.links.get(&id).map(|held| held.link.clone()) else { continue };
            let effects = link.tick(clock::now());
            if !effects.is_empty()
                && let Err(error) = self.apply(id, link, effects).await
            {
                tracing::warn!(%error, "an expired offer was not removed");
            }
        }
    }
}

/// One first-contact stream: messages in and out, a few of them.
struct Talk {
    link: LinkId,
    id: StreamId,
    stream: SecureStream,
    queue: mpsc::Receiver<Message>,
    driver: mpsc::Sender<Command>,
}

impl Talk {
    async fn run(mut self) {
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let mut input = BytesMut::new();
        let mut received = 0;
        loop {
            match Message::read(&mut input) {
                Err(error) => return tracing::debug!(%error, "a first-contact stream carried something else"),
                Ok(Some(_)) if received >= MAX_MESSAGES => return,
                Ok(Some(message)) => {
                    received += 1;
                    let command = Command::Contact { link: self.link, stream: self.id, message };
                    if self.driver.send(command).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => {}
            }
            tokio::select! {
                read = reader.read_buf(&mut input) => if !matches!(read, Ok(1..)) { return },
                message = self.queue.recv() => {
                    let Some(message) = message else {
                        // Best effort: the peer sees the end either way.
                        let _ = writer.shutdown().await;
                        return;
                    };
                    let mut out = BytesMut::new();
                    message.write(&mut out);
                    if writer.write_all(&out).await.is_err() || writer.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What one stream carries is four messages; each may come twice.
const MAX_MESSAGES: usize = 16;
/// Messages that may wait for a stream.
const MESSAGES: usize = 8;
/// Random bytes with which a box is taken.
fn claim() -> [u8; 32] {
    let mut bytes = [0; 32];
    clock::random().fill_bytes(&mut bytes);
    bytes
}

/// Of a contact link.
const MAX_WAYS: usize = millpond_mailbox::way::MAX_WAYS;
