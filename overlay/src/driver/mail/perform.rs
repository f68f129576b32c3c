//! What a session returns is done: the commit first, then deposits, then what it has noticed of its link.

use std::time::Duration;

use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{Commit, DepositId, Handle, Notice, OutEvent, Outcome, RowKey, Session};
use millpond_mailbox::way::{HostAddress, Way};

use super::super::{Done, Driver, held};
use super::{MailDone, rows, stamps};
use crate::error::Error;
use crate::event::Event;
use crate::store::{Change, Delivery};

impl Driver {
    pub(in crate::driver) async fn perform(&mut self, id: LinkId, effects: Vec<OutEvent>) {
        self.perform_with(id, effects, Vec::new()).await;
    }

    pub(super) async fn perform_with(&mut self, id: LinkId, effects: Vec<OutEvent>, mut with: Vec<Change>) -> bool {
        for effect in effects {
            match effect {
                OutEvent::Persist(commit) => {
                    if let Err(error) = self.persist(id, &commit, std::mem::take(&mut with)).await {
                        tracing::error!(%error, "the session of a link was not kept; it is read again");
                        self.reread(id);
                        return false;
                    }
                }
                OutEvent::Deposit { id: deposit, host, bytes } => self.deposit(id, deposit, host, bytes),
                OutEvent::Notice(notice) => self.on_notice(id, notice).await,
            }
        }
        if with.is_empty() { true } else { self.commit(with, "store what came out of a mailbox").await.is_ok() }
    }

    async fn persist(&mut self, id: LinkId, commit: &Commit, with: Vec<Change>) -> Result<(), Error> {
        let Some(held) = self.links.get(&id) else { return Ok(()) };
        let mut changes = with;
        changes.extend(rows::changes(id, commit));
        let (mut items, mut descriptors) = (Vec::new(), Vec::new());
        for delivered in &commit.deliver {
            match &delivered.item {
                millpond_mailbox::item::Item::Descriptor(bytes) => descriptors.push(bytes.clone()),
                item => items.push(item.clone()),
            }
        }
        let peer = held.link.peer().cloned();
        let told = commit.done.contains(&stamps::DESCRIPTOR);
        let done: Vec<Handle> = commit.done.iter().copied().filter(|handle| *handle != stamps::DESCRIPTOR).collect();
        match peer.filter(|_| !items.is_empty() || !done.is_empty()) {
            Some(peer) => {
                let class = held::class_of(&held.link);
                let delivery = Delivery { peer, class, arrived: items, done };
                let kept = self.store.commit_delivery(changes, delivery).await;
                kept.map_err(|source| Error::Store { doing: "stage what a peer has sent", source })?;
            }
            None => self.commit(changes, "store the session of a link").await?,
        }
        if let Some(carried) = self.mail.sessions.get_mut(&id) {
            carried.rows.apply(commit);
        }
        for descriptor in descriptors {
            self.take_descriptor(id, &descriptor).await;
        }
        if told {
            self.note_told(id).await;
        }
        Ok(())
    }

    /// After a commit that failed: what is on disk counts, and the node offers its rows again.
    fn reread(&mut self, id: LinkId) {
        let Some(carried) = self.mail.sessions.get_mut(&id) else { return };
        let record = carried.rows.0.get(&RowKey::Record).cloned();
        if let Some(Ok(session)) = record.map(|record| Session::from_record(&record)) {
            carried.session = session;
        }
        if let Some(peer) = self.links.get(&id).and_then(|held| held.link.peer().cloned()) {
            self.emit(Event::MailForgotten { peer });
        }
    }

    fn deposit(&mut self, link: LinkId, deposit: DepositId, host: HostKey, bytes: Vec<u8>) {
        if let Some(carried) = self.mail.sessions.get_mut(&link) {
            carried.in_air += 1;
        }
        let at = self.host_address(link, host);
        let (Some(at), Some(hosts)) = (at, self.mail.hosts.clone()) else {
            let outcome = Outcome::Unreachable;
            self.work.spawn(async move { Done::Mail(MailDone::Put { link, host, deposit, outcome }) });
            return;
        };
        self.work.spawn(async move {
            let put = tokio::time::timeout(PUT, hosts.put(at, bytes)).await;
            Done::Mail(MailDone::Put { link, host, deposit, outcome: put.unwrap_or(Outcome::Unreachable) })
        });
    }

    /// Where a host of a peer is: as the peer told, in its descriptor or its bundle.
    pub(super) fn host_address(&self, link: LinkId, host: HostKey) -> Option<HostAddress> {
        let ways = self.links.get(&link)?.link.peer_ways();
        let mut told = ways.iter().filter_map(|way| match way {
            Way::Mailbox(at) | Way::Box(at) if at.host == host => Some(at.clone()),
            _ => None,
        });
        // Two contacts may share a host, and one of them may know its address better.
        told.next().or_else(|| self.mail.own.values().find(|own| own.at.host == host).map(|own| own.at.clone()))
    }

    async fn on_notice(&mut self, id: LinkId, notice: Notice) {
        let Some(held) = self.links.get(&id) else { return };
        let mut link = held.link.clone();
        let effects = match notice {
            Notice::Established => link.established_by_session().unwrap_or_default(),
            Notice::Delivered => link.note_request_stream(),
            Notice::Secrets => match self.mail.sessions.get(&id) {
                Some(carried) => link.adopt_secrets(carried.session.link_secrets()),
                None => Vec::new(),
            },
            Notice::TooLarge(handle) => {
                tracing::warn!(handle = handle.0, "something is too large for mailboxes and waits for a direct link");
                Vec::new()
            }
            Notice::Restored => {
                if let Some(peer) = held.link.established_peer().cloned() {
                    // Large items of which some parts were under way begin anew: the node offers them again.
                    self.emit(Event::MailForgotten { peer: peer.clone() });
                    self.emit(Event::Restored { peer });
                }
                Vec::new()
            }
            notice => {
                tracing::debug!(?notice, "a link over mailboxes");
                Vec::new()
            }
        };
        if !effects.is_empty()
            && let Err(error) = Box::pin(self.apply(id, link, effects)).await
        {
            tracing::warn!(%error, "what a session said of its link was not kept");
        }
        self.publish();
    }
}

/// How long a deposit may take.
const PUT: Duration = Duration::from_secs(60);
