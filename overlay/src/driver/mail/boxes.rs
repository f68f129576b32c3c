//! First contact through hosts: the box of an offer is left there, the box of a pasted contact link taken, and the answer
//! comes out of a mailbox like everything else.

use std::time::Duration;

use bytes::Bytes;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_protocol;
use millpond_mailbox::link::{Link, Phase, Role};
use millpond_mailbox::pickup::{self, BoxId, bundle_stamps};
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{Arrived, Context, MapRows};
use millpond_mailbox::stamp::Class;
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::way::{HostAddress, Way};
use serde_bytes::ByteBuf;

use super::rows::{StoredBox, VERSION, address, cbor};
use super::{MailDone, rows};
use crate::clock;
use crate::driver::held::Held;
use crate::driver::links::contact;
use crate::driver::{Done, Driver};
use crate::error::Error;
use crate::host_client::HostError;
use crate::store::{Change, Record, RecordKey, RecordKind};

/// A box of ours that is not at all of its hosts yet.
pub(in crate::driver) struct Left {
    id: BoxId,
    sealed: Vec<u8>,
    expiry: UnixMillis,
    to: Vec<HostAddress>,
    next: UnixMillis,
    trying: bool,
}

impl Left {
    pub(super) fn due(&self) -> Option<UnixMillis> {
        (!self.trying).then_some(self.next)
    }

    pub(super) fn read(record: &Record) -> Option<(LinkId, Self)> {
        let StoredBox(version, id, sealed, expiry, to) = serde_cbor::from_slice(&record.bytes).ok()?;
        let link = LinkId(record.key.id.as_slice().try_into().ok()?);
        let id = BoxId(id.as_slice().try_into().ok()?);
        let to = to.iter().filter_map(address).collect();
        let left = Self { id, sealed: sealed.into_vec(), expiry, to, next: UnixMillis(0), trying: false };
        (version == VERSION).then_some((link, left))
    }

    fn record(&self, link: LinkId) -> Record {
        let to = self.to.iter().cloned().map(Way::Box).collect();
        let stored =
            StoredBox(VERSION, ByteBuf::from(self.id.0), ByteBuf::from(self.sealed.as_slice()), self.expiry, to);
        Record { key: key(link), bytes: cbor(&stored) }
    }
}

pub(super) fn key(link: LinkId) -> RecordKey {
    RecordKey { kind: RecordKind::Box, id: link.0.to_vec() }
}

/// What an offer over hosts takes beside the link.
pub(in crate::driver) struct Intro {
    /// The hosts of our mailboxes, as ways for the contact link.
    pub(in crate::driver) ways: Vec<Way>,
    /// Stamps for the answer, as they stand in the box.
    pub(in crate::driver) stamps: Vec<Vec<u8>>,
    serials: Vec<(millpond_mailbox::stamp::MailboxId, Vec<millpond_mailbox::stamp::Serial>)>,
}

impl Driver {
    /// Stamps and ways for an offer: one large stamp for each of two mailboxes at different hosts.
    pub(in crate::driver) fn intro(&mut self) -> Intro {
        let mut intro = Intro { ways: Vec::new(), stamps: Vec::new(), serials: Vec::new() };
        let mut grants = Vec::new();
        let usable = self.mail.own.values_mut().filter(|own| !own.recovery && !own.draining);
        for own in usable {
            let way = Way::Box(own.at.clone());
            if intro.ways.len() == MAX_BOXES || intro.ways.contains(&way) {
                continue;
            }
            // Whose link it is, is known only when the offer is made.
            let Some((grant, _)) = own.issue(LinkId([0; 16]), Class::L, 1, &mut clock::random()) else { continue };
            let serials = grant.batch.stamps(grant.host).iter().map(|stamp| stamp.header().serial()).collect();
            intro.serials.push((own.secret.id(), serials));
            intro.ways.push(way);
            grants.push(grant);
        }
        intro.stamps = bundle_stamps(&grants);
        intro
    }

    /// Keeps an offer with its box and its stamps, and leaves the box at the hosts.
    pub(in crate::driver) async fn offer_over_hosts(&mut self, link: Link, intro: Intro) -> Result<(), Error> {
        let id = link.id();
        let mut changes = vec![Change::Put(Held::record(&link, &Default::default()))];
        for (mailbox, serials) in &intro.serials {
            let Some(own) = self.mail.own.get_mut(mailbox) else { continue };
            for serial in serials {
                let Some(issued) = own.issued.get_mut(serial) else { continue };
                issued.link = id;
                changes.push(Change::Put(rows::serial_record(mailbox, *serial, issued)));
            }
        }
        let to: Vec<HostAddress> = intro.ways.iter().filter_map(address).collect();
        if !to.is_empty()
            && let Some((box_id, sealed)) = pickup::seal_box(&link, &mut clock::random())
        {
            let left = Left { id: box_id, sealed, expiry: link.expiry(), to, next: UnixMillis(0), trying: false };
            changes.push(Change::Put(left.record(id)));
            self.mail.boxes.insert(id, left);
        }
        self.commit(changes, "store the new link").await?;
        self.links.insert(id, Held::new(link));
        self.rebuild_hints();
        self.boxes_due(clock::now());
        self.publish();
        Ok(())
    }

    pub(super) fn boxes_due(&mut self, now: UnixMillis) {
        let Some(hosts) = self.mail.hosts.clone() else { return };
        let due = self.mail.boxes.iter_mut().filter(|(_, left)| left.due().is_some_and(|at| at <= now));
        for (link, left) in due {
            let Some(at) = left.to.first().cloned() else { continue };
            left.trying = true;
            left.next = now.after(AGAIN);
            let (link, host) = (*link, at.host);
            let mailbox = self.mail.own.values().find(|own| own.at.host == host && !own.recovery);
            let Some(secret) = mailbox.map(|own| own.secret.clone()) else { continue };
            let (id, sealed, hosts) =
                (host_protocol::BoxId(left.id.0), Bytes::from(left.sealed.clone()), hosts.clone());
            let leave = async move { hosts.lay_box(&at, &secret, id, sealed).await };
            self.work.spawn(async move {
                let left = tokio::time::timeout(PATIENCE, leave).await;
                if let Ok(Err(error)) = &left {
                    tracing::debug!(%error, "a box was not left at a host");
                }
                Done::Mail(MailDone::BoxLeft { link, host, left: matches!(left, Ok(Ok(()))) })
            });
        }
    }

    pub(super) async fn on_box_left(&mut self, link: LinkId, host: HostKey, done: bool) {
        let Some(left) = self.mail.boxes.get_mut(&link) else { return };
        left.trying = false;
        if !done {
            // The next host is tried first.
            left.to.rotate_left(1);
            return;
        }
        left.to.retain(|at| at.host != host);
        left.next = UnixMillis(0);
        let change = match left.to.is_empty() {
            true => Change::Remove(key(link)),
            false => Change::Put(left.record(link)),
        };
        let gone = left.to.is_empty();
        if let Err(error) = self.commit(vec![change], "note that a box is at its host").await {
            tracing::warn!(%error, "where a box was left is not kept; it is left again");
        } else if gone {
            self.mail.boxes.remove(&link);
        }
    }

    /// Asks a host for the box of a contact link that the user pasted.
    pub(in crate::driver) fn take_box_now(&mut self, link: LinkId) {
        let Some(hosts) = self.mail.hosts.clone() else { return };
        let Some(held) = self.links.get_mut(&link).filter(|held| held.link.phase() == Phase::Added) else { return };
        let at: Vec<HostAddress> = held.link.peer_ways().iter().filter_map(address).collect();
        let id = pickup::wanted_box(&held.link).filter(|_| !at.is_empty() && !held.taking);
        let (Some(id), Some(claim)) = (id, held.kept.claim) else { return };
        held.taking = true;
        let (id, claim) = (host_protocol::BoxId(id.0), host_protocol::Claim(claim));
        self.work.spawn(async move {
            let mut taken = Err(HostError::NoBox);
            for at in at {
                let asked = tokio::time::timeout(PATIENCE, hosts.take_box(&at, id, claim)).await;
                taken = asked.unwrap_or(Err(HostError::Timeout));
                if taken.is_ok() {
                    break;
                }
            }
            Done::Mail(MailDone::BoxTaken { link, taken })
        });
    }

    pub(super) async fn on_box_taken(&mut self, link: LinkId, taken: Result<Bytes, HostError>) {
        if let Some(held) = self.links.get_mut(&link) {
            held.taking = false;
            held.retry.later();
        }
        match taken {
            Ok(sealed) => {
                if self.answer_box(link, &sealed).await.is_err() {
                    tracing::warn!(
                        "the box of a contact link could not be answered: it is of another node, or damaged"
                    );
                }
            }
            Err(HostError::Taken) => tracing::warn!(
                "somebody else has read the box of a contact link that was added here: ask for a new link, on a safer way"
            ),
            Err(error) => tracing::debug!(%error, "the box of a contact link is not to be had yet"),
        }
    }

    /// Answers a box: link, session and stamps in one commit, then the envelope.
    async fn answer_box(&mut self, id: LinkId, sealed: &[u8]) -> Result<(), Error> {
        let doing = "answer a contact link";
        let Some(held) = self.links.get(&id).filter(|held| held.link.phase() == Phase::Added) else { return Ok(()) };
        let (mut link, kept) = (held.link.clone(), held.kept.clone());
        let message = pickup::open_box(&link, sealed).map_err(|error| contact(doing, &error))?;
        let (grants, changes) = self.first_stamps(id);
        let stamps = bundle_stamps(&grants);
        let ways = self.told_ways();
        let own = self.own_with(&ways, &stamps);
        link.handle(&own, &message, clock::now(), &mut clock::random()).map_err(|error| contact(doing, &error))?;
        let answered = {
            let (shown, rows) = (self.mail.shown(), MapRows::default());
            let ctx = Context { now: clock::now(), identity: &self.me.identity, mailboxes: &shown, rows: &rows };
            pickup::answer(&mut link, self.me.name(), &ctx, &mut clock::random())
        };
        let (session, effects) = answered.map_err(|error| contact(doing, &error))?;
        self.commit(changes, "store the stamps of a new contact").await?;
        self.take_session(id, (link, kept), session, effects).await?;
        if !grants.is_empty() {
            self.feed(id, millpond_mailbox::session::InEvent::GivenStamps(grants), Vec::new()).await;
        }
        Ok(())
    }

    /// Of what came under stamps of a link: answers to its offer are taken, the rest is given back.
    pub(super) async fn take_answers(&mut self, id: LinkId, arrived: Vec<Arrived>) -> Vec<Arrived> {
        let mut rest = Vec::new();
        for envelope in arrived {
            let answer = self.links.get(&id).filter(|held| held.link.role() == Role::Offerer);
            match answer.and_then(|held| pickup::open_answer(&held.link, &envelope).ok()) {
                Some(messages) => {
                    for message in messages {
                        // The error may name a node.
                        if self.take_message(id, &message).await.is_err() {
                            tracing::info!("an answer to a contact link does not hold");
                        }
                    }
                }
                None => rest.push(envelope),
            }
        }
        rest
    }
}

/// Hosts in a contact link.
const MAX_BOXES: usize = 2;
/// How long a host may take over a box.
const PATIENCE: Duration = Duration::from_secs(60);
/// When a box that was not left is tried again.
const AGAIN: Duration = Duration::from_secs(60);
