//! One of our mailboxes: its key, where it is, and which stamps are out.

use std::collections::BTreeMap;

use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::token::{Grant as Leave, Token, TokenRequest};
use tokio::sync::oneshot;

use millpond_mailbox::frame::Grant;
use millpond_mailbox::host_protocol::Cursor;
use millpond_mailbox::mailbox::{BatchId, Issued, MailboxSecret, SerialSet, draw_serials};
use millpond_mailbox::rand_core::CryptoRng;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::OwnMailbox;
use millpond_mailbox::stamp::{Class, Serial};
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::way::HostAddress;

use super::epochs::Tokens;
use super::{MailDone, rows};
use crate::clock;
use crate::driver::{Done, Driver, respond};
use crate::error::Error;
use crate::event::MailboxInfo;
use crate::host_client::HostError;
use crate::hosts;
use crate::store::Change;

/// A mailbox of ours.
pub(in crate::driver) struct Own {
    pub(super) secret: MailboxSecret,
    pub(super) at: HostAddress,
    pub(super) recovery: bool,
    pub(super) draining: bool,
    pub(super) opened: UnixMillis,
    pub(super) issued: BTreeMap<Serial, Issued>,
    serials: SerialSet,
    /// Up to where it was read; from the start after each start of the node.
    pub(super) cursor: Cursor,
    pub(super) next_poll: UnixMillis,
    pub(super) polling: bool,
    /// Something came while it was being read.
    pub(super) again: bool,
    /// A stream is open on which the host announces what comes.
    pub(super) listening: bool,
    /// Until when that is not tried.
    pub(super) deaf_until: UnixMillis,
    /// How often in a row it could not be listened to or read.
    pub(super) deaf: u8,
    /// When it was last read.
    pub(super) read: Option<UnixMillis>,
    /// The last attempt to read it failed.
    pub(super) unread: bool,
    /// Taken out, and not deleted at the host yet.
    pub(super) undeleted: Vec<Serial>,
    /// Its host says that there is no such mailbox.
    pub(super) lost: bool,
    /// Something was left there, of peers of whom too much waits here.
    pub(super) put_off: Vec<LinkId>,
}

impl Own {
    pub(super) fn new(secret: MailboxSecret, at: HostAddress, recovery: bool, opened: UnixMillis) -> Self {
        Self {
            secret,
            at,
            recovery,
            draining: false,
            opened,
            issued: BTreeMap::new(),
            serials: SerialSet::new(),
            cursor: Cursor(0),
            next_poll: UnixMillis(0),
            polling: false,
            again: false,
            listening: false,
            deaf_until: UnixMillis(0),
            deaf: 0,
            read: None,
            unread: false,
            undeleted: Vec::new(),
            lost: false,
            put_off: Vec::new(),
        }
    }

    pub(super) fn shown(&self) -> OwnMailbox {
        OwnMailbox { id: self.secret.id(), host: self.at.host, recovery: self.recovery, draining: self.draining }
    }

    /// Takes over what is on disk about a serial.
    pub(super) fn known(&mut self, serial: Serial, issued: Issued) {
        self.serials.insert(serial);
        self.issued.insert(serial, issued);
    }

    /// Whether contacts would soon be without stamps, and new ones too.
    pub(super) fn is_nearly_used_up(&self) -> bool {
        self.serials.len() >= NEARLY_ALL
    }

    /// Makes stamps for a link, and the rows that must be on disk before they leave. `None`: too few serials are left.
    pub(super) fn issue(
        &mut self,
        link: LinkId,
        class: Class,
        count: usize,
        rng: &mut impl CryptoRng,
    ) -> Option<(Grant, Vec<Change>)> {
        let batch = if self.recovery { self.secret.recovery_batch(link) } else { BatchId::generate(rng) };
        let serials = draw_serials(&mut self.serials, count, rng)?;
        let id = self.secret.id();
        let mut changes = Vec::with_capacity(count);
        for serial in &serials {
            let issued = Issued { link, batch, class, used: false, revoked: false };
            changes.push(Change::Put(rows::serial_record(&id, *serial, &issued)));
            self.issued.insert(*serial, issued);
        }
        let batch = self.secret.issue(batch, class, &serials);
        Some((Grant { host: self.at.host, recovery: self.recovery, batch }, changes))
    }

    /// What becomes of the rows when a link is taken out of use: what comes under its stamps is dropped in silence.
    pub(super) fn revoke(&mut self, link: LinkId) -> Vec<Change> {
        let id = self.secret.id();
        let theirs = self.issued.iter_mut().filter(|(_, issued)| issued.link == link && !issued.used);
        theirs
            .map(|(serial, issued)| {
                issued.revoked = true;
                Change::Put(rows::serial_record(&id, *serial, issued))
            })
            .collect()
    }
}

/// A leave on its way to tokens and mailboxes: on disk before anything is asked, for the host takes it once.
#[derive(Clone)]
pub(in crate::driver) struct Making {
    pub(super) link: HostLink,
    pub(super) leave: Leave,
    pub(super) request: TokenRequest,
    /// Of the mailbox and of the recovery mailbox.
    pub(super) secrets: (MailboxSecret, MailboxSecret),
    /// The link of the contact who has shown the host; none: the user pasted a link.
    pub(super) by: Option<LinkId>,
}

/// Somebody who waits for a mailbox.
pub(in crate::driver) type Waiter = oneshot::Sender<Result<(), Error>>;

/// Mailboxes that were made at a host, or why they were not.
pub(in crate::driver) struct Created {
    made: Result<(Vec<Own>, Vec<Token>), HostError>,
    at: HostAddress,
    /// The link of the contact who has shown the host.
    by: Option<LinkId>,
}

impl Driver {
    /// Makes a mailbox and a recovery mailbox at a host, with the operator's leave; the tokens that are left are kept for later. Where there is a
    /// mailbox already the leave becomes tokens for the next ones. `by` is the link of the contact who has shown the host; those at `instead_of` are
    /// to go when it is made.
    pub(in crate::driver) async fn make_mailbox(
        &mut self,
        (link, leave): (HostLink, Leave),
        by: Option<LinkId>,
        instead_of: Option<HostKey>,
        reply: Option<Waiter>,
    ) {
        let host = link.way.key();
        let begun = self.mail.leaves.get(&host).is_some_and(|making| making.leave == leave);
        if let Some(waiters) = self.mail.making.get_mut(&host).filter(|waiters| begun && waiters.len() < MAX_WAITERS) {
            waiters.extend(reply);
            return;
        }
        match self.may_make(host, begun, instead_of) {
            Ok(hosts) => self.make_at(hosts, (link, leave, by), reply).await,
            Err(why) => answer(reply, Err(Error::Contact { doing: DOING, why: why.to_owned() })),
        }
    }

    fn may_make(&self, host: HostKey, begun: bool, instead_of: Option<HostKey>) -> Result<hosts::Hosts, &'static str> {
        let hosts = self.mail.hosts.clone().ok_or("this node has no way to mailbox hosts")?;
        let in_use = self.mail.own.values().filter(|own| !own.recovery && !own.draining);
        let hosts_in_use: Vec<_> = in_use.map(|own| own.at.host).collect();
        let going = hosts_in_use.iter().filter(|host| Some(**host) == instead_of).count();
        let taken = hosts_in_use.len() + self.mail.making.len() - going;
        if !hosts_in_use.contains(&host) && taken >= MAX_IN_USE {
            return Err("there are two at other hosts: move one");
        }
        if self.mail.making.contains_key(&host) {
            return Err("another one is being made at this host: wait for it");
        }
        if !begun && self.mail.leaves.len() >= MAX_LEAVES {
            return Err("too many are being made at hosts that do not answer");
        }
        Ok(hosts)
    }

    async fn make_at(
        &mut self,
        hosts: hosts::Hosts,
        (link, leave, by): (HostLink, Leave, Option<LinkId>),
        reply: Option<Waiter>,
    ) {
        let host = link.way.key();
        let begun = self.mail.leaves.get(&host).filter(|making| making.leave == leave).cloned();
        let making = begun.unwrap_or_else(|| {
            let rng = &mut clock::random();
            let request = TokenRequest::generate(TOKENS, rng);
            let secrets = (MailboxSecret::generate(rng), MailboxSecret::generate(rng));
            Making { link: link.clone(), leave, request, secrets, by }
        });
        // Its addresses may be others by now.
        let making = Making { link, ..making };
        let change = Change::Put(rows::leave_record(&making));
        if let Err(error) = self.commit(vec![change], "store the leave of a mailbox host").await {
            return answer(reply, Err(error));
        }
        self.mail.leaves.insert(host, making.clone());
        self.begin_making(hosts, making, reply);
    }

    /// What was begun before the last start is done again, with the same leave and the same keys.
    pub(in crate::driver) fn resume_making(&mut self) {
        let Some(hosts) = self.mail.hosts.clone() else { return };
        let begun: Vec<Making> = self.mail.leaves.values().cloned().collect();
        begun.into_iter().for_each(|making| self.begin_making(hosts.clone(), making, None));
    }

    fn begin_making(&mut self, hosts: hosts::Hosts, making: Making, reply: Option<Waiter>) {
        let host = making.link.way.key();
        self.mail.making.insert(host, reply.into_iter().collect());
        // With a mailbox there the leave is for the tokens alone.
        let wanted = |recovery: bool| {
            let in_use = |own: &Own| own.at.host == host && own.recovery == recovery && !own.draining;
            !self.mail.own.values().any(in_use)
        };
        let wanted = [(false, wanted(false)), (true, wanted(true))];
        self.work.spawn(async move {
            let Making { link, leave, request, secrets, by } = making;
            let at = hosts::address(&link.way);
            let made = async {
                let mut tokens = hosts.tokens(&link.way, &link.tokens, &leave, &request).await?;
                let mut made = Vec::new();
                for ((recovery, wanted), secret) in wanted.into_iter().zip([secrets.0, secrets.1]) {
                    if !wanted {
                        continue;
                    }
                    let Some(token) = tokens.pop() else { return Err(HostError::TokenRefused) };
                    hosts.create(&at, &secret, recovery, &token).await?;
                    made.push(Own::new(secret, at.clone(), recovery, clock::now()));
                }
                Ok((made, tokens))
            };
            let made = made.await;
            Done::Mail(MailDone::Created(Box::new(Created { made, at, by })))
        });
    }

    pub(super) async fn on_created(&mut self, created: Created) {
        let Created { made, at, by } = created;
        let waiters = self.mail.making.remove(&at.host).unwrap_or_default();
        let kept = match made {
            Ok((made, tokens)) => {
                let mut changes: Vec<Change> = made.iter().map(|own| Change::Put(rows::mailbox_record(own))).collect();
                let mut left = self.mail.tokens.remove(&at.host).map(|tokens| tokens.left).unwrap_or_default();
                left.extend(tokens);
                let tokens = Tokens::new(at, left);
                changes.push(Change::Put(tokens.record()));
                changes.push(Change::Remove(rows::leave_key(&tokens.at.host)));
                self.mail.leaves.remove(&tokens.at.host);
                changes
                    .extend(by.filter(|_| !made.is_empty()).and_then(|by| self.mail.note_lodged(by, tokens.at.host)));
                self.mail.tokens.insert(tokens.at.host, tokens);
                let kept = self.commit(changes, "store the new mailbox").await.map_err(|error| error.to_string());
                if kept.is_ok() {
                    self.mail.own.extend(made.into_iter().map(|own| (own.secret.id(), own)));
                    self.mailboxes_changed().await;
                }
                kept
            }
            Err(error) => {
                let refused = matches!(error, HostError::TokenRefused | HostError::Tokens { .. });
                if refused && self.mail.leaves.remove(&at.host).is_some() {
                    let gone = vec![Change::Remove(rows::leave_key(&at.host))];
                    if let Err(error) = self.commit(gone, "forget a refused leave").await {
                        tracing::warn!(%error, "a refused leave stays, and is tried again at the next start");
                    }
                }
                Err(error.to_string())
            }
        };
        if let Err(why) = &kept
            && waiters.is_empty()
        {
            tracing::warn!(why, "a mailbox that was begun is not made yet");
        }
        for waiter in waiters {
            respond(waiter, kept.clone().map_err(|why| Error::Contact { doing: DOING, why }));
        }
    }

    /// With a mailbox at an onion service this node shows its IP address to nobody.
    pub(in crate::driver) fn note_onion(&self) {
        if self.mail.own.values().any(|own| hosts::is_onion(&own.at)) {
            self.routes.note_onion();
        }
    }

    /// Contacts are told of our hosts, and links that had no session get one.
    pub(super) async fn mailboxes_changed(&mut self) {
        self.note_onion();
        self.begin_sessions().await;
        let ids: Vec<LinkId> = self.mail.sessions.keys().copied().collect();
        for id in ids {
            self.tell_descriptor(id).await;
        }
        let connected = self.links.values().filter(|held| held.route().is_some()).map(|held| held.link.id());
        let connected: Vec<LinkId> = connected.collect();
        for id in connected {
            self.give_stamps(id);
            self.answer_with_stamps(id);
        }
    }

    /// Takes the mailboxes at a host out of use; they are read until they close.
    pub(in crate::driver) async fn leave_host(&mut self, host: HostKey) -> Result<(), Error> {
        let mut changes: Vec<Change> = Vec::new();
        for own in self.mail.own.values_mut().filter(|own| own.at.host == host) {
            own.draining = true;
            changes.push(Change::Put(rows::mailbox_record(own)));
        }
        changes.extend(self.mail.note_left(host));
        self.commit(changes, "take a mailbox out of use").await?;
        self.mailboxes_changed().await;
        Ok(())
    }

    /// Our mailboxes, for the user.
    pub(in crate::driver) fn mailboxes(&self) -> Vec<MailboxInfo> {
        let shown = |own: &Own| MailboxInfo {
            host: own.at.host,
            recovery: own.recovery,
            draining: own.draining,
            opened: own.opened,
            listening: own.listening,
            read: own.read,
            onion: hosts::is_onion(&own.at),
        };
        self.mail.own.values().map(shown).collect()
    }
}

/// Whoever waits hears of it.
fn answer(reply: Option<Waiter>, result: Result<(), Error>) {
    match (reply, result) {
        (Some(reply), result) => respond(reply, result),
        (None, Err(error)) => tracing::debug!(%error, "a mailbox is not made yet"),
        (None, Ok(())) => {}
    }
}

const DOING: &str = "make a mailbox";
/// Of the 61,440 stamps of a mailbox.
const NEARLY_ALL: u32 = 49_152;
/// Mailboxes in use, each at another host (overlay.md, section 5).
pub(super) const MAX_IN_USE: usize = 2;
/// Leaves that may wait for their hosts at once.
const MAX_LEAVES: usize = 8;
/// Those who may wait for one mailbox.
const MAX_WAITERS: usize = 16;
/// Tokens that one leave of an operator is turned into: for a year of epochs of seven days, and more.
const TOKENS: usize = millpond_mailbox::token::MAX_TOKENS;
