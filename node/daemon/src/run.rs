//! `millpond run`: the node, until Ctrl-C or SIGTERM.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use millpond_node::{NodeHandle, config::Registration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    admin, logs,
    settings::{Decided, Settings},
};

/// Time for an ordered end; then the process ends anyway. What was answered is on the disk.
const SHUTDOWN: Duration = Duration::from_secs(5);

pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let decided = settings.decide()?;
    logs::start(&decided.log)?;
    let first_run = !decided.node.data_dir.join("millpond.redb").exists();
    let node = millpond_node::start::open(decided.node.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let outcome = runtime.block_on(serve(node, &decided, first_run));
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

async fn serve(node: NodeHandle, decided: &Decided, first_run: bool) -> anyhow::Result<()> {
    let data_dir = &decided.node.data_dir;
    let listener = TcpListener::bind(decided.listen).await.with_context(|| {
        format!("cannot listen on {}: is another node running? choose another with --listen", decided.listen)
    })?;
    let address = listener.local_addr().context("reading the port that was opened")?;
    millpond_node::start::admin_token(data_dir).context("making the admin token")?;
    let _running = Running::announce(data_dir, address)?;
    greet(&node, address, first_run);

    let mut supervisor = node.start().await.map_err(|e| anyhow::anyhow!("starting the node: {e}"))?;
    let stop = CancellationToken::new();
    let mut listeners = vec![millpond_api::Listener::Client(listener)];
    listeners.extend(node.links.arrivals().map(millpond_api::Listener::Peers));
    let serving = tokio::spawn(millpond_api::serve(node.clone(), listeners, stop.clone()));
    let failure = tokio::select! {
        told = told_to_stop() => told.err(),
        failure = supervisor.failed() => Some(anyhow::anyhow!(failure)),
    };
    tracing::info!("stopping");
    stop.cancel();
    let ended = tokio::time::timeout(SHUTDOWN, serving).await;
    supervisor.stop().await;
    ended.context("connections did not end in time")???;
    failure.map_or(Ok(()), Err)
}

/// The file that tells other commands where the node listens; gone when the node ends in order.
struct Running(std::path::PathBuf);

impl Running {
    fn announce(data_dir: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let path = admin::address_file(data_dir);
        fs::write(&path, format!("{address}\n")).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A file left behind says where a node was: commands then find nobody there and say so.
        let _ = fs::remove_file(&self.0);
    }
}

fn greet(node: &NodeHandle, address: SocketAddr, first_run: bool) {
    let config = node.core.config();
    if config.registration == Registration::Open {
        tracing::warn!("registration is OPEN: whoever reaches {address} can make an account");
    }
    if !first_run {
        tracing::info!("Matrix homeserver on http://{address}");
        return;
    }
    println!("Your node is {}", node.core.identity().server_name());
    println!("Homeserver URL for your Matrix client: http://{address}");
    match config.registration {
        Registration::Token => println!("Registration token: {}", config.registration_token),
        Registration::Open => println!("Registration is open to whoever reaches the port."),
        Registration::Closed => println!("Registration from clients is closed: use `millpond account create NAME`."),
    }
    println!("Next: register in your client with that URL and token, or run `millpond account create NAME`.");
    println!("Then `millpond contact` shows a link for a friend, `millpond contact add LINK` adds theirs.");
}

async fn told_to_stop() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C")?,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    Ok(())
}
