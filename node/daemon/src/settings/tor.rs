//! The section `[tor]`: how Tor is used, by a node and by a mailbox host.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use millpond_node::config::{PluggableTransport, TorMode, TorSettings};
use serde::Deserialize;

/// What can be set. All optional, because each may come from elsewhere.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct TorFlags {
    /// When Tor is used: `auto` for onion addresses, `only` for everything that leaves this machine, `off` never [default: auto]
    #[arg(id = "tor_mode", long = "tor", env = "MILLPOND_TOR", value_enum, value_name = "WHEN")]
    mode: Option<When>,
    /// An onion service of one's own, at which others reach it; those who know it see when it is on [default: false; relay: true]
    #[arg(id = "tor_onion", long = "tor-onion", env = "MILLPOND_TOR_ONION", value_name = "true|false")]
    onion: Option<bool>,
    /// Only contacts can find that service; a contact link made anew works after a minute [default: false]
    #[arg(id = "tor_restricted", long = "tor-restricted", env = "MILLPOND_TOR_RESTRICTED", value_name = "true|false")]
    restricted: Option<bool>,
    /// Show the IP address to contacts although an onion route is in use [default: false]
    #[arg(id = "tor_direct", long = "tor-direct", env = "MILLPOND_TOR_DIRECT", value_name = "true|false")]
    direct: Option<bool>,
    /// A SOCKS5 proxy that is Tor (Orbot, Tor Browser, a system's tor), instead of the Tor in this process, e.g. 127.0.0.1:9050
    #[arg(id = "tor_socks", long = "tor-socks", env = "MILLPOND_TOR_SOCKS", value_name = "ADDRESS:PORT")]
    socks: Option<SocketAddr>,
    /// Bridge lines, one after the other with a | between them, for networks where Tor is blocked
    #[arg(
        id = "tor_bridges",
        long = "tor-bridges",
        env = "MILLPOND_TOR_BRIDGES",
        value_delimiter = '|',
        value_name = "LINE"
    )]
    bridges: Option<Vec<String>>,
    /// Programs that speak the transports of bridges; in the file only, as [[tor.transports]]
    #[arg(skip)]
    transports: Option<Vec<Program>>,
    /// Memory that Tor may use for what is under way, in MiB [default: 32]
    #[arg(id = "tor_memory", long = "tor-memory-mib", env = "MILLPOND_TOR_MEMORY_MIB", value_name = "MIB")]
    memory_mib: Option<u64>,
    /// FOR TESTS: a TOML file of arti's settings that names another Tor network than the public one
    #[arg(id = "tor_test_network", long = "tor-test-network", env = "MILLPOND_TOR_TEST_NETWORK", value_name = "FILE")]
    test_network: Option<PathBuf>,
}

/// When Tor is used.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// For onion addresses; from the first onion route on nothing shows the IP address, unless direct links are allowed
    Auto,
    /// Nothing leaves but through Tor
    Only,
    /// Never
    Off,
}

/// A program that speaks pluggable transports, or the address of one that runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Program {
    protocols: Vec<String>,
    path: Option<PathBuf>,
    arguments: Vec<String>,
    proxy: Option<SocketAddr>,
}

impl TorFlags {
    /// These settings, and those of `other` where these say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => { Self { $($field: self.$field.or(other.$field)),* } };
        }
        first!(mode, onion, restricted, direct, socks, bridges, transports, memory_mib, test_network)
    }

    /// The settings of a node.
    pub(crate) fn decide(&self) -> anyhow::Result<TorSettings> {
        self.with_onion(false)
    }

    /// The same with an onion service unless somebody says no: for a mailbox host.
    pub(crate) fn decide_for_host(&self) -> anyhow::Result<TorSettings> {
        ensure!(self.socks.is_none(), "tor: a mailbox host needs the Tor in this process, and socks is another one");
        ensure!(
            self.restricted != Some(true),
            "tor: restricted = true would hide a mailbox host from those who write to its mailboxes"
        );
        self.with_onion(!matches!(self.mode, Some(When::Off)))
    }

    fn with_onion(&self, by_default: bool) -> anyhow::Result<TorSettings> {
        let mode = match self.mode.unwrap_or(When::Auto) {
            When::Auto => TorMode::Auto,
            When::Only => TorMode::Only,
            When::Off => TorMode::Off,
        };
        let onion = self.onion.unwrap_or(by_default);
        let restricted = self.restricted.unwrap_or(false);
        ensure!(
            onion || !restricted,
            "tor: restricted = true says who finds the node's onion service, and onion is false"
        );
        let bridges = self.bridges.clone().unwrap_or_default();
        if mode == TorMode::Off {
            ensure!(!onion, "tor: onion = true needs Tor, and its mode is off");
            ensure!(self.socks.is_none(), "tor: socks is a way through Tor, and its mode is off");
        }
        ensure!(
            mode != TorMode::Only || self.direct != Some(true),
            "tor: direct = true shows the IP address, and with mode = \"only\" nothing may"
        );
        if self.socks.is_some() {
            ensure!(!onion, "tor: onion = true needs the Tor in this process, and socks is another one");
            ensure!(
                bridges.is_empty(),
                "tor: bridges are for the Tor in this process; set them in the one behind socks"
            );
        }
        let transports = self.transports.iter().flatten().map(Program::decide).collect::<Result<Vec<_>, _>>()?;
        let memory = self.memory_mib.map(|mib| super::bytes("tor: memory-mib", mib)).transpose()?;
        let (direct, socks, test_network) = (self.direct, self.socks, self.test_network.clone());
        // What is sparing follows from another setting, the mode of the mail.
        let sparing = false;
        let settings =
            TorSettings { mode, onion, restricted, direct, socks, bridges, transports, memory, sparing, test_network };
        // Bridge lines are understood by arti only.
        millpond_node::tor::routes(&settings, std::path::Path::new("."))
            .map_err(|error| anyhow::anyhow!("tor: {error}"))?;
        Ok(settings)
    }
}

impl Program {
    fn decide(&self) -> anyhow::Result<PluggableTransport> {
        ensure!(!self.protocols.is_empty(), "tor.transports: protocols says what it speaks, e.g. [\"obfs4\"]");
        ensure!(
            self.path.is_some() != self.proxy.is_some(),
            "tor.transports: either path names the program, or proxy says where one listens"
        );
        Ok(PluggableTransport {
            protocols: self.protocols.clone(),
            path: self.path.clone(),
            arguments: self.arguments.clone(),
            proxy: self.proxy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(text: &str) -> anyhow::Result<TorSettings> {
        toml::from_str::<TorFlags>(text)?.decide()
    }

    #[test]
    fn tor_is_for_onion_addresses_unless_something_else_is_said() {
        let settings = decided("").unwrap();
        assert_eq!((settings.mode, settings.onion, settings.direct), (TorMode::Auto, false, None));
        let settings = decided("mode = \"only\"\nonion = true\nmemory-mib = 64").unwrap();
        assert_eq!((settings.mode, settings.onion, settings.memory), (TorMode::Only, true, Some(64 << 20)));
        assert!(!settings.restricted && decided("onion = true\nrestricted = true").unwrap().restricted);
        assert!(TorFlags::default().decide_for_host().unwrap().onion);
        let host = toml::from_str::<TorFlags>("restricted = true").unwrap().decide_for_host();
        assert!(host.unwrap_err().to_string().contains("hide a mailbox host"));
        assert!(!toml::from_str::<TorFlags>("mode = \"off\"").unwrap().decide_for_host().unwrap().onion);
    }

    #[test]
    fn what_does_not_go_together_is_said_in_words() {
        for (text, words) in [
            ("mode = \"off\"\nonion = true", "its mode is off"),
            ("mode = \"only\"\ndirect = true", "nothing may"),
            ("restricted = true", "onion is false"),
            ("socks = \"127.0.0.1:9050\"\nonion = true", "socks is another one"),
            (
                "socks = \"127.0.0.1:9050\"\nbridges = [\"192.0.2.1:443 316E643333645F6D79216558614D3931657A5F5F\"]",
                "behind socks",
            ),
            ("bridges = [\"nonsense\"]", "bridges: \"nonsense\" is no bridge line"),
            ("bridges = [\"obfs4 192.0.2.55:38114 316E643333645F6D79216558614D3931657A5F5F\"]", "pluggable transport"),
            ("[[transports]]\nprotocols = [\"obfs4\"]", "either path names the program"),
            ("mode = \"sometimes\"", "sometimes"),
            ("onoin = true", "onoin"),
        ] {
            let error = format!("{:#}", decided(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_bridge_with_its_program_is_taken() {
        let settings = decided(
            "bridges = [\"obfs4 192.0.2.55:38114 316E643333645F6D79216558614D3931657A5F5F cert=x iat-mode=0\"]\n\
             [[transports]]\nprotocols = [\"obfs4\"]\npath = \"/usr/bin/obfs4proxy\"",
        );
        assert_eq!(settings.unwrap().transports[0].protocols, ["obfs4"]);
    }
}
