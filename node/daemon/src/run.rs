//! `millpond run`: the node, until Ctrl-C or SIGTERM.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use millpond_api::Listener;
use millpond_node::{
    NodeHandle,
    config::{Config, Registration},
};
use tokio::net::TcpListener;

use crate::{
    admin, logs,
    logs::say,
    obsolete, relay,
    serving::Serving,
    settings::{Decided, Settings},
};

mod doors;

/// For what still runs on the runtime after the ordered end, which itself stays below 4.5 s.
const TAIL: Duration = Duration::from_millis(300);

pub(crate) fn run(settings: Settings, adjust: fn(&mut Config)) -> anyhow::Result<()> {
    let mut decided = settings.decide()?;
    logs::start(&decided.log)?;
    let data_dir = decided.node.data_dir.clone();
    // The port comes before the data directory: a start that fails here leaves nothing behind, and the next is a first run.
    let (listener, address) = bind(&decided)?;
    let classic = doors::bind(&decided.classic)?;
    let local = || format!("http://{}", for_clients(address));
    decided.node.client_base_url = decided.public_url.clone().unwrap_or_else(local);
    let first_run = !admin::has_node(&data_dir);
    let host_mailboxes = decided.host_mailboxes;
    adjust(&mut decided.node);
    let node = open(decided.node)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let outcome = runtime.block_on(async {
        let listener = TcpListener::from_std(listener).context("handing the port to the runtime")?;
        serve(&node, listener, doors::listeners(classic, &node)?, address, first_run, host_mailboxes).await
    });
    runtime.shutdown_timeout(TAIL);
    outcome
}

fn bind(decided: &Decided) -> anyhow::Result<(std::net::TcpListener, SocketAddr)> {
    let wanted = decided.listen;
    let bound = std::net::TcpListener::bind(wanted).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| {
        if let Ok(Some(address)) = admin::running(&decided.node.data_dir) {
            return already_running(&decided.node.data_dir, &address);
        }
        anyhow::Error::new(error)
            .context(format!("cannot listen on {wanted}; choose another port with --listen {}:PORT", wanted.ip()))
    })
}

fn open(config: Config) -> anyhow::Result<NodeHandle> {
    let data_dir = config.data_dir.clone();
    millpond_node::start::open(config).map_err(|error| match admin::running(&data_dir) {
        Ok(Some(address)) if admin::is_in_use(&error) => already_running(&data_dir, &address),
        _ => error.into(),
    })
}

fn already_running(data_dir: &Path, address: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "a node already runs on the data directory {} and answers on {address}; stop it, or give this one its own \
         folder with --data-dir and its own port with --listen",
        data_dir.display()
    )
}

async fn serve(
    node: &NodeHandle,
    listener: TcpListener,
    classic: Vec<Listener>,
    address: SocketAddr,
    first_run: bool,
    host_mailboxes: bool,
) -> anyhow::Result<()> {
    let data_dir = &node.core.config().data_dir;
    millpond_node::start::admin_token(data_dir).context("making the admin token")?;
    let mut signals = StopSignals::catch()?;
    let host = host_mailboxes.then(|| relay::Beside::open(node)).transpose()?;
    let mut serving = Serving::start(node, listener, classic).await?;
    let _running = Running::announce(data_dir, address)?;
    greet(node, address, first_run);
    if let Some(host) = &host {
        host.announce(node).await?;
    }
    let failure = tokio::select! {
        told = signals.told() => told.err(),
        obsolete = obsolete::heard() => Some(obsolete),
        failure = serving.failed() => Some(failure),
    };
    tracing::info!("stopping");
    let stopped = serving.stop().await;
    failure.map_or(stopped, Err)
}

/// The file that tells other commands where the node listens; gone when the node ends in order.
struct Running(std::path::PathBuf);

impl Running {
    fn announce(data_dir: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let path = admin::address_file(data_dir);
        write_private(&path, &format!("{}\n", for_clients(address)))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A file left behind says where a node was: commands then find nobody there and say so.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whole or not at all, because commands read it at any moment.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(&partial)?, text.as_bytes())?;
    fs::rename(&partial, path)
}

/// The address to write into a client of this machine: a wildcard is none.
fn for_clients(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
    }
}

fn greet(node: &NodeHandle, address: SocketAddr, first_run: bool) {
    let config = node.core.config();
    if config.registration == Registration::Open {
        tracing::warn!("registration is OPEN: whoever reaches {address} can make an account");
    }
    if !address.ip().is_loopback() {
        tracing::warn!("clients beyond this machine reach the node on {address}, unencrypted: put TLS before it");
    }
    let url = &config.client_base_url;
    if !first_run {
        tracing::info!("Matrix homeserver on {url}");
        return;
    }
    say(&format!("Your node is {}", node.core.identity().server_name()));
    say(&format!("Homeserver URL for your Matrix client: {url}"));
    match config.registration {
        Registration::Token => say(&format!("Registration token: {}", config.registration_token)),
        Registration::Open => say("Registration is open to whoever reaches the port."),
        Registration::Closed => say("Registration from clients is closed: use `millpond account create NAME`."),
    }
    say("Next: register in your client with that URL and token, or run `millpond account create NAME`.");
    say("Then `millpond contact` shows a link for a friend, `millpond contact add LINK` adds theirs.");
}

/// Ctrl-C and SIGTERM.
pub(crate) struct StopSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// From now on these signals do not end the process by themselves.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
            let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
            Ok(Self { interrupt, terminate })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for one of them. Safe to drop.
    pub(crate) async fn told(&mut self) -> anyhow::Result<()> {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.context("listening for Ctrl-C")?;
        Ok(())
    }
}
