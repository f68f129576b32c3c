//! Reading our mailboxes: polls, and streams on which hosts say that something has come. What is fetched is judged by our own records, handed to the
//! sessions of its links, and deleted at the host after the commit.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_mailbox::host_protocol::{Cursor, Fetched};
use millpond_mailbox::link::Role;
use millpond_mailbox::mailbox::Verdict;
use millpond_mailbox::schedule::{self, MailboxKind, Mode};
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{Arrived, InEvent};
use millpond_mailbox::stamp::{MailboxId, Serial};
use millpond_mailbox::time::UnixMillis;
use tokio::sync::mpsc;

use super::{MailDone, Own};
use crate::clock;
use crate::driver::{Command, Done, Driver};
use crate::event::Event;
use crate::host_client::HostError;

impl Driver {
    pub(super) fn poll_due(&mut self, now: UnixMillis) {
        let due = |own: &&mut Own| !own.polling && own.next_poll <= now;
        let due: Vec<MailboxId> = self.mail.own.values_mut().filter(due).map(|own| own.secret.id()).collect();
        due.into_iter().for_each(|id| self.poll(id));
        // In the foreground an open stream says when something comes.
        if self.mail.mode == Mode::Instant {
            let quiet = |own: &&Own| !own.listening && !own.recovery && own.deaf_until <= now;
            let quiet: Vec<MailboxId> = self.mail.own.values().filter(quiet).map(|own| own.secret.id()).collect();
            quiet.into_iter().for_each(|id| self.listen_to(id));
        }
    }

    fn poll(&mut self, mailbox: MailboxId) {
        let (Some(hosts), Some(own)) = (self.mail.hosts.clone(), self.mail.own.get_mut(&mailbox)) else { return };
        own.polling = true;
        let (at, secret, cursor) = (own.at.clone(), own.secret.clone(), own.cursor);
        self.work.spawn(async move {
            let fetched = tokio::time::timeout(FETCH, hosts.fetch(&at, &secret, cursor)).await;
            Done::Mail(MailDone::Fetched { mailbox, fetched: fetched.unwrap_or(Err(HostError::Timeout)) })
        });
    }

    fn listen_to(&mut self, mailbox: MailboxId) {
        let (Some(hosts), Some(own)) = (self.mail.hosts.clone(), self.mail.own.get_mut(&mailbox)) else { return };
        own.listening = true;
        let (at, secret, driver) = (own.at.clone(), own.secret.clone(), self.to_self.clone());
        self.work.spawn(async move {
            let (arrived, mut some) = mpsc::channel(1);
            let forward = async {
                while some.recv().await.is_some() {
                    // The driver is gone only when everything ends.
                    let _ = driver.send(Command::Announced { mailbox }).await;
                }
            };
            let (listened, ()) = tokio::join!(hosts.listen(&at, &secret, arrived), forward);
            if let Err(error) = listened {
                tracing::debug!(%error, "a mailbox is not listened to any more");
            }
            hosts.hang_up(&secret);
            Done::Mail(MailDone::Deaf { mailbox })
        });
    }

    /// The host says that something has come.
    pub(in crate::driver) async fn on_announced(&mut self, mailbox: MailboxId) {
        if let Some(own) = self.mail.own.get_mut(&mailbox) {
            own.next_poll = clock::now();
            own.again = own.polling;
        }
        self.mail_due().await;
    }

    /// The host says nothing any more: it is asked again soon, then less and less often.
    pub(super) fn on_deaf(&mut self, mailbox: MailboxId) {
        let Some(own) = self.mail.own.get_mut(&mailbox) else { return };
        let until = clock::now().after(own.deaf_for());
        own.listening = false;
        own.deaf_until = until;
        own.next_poll = own.next_poll.min(until);
    }

    pub(super) async fn on_fetched(&mut self, mailbox: MailboxId, fetched: Result<Fetched, HostError>) {
        let (now, mode) = (clock::now(), self.mail.mode);
        let Some(own) = self.mail.own.get_mut(&mailbox) else { return };
        own.polling = false;
        let kind = if own.recovery { MailboxKind::Recovery } else { MailboxKind::Ordinary };
        own.next_poll = schedule::next_poll(mode, kind, now, &mut clock::random());
        if std::mem::take(&mut own.again) {
            // Something came while it was being read.
            own.next_poll = now;
        }
        let fetched = match fetched {
            Ok(fetched) => {
                own.read = Some(now);
                (own.deaf, own.lost) = (0, false);
                if std::mem::take(&mut own.unread) {
                    self.way_back().await;
                }
                fetched
            }
            Err(error) => {
                tracing::debug!(%error, "a mailbox could not be read");
                own.unread = true;
                own.lost = matches!(error, HostError::Refused);
                if mode == Mode::Instant {
                    own.next_poll = own.next_poll.min(now.after(own.deaf_for()));
                }
                return;
            }
        };
        self.recognise(mailbox, &fetched);
        let Some(own) = self.mail.own.get(&mailbox) else { return };
        let (host, secret) = (own.at.host, own.secret.clone());
        let mut of_links: BTreeMap<LinkId, (Vec<Arrived>, Vec<Serial>)> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut invented = None;
        for deposit in &fetched.deposits {
            let serial = deposit.header().serial();
            match secret.judge(&host, deposit, own.issued.get(&serial)) {
                Verdict::Contact { link, seed } => {
                    let (arrived, serials) = of_links.entry(link).or_default();
                    arrived.push(Arrived { header: *deposit.header(), seed, body: deposit.body().clone() });
                    serials.push(serial);
                }
                Verdict::Again | Verdict::Revoked => gone.push(serial),
                Verdict::Host(fault) => {
                    invented = Some(fault);
                    gone.push(serial);
                }
            }
        }
        if let Some(fault) = invented {
            tracing::warn!(%fault, "a mailbox host handed out what no contact has sent");
        }
        // A host that only says so is not asked again and again.
        let more = fetched.more && !fetched.deposits.is_empty() && fetched.next > own.cursor;
        self.host_answers(host).await;
        let mut all_kept = true;
        for (link, (mut arrived, mut serials)) in of_links {
            // A little at a time: what is staged of one peer is bounded.
            while !arrived.is_empty() {
                if !self.takes_more(link) {
                    self.put_off(mailbox, link);
                    break;
                }
                let some = arrived.len().min(AT_ONCE);
                let (now, later) = (serials.split_off(some), arrived.split_off(some));
                let (taken, given) = (std::mem::replace(&mut serials, now), std::mem::replace(&mut arrived, later));
                match self.on_arrived(mailbox, link, given, &taken).await {
                    true => gone.extend(taken),
                    false => all_kept = false,
                }
            }
        }
        let again = self.takes_again(mailbox);
        if let Some(own) = self.mail.own.get_mut(&mailbox) {
            // What was not kept is fetched again.
            if all_kept {
                own.cursor = fetched.next;
            }
            if more && all_kept {
                own.next_poll = now;
            }
            if again {
                (own.cursor, own.next_poll) = (Cursor(0), now);
            } else if !own.put_off.is_empty() && mode == Mode::Instant {
                own.next_poll = own.next_poll.min(now.after(DEAF_MOST));
            }
        }
        self.delete(mailbox, gone);
    }

    /// After a restoration contacts may come under stamps of which the backup knows nothing. They are noted with what came.
    fn recognise(&mut self, mailbox: MailboxId, fetched: &Fetched) {
        let super::Mail { own, sessions, .. } = &mut self.mail;
        let Some(own) = own.get_mut(&mailbox).filter(|own| own.recovery) else { return };
        for deposit in &fetched.deposits {
            let serial = deposit.header().serial();
            if !own.issued.contains_key(&serial)
                && let Some(issued) = own.secret.recognise(deposit, sessions.keys().copied())
            {
                own.known(serial, issued);
            }
        }
    }

    /// Whether the node takes more of the peer of a link.
    pub(super) fn takes_more(&self, link: LinkId) -> bool {
        let peer = self.links.get(&link).and_then(|held| held.link.established_peer());
        peer.is_none_or(|peer| self.store.takes_more(peer))
    }

    fn put_off(&mut self, mailbox: MailboxId, link: LinkId) {
        if let Some(own) = self.mail.own.get_mut(&mailbox).filter(|own| !own.put_off.contains(&link)) {
            tracing::warn!("a peer sends more than is worked off: the rest stays at its host");
            own.put_off.push(link);
        }
    }

    /// Whether a peer of whom something was left in this mailbox can be taken from again: then it is read from its beginning.
    fn takes_again(&mut self, mailbox: MailboxId) -> bool {
        let Some(own) = self.mail.own.get(&mailbox) else { return false };
        let (free, full): (Vec<LinkId>, Vec<LinkId>) =
            own.put_off.clone().into_iter().partition(|link| self.takes_more(*link));
        if let Some(own) = self.mail.own.get_mut(&mailbox) {
            own.put_off = full;
        }
        !free.is_empty()
    }

    /// A mailbox can be read again: what could not be laid down meanwhile failed for want of a way, not of hosts.
    async fn way_back(&mut self) {
        let ids: Vec<LinkId> = self.mail.sessions.keys().copied().collect();
        for id in ids {
            self.feed(id, InEvent::WayBack, Vec::new()).await;
        }
    }

    /// Hands envelopes of one link in; says whether they are dealt with and may go at the host.
    async fn on_arrived(
        &mut self,
        mailbox: MailboxId,
        link: LinkId,
        arrived: Vec<Arrived>,
        serials: &[Serial],
    ) -> bool {
        let used = self.used(mailbox, serials);
        // A second answer must be seen as long as the offer lives.
        let offered = self.links.get(&link).is_some_and(|held| held.link.role() == Role::Offerer);
        let arrived = match offered {
            true => self.take_answers(link, arrived).await,
            false => arrived,
        };
        let kept = match (arrived.is_empty(), self.mail.is_carried(link)) {
            (false, true) => self.feed(link, InEvent::Arrived(arrived), used.clone()).await,
            // Of a link that is no more.
            _ => self.commit(used.clone(), "note what came out of a mailbox").await.is_ok(),
        };
        if kept {
            self.note_used(mailbox, serials);
            if let Some(peer) = self.links.get(&link).and_then(|held| held.link.established_peer().cloned()) {
                self.emit(Event::Mail { peer });
            }
        }
        kept
    }

    fn delete(&mut self, mailbox: MailboxId, mut serials: Vec<Serial>) {
        let (Some(hosts), Some(own)) = (self.mail.hosts.clone(), self.mail.own.get_mut(&mailbox)) else { return };
        serials.append(&mut own.undeleted);
        if serials.is_empty() {
            return;
        }
        let (at, secret) = (own.at.clone(), own.secret.clone());
        self.work.spawn(async move {
            let deleted = tokio::time::timeout(FETCH, hosts.delete(&at, &secret, &serials)).await;
            let done = matches!(deleted, Ok(Ok(())));
            Done::Mail(MailDone::Deleted { mailbox, serials, done })
        });
    }

    pub(super) fn on_deleted(&mut self, mailbox: MailboxId, serials: Vec<Serial>, done: bool) {
        if let Some(own) = self.mail.own.get_mut(&mailbox).filter(|_| !done) {
            // They go with the next ones; until then they are known when they come again.
            own.undeleted.extend(serials);
            own.undeleted.truncate(MAX_UNDELETED);
        }
    }
}

impl Own {
    /// How long the host is left alone, once more.
    fn deaf_for(&mut self) -> Duration {
        let wait = DEAF.saturating_mul(1 << self.deaf.min(6)).min(DEAF_MOST);
        self.deaf = self.deaf.saturating_add(1);
        wait
    }
}

/// Envelopes of one link that are handed in at once.
const AT_ONCE: usize = 8;
/// How long a poll may take.
const FETCH: Duration = Duration::from_secs(60);
/// How long a host that cannot be listened to is left alone: at first, and at most.
const DEAF: Duration = Duration::from_secs(1);
const DEAF_MOST: Duration = Duration::from_secs(60);
/// Serials that a host was told in vain to delete.
const MAX_UNDELETED: usize = 8_192;
