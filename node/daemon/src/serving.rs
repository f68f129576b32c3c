//! A node at work: its listeners served, its loops running, and the ordered end of both.

use std::time::Duration;

use anyhow::Context;
use millpond_api::Listener;
use millpond_node::{NodeHandle, Supervisor};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Time for an ordered end; what is not done by then is cut off. What was answered is on the disk.
const SHUTDOWN: Duration = Duration::from_millis(4500);

/// A node at work. Dropping it cuts it off.
pub(crate) struct Serving {
    supervisor: Supervisor,
    http: JoinSet<Result<(), millpond_api::Error>>,
    stop: CancellationToken,
}

impl Serving {
    /// Starts the loops and answers clients on `listener`, classic servers on theirs, and linked nodes. Not to be dropped half-way.
    pub(crate) async fn start(
        node: &NodeHandle,
        listener: TcpListener,
        classic: Vec<Listener>,
    ) -> anyhow::Result<Self> {
        let mut listeners = vec![Listener::Client(listener)];
        listeners.extend(classic);
        listeners.extend(node.links.arrivals().map(Listener::Peers));
        let supervisor = node.start().await.map_err(|e| anyhow::anyhow!("starting the node: {e}"))?;
        let stop = CancellationToken::new();
        let mut http = JoinSet::new();
        http.spawn(millpond_api::serve(node.clone(), listeners, stop.clone()));
        Ok(Self { supervisor, http, stop })
    }

    /// Waits until a part ends by itself, and says which. Safe to drop.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            failure = self.supervisor.failed() => anyhow::anyhow!(failure),
            ended = self.http.join_next() => match ended {
                Some(Ok(Err(error))) => error.into(),
                Some(Err(error)) => anyhow::anyhow!("serving requests died: {error}"),
                Some(Ok(Ok(()))) | None => anyhow::anyhow!("serving requests ended"),
            },
        }
    }

    /// Stops taking in, lets running requests finish, ends the loops, closes the links; within [`SHUTDOWN`].
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let end = async {
            let served = self.http.join_next().await;
            self.supervisor.stop().await;
            served.map_or(Ok(()), |ended| ended.context("serving requests died")?.context("serving requests failed"))
        };
        tokio::time::timeout(SHUTDOWN, end).await.context("the node did not end in time and was cut off")?
    }
}
