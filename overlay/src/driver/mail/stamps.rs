//! Stamps: given in the frames of sessions, in bundles, and over streams; and what contacts are told of our hosts.

use millpond_mailbox::descriptor::Descriptor;
use millpond_mailbox::frame::Grant;
use millpond_mailbox::item::Item;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{Handle, InEvent, Offered, OwnMailbox, Priority, Wanted};
use millpond_mailbox::stamp::{Class, MailboxId, Serial};
use millpond_mailbox::way::Way;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use millpond_mailbox::pickup::bundle_stamps;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{MailDone, rows};
use crate::clock;
use crate::driver::held::Outbound;
use crate::driver::links::{contact, is_address};
use crate::driver::{Done, Driver};
use crate::http::client::{Outcome, outbound};
use crate::store::Change;

impl Driver {
    /// Issues what the session says that the peer lacks.
    pub(super) async fn grant(&mut self, id: LinkId, shown: &[OwnMailbox]) {
        // Who sends more than is worked off can send no more.
        let Some(carried) = self.mail.sessions.get(&id).filter(|_| self.takes_more(id)) else { return };
        let wanted = carried.session.stamps_wanted(shown);
        let (mut grants, mut changes) = (Vec::new(), Vec::new());
        for Wanted { mailbox, class, count } in wanted {
            let Some(own) = self.mail.own.get_mut(&mailbox.id) else { continue };
            if let Some((grant, issued)) = own.issue(id, class, usize::from(count), &mut clock::random()) {
                grants.push(grant);
                changes.extend(issued);
            }
        }
        if !grants.is_empty() {
            self.feed(id, InEvent::Granted(grants), changes).await;
        }
    }

    /// What a new contact gets in our bundle.
    pub(super) fn first_stamps(&mut self, id: LinkId) -> (Vec<Grant>, Vec<Change>) {
        let (mut grants, mut changes) = (Vec::new(), Vec::new());
        for own in self.mail.own.values_mut().filter(|own| !own.draining) {
            let classes: &[(Class, usize)] =
                if own.recovery { &[(Class::S, 1)] } else { &[(Class::S, SMALL), (Class::L, LARGE)] };
            for (class, count) in classes {
                if grants.len() < MAX_BUNDLE_STAMPS
                    && let Some((grant, issued)) = own.issue(id, *class, *count, &mut clock::random())
                {
                    grants.push(grant);
                    changes.extend(issued);
                }
            }
        }
        (grants, changes)
    }

    /// The rows of serials under which envelopes came.
    pub(super) fn used(&self, mailbox: MailboxId, serials: &[Serial]) -> Vec<Change> {
        let Some(own) = self.mail.own.get(&mailbox) else { return Vec::new() };
        let issued = serials.iter().filter_map(|serial| Some((*serial, *own.issued.get(serial)?)));
        issued
            .map(|(serial, mut issued)| {
                issued.used = true;
                Change::Put(rows::serial_record(&mailbox, serial, &issued))
            })
            .collect()
    }

    pub(super) fn note_used(&mut self, mailbox: MailboxId, serials: &[Serial]) {
        let Some(own) = self.mail.own.get_mut(&mailbox) else { return };
        for serial in serials {
            if let Some(issued) = own.issued.get_mut(serial) {
                issued.used = true;
            }
        }
    }

    /// How contacts reach us: the hosts of our mailboxes, then direct addresses.
    pub(in crate::driver) fn told_ways(&self) -> Vec<Way> {
        let mut ways = self.mail.ways();
        ways.extend(self.ways());
        ways.truncate(millpond_mailbox::way::MAX_WAYS);
        ways
    }

    /// What a contact must hear of even if no stream is opened: our hosts, and our onion service.
    pub(super) fn worth_telling(&self) -> Vec<Way> {
        let mut ways = self.mail.ways();
        ways.extend(self.ways().into_iter().filter(|way| matches!(way, Way::Onion(_))));
        ways
    }

    /// Whether a contact has not heard where our mailboxes are now.
    pub(in crate::driver) fn is_untold(&self, id: LinkId) -> bool {
        let ways = self.worth_telling();
        let told = self.links.get(&id).is_some_and(|held| held.kept.told.as_ref() == Some(&rows::cbor(&ways)));
        !ways.is_empty() && !told
    }

    /// Tells a contact of our hosts, unless it was told before.
    pub(super) async fn tell_descriptor(&mut self, id: LinkId) {
        if !self.mail.is_carried(id) || !self.is_untold(id) {
            return;
        }
        let now = clock::now();
        let name = self.me.name().clone();
        let descriptor = Descriptor { name, issued: now, expiry: now.after(LIFE), ways: self.told_ways() };
        let item = Item::Descriptor(descriptor.sign(&self.me.signing));
        let offered = Offered { handle: DESCRIPTOR, item, priority: Priority::Essential, room: None, deadline: None };
        self.feed(id, InEvent::Offer(vec![offered]), Vec::new()).await;
    }

    /// The peer has our descriptor.
    pub(super) async fn note_told(&mut self, id: LinkId) {
        let digest = rows::cbor(&self.worth_telling());
        let Some(held) = self.links.get(&id) else { return };
        let (link, mut kept) = (held.link.clone(), held.kept.clone());
        kept.told = Some(digest);
        if let Err(error) = self.keep(id, link, kept).await {
            tracing::debug!(%error, "that a contact knows our hosts was not kept; it is told again");
        }
    }

    /// Takes what a peer says of its hosts. Its direct addresses stay as they are where it tells none.
    pub(super) async fn take_descriptor(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(held) = self.links.get(&id) else { return };
        let Some(document) = held.key_document() else { return };
        let descriptor = match Descriptor::verify(bytes, &document, clock::now()) {
            Ok(descriptor) => descriptor,
            Err(error) => return tracing::debug!(%error, "a descriptor of a peer does not hold"),
        };
        if let Err(error) = self.take_host_ways(id, descriptor.ways).await {
            tracing::warn!(%error, "where a peer's mailboxes are was not kept");
        }
    }

    /// Puts the hosts of a peer in the place of those that it told before.
    pub(in crate::driver) async fn take_host_ways(
        &mut self,
        id: LinkId,
        told: Vec<Way>,
    ) -> Result<(), crate::error::Error> {
        let Some(held) = self.links.get(&id) else { return Ok(()) };
        let (mut link, kept) = (held.link.clone(), held.kept.clone());
        let direct = |way: &&Way| is_address(way);
        let mut ways: Vec<Way> = told.iter().filter(|way| !direct(way)).cloned().collect();
        let told_direct: Vec<Way> = told.iter().filter(direct).cloned().collect();
        let known_direct: Vec<Way> = link.peer_ways().iter().filter(direct).cloned().collect();
        ways.extend(if told_direct.is_empty() { known_direct } else { told_direct });
        ways.truncate(millpond_mailbox::way::MAX_WAYS);
        let effects = link.set_peer_ways(ways).map_err(|error| contact("take the peer's hosts", &error))?;
        if effects.is_empty() {
            return Ok(());
        }
        self.keep(id, link, kept).await
    }
}

impl Driver {
    /// Gives a peer, with whom a stream of ours is open, our hosts and the stamps that it lacks.
    pub(in crate::driver) fn give_stamps(&mut self, id: LinkId) {
        let shown = self.mail.shown();
        let (Some(held), Some(carried)) = (self.links.get(&id), self.mail.sessions.get(&id)) else { return };
        let (Outbound::Open { channel, .. }, Some(peer)) = (&held.outbound, held.link.established_peer().cloned())
        else {
            return;
        };
        let channel = channel.clone();
        let (mut grants, mut changes) = (Vec::new(), Vec::new());
        let wanted = if self.takes_more(id) { carried.session.stamps_wanted(&shown) } else { Vec::new() };
        for Wanted { mailbox, class, count } in wanted {
            let Some(own) = self.mail.own.get_mut(&mailbox.id) else { continue };
            if let Some((grant, issued)) = own.issue(id, class, usize::from(count), &mut clock::random()) {
                grants.push(grant);
                changes.extend(issued);
            }
        }
        if grants.is_empty() && !self.is_untold(id) {
            return;
        }
        let told =
            Told { ways: self.told_ways(), stamps: bundle_stamps(&grants).into_iter().map(ByteBuf::from).collect() };
        let (body, store) = (Bytes::from(rows::cbor(&told)), self.store.clone());
        self.work.spawn(async move {
            let given = async {
                // Serials first: what is used must be known here.
                store.commit(changes).await.ok()?;
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = STAMPS_PATH.parse().ok()?;
                match channel.send(outbound(&peer, request).ok()?).await {
                    Outcome::Answered(answer) => answer.status().is_success().then_some(()),
                    _ => None,
                }
            };
            let given = given.await.is_some();
            Done::Mail(MailDone::StampsGiven { link: id, grants, given })
        });
    }

    pub(super) async fn on_stamps_given(&mut self, id: LinkId, grants: Vec<Grant>, given: bool) {
        if given {
            self.feed(id, InEvent::GivenStamps(grants), Vec::new()).await;
            self.note_told(id).await;
        }
    }

    /// Takes a peer's hosts and stamps, which came over a stream of the link. Says whether they are kept.
    pub(in crate::driver) async fn take_stamps(&mut self, id: LinkId, body: &[u8]) -> bool {
        let Ok(told) = serde_cbor::from_slice::<Told>(body) else { return false };
        let grants: Vec<Grant> =
            told.stamps.iter().take(MAX_BUNDLE_STAMPS).filter_map(|bytes| serde_cbor::from_slice(bytes).ok()).collect();
        if let Err(error) = self.take_host_ways(id, told.ways).await {
            tracing::debug!(%error, "where a peer's mailboxes are was not kept");
            return false;
        }
        if !self.mail.is_carried(id) && self.begin_session(id).await.is_err() {
            return false;
        }
        self.feed(id, InEvent::PeerStamps(grants), Vec::new()).await
    }
}

/// What goes over a stream: ways, and stamps as they stand in bundles.
#[derive(Serialize, Deserialize)]
struct Told {
    ways: Vec<Way>,
    stamps: Vec<ByteBuf>,
}

/// Where stamps are posted on streams; answered by the overlay itself.
pub(in crate::driver) const STAMPS_PATH: &str = "/_millpond/overlay/v1/stamps";
/// Bytes of what is posted there.
pub(in crate::driver) const MAX_STAMPS: usize = 64 << 10;
/// Of a descriptor in the sessions of one node.
pub(super) const DESCRIPTOR: Handle = Handle(u64::MAX);
/// Stamps for each of our mailboxes that a contact has (overlay.md, section 3).
const SMALL: usize = 24;
const LARGE: usize = 8;
/// Grants that fit a bundle.
const MAX_BUNDLE_STAMPS: usize = 8;
/// How long what we tell of our hosts holds; it is told anew when it changes.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
