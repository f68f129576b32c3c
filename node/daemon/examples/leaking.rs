//! FOR ONE TEST: a node that forgets its settings of Tor and goes out by itself. The watch of tests/interop/tor_egress.py must catch it: one that finds
//! nothing here would find nothing elsewhere. Built with the tests, never with the binary.

use millpond_node::config::{TorMode, TorSettings};

fn main() -> std::process::ExitCode {
    millpond::main(|config| config.tor = TorSettings { mode: TorMode::Off, ..TorSettings::default() })
}
