//! `millpond relay`: a mailbox host, until Ctrl-C or SIGTERM; `relay token` makes tokens for people who may keep mailboxes
//! there. Logs say neither who comes nor from where.

mod files;
mod settings;

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use millpond_mailbox::host::HostLimits;
use millpond_node::NodeHandle;
use millpond_overlay::{
    relay::{Relay, RelayConfig, StreamLimits},
    transport::{
        Transport, TransportError,
        libp2p::{Libp2p, Libp2pConfig},
        tor::OwnService,
    },
};
use millpond_store::HostDatabase;

use crate::{logs, logs::say, obsolete, run::StopSignals};
use files::{Files, Keys};
use settings::{Decided, Settings};

/// `millpond relay` and what stands behind it.
#[derive(Args)]
pub(crate) struct RelayArgs {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print one-time tokens; each gives the person who gets it mailboxes here for about a year
    Token {
        /// How many
        #[arg(short = 'n', default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
    /// Print the link of this host, as it was when it last started
    Link,
}

/// For what still runs on the runtime after the ordered end.
const TAIL: Duration = Duration::from_millis(300);
/// Time for an ordered end. What was answered is on the disk.
const SHUTDOWN: Duration = Duration::from_millis(4500);

pub(crate) fn run(args: RelayArgs) -> anyhow::Result<()> {
    let decided = args.settings.decide()?;
    match args.command {
        None => host(&decided),
        Some(Command::Token { count }) => print_tokens(&decided, count),
        Some(Command::Link) => {
            println!("{}", Files::existing(&decided.data_dir)?.link()?);
            Ok(())
        }
    }
}

/// Needs the keys only, so it works beside the running host.
fn print_tokens(decided: &Decided, count: u16) -> anyhow::Result<()> {
    let keys = Files::existing(&decided.data_dir)?.keys()?;
    for _ in 0..count {
        println!("{}", keys.tokens().grant(&mut files::random()).to_text());
    }
    Ok(())
}

fn host(decided: &Decided) -> anyhow::Result<()> {
    logs::start(&decided.log)?;
    millpond_overlay::install_crypto_provider();
    let files = Files::open(&decided.data_dir)?;
    let keys = files.keys()?;
    let store = HostDatabase::open(&files.database(), decided.cache_bytes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = StopSignals::catch()?;
        let config = RelayConfig {
            secret: keys.host(),
            tokens: keys.tokens(),
            limits: decided.limits,
            streams: StreamLimits::default(),
        };
        let relay = Relay::start(config, Box::new(store))?;
        let routes = millpond_node::tor::routes(&decided.tor, &decided.data_dir).context("setting up Tor")?;
        let (mut transports, mut name): (Vec<Box<dyn Transport>>, _) = (Vec::new(), None);
        if let Some(tor) = routes.tor().filter(|_| decided.tor.onion) {
            // Whoever has a stamp must find it.
            transports.push(Box::new(tor.peers(Some(OwnService { nickname: "mailboxes", restricted: false }))));
        }
        if !routes.is_tor_only() {
            let transport = direct(decided, &keys).context("setting up the network")?;
            name = Some(transport.peer_id());
            transports.push(Box::new(transport));
        }
        let addresses = relay.serve(transports, files.earlier()).await.map_err(with_cause)?;
        let link = relay.link(&addresses).context("making the host's link")?.to_uri();
        files.keep_link(&link)?;
        greet(&link, &decided.limits);
        for (address, name) in addresses.iter().filter(|address| address.is_ip()).zip(name.iter().cycle()) {
            say(&format!("Circuit relay: {address}/p2p/{name}"));
        }
        let why = tokio::select! {
            told = signals.told() => told.err(),
            obsolete = obsolete::heard() => Some(obsolete),
        };
        tracing::info!("stopping");
        let stop = async {
            relay.stop().await;
            if let Some(tor) = routes.tor() {
                tor.stop().await;
            }
        };
        let stopped = tokio::time::timeout(SHUTDOWN, stop).await;
        why.map_or_else(|| stopped.context("the host did not end in time and was cut off"), Err)
    });
    runtime.shutdown_timeout(TAIL);
    outcome
}

fn direct(decided: &Decided, keys: &Keys) -> Result<Libp2p, TransportError> {
    Libp2p::new(Libp2pConfig {
        bind: decided.addresses.clone(),
        port: decided.port,
        advertise: decided.advertise.clone(),
        peer_key: Some(keys.peer()),
        max_connections: MAX_CONNECTIONS,
        relay_server: true,
        ..Libp2pConfig::default()
    })
}

/// A host beside a node: in the folder `relay` of the node's data directory, so that `millpond relay token` finds it.
pub(crate) struct Beside(Files);

impl Beside {
    /// Opens the host's files and gives it to the node's links, which are not started yet. To be called inside the runtime.
    pub(crate) fn open(node: &NodeHandle) -> anyhow::Result<Self> {
        let files = Files::open(&node.core.config().data_dir.join("relay"))?;
        let keys = files.keys()?;
        let store = HostDatabase::open(&files.database(), BESIDE_CACHE)?;
        let streams = StreamLimits { all: 64, per_source: 32, ..StreamLimits::default() };
        let config = RelayConfig { secret: keys.host(), tokens: keys.tokens(), limits: BESIDE_LIMITS, streams };
        node.links.host(Relay::start(config, Box::new(store))?);
        Ok(Self(files))
    }

    /// Keeps and prints the link, once the node listens.
    pub(crate) async fn announce(&self, node: &NodeHandle) -> anyhow::Result<()> {
        let link = node.links.host_link().await.map_err(|e| anyhow::anyhow!("{e}"))?;
        if let Some(link) = link {
            self.0.keep_link(&link)?;
            say(&format!("Host link: {link}"));
        }
        Ok(())
    }
}

/// For the contacts of one person.
const BESIDE_LIMITS: HostLimits = HostLimits { mailboxes: 512, bytes: 4 << 30, boxes: 256 };
/// Bytes of the page cache of that host.
const BESIDE_CACHE: usize = 8 << 20;

fn greet(link: &str, limits: &HostLimits) {
    say(&format!("Host link: {link}"));
    say("People keep mailboxes here with the link and a token: `millpond relay token` prints one.");
    tracing::info!(mailboxes = limits.mailboxes, gib = limits.bytes >> 30, "mailbox host is up");
}

/// The overlay's errors keep their cause apart from their text.
fn with_cause(error: millpond_overlay::Error) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// Each owner and depositor has connections of his own.
const MAX_CONNECTIONS: u32 = 1_024;
