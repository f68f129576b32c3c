//! The node's long-lived loops, owned in one place: nothing is detached, and the end is ordered - stop taking in, drain,
//! close - each step with a deadline.

use std::{sync::Arc, time::Duration};

use tokio::{sync::broadcast::error::RecvError, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Error, NodeHandle};

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
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("inbox", node.inbox.work(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("outbox", node.outbox.pump(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move {
            token.run_until_cancelled(node.typing.run()).await;
            ("typing", Ok(()))
        });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("links", node.follow_links(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("device lists", node.resync_device_lists(token).await) });
        let (node, token) = (self.clone(), stop.clone());
        loops.spawn(async move { ("introductions", node.introductions.work(token).await) });
        self.links.resume().await?;
        Ok(Supervisor { node: self.clone(), loops, stop })
    }

    /// What is not here is asked of linked nodes from now on.
    fn ask_others(&self) {
        let peers = Arc::new(self.peers.clone());
        self.profiles.use_source(peers.clone());
        self.media.use_source(peers);
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

    /// A link that comes back may have missed device list updates: here every night is an outage.
    async fn resync_device_lists(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut link_ups = self.peers.link_ups();
        loop {
            let server = match stop.run_until_cancelled(link_ups.recv()).await {
                None | Some(Err(RecvError::Closed)) => return Ok(()),
                Some(Err(RecvError::Lagged(_))) => continue,
                Some(Ok(server)) => server,
            };
            // What could not be fetched stays marked and is asked for when it is needed.
            if let Err(error) = self.keys.resync_server(&server).await {
                tracing::debug!(%error, "device lists of a peer could not be refreshed yet");
            }
        }
    }
}

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
