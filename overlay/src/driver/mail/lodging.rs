//! Contacts that host mailboxes: what they have shown us, and keeping a mailbox there. It is taken by the user's word; by itself only where he has said
//! so, or where it shows nobody anything new: at an onion service, by a node whose address is hidden already. A host at an IP address sees those of all
//! who write to us, which a contact is not to learn unasked.

use std::time::Duration;

use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::link::LinkClass;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::token::Grant as Leave;
use millpond_mailbox::way::HostAddress;
use tokio::sync::oneshot;

use super::hosting::Shown;
use super::own::MAX_IN_USE;
use super::{Mail, rows};
use crate::clock;
use crate::driver::{Driver, respond};
use crate::error::Error;
use crate::event::LodgingInfo;
use crate::hosts;
use crate::store::{Change, Record, RecordKey, RecordKind};

/// A contact's host, as it was shown to us.
#[derive(Clone)]
pub(in crate::driver) struct Lodging {
    link: HostLink,
    leave: Leave,
    /// We keep, or kept, a mailbox there: then its addresses are those that the contact tells.
    taken: bool,
    /// The user took it out of use: it is not taken again by itself.
    left: bool,
    next: UnixMillis,
    wait: Duration,
}

impl Lodging {
    fn new(link: HostLink, leave: Leave) -> Self {
        Self { link, leave, taken: false, left: false, next: UnixMillis(0), wait: FIRST }
    }

    fn host(&self) -> HostKey {
        self.link.way.key()
    }

    pub(super) fn read(record: &Record) -> Option<(LinkId, Self)> {
        let (version, link, leave, taken, left): (u8, String, Leave, bool, bool) =
            serde_cbor::from_slice(&record.bytes).ok()?;
        let id = LinkId(record.key.id.as_slice().try_into().ok()?);
        let link = HostLink::parse(&link).ok().filter(|_| version == rows::VERSION)?;
        Some((id, Self { taken, left, ..Self::new(link, leave) }))
    }

    fn record(&self, id: LinkId) -> Record {
        let stored = (rows::VERSION, self.link.to_uri(), &self.leave, self.taken, self.left);
        Record { key: key(id), bytes: rows::cbor(&stored) }
    }
}

pub(super) fn key(link: LinkId) -> RecordKey {
    RecordKey { kind: RecordKind::Lodging, id: link.0.to_vec() }
}

impl Mail {
    /// A mailbox was made by what the contact of a link has shown. Of others that show the same host nothing is believed.
    pub(super) fn note_lodged(&mut self, by: LinkId, host: HostKey) -> Option<Change> {
        let lodging = self.lodgings.get_mut(&by).filter(|lodging| lodging.host() == host)?;
        (lodging.taken, lodging.left) = (true, false);
        Some(Change::Put(lodging.record(by)))
    }

    /// The mailboxes at a host are out of use by the user's word.
    pub(super) fn note_left(&mut self, host: HostKey) -> Vec<Change> {
        let of_host = self.lodgings.iter_mut().filter(|(_, lodging)| lodging.host() == host);
        of_host
            .map(|(id, lodging)| {
                lodging.left = true;
                Change::Put(lodging.record(*id))
            })
            .collect()
    }

    /// When a host of a contact is next tried.
    pub(super) fn lodging_wake(&self, wanted: impl Fn(&Lodging) -> bool) -> Option<UnixMillis> {
        self.lodgings.values().filter(|lodging| wanted(lodging)).map(|lodging| lodging.next).min()
    }

    /// Whether a mailbox is missing that could be at this host.
    fn lacks(&self, host: HostKey) -> bool {
        let in_use = || self.own.values().filter(|own| !own.recovery && !own.draining);
        in_use().count() + self.making.len() < MAX_IN_USE && in_use().all(|own| own.at.host != host)
    }

    /// Whether a mailbox in use at this host needs tokens.
    fn runs_out(&self, host: HostKey) -> bool {
        let in_use = self.own.values().any(|own| own.at.host == host && !own.recovery && !own.draining);
        in_use && self.tokens.get(&host).is_none_or(|tokens| tokens.left.len() <= super::epochs::FEW)
    }
}

impl Driver {
    /// Takes what a contact says of its host. Says whether it is kept.
    pub(in crate::driver) async fn take_host(&mut self, id: LinkId, body: &[u8]) -> bool {
        let Ok(shown) = serde_cbor::from_slice::<Shown>(body) else { return false };
        let Ok(link) = HostLink::parse(&shown.link) else { return false };
        let contact = self.links.get(&id).is_some_and(|held| held.link.class() == LinkClass::Contact);
        if !contact {
            return false;
        }
        let before = self.mail.lodgings.get(&id);
        if before.is_some_and(|before| before.link == link && before.leave == shown.leave) {
            return true;
        }
        let same = before.filter(|before| before.host() == link.way.key()).cloned();
        let lodging = match same.clone() {
            Some(before) => Lodging { link, leave: shown.leave, ..before },
            None => Lodging::new(link, shown.leave),
        };
        let mut changes = vec![Change::Put(lodging.record(id))];
        let begun =
            |before: &&Lodging| self.mail.leaves.get(&before.host()).is_some_and(|making| making.leave == before.leave);
        if let Some(before) = before.filter(|_| same.is_none()).filter(begun) {
            // What was begun at a host that is no more is given up.
            let host = before.host();
            changes.push(Change::Remove(rows::leave_key(&host)));
            self.mail.leaves.remove(&host);
        }
        if lodging.taken {
            changes.extend(self.moved(&hosts::address(&lodging.link.way)));
        }
        if let Err(error) = self.commit(changes, "keep what a contact says of its host").await {
            tracing::debug!(%error, "the host of a contact was not kept");
            return false;
        }
        if same.is_none() {
            tracing::info!("a contact offers to keep a mailbox for this node: see `millpond mailbox list`");
        }
        let moved = lodging.taken;
        self.mail.lodgings.insert(id, lodging);
        if moved {
            self.mailboxes_changed().await;
        }
        self.lodge_due(clock::now()).await;
        true
    }

    /// The host of mailboxes of ours has other addresses.
    fn moved(&mut self, at: &HostAddress) -> Vec<Change> {
        let mut changes = Vec::new();
        for own in self.mail.own.values_mut().filter(|own| own.at.host == at.host && own.at != *at) {
            own.at = at.clone();
            changes.push(Change::Put(rows::mailbox_record(own)));
        }
        if let Some(tokens) = self.mail.tokens.get_mut(&at.host).filter(|tokens| tokens.at != *at) {
            tokens.at = at.clone();
            changes.push(Change::Put(tokens.record()));
        }
        changes
    }

    /// Whether a mailbox is to be made at a contact's host, or tokens fetched there, without asking the user.
    fn wants(&self, lodging: &Lodging) -> bool {
        if lodging.taken && !lodging.left && self.mail.runs_out(lodging.host()) {
            return true;
        }
        let hidden = hosts::is_onion(&hosts::address(&lodging.link.way)) && !self.routes.shows_address();
        let by_itself = self.accept_hosts.unwrap_or(hidden);
        by_itself && !lodging.left && self.mail.lacks(lodging.host())
    }

    /// When a contact's host is next tried.
    pub(super) fn lodging_wake(&self) -> Option<UnixMillis> {
        self.mail.lodging_wake(|lodging| self.wants(lodging) && !self.mail.making.contains_key(&lodging.host()))
    }

    /// Makes mailboxes at contacts' hosts where they are wanted.
    pub(super) async fn lodge_due(&mut self, now: UnixMillis) {
        let due = |(_, lodging): &(&LinkId, &Lodging)| {
            lodging.next <= now && self.wants(lodging) && !self.mail.making.contains_key(&lodging.host())
        };
        // One at a time: the next is wanted only if this one did not come about.
        let Some(id) = self.mail.lodgings.iter().find(due).map(|(id, _)| *id) else { return };
        let Some(lodging) = self.mail.lodgings.get_mut(&id) else { return };
        (lodging.next, lodging.wait) = (now.after(lodging.wait), lodging.wait.saturating_mul(2).min(LONGEST));
        let (link, leave) = (lodging.link.clone(), lodging.leave.clone());
        self.make_mailbox((link, leave), Some(id), None, None).await;
    }

    /// Makes a mailbox at the host of a contact, by the user's word.
    pub(in crate::driver) async fn lodge(&mut self, with: &NodeName, reply: oneshot::Sender<Result<(), Error>>) {
        let shown = |(id, _): &(&LinkId, &Lodging)| {
            self.links.get(id).is_some_and(|held| held.link.established_peer() == Some(with))
        };
        let Some((id, lodging)) = self.mail.lodgings.iter().find(shown) else {
            return respond(reply, Err(Error::Unknown { what: "offer of a mailbox", peer: with.clone() }));
        };
        let (id, link, leave) = (*id, lodging.link.clone(), lodging.leave.clone());
        self.make_mailbox((link, leave), Some(id), None, Some(reply)).await;
    }

    /// The hosts that contacts have shown us.
    pub(in crate::driver) fn lodgings(&self) -> Vec<LodgingInfo> {
        let info = |(id, lodging): (&LinkId, &Lodging)| {
            let peer = self.links.get(id)?.link.established_peer()?.clone();
            let host = lodging.host();
            let in_use = self.mail.own.values().any(|own| own.at.host == host && !own.draining);
            let onion = hosts::is_onion(&hosts::address(&lodging.link.way));
            Some(LodgingInfo { peer, host, onion, in_use })
        };
        self.mail.lodgings.iter().filter_map(info).collect()
    }
}

/// Between two attempts: at first, and at most.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(6 * 3_600);
