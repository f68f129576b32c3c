//! Mailboxes for our own contacts: a host that runs beside this node is shown to each contact over its stream, with a leave of its own, so that nobody
//! copies a token by hand. One leave a contact, and a new one when it has grown old: what a contact can keep here is what an operator's leave is worth.
//! Members that were only introduced are no contacts, and are shown nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use millpond_mailbox::link::{LinkClass, Phase};
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::token::Grant as Leave;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{MailDone, rows};
use crate::clock;
use crate::driver::held::{Held, Outbound};
use crate::driver::{Done, Driver};
use crate::http::client::{Outcome, outbound};
use crate::store::{Change, Record, RecordKey, RecordKind};

/// What a contact was given to keep mailboxes at our host with.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::driver) struct Hosted {
    leave: Leave,
    issued: UnixMillis,
    /// The link of the host that the contact has heard of, with this leave.
    told: Option<String>,
}

impl Hosted {
    pub(super) fn read(record: &Record) -> Option<(LinkId, Self)> {
        let (version, leave, issued, told): (u8, Leave, UnixMillis, Option<String>) =
            serde_cbor::from_slice(&record.bytes).ok()?;
        let link = LinkId(record.key.id.as_slice().try_into().ok()?);
        (version == rows::VERSION).then_some((link, Self { leave, issued, told }))
    }

    fn record(&self, link: LinkId) -> Record {
        let stored = (rows::VERSION, &self.leave, self.issued, &self.told);
        Record { key: key(link), bytes: rows::cbor(&stored) }
    }
}

pub(super) fn key(link: LinkId) -> RecordKey {
    RecordKey { kind: RecordKind::Hosted, id: link.0.to_vec() }
}

/// What is posted: the host's link as text, and a leave.
#[derive(Serialize, Deserialize)]
pub(super) struct Shown {
    pub(super) link: String,
    pub(super) leave: Leave,
}

impl Driver {
    /// The link of the host beside this node, with the addresses that it may be told by. None: there is no host, or it cannot be reached.
    fn host_link(&self) -> Option<String> {
        let host = self.host.as_ref()?;
        let addresses = self.addresses();
        host.link(&addresses).ok().map(|link| link.to_uri())
    }

    /// The leave of a contact, if he has one that has not grown old.
    fn leave_of(&self, id: LinkId) -> Option<&Hosted> {
        self.mail.hosted.get(&id).filter(|hosted| clock::now() < hosted.issued.after(LEAVE_LIFE))
    }

    /// Whether the peer of a link is a contact who has not heard of our host as it is now.
    fn is_unshown(&self, id: LinkId, host: &str) -> bool {
        let of_contact =
            |held: &Held| held.link.class() == LinkClass::Contact && held.link.phase() == Phase::Established;
        let told = || self.leave_of(id).is_some_and(|hosted| hosted.told.as_deref() == Some(host));
        self.links.get(&id).is_some_and(of_contact) && !told()
    }

    /// What a contact is still to hear of our host.
    fn to_show(&self, id: LinkId) -> Option<Hosted> {
        let link = self.host_link().filter(|link| self.is_unshown(id, link))?;
        match self.leave_of(id) {
            Some(hosted) => Some(Hosted { told: Some(link), ..hosted.clone() }),
            None => {
                let leave = self.host.as_ref()?.grant(&mut clock::random());
                Some(Hosted { leave, issued: clock::now(), told: Some(link) })
            }
        }
    }

    /// Goes to contacts who have not heard of our host, a few at a time, and less and less often to those who are not there.
    pub(in crate::driver) fn show_host_to_all(&mut self) {
        let Some(link) = self.host_link() else { return };
        let now = Instant::now();
        let due = |id: &LinkId| self.mail.showing.get(id).is_none_or(|(at, _)| *at <= now);
        let unshown = self.links.keys().copied().filter(|id| due(id) && self.is_unshown(*id, &link));
        let some: Vec<LinkId> = unshown.take(AT_ONCE).collect();
        for id in some {
            let wait = self.mail.showing.get(&id).map_or(FIRST, |(_, wait)| (*wait * 2).min(LONGEST));
            self.mail.showing.insert(id, (now + wait, wait));
            self.show_host(id);
            self.answer_with_stamps(id);
        }
    }

    /// Whether a stream to a contact would have something to say about our host.
    pub(in crate::driver) fn would_show_host(&self, id: LinkId) -> bool {
        self.host_link().is_some_and(|link| self.is_unshown(id, &link))
    }

    /// Shows our host to a contact with whom a stream of ours is open.
    pub(in crate::driver) fn show_host(&mut self, id: LinkId) {
        let Some(hosted) = self.to_show(id) else { return };
        let Some(held) = self.links.get(&id) else { return };
        let (Outbound::Open { channel, .. }, Some(peer)) = (&held.outbound, held.link.established_peer().cloned())
        else {
            return;
        };
        let (channel, store) = (channel.clone(), self.store.clone());
        // The leave first: what a contact was given is given to it again, and nobody gets two.
        let before = Hosted { told: None, ..hosted.clone() };
        self.mail.hosted.insert(id, before.clone());
        let shown = Shown { link: hosted.told.clone().unwrap_or_default(), leave: hosted.leave.clone() };
        let body = Bytes::from(rows::cbor(&shown));
        self.work.spawn(async move {
            let given = async {
                store.commit(vec![Change::Put(before.record(id))]).await.ok()?;
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = HOST_PATH.parse().ok()?;
                match channel.send(outbound(&peer, request).ok()?).await {
                    Outcome::Answered(answer) => answer.status().is_success().then_some(()),
                    _ => None,
                }
            };
            match given.await {
                Some(()) => Done::Mail(MailDone::HostShown { link: id, hosted }),
                None => Done::Nothing,
            }
        });
    }

    pub(super) async fn on_host_shown(&mut self, id: LinkId, hosted: Hosted) {
        if !self.mail.hosted.contains_key(&id) {
            return;
        }
        match self.commit(vec![Change::Put(hosted.record(id))], "note that a contact knows our host").await {
            Ok(()) => {
                self.mail.showing.remove(&id);
                self.mail.hosted.insert(id, hosted);
            }
            Err(error) => tracing::debug!(%error, "that a contact knows our host was not kept; it is told again"),
        }
    }
}

/// Where a host is shown on streams; answered by the overlay itself.
pub(in crate::driver) const HOST_PATH: &str = "/_millpond/overlay/v1/host";
/// Bytes of what is posted there.
pub(in crate::driver) const MAX_SHOWN: usize = 8 << 10;
/// Contacts who are gone to at once, and how long one who is not there is left alone: at first, and at most.
const AT_ONCE: usize = 8;
const FIRST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(3_600);
/// After so long a contact gets a new leave: the old one was turned into tokens for about a year.
const LEAVE_LIFE: Duration = Duration::from_secs(300 * 86_400);
