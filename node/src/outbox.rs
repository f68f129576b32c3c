//! The outbox: what is owed to other servers leaves in order, one transaction at a time per destination, and its rows go
//! only when the peer has staged it durably. Nothing is dropped for age or number. [`schedule`] decides who is served
//! when; this pump only executes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use millpond_store::{rows::OutboxItem, tables};
use ruma::{OwnedServerName, ServerName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Core, Error,
    keys::device_list_edus,
    peers::{self, PeerError, Peers, Route},
    presence::Presence,
    receipts::owes_receipts,
    rooms::Rooms,
    typing::Typing,
};

mod absence;
mod batch;
mod classic;
mod deliver;
mod post;
mod refused;
pub mod schedule;

use absence::Absences;
pub(crate) use post::posted;
use schedule::{InEvent, Schedule};

/// The outbox. Cloning is cheap.
#[derive(Clone)]
pub struct Outbox {
    core: Core,
    peers: Peers,
    typing: Typing,
    presence: Presence,
    rooms: Rooms,
    absences: Absences,
    refusals: refused::Refusals,
}

/// How long a peer may take to stage a transaction.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a peer that can be reached over mailboxes is tried directly before they are used.
const SHORT_TRY: Duration = Duration::from_secs(4);

/// How an attempt to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// The peer has it; there may be more.
    Done,
    /// There was nothing to send.
    Nothing,
    /// The peer could not be reached or did not take it.
    Failed,
}

impl Outbox {
    /// The service over peers, over what is of the moment (who types here, who is there), and over rooms, in which refused
    /// invites are taken back.
    pub fn new(core: Core, peers: Peers, (typing, presence): (Typing, Presence), rooms: Rooms) -> Self {
        let (absences, refusals) = (Absences::default(), refused::Refusals::default());
        Self { core, peers, typing, presence, rooms, absences, refusals }
    }

    /// Delivers until told to stop. A delivery that is cut off is repeated after the next start.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn pump(&self, stop: CancellationToken) -> Result<(), Error> {
        self.owe_set_aside().await?;
        let mut commits = self.core.notifier().positions();
        let mut link_ups = self.peers.link_ups();
        let mut woken = self.peers.woken();
        let mut schedule = match &self.core.config().classic {
            Some(classic) => Schedule::new(u64::try_from(classic.longest_wait.as_millis()).unwrap_or(u64::MAX)),
            None => Schedule::default(),
        };
        let mut sending = JoinSet::new();
        let mut devices_seen = 0;
        let mut offered: BTreeMap<OwnedServerName, BTreeSet<u64>> = BTreeMap::new();
        let mut forgotten = self.peers.mail_forgotten();
        loop {
            commits.mark_unchanged();
            let now_ms = self.core.clock().now_ms();
            let (work, mut by_mail) = self.with_work(&mut devices_seen)?;
            for server in work {
                schedule.handle(InEvent::Work(server), now_ms, 0);
            }
            by_mail.extend(schedule.away());
            for server in by_mail {
                self.post(&server, offered.entry(server.clone()).or_default()).await?;
            }
            for server in schedule.start(now_ms) {
                let outbox = self.clone();
                sending.spawn(async move { (outbox.deliver(&server).await, server) });
            }
            let wait = schedule.next_wake_ms().map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
            tokio::select! {
                () = stop.cancelled() => break,
                _ = commits.changed() => {}
                up = link_ups.recv() => {
                    if let Ok(server) = up {
                        schedule.handle(InEvent::LinkUp(server), now_ms, 0);
                    }
                }
                // The sender lives as long as the peers that this service holds.
                _ = woken.changed() => schedule.handle(InEvent::Woken, now_ms, 0),
                lost = forgotten.recv() => {
                    // What is not under way over mailboxes is offered again.
                    match lost {
                        Ok(server) => drop(offered.remove(&server)),
                        Err(_) => offered.clear(),
                    }
                }
                Some(ended) = sending.join_next() => self.delivered(&mut schedule, ended)?,
                () = sleep(wait) => {}
            }
        }
        sending.shutdown().await;
        Ok(())
    }

    fn delivered(
        &self,
        schedule: &mut Schedule,
        ended: Result<(Result<Delivery, Error>, OwnedServerName), tokio::task::JoinError>,
    ) -> Result<(), Error> {
        let (outcome, server) = ended.map_err(|e| Error::internal(format!("a delivery died: {e}")))?;
        let event = match outcome? {
            Delivery::Done => InEvent::Delivered(server),
            Delivery::Nothing => InEvent::Idle(server),
            Delivery::Failed => InEvent::Failed(server),
        };
        schedule.handle(event, self.core.clock().now_ms(), rand::random());
        Ok(())
    }

    /// The servers to which something is owed and to which there is a way; and those to whom something goes over mailboxes wherever
    /// they are.
    fn with_work(&self, devices_seen: &mut u64) -> Result<(Vec<OwnedServerName>, BTreeSet<OwnedServerName>), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut servers = self.classic_with_work(view, devices_seen)?;
        let mut by_mail = BTreeSet::new();
        for server in peers::linked_servers(view)? {
            let mut owed = false;
            for row in view.scan(tables::OUTBOX, (&*server,))? {
                if !matches!(row?.1, OutboxItem::Question | OutboxItem::Response(_)) {
                    owed = true;
                    break;
                }
                by_mail.insert(server.clone());
            }
            if owed
                || view.any(tables::KEY_PACKS_OWED, (&*server,))?
                || owes_receipts(view, self.core.identity(), &server, Route::Link)?
                || !device_list_edus(view, &server, Route::Link, 1)?.edus.is_empty()
                || !self.typing.edus(view, &server, Route::Link, 1)?.edus.is_empty()
                // Nobody is looked for to be told who is online.
                || self.presence.owes(&server) && self.peers.is_connected(&server)
            {
                servers.push(server);
            }
        }
        Ok((servers, by_mail))
    }

    async fn deliver(&self, server: &ServerName) -> Result<Delivery, Error> {
        if self.peers.mail_room(server).is_some() && !self.peers.is_there(server, SHORT_TRY).await {
            return Ok(Delivery::Failed);
        }
        let Some(batch) = self.next_batch(server)? else {
            return Ok(if self.passed_over(server) { Delivery::Failed } else { Delivery::Nothing });
        };
        match self.send(server, &batch).await {
            Ok(()) => {
                self.absences.ended(server);
                let aside = self.taken(server);
                self.forget(server, batch, aside).await?;
                Ok(Delivery::Done)
            }
            Err(error) if refused::is_about_content(&error) => self.refused(server, batch, &error).await,
            Err(error) => {
                tracing::debug!(%error, "a delivery failed and is repeated later");
                if matches!(error, PeerError::Classic(_)) {
                    self.peers.await_word(server);
                    self.absences.began(server, self.core.clock().now_ms());
                }
                if !error.is_retriable() || matches!(error, PeerError::Refused { .. }) {
                    tracing::warn!(%error, "a peer does not take what it is sent; trying again later");
                }
                Ok(Delivery::Failed)
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
