//! Links with members of shared rooms whom we know through others only: each is asked for through a member that both are
//! linked to (overlay.md section 2). Nobody waits for it; until then events come by way of those members.
//!
//! Of two nodes the one with the smaller name begins; the other one steps in when nothing has come of it.

use std::{collections::BTreeMap, time::Duration};

use millpond_store::{View, tables};
use ruma::{OwnedRoomId, OwnedServerName, ServerName};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Core, Error,
    links::Links,
    peers::{Peers, is_linked, node_of},
};

/// Asks for introductions. Cloning is cheap.
#[derive(Clone)]
pub struct Introductions {
    core: Core,
    links: Links,
    peers: Peers,
}

/// Commits come in bursts: look once after each.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the node with the larger name waits for the other one.
const COURTESY: Duration = Duration::from_secs(30);
/// Between two attempts at one node: this, doubled each time, up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_secs(20);
const BACK_OFF_MAX: Duration = Duration::from_secs(3600);
/// For a carrier to take an introduction, which it passes on first.
const PATIENCE: Duration = Duration::from_secs(40);
/// Introductions begun in one look; the rest waits for the next one.
const AT_ONCE: usize = 8;

/// What is known of the way to a stranger.
#[derive(Clone, Debug)]
struct Stranger {
    next: Instant,
    tries: u32,
}

/// A room that we share with a stranger, and the linked members who could carry.
#[derive(Clone, Debug)]
struct Shared {
    room_id: OwnedRoomId,
    carriers: Vec<OwnedServerName>,
}

impl Introductions {
    /// The service over links and peers.
    pub fn new(core: Core, links: Links, peers: Peers) -> Self {
        Self { core, links, peers }
    }

    /// Looks for strangers after each burst of commits, until told to stop.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        stop.run_until_cancelled(self.look_forever()).await.unwrap_or(Ok(()))
    }

    async fn look_forever(&self) -> Result<(), Error> {
        let mut commits = self.core.notifier().positions();
        let mut known: BTreeMap<OwnedServerName, Stranger> = BTreeMap::new();
        loop {
            commits.mark_unchanged();
            let strangers = self.strangers()?;
            known.retain(|server, _| strangers.contains_key(server));
            for server in strangers.keys() {
                known.entry(server.clone()).or_insert_with(|| self.first_seen(server));
            }
            let now = Instant::now();
            let due: Vec<_> =
                known.iter().filter(|(_, stranger)| stranger.next <= now).map(|(name, _)| name.clone()).collect();
            for server in due.into_iter().take(AT_ONCE) {
                let tries = known.get(&server).map_or(0, |stranger| stranger.tries);
                self.introduce(&server, &strangers[&server], tries).await?;
                known.insert(
                    server,
                    Stranger { next: Instant::now() + back_off(tries), tries: tries.saturating_add(1) },
                );
            }
            let next = known.values().map(|stranger| stranger.next).min();
            let wait = next.map(|next| next.saturating_duration_since(Instant::now())).unwrap_or(BACK_OFF_MAX);
            // A sender that is gone means that the node ends; the caller's token ends this.
            let _ = timeout(wait, commits.changed()).await;
            sleep(PAUSE).await;
        }
    }

    fn first_seen(&self, server: &ServerName) -> Stranger {
        let first = self.core.identity().server_name() < server;
        Stranger { next: Instant::now() + if first { Duration::ZERO } else { COURTESY }, tries: 0 }
    }

    /// Members of our overlay rooms without a link, and who could carry an introduction to them.
    fn strangers(&self) -> Result<BTreeMap<OwnedServerName, Vec<Shared>>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut strangers: BTreeMap<OwnedServerName, Vec<Shared>> = BTreeMap::new();
        for row in view.scan(tables::ROOMS, ())? {
            let (room, row) = row?;
            if !row.overlay || !view.contains(tables::ROOM_SERVERS, (room, self.core.identity().server_name()))? {
                continue;
            }
            let (linked, others) = self.members(view, room)?;
            if linked.is_empty() {
                continue;
            }
            for server in others {
                let shared = Shared { room_id: row.room_id.clone(), carriers: linked.clone() };
                strangers.entry(server).or_default().push(shared);
            }
        }
        Ok(strangers)
    }

    /// The linked member servers of a room, and the others.
    fn members(
        &self,
        view: View<'_>,
        room: millpond_store::rows::RoomShort,
    ) -> Result<(Vec<OwnedServerName>, Vec<OwnedServerName>), Error> {
        let (mut linked, mut others) = (Vec::new(), Vec::new());
        for row in view.scan(tables::ROOM_SERVERS, (room,))? {
            let ((_, server), _) = row?;
            if self.core.identity().is_ours(&server) {
                continue;
            }
            if is_linked(view, &server)? { linked.push(server) } else { others.push(server) }
        }
        Ok((linked, others))
    }

    /// Tries each carrier in turn, another one first each time.
    async fn introduce(&self, to: &ServerName, shared: &[Shared], tries: u32) -> Result<(), Error> {
        let ways: Vec<_> =
            shared.iter().flat_map(|room| room.carriers.iter().map(|carrier| (&room.room_id, carrier))).collect();
        let first = usize::try_from(tries).unwrap_or_default() % ways.len().max(1);
        for (room_id, carrier) in ways.iter().cycle().skip(first).take(ways.len()) {
            if self.introduce_by(carrier, to, room_id).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn introduce_by(&self, carrier: &ServerName, to: &ServerName, room_id: &ruma::RoomId) -> Result<bool, Error> {
        if self.peers.document(to)?.is_none() && !self.peers.fetch_document(to, carrier).await? {
            return Ok(false);
        }
        let Some(document) = self.peers.document(to)? else { return Ok(false) };
        let Some(name) = node_of(self.core.snapshot()?.view(), carrier)? else { return Ok(false) };
        let overlay = self.links.overlay().await?;
        match overlay.introduce(&name, &document, room_id.as_str(), Instant::now() + PATIENCE).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::debug!(%error, "an introduction was not carried");
                Ok(false)
            }
        }
    }
}

/// The wait after so many attempts, with jitter, so that a room that was offline does not begin in step.
fn back_off(tries: u32) -> Duration {
    let wait = BACK_OFF.saturating_mul(1 << tries.min(10)).min(BACK_OFF_MAX);
    wait.mul_f64(0.75 + rand::random::<f64>() / 2.0)
}
