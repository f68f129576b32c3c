//! Mail: links carried over mailboxes. The driver holds our mailboxes and one session for each link; it issues stamps, polls,
//! holds slots, and does what the sessions return - first of all the commit, which stages what arrived.
//!
//! ```text
//! Post -> session Offer -> Slot -> commit -> deposit at the peer's host -> Outcome -> session
//! poll or announcement -> fetch -> judge (our own records) -> session Arrived -> commit (items staged) -> delete at the host
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_mailbox::discovery::DiscoverySecret;
use millpond_mailbox::frame::Grant;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_protocol::Fetched;
use millpond_mailbox::link::{Link, Phase};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::pickup;
use millpond_mailbox::schedule::{self, Mode};
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::{
    Context, DepositId, InEvent, MapRows, Offered, OutEvent, Outcome, OwnMailbox, Session,
};
use millpond_mailbox::stamp::{MailboxId, Serial};
use millpond_mailbox::time::UnixMillis;
use millpond_mailbox::way::Way;
use tokio::time::Instant;

use super::Driver;
use super::held::{self, Held};
use crate::clock;
use crate::error::Error;
use crate::event::MailInfo;
use crate::host_client::HostError;
use crate::hosts::Hosts;
use crate::store::Change;

mod backup;
mod boxes;
#[cfg(test)]
mod day;
mod epochs;
pub(super) mod hosting;
mod lodging;
mod own;
mod perform;
mod polls;
mod probes;
pub(super) mod rows;
pub(super) mod stamps;

pub use backup::backed_up;
pub(super) use own::Own;

/// Mailboxes, sessions, and when they are next looked at.
pub(super) struct Mail {
    hosts: Option<Hosts>,
    mode: Mode,
    own: BTreeMap<MailboxId, Own>,
    /// What is left of operators' leaves: each token makes one mailbox.
    tokens: BTreeMap<HostKey, epochs::Tokens>,
    /// Leaves that are not tokens and mailboxes yet.
    leaves: BTreeMap<HostKey, own::Making>,
    /// Hosts at which something is being made just now.
    making: BTreeMap<HostKey, Vec<own::Waiter>>,
    /// What contacts were given for the host beside this node.
    hosted: BTreeMap<LinkId, hosting::Hosted>,
    /// When contacts who were not there are told of it again, and the wait before that.
    showing: BTreeMap<LinkId, (Instant, Duration)>,
    /// The hosts that contacts have shown us.
    lodgings: BTreeMap<LinkId, lodging::Lodging>,
    sessions: BTreeMap<LinkId, Carried>,
    /// Boxes of open offers that are not left at every host yet.
    boxes: BTreeMap<LinkId, boxes::Left>,
    /// The next send slot in paced mode, and whether something waited for it when the driver last looked: to what comes up after
    /// a slot that nobody wanted, that slot is none.
    slot: UnixMillis,
    slot_wanted: bool,
    /// Hosts that are looked for because something waits for them.
    probes: BTreeMap<HostKey, probes::Probe>,
}

/// The session of one link, with what it has on disk.
pub(super) struct Carried {
    session: Session,
    rows: MapRows,
    /// Deposits on their way to hosts.
    in_air: usize,
}

/// What a task about mail has done.
pub(super) enum MailDone {
    Put { link: LinkId, host: HostKey, deposit: DepositId, outcome: Outcome },
    Fetched { mailbox: MailboxId, fetched: Result<Fetched, HostError> },
    Deleted { mailbox: MailboxId, serials: Vec<Serial>, done: bool },
    Deaf { mailbox: MailboxId },
    BoxLeft { link: LinkId, host: HostKey, left: bool },
    BoxTaken { link: LinkId, taken: Result<bytes::Bytes, HostError> },
    Created(Box<own::Created>),
    Renewed(Box<epochs::Renewed>),
    StampsGiven { link: LinkId, grants: Vec<Grant>, given: bool },
    Probed { host: HostKey, reached: bool },
    HostShown { link: LinkId, hosted: hosting::Hosted },
}

impl Mail {
    pub(super) fn new(hosts: Option<Hosts>, mode: Mode, loaded: rows::Loaded) -> Self {
        let rows::Loaded { own, tokens, leaves, hosted, lodgings, sessions, boxes } = loaded;
        Self {
            hosts,
            mode,
            own,
            tokens,
            leaves,
            making: BTreeMap::new(),
            hosted,
            showing: BTreeMap::new(),
            lodgings,
            sessions,
            boxes,
            slot: UnixMillis(0),
            slot_wanted: false,
            probes: BTreeMap::new(),
        }
    }

    /// Our mailboxes as sessions see them.
    fn shown(&self) -> Vec<OwnMailbox> {
        self.own.values().map(Own::shown).collect()
    }

    /// What is shown of the session of a link.
    pub(super) fn info(&self, link: LinkId) -> Option<MailInfo> {
        let carried = self.sessions.get(&link)?;
        let session = &carried.session;
        let (small, large) = session.credit();
        Some(MailInfo {
            room: session.room_for_more(),
            unacknowledged: session.unacknowledged(),
            busy: carried.in_air > 0
                || session.wants_slot(clock::now(), &self.shown()).is_some_and(|at| at <= clock::now()),
            stamps: small + large,
            dormant: session.is_dormant(),
            last_heard: session.last_heard(),
        })
    }

    /// What finds the onion service of the peer of a link.
    pub(super) fn discovery(&self, link: LinkId) -> Option<DiscoverySecret> {
        self.sessions.get(&link).map(|carried| carried.session.discovery())
    }

    pub(super) fn is_carried(&self, link: LinkId) -> bool {
        self.sessions.contains_key(&link)
    }

    /// The hosts of our mailboxes in use, as ways to tell.
    pub(super) fn ways(&self) -> Vec<Way> {
        let mut ways: Vec<Way> = Vec::new();
        for own in self.own.values().filter(|own| !own.recovery && !own.draining) {
            let way = Way::Mailbox(own.at.clone());
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }

    /// Forgets what belonged to a link.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.sessions.remove(&link);
        self.boxes.remove(&link);
        self.hosted.remove(&link);
        self.showing.remove(&link);
        self.lodgings.remove(&link);
    }

    /// Whether something is due by the next slot.
    fn wants_slot(&self, now: UnixMillis) -> bool {
        let shown = self.shown();
        let mut due = self.sessions.values().filter_map(|carried| carried.session.wants_slot(now, &shown));
        due.any(|due| due <= self.slot)
    }

    /// When something is next to be done, for the driver's timer.
    pub(super) fn next_wake(&self, now: UnixMillis) -> Option<UnixMillis> {
        let polls = self.own.values().filter(|own| !own.polling).map(|own| own.next_poll);
        let shown = self.shown();
        let slots = self.sessions.values().filter_map(|carried| carried.session.wants_slot(now, &shown));
        let slots = slots.map(|due| schedule::slot_for(self.mode, due, self.slot));
        let boxes = self.boxes.values().filter_map(boxes::Left::due);
        let epochs = self.epoch_wake();
        let probes = self.probes.values().filter_map(probes::Probe::due);
        polls.chain(slots).chain(boxes).chain(epochs).chain(probes).min().filter(|_| self.hosts.is_some())
    }
}

impl Mail {
    /// Cuts the connections to hosts and what is asked on them.
    pub(super) fn hang_up(&self) {
        if let Some(hosts) = &self.hosts {
            hosts.cut();
        }
    }

    /// Every mailbox is to be read now, and every host looked for that something waits for.
    pub(super) fn all_due(&mut self, now: UnixMillis) {
        for own in self.own.values_mut() {
            (own.next_poll, own.deaf_until, own.deaf) = (now, now, 0);
        }
        self.probes.values_mut().for_each(|probe| probe.now(now));
    }

    /// The device slept until now: peers that gave us up meanwhile are to hear of us.
    pub(super) fn woken(&mut self) {
        self.sessions.values_mut().for_each(|carried| carried.session.woken());
    }

    /// Ends the connections to hosts.
    pub(super) async fn stop(&self) {
        if let Some(hosts) = &self.hosts {
            hosts.stop().await;
        }
    }
}

impl Driver {
    /// How long nothing about mail need be done.
    pub(super) fn mail_wait(&self) -> Option<Duration> {
        if self.asleep {
            return None;
        }
        let now = clock::now();
        let lodging = self.lodging_wake().filter(|_| self.mail.hosts.is_some());
        let at = self.mail.next_wake(now).into_iter().chain(lodging).min()?;
        Some(Duration::from_millis(at.0.saturating_sub(now.0)).max(BREATH))
    }

    /// Begins the sessions of links that can have one: whoever has mailboxes, or stamps for the other's.
    pub(super) async fn begin_sessions(&mut self) {
        let ready = |held: &&Held| {
            held.link.phase() == Phase::Established
                && !self.mail.is_carried(held.link.id())
                && self.mail.hosts.is_some()
        };
        let ready = self
            .links
            .values()
            .filter(ready)
            .filter(|held| !self.mail.own.is_empty() || !pickup::intro_stamps(&held.link).is_empty());
        let ids: Vec<LinkId> = ready.map(|held| held.link.id()).collect();
        for id in ids {
            if let Err(error) = self.begin_session(id).await {
                tracing::warn!(%error, "the session of a link could not be begun");
            }
        }
    }

    /// What goes from the disk with a link; stamps that its peer holds are good for nothing from then on.
    pub(super) fn mail_removal(&mut self, id: LinkId) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(carried) = self.mail.sessions.get(&id) {
            changes.extend(rows::removal(id, &carried.rows));
        }
        if self.mail.boxes.contains_key(&id) {
            changes.push(Change::Remove(boxes::key(id)));
        }
        if self.mail.hosted.contains_key(&id) {
            changes.push(Change::Remove(hosting::key(id)));
        }
        if self.mail.lodgings.contains_key(&id) {
            changes.push(Change::Remove(lodging::key(id)));
        }
        self.mail.own.values_mut().for_each(|own| changes.extend(own.revoke(id)));
        changes
    }

    /// Whether the peer of a link has fewer stamps than it should.
    pub(super) fn lacks_stamps(&self, id: LinkId) -> bool {
        let shown = self.mail.shown();
        self.mail.sessions.get(&id).is_some_and(|carried| !carried.session.stamps_wanted(&shown).is_empty())
    }

    pub(super) async fn begin_session(&mut self, id: LinkId) -> Result<(), Error> {
        let Some(held) = self.links.get(&id) else { return Ok(()) };
        let (mut link, kept) = (held.link.clone(), held.kept.clone());
        let stamps = pickup::intro_stamps(&link);
        let begun = Session::begin(&mut link, self.me.name(), stamps, clock::now());
        let Ok(session) = begun else { return Ok(()) };
        let first = session.first_commit();
        self.take_session(id, (link, kept), session, vec![first]).await
    }

    /// Keeps a new session together with its link, and does what it wants done.
    pub(super) async fn take_session(
        &mut self,
        id: LinkId,
        (link, kept): (Link, held::Kept),
        session: Session,
        effects: Vec<OutEvent>,
    ) -> Result<(), Error> {
        let mut carried = Carried { session, rows: MapRows::default(), in_air: 0 };
        let mut changes = vec![Change::Put(Held::record(&link, &kept))];
        for effect in &effects {
            if let OutEvent::Persist(commit) = effect {
                changes.extend(rows::changes(id, commit));
                carried.rows.apply(commit);
            }
        }
        self.commit(changes, "store the session of a link").await?;
        if let Some(held) = self.links.get_mut(&id) {
            (held.link, held.kept) = (link, kept);
        }
        self.mail.sessions.insert(id, carried);
        let rest = effects.into_iter().filter(|effect| !matches!(effect, OutEvent::Persist(_))).collect();
        self.perform(id, rest).await;
        self.tell_descriptor(id).await;
        self.publish();
        Ok(())
    }

    /// The node offers items for a peer.
    pub(super) async fn post(&mut self, to: &NodeName, items: Vec<Offered>) {
        let Some(id) = held::best(&self.links, to).map(|held| held.link.id()) else { return };
        self.feed(id, InEvent::Offer(items), Vec::new()).await;
        self.mail_due().await;
    }

    /// Feeds a session and does what it returns. `with` is committed together with what it persists. Says whether it was.
    pub(super) async fn feed(&mut self, id: LinkId, event: InEvent, with: Vec<Change>) -> bool {
        let shown = self.mail.shown();
        let Some(carried) = self.mail.sessions.get_mut(&id) else { return false };
        let effects = {
            let Carried { session, rows, .. } = carried;
            let ctx = Context { now: clock::now(), identity: &self.me.identity, mailboxes: &shown, rows };
            session.handle(&ctx, event, &mut clock::random())
        };
        self.perform_with(id, effects, with).await
    }

    /// Does everything whose time has come.
    pub(super) async fn mail_due(&mut self) {
        if self.mail.hosts.is_none() || self.asleep {
            return;
        }
        let now = clock::now();
        self.epochs_due(now).await;
        self.lodge_due(now).await;
        self.poll_due(now);
        self.boxes_due(now);
        let shown = self.mail.shown();
        let paced = matches!(self.mail.mode, Mode::Paced { .. });
        if paced && !self.mail.slot_wanted && self.mail.slot <= now {
            self.mail.slot = schedule::next_slot(self.mail.mode, now, &mut clock::random());
        }
        if paced && self.mail.slot > now {
            self.mail.slot_wanted = self.mail.wants_slot(now);
            return;
        }
        if let Some(hosts) = self.mail.hosts.as_ref().filter(|_| paced) {
            hosts.new_slot();
        }
        let due = |carried: &&Carried| carried.session.wants_slot(now, &shown).is_some_and(|at| at <= now);
        let due: Vec<LinkId> = self.mail.sessions.values().filter(due).map(|carried| carried.session.link()).collect();
        for id in due {
            self.grant(id, &shown).await;
            self.feed(id, InEvent::Slot, Vec::new()).await;
        }
        if paced {
            self.mail.slot = schedule::next_slot(self.mail.mode, now, &mut clock::random());
            self.mail.slot_wanted = self.mail.wants_slot(now);
        }
        self.probes_due(now);
        self.publish();
    }

    pub(super) async fn on_mail(&mut self, done: MailDone) {
        match done {
            MailDone::Put { link, host, deposit, outcome } => {
                if let Some(carried) = self.mail.sessions.get_mut(&link) {
                    carried.in_air = carried.in_air.saturating_sub(1);
                }
                self.feed(link, InEvent::Outcome { deposit, outcome }, Vec::new()).await;
                if outcome == Outcome::Stored {
                    self.host_answers(host).await;
                }
            }
            MailDone::Probed { host, reached } => self.on_probed(host, reached).await,
            MailDone::Fetched { mailbox, fetched } => self.on_fetched(mailbox, fetched).await,
            MailDone::Deleted { mailbox, serials, done } => self.on_deleted(mailbox, serials, done),
            MailDone::Deaf { mailbox } => self.on_deaf(mailbox),
            MailDone::BoxLeft { link, host, left } => self.on_box_left(link, host, left).await,
            MailDone::BoxTaken { link, taken } => self.on_box_taken(link, taken).await,
            MailDone::Created(created) => self.on_created(*created).await,
            MailDone::Renewed(renewed) => self.on_renewed(*renewed).await,
            MailDone::HostShown { link, hosted } => self.on_host_shown(link, hosted).await,
            MailDone::StampsGiven { link, grants, given } => self.on_stamps_given(link, grants, given).await,
        }
        self.mail_due().await;
        self.publish();
    }
}

/// Between two looks: what a client sends in one go goes in one envelope.
const BREATH: Duration = Duration::from_millis(50);
