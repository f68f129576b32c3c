//! Settings of the host: flag, else environment, else `relay.toml`, else the default. The file has the flags' names.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use millpond_mailbox::host::HostLimits;
use millpond_node::config::TorSettings;
use millpond_overlay::transport::Address;
use serde::Deserialize;

use crate::settings::{TorFlags, default_data_dir};

/// What can be set. All optional, because each may come from elsewhere.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// Where the host keeps keys and mailboxes [default: `relay` in the node's data directory]
    #[arg(long, global = true, env = "MILLPOND_RELAY_DIR", value_name = "FOLDER")]
    pub(super) data_dir: Option<PathBuf>,
    /// Port, TCP and UDP; 0 for one that is free [default: 7448]
    #[arg(long, env = "MILLPOND_RELAY_PORT", value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Local addresses to listen on, comma-separated [default: all of this machine]
    #[arg(long, env = "MILLPOND_RELAY_ADDRESSES", value_delimiter = ',', value_name = "ADDRESS")]
    pub(super) addresses: Option<Vec<IpAddr>>,
    /// Addresses to put into the link beside those found, such as /ip4/192.0.2.1/udp/7448/quic-v1, comma-separated
    #[arg(long, env = "MILLPOND_RELAY_ADVERTISE", value_delimiter = ',', value_name = "MULTIADDR")]
    pub(super) advertise: Option<Vec<String>>,
    #[command(flatten)]
    pub(super) tor: TorFlags,
    /// Mailboxes at most [default: 10000]
    #[arg(long, env = "MILLPOND_RELAY_MAX_MAILBOXES", value_name = "N")]
    pub(super) max_mailboxes: Option<u64>,
    /// Envelopes in all mailboxes together, in MiB [default: 20480]
    #[arg(long, env = "MILLPOND_RELAY_MAX_MIB", value_name = "MIB")]
    pub(super) max_mib: Option<u64>,
    /// Memory for the database's page cache in MiB [default: 64]
    #[arg(long, env = "MILLPOND_RELAY_CACHE_MIB", value_name = "MIB")]
    pub(super) cache_mib: Option<u64>,
    /// What to log, as `level` or `target=level,...` [default: info]
    #[arg(long, env = "MILLPOND_LOG", value_name = "FILTER")]
    pub(super) log: Option<String>,
    /// A TOML file with these settings [default: relay.toml in the host's folder, if it is there]
    #[arg(long, global = true, env = "MILLPOND_RELAY_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
}

/// Settings with everything decided.
pub(super) struct Decided {
    pub(super) data_dir: PathBuf,
    /// None: one that is free, that of last time if possible.
    pub(super) port: Option<u16>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) advertise: Vec<Address>,
    pub(super) tor: TorSettings,
    pub(super) limits: HostLimits,
    pub(super) cache_bytes: usize,
    pub(super) log: String,
}

impl Settings {
    /// Fills in the file and the defaults.
    pub(super) fn decide(self) -> anyhow::Result<Decided> {
        let data_dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => default_data_dir()?.join("relay"),
        };
        let file = match &self.config {
            Some(path) => read(path)?,
            None => {
                let path = data_dir.join("relay.toml");
                if path.exists() { read(&path)? } else { Self::default() }
            }
        };
        let set = self.or(file);
        let defaults = HostLimits::default();
        let mib = |key: &str, value: u64| {
            anyhow::ensure!((1..=MAX_MIB).contains(&value), "{key} = {value}: allowed are 1 to {MAX_MIB} (MiB)");
            Ok(value << 20)
        };
        let bytes = set.max_mib.map_or(Ok(defaults.bytes), |value| mib("max-mib", value))?;
        let limits = HostLimits { mailboxes: set.max_mailboxes.unwrap_or(defaults.mailboxes), bytes, ..defaults };
        Ok(Decided {
            data_dir: set.data_dir.clone().unwrap_or(data_dir),
            port: Some(set.port.unwrap_or(DEFAULT_PORT)).filter(|port| *port != 0),
            addresses: set
                .addresses
                .unwrap_or_else(|| vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]),
            advertise: set
                .advertise
                .unwrap_or_default()
                .iter()
                .map(|text| advertised(text))
                .collect::<Result<_, _>>()?,
            tor: set.tor.decide_for_host()?,
            limits,
            cache_bytes: usize::try_from(mib("cache-mib", set.cache_mib.unwrap_or(64))?).context("cache-mib")?,
            log: set.log.unwrap_or_else(|| "info".to_owned()),
        })
    }

    /// These settings, and those of `other` where these say nothing.
    fn or(self, other: Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => { Self { $($field: self.$field.or(other.$field)),* } };
        }
        first!(data_dir, port, addresses, advertise, tor, max_mailboxes, max_mib, cache_mib, log, config)
    }
}

fn advertised(text: &str) -> anyhow::Result<Address> {
    Address::parse(text).with_context(|| format!("advertise = {text:?}"))
}

fn read(path: &Path) -> anyhow::Result<Settings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the settings file {}", path.display()))?;
    toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {}", path.display(), e.to_string().trim_end()))
}

/// Unassigned by IANA.
const DEFAULT_PORT: u16 = 7448;
/// One tebibyte.
const MAX_MIB: u64 = 1 << 20;
