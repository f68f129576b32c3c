//! How Tor is used. The table of `millpond_overlay::Routes` says what follows for every address.

use std::{net::SocketAddr, path::PathBuf};

pub use millpond_overlay::transport::tor::PluggableTransport;

/// When Tor is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TorMode {
    /// For onion addresses; from the first onion route on nothing leaves but through Tor, unless direct links are allowed.
    #[default]
    Auto,
    /// Nothing leaves but through Tor, from the start.
    Only,
    /// Never; onion addresses are not dialled.
    Off,
}

/// How Tor is used.
#[derive(Clone, Debug, Default)]
pub struct Tor {
    /// When.
    pub mode: TorMode,
    /// An onion service of this node, at which contacts reach it directly. They see by it when the node is on.
    pub onion: bool,
    /// Whether contacts alone can find that service, rather than everybody who knows its address.
    pub restricted: bool,
    /// Whether contacts may see the node's IP address although an onion route is in use.
    pub direct: Option<bool>,
    /// A SOCKS5 proxy that is Tor, instead of the Tor in this process.
    pub socks: Option<SocketAddr>,
    /// Bridge lines: how to get into a network where Tor is blocked.
    pub bridges: Vec<String>,
    /// Programs that speak the transports of those bridges.
    pub transports: Vec<PluggableTransport>,
    /// Bytes that Tor may queue; none: its default.
    pub memory: Option<u64>,
    /// Whether as little as possible goes over the network while nothing is said: so in paced mode.
    pub sparing: bool,
    /// FOR TESTS: a file that names another network than the public one.
    pub test_network: Option<PathBuf>,
}
