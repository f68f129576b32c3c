//! The node's long-lived loops, owned in one place: nothing is detached, and the end is ordered - stop taking in, drain,
//! close - each step with a deadline.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{OwnedServerName, ServerName};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Error, NodeHandle, peers::Answered};

/// The running loops of a node. Dropping it aborts them; what was answered is on the disk.
pub struct Supervisor {
    node: NodeHandle,
    loops: JoinSet<(&'static str, Result<(), Error>)>,
    stop: CancellationToken,
}

/// How long the loops may take to finish what they are at.
const DRAIN: Duration = Duration::from_secs(2);

impl NodeHandle {
    /// Starts the loops, and the overlay if there is any contact.
    ///
    /// # Errors
    /// When the stored links cannot be read or no port can be opened.
    pub async fn start(&self) -> Result<Supervisor, Error> {
        self.ask_others();
        self.user_directory.build().await?;
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("inbox", node.inbox.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("partial rooms", node.inbox.complete_rooms(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("outbox", node.outbox.pump(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move {
            token.run_until_cancelled(node.typing.run()).await;
            ("typing", Ok(()))
        });
        let (node, token) = (self.clone(), stop.clone());
        let watch = async move { token.run_until_cancelled(node.presence.run()).await.unwrap_or(Ok(())) };
        loops.spawn(async move { ("presence", watch.await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("links", node.follow_links(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("certificate", node.acme.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("names", node.prove_names(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("catch-up", node.catch_up(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("mail", node.mail.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("key packs", node.tend_key_packs(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("introductions", node.introductions.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("history", node.history.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("previews", node.previews.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("search", node.search.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("pushers", node.pushers.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("delayed events", node.delayed.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("clocks", node.watch_clocks(token).await) });
        self.links.resume().await?;
        Ok(Supervisor { node: self.clone(), loops, stop })
    }

    /// What is not here is asked of linked nodes from now on.
    fn ask_others(&self) {
        let peers = Arc::new(self.peers.clone());
        self.profiles.use_source(peers.clone());
        self.media.use_source(peers.clone());
        self.rooms.use_endorser(peers.clone());
        self.timeline.use_elsewhere(peers);
        self.timeline.connect(Arc::new(self.inbox.clone()));
    }

    /// Follows the links from the moment the overlay runs.
    async fn follow_links(&self, stop: CancellationToken) -> Result<(), Error> {
        let follow = async {
            self.links.started().await;
            self.peers.follow().await
        };
        stop.run_until_cancelled(follow).await.unwrap_or(Ok(()))
    }

    /// Only linked nodes have names to prove.
    async fn prove_names(&self, stop: CancellationToken) -> Result<(), Error> {
        match stop.run_until_cancelled(self.links.started()).await {
            Some(()) => self.peers.prove_names(stop).await,
            None => Ok(()),
        }
    }

    /// What a peer may ask about is known when the overlay runs.
    async fn tend_key_packs(&self, stop: CancellationToken) -> Result<(), Error> {
        match stop.run_until_cancelled(self.links.started()).await {
            Some(()) => self.keys.tend_packs(stop).await,
            None => Ok(()),
        }
    }

    /// What was missed while a link was down is asked for when it comes back: here every night is an outage. A peer that is
    /// not ready yet is asked again, as long as it stays.
    async fn catch_up(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut link_ups = self.peers.link_ups();
        let mut answers = self.peers.answers();
        self.peers.tell_answers()?;
        let mut again: BTreeMap<OwnedServerName, (Instant, u32)> = BTreeMap::new();
        loop {
            let next = again.iter().min_by_key(|(_, (at, _))| *at).map(|(server, (at, _))| (server.clone(), *at));
            let server = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                up = link_ups.recv() => match up {
                    Err(RecvError::Closed) => return Ok(()),
                    Err(RecvError::Lagged(_)) => continue,
                    Ok(server) => {
                        again.remove(&server);
                        server
                    }
                },
                described = self.inbox.described() => {
                    described?;
                    continue;
                }
                answered = answers.recv() => {
                    if let Ok(answered) = answered {
                        match stop.run_until_cancelled(self.go_on(&answered)).await {
                            Some(done) => done?,
                            None => return Ok(()),
                        }
                    }
                    continue;
                }
                server = due(next) => server,
            };
            let caught_up = match stop.run_until_cancelled(self.catch_up_with(&server)).await {
                Some(caught_up) => caught_up?,
                None => return Ok(()),
            };
            let tries = again.get(&server).map_or(0, |(_, tries)| *tries);
            if caught_up || tries == TRIES || !self.peers.is_connected(&server) {
                again.remove(&server);
            } else {
                again.insert(server, (Instant::now() + AGAIN * (tries + 1), tries + 1));
            }
        }
    }

    /// An answer has come out of a mailbox: who asked does again, and finds it.
    async fn go_on(&self, answered: &Answered) -> Result<(), Error> {
        let server = &answered.server;
        match answered.kind() {
            "media" => drop(self.media.fetch_wanted(server).await?),
            "user" => {
                if let Err(error) = self.keys.resync_stale(server).await {
                    tracing::debug!(%error, "device lists of a peer could not be refreshed yet");
                }
            }
            "backfill" | "get_missing_events" | "state" | "state_ids" => {
                if let Some(room_id) = answered.room() {
                    self.inbox.go_on(server, &room_id).await?;
                }
            }
            // Nobody waits: the next one who asks is told.
            _ => {}
        }
        Ok(())
    }

    /// Says whether the peer has answered everything.
    async fn catch_up_with(&self, server: &ServerName) -> Result<bool, Error> {
        self.keys.renew_packs(server).await?;
        self.inbox.confirm_rooms(server).await?;
        let mut answered = self.inbox.compare_frontiers(server).await?;
        // What could not be fetched stays marked and is asked for when it is needed.
        if let Err(error) = self.keys.resync_server(server).await {
            tracing::debug!(%error, "device lists of a peer could not be refreshed yet");
            answered = false;
        }
        Ok(self.media.fetch_wanted(server).await? && answered)
    }
}

async fn due(next: Option<(OwnedServerName, Instant)>) -> OwnedServerName {
    match next {
        Some((server, at)) => {
            tokio::time::sleep_until(at).await;
            server
        }
        None => std::future::pending().await,
    }
}

/// When a peer that is there and does not answer is asked again, longer each time.
const AGAIN: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;

impl Supervisor {
    /// Waits until a loop ends by itself: with an error, which the node should not live on with.
    pub async fn failed(&mut self) -> String {
        match self.loops.join_next().await {
            Some(Ok((name, Ok(())))) => format!("the {name} loop ended"),
            Some(Ok((name, Err(error)))) => format!("the {name} loop failed: {error}"),
            Some(Err(error)) => format!("a loop died: {error}"),
            None => "there are no loops".to_owned(),
        }
    }

    /// Ends the loops and the links.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let drained = tokio::time::timeout(DRAIN, async { while self.loops.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("some loops did not end in time and are cut off");
        }
        self.loops.shutdown().await;
        self.node.links.shutdown().await;
    }
}
