//! How Tor is to run, and what arti makes of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use arti_client::TorClientConfig;
use arti_client::config::{BridgeConfigBuilder, CfgPath, TorClientConfigBuilder};
use toml::{Table, Value};

use super::super::TransportError;
use super::ROUTE;
use super::health::with_causes;

/// How Tor is to run.
#[derive(Clone, Debug)]
pub struct TorConfig {
    /// Where arti keeps its state, its keys and what it knows of the network. Made at first use, for the owner only.
    pub folder: PathBuf,
    /// What carries the streams.
    pub through: Through,
    /// Bridge lines, as they are handed out (`obfs4 192.0.2.55:38114 316E.. cert=.. iat-mode=0`). With one or more, no other entry is used.
    pub bridges: Vec<String>,
    /// What speaks the transports of those bridges.
    pub transports: Vec<PluggableTransport>,
    /// Bytes that arti may keep in its queues; above it, it ends the circuits that take most.
    pub memory: u64,
    /// As little as possible goes over the network while nothing is said: for phones.
    pub sparing: bool,
    /// FOR TESTS: a file with settings of arti's that name another network than the public one.
    pub test_network: Option<PathBuf>,
}

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// arti, in this process.
    Arti,
    /// A SOCKS5 proxy that is Tor: Orbot, Tor Browser, a system's tor. No services can be opened by it.
    Socks(SocketAddr),
}

/// A program that speaks pluggable transports, or where one listens already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluggableTransport {
    /// The transports that it speaks, such as `obfs4`.
    pub protocols: Vec<String>,
    /// The program; arti starts it when it is needed.
    pub path: Option<PathBuf>,
    /// What it is started with.
    pub arguments: Vec<String>,
    /// Or where it listens.
    pub proxy: Option<SocketAddr>,
}

impl TorConfig {
    /// Tor in this process, for the public network, with its files in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            through: Through::Arti,
            bridges: Vec::new(),
            transports: Vec::new(),
            memory: MEMORY,
            sparing: false,
            test_network: None,
        }
    }

    /// The same for arti.
    pub(super) fn to_arti(&self) -> Result<TorClientConfig, TransportError> {
        self.bridges.iter().try_for_each(|line| check_bridge(line))?;
        let mut table = match &self.test_network {
            None => Table::new(),
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|e| wrong(format!("the test network {}: {}", file.display(), e.kind())))?;
                text.parse::<Table>().map_err(|e| wrong(format!("the test network {}: {e}", file.display())))?
            }
        };
        section(section(&mut table, "system"), "memory").insert("max".to_owned(), bytes(self.memory)?);
        // No circuit to an exit is kept ready before one was asked for: most nodes use none.
        section(&mut table, "preemptive_circuits")
            .insert("initial_predicted_ports".to_owned(), Value::Array(Vec::new()));
        if self.sparing {
            section(&mut table, "channel").insert("padding".to_owned(), Value::String("reduced".to_owned()));
        }
        if !self.bridges.is_empty() {
            let bridges = section(&mut table, "bridges");
            bridges.insert("enabled".to_owned(), Value::Boolean(true));
            bridges.insert("bridges".to_owned(), strings(&self.bridges));
            let transports = self.transports.iter().map(|transport| Value::Table(transport.to_arti()));
            bridges.insert("transports".to_owned(), Value::Array(transports.collect()));
        }
        let mut builder: TorClientConfigBuilder =
            table.try_into().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        let literal = |name: &str| CfgPath::new_literal(self.folder.join(name));
        builder.storage().state_dir(literal("state")).cache_dir(literal("cache"));
        builder.build().map_err(|e| wrong(e.to_string()))
    }
}

impl PluggableTransport {
    fn to_arti(&self) -> Table {
        let mut table = Table::new();
        table.insert("protocols".to_owned(), strings(&self.protocols));
        if let Some(path) = &self.path {
            let literal = Table::from_iter([("literal".to_owned(), Value::String(path.display().to_string()))]);
            table.insert("path".to_owned(), Value::Table(literal));
            table.insert("arguments".to_owned(), strings(&self.arguments));
            table.insert("run_on_startup".to_owned(), Value::Boolean(false));
        }
        if let Some(proxy) = self.proxy {
            table.insert("proxy_addr".to_owned(), Value::String(proxy.to_string()));
        }
        table
    }
}

/// arti says what is wrong with a line; which one it is, and how one looks, is said here. The user's own words are repeated to him, and to nobody else.
fn check_bridge(line: &str) -> Result<(), TransportError> {
    let read = line.parse::<BridgeConfigBuilder>().map(drop);
    read.map_err(|e| {
        wrong(format!(
            "bridges: {line:?} is no bridge line ({}); it is ADDRESS:PORT FINGERPRINT, or TRANSPORT ADDRESS:PORT FINGERPRINT KEY=VALUE.., as \
             https://bridges.torproject.org gives them out",
            with_causes(&e)
        ))
    })
}

/// The table of this name, made if it is not there.
fn section<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let entry = table.entry(name.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    entry.as_table_mut().expect("it was made a table just now")
}

fn strings(texts: &[String]) -> Value {
    Value::Array(texts.iter().cloned().map(Value::String).collect())
}

fn bytes(count: u64) -> Result<Value, TransportError> {
    i64::try_from(count).map(Value::Integer).map_err(|_| wrong(format!("a memory limit of {count} bytes")))
}

fn wrong(why: String) -> TransportError {
    TransportError::Setup { route: ROUTE, why }
}

/// What arti may queue: a phone has room for it, and a mailbox needs a fraction.
const MEMORY: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TorConfig {
        TorConfig::new(PathBuf::from("/nowhere/$HOME/~"))
    }

    #[test]
    fn bridges_and_their_programs_reach_arti() {
        let mut config = config();
        config.bridges = vec![
            "obfs4 192.0.2.55:38114 316E643333645F6D79216558614D3931657A5F5F cert=YXJlIGZyZXF1ZW50bHkgZnVsbCBvZiBsaXR0bGUgbWVzc2FnZXMgeW91IGNhbiBmaW5kLg iat-mode=0".to_owned(),
        ];
        // A bridge whose transport nobody speaks is refused, not ignored.
        assert!(config.to_arti().unwrap_err().to_string().contains("pluggable transport"));
        config.transports = vec![PluggableTransport {
            protocols: vec!["obfs4".to_owned()],
            path: Some(PathBuf::from("/usr/bin/obfs4proxy")),
            arguments: Vec::new(),
            proxy: None,
        }];
        let shown = format!("{:?}", config.to_arti().unwrap());
        assert!(shown.contains("192.0.2.55:38114") && shown.contains("/usr/bin/obfs4proxy"), "{shown}");
    }

    #[test]
    fn a_wrong_bridge_line_is_repeated_with_what_is_allowed() {
        for line in ["not a bridge", "192.0.2.1:443", "192.0.2.1 316E643333645F6D79216558614D3931657A5F5F", ""] {
            let mut config = config();
            config.bridges = vec!["192.0.2.1:443 316E643333645F6D79216558614D3931657A5F5F".to_owned(), line.to_owned()];
            let said = config.to_arti().unwrap_err().to_string();
            assert!(said.contains("bridges") && said.contains(&format!("{line:?}")), "{said}");
            assert!(said.contains("ADDRESS:PORT FINGERPRINT"), "{said}");
        }
    }

    #[test]
    fn no_circuits_to_exits_are_kept_ready_and_a_phone_spares_padding_too() {
        let mut config = config();
        let shown = format!("{:?}", config.to_arti().unwrap());
        assert!(shown.contains("initial_predicted_ports: []") && shown.contains("padding: Normal"), "{shown}");
        config.sparing = true;
        assert!(format!("{:?}", config.to_arti().unwrap()).contains("padding: Reduced"));
    }

    #[test]
    fn the_folder_is_taken_as_it_stands() {
        let shown = format!("{:?}", config().to_arti().unwrap());
        assert!(shown.contains("/nowhere/$HOME/~/state") && shown.contains("/nowhere/$HOME/~/cache"), "{shown}");
    }

    #[test]
    fn a_test_network_is_a_file_of_artis_settings() {
        let mut config = config();
        config.test_network = Some(PathBuf::from("/nowhere/arti.toml"));
        assert!(config.to_arti().unwrap_err().to_string().contains("/nowhere/arti.toml"));
    }
}
