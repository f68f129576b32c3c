//! Introductions: first contact with a member of a shared room, its messages carried by a member that both are linked to. What the carrier gets is
//! sealed; who may be introduced to whom is the node's decision, taken before anything here is called.

use millpond_mailbox::introduction::{IntroBody, Introduction, own_offer_counts};
use millpond_mailbox::key_document::KeyDocument;
use millpond_mailbox::link::{Effect, Link, LinkClass, Phase};
use millpond_mailbox::message::Message;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use tokio::time::Instant;

use super::Driver;
use super::held::{self, Held};
use super::links::contact;
use crate::clock;
use crate::error::Error;

/// An introduction that was for us and has been opened.
pub struct OpenedIntro {
    pub(super) body: IntroBody,
    pub(super) room_id: String,
    pub(super) peer: NodeName,
}

impl OpenedIntro {
    /// Who wants a link, or goes on making one; by his own word until the link is established.
    pub fn peer(&self) -> &NodeName {
        &self.peer
    }

    /// The room that both are said to be in.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }
}

impl Driver {
    /// The offer to a member, sealed for him. The same open offer is used again, so that repeating it is harmless.
    pub(super) async fn introduce(&mut self, to: &KeyDocument, room_id: &str) -> Result<Introduction, Error> {
        let doing = "introduce this node";
        if held::best(&self.links, to.name()).is_some() {
            return Err(contact(doing, &"there is a link to this node already"));
        }
        let open = |held: &&Held| {
            held.link.class() == LinkClass::Room
                && held.link.peer() == Some(to.name())
                && held.link.expiry() > clock::now()
                && held.link.intro_offer().is_some()
        };
        let existing = self.links.values().find(open).map(|held| held.link.clone());
        let link = match existing {
            Some(link) => link,
            None => self.new_introduction(to.name()).await?,
        };
        let offer = link.intro_offer().ok_or_else(|| contact(doing, &"the offer is closed"))?;
        Introduction::seal(to, room_id, &IntroBody::Offer(offer), &mut clock::random())
            .map_err(|error| contact(doing, &error))
    }

    async fn new_introduction(&mut self, to: &NodeName) -> Result<Link, Error> {
        let limit = self.limits.open_offers;
        let unfinished = |held: &&Held| held.link.class() == LinkClass::Room && held.link.phase() != Phase::Established;
        if self.links.values().filter(unfinished).count() >= limit {
            return Err(Error::Full { what: "open introductions", limit });
        }
        let ways = self.ways();
        let link = Link::introduce(&self.own(&ways), to, clock::now(), &mut clock::random());
        self.insert(link.clone()).await?;
        Ok(link)
    }

    /// Opens an introduction. Nothing changes by it.
    pub(super) fn open_intro(&self, intro: &Introduction) -> Result<OpenedIntro, Error> {
        let doing = "open the introduction";
        let body = intro.open(self.me.name(), &self.me.intro_secret).map_err(|error| contact(doing, &error))?;
        let peer = match &body {
            IntroBody::Offer(offer) => offer.peer().map_err(|error| contact(doing, &error))?,
            IntroBody::Message { link, .. } => {
                let known = self.links.get(link).filter(|held| held.link.class() == LinkClass::Room);
                let peer = known.and_then(|held| held.link.peer()).cloned();
                peer.ok_or_else(|| contact(doing, &"it is about a link that is not known here"))?
            }
        };
        Ok(OpenedIntro { body, room_id: intro.room_id().to_owned(), peer })
    }

    /// Goes on with what an introduction brought, and returns what the carrier is to take back.
    pub(super) async fn take_intro(
        &mut self,
        carrier: &NodeName,
        opened: OpenedIntro,
    ) -> Result<Vec<Introduction>, Error> {
        let doing = "answer the introduction";
        if !self.intro_attempts.allow(carrier.clone(), Instant::now()) {
            let limit = self.limits.introductions_per_hour;
            return Err(Error::Full { what: "introductions by this carrier within an hour", limit });
        }
        let OpenedIntro { body, room_id, peer } = opened;
        let (id, messages) = match body {
            IntroBody::Offer(offer) => {
                let id = offer.link_id();
                if !self.links.contains_key(&id) && !self.answer_intro(&peer, &offer).await? {
                    return Ok(Vec::new());
                }
                let opening = self.links.get(&id).map(|held| held.link.opening(true));
                (id, opening.unwrap_or_default())
            }
            IntroBody::Message { link: id, message } => (id, self.answer_message(id, &message).await?),
        };
        let document = self.links.get(&id).and_then(Held::key_document);
        let Some(document) = document else { return Ok(Vec::new()) };
        let sealed = messages.into_iter().map(|message| {
            Introduction::seal(&document, &room_id, &IntroBody::Message { link: id, message }, &mut clock::random())
        });
        sealed.collect::<Result<_, _>>().map_err(|error| contact(doing, &error))
    }

    /// Makes our side of an offered link; `false`: there is no need of one.
    async fn answer_intro(
        &mut self,
        peer: &NodeName,
        offer: &millpond_mailbox::introduction::IntroOffer,
    ) -> Result<bool, Error> {
        if held::best(&self.links, peer).is_some() {
            return Ok(false);
        }
        let ours = |held: &&Held| {
            held.link.class() == LinkClass::Room
                && held.link.phase() == Phase::Offered
                && held.link.peer() == Some(peer)
        };
        let crossing = self.links.values().find(ours).map(|held| held.link.id());
        match crossing {
            Some(_) if own_offer_counts(self.me.name(), peer) => return Ok(false),
            Some(id) => self.drop_link(id).await?,
            None => {}
        }
        let limit = self.limits.pending_links;
        let pending = |held: &&Held| matches!(held.link.phase(), Phase::Added | Phase::Pending { .. });
        if self.links.values().filter(pending).count() >= limit {
            return Err(Error::Full { what: "pending contacts", limit });
        }
        let ways = self.ways();
        let answered = Link::answer_introduction(&self.own(&ways), offer, clock::now(), &mut clock::random());
        let (link, _) = answered.map_err(|error| contact("answer the introduction", &error))?;
        let id = link.id();
        self.insert(link).await?;
        // Beside the carrier's way the direct one is tried: it may be the faster.
        self.contact_now(id);
        Ok(true)
    }

    /// Feeds a carried message; what is to be sent goes back by the carrier, not over a stream.
    async fn answer_message(&mut self, id: LinkId, message: &Message) -> Result<Vec<Message>, Error> {
        let Some(held) = self.links.get(&id) else { return Ok(Vec::new()) };
        let (ways, mut link) = (self.ways(), held.link.clone());
        let effects = link
            .handle(&self.own(&ways), message, clock::now(), &mut clock::random())
            .map_err(|error| contact("answer the introduction", &error))?;
        let (mut messages, mut others) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Send(message) => messages.push(message),
                other => others.push(other),
            }
        }
        self.apply(id, link, others).await?;
        self.contact_delivered(id);
        Ok(messages)
    }
}
