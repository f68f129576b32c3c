//! The table of layers, as data, and the check of one manifest against it.

use super::manifest::{Kind, Manifest};

/// One line of the table in ARCHITECTURE.md.
pub struct Package {
    pub name: &'static str,
    /// Which of our packages it may import.
    pub ours: &'static [&'static str],
    /// Foreign crates that no package but this one (and the tests) may import; a trailing `*` stands for any ending.
    pub keeps: &'static [&'static str],
}

const MATRIX: &str = "millpond-matrix";
const MAILBOX: &str = "millpond-mailbox";
const STORE: &str = "millpond-store";
const OVERLAY: &str = "millpond-overlay";
const NODE: &str = "millpond-node";
const API: &str = "millpond-api";
const DAEMON: &str = "millpond";
const MOBILE: &str = "millpond-mobile";
const TESTS: &str = "millpond-tests";

pub const PACKAGES: [Package; 9] = [
    Package { name: MATRIX, ours: &[], keeps: &["ruma-state-res", "ruma-signatures"] },
    Package { name: MAILBOX, ours: &[], keeps: &["vodozemac", "hpke", "x25519-dalek", "chacha20poly1305"] },
    Package { name: STORE, ours: &[MATRIX, MAILBOX], keeps: &["redb"] },
    Package { name: OVERLAY, ours: &[MAILBOX], keeps: &["arti-*", "tor-*", "libp2p", "libp2p-*"] },
    Package { name: NODE, ours: &[MATRIX, MAILBOX, STORE, OVERLAY], keeps: &["reqwest", "hickory-*"] },
    Package { name: API, ours: &[MATRIX, NODE], keeps: &["axum", "axum-*", "tower-http"] },
    Package {
        name: DAEMON,
        ours: &[MATRIX, MAILBOX, STORE, OVERLAY, NODE, API],
        keeps: &["clap", "clap_*", "indicatif"],
    },
    Package { name: MOBILE, ours: &[MATRIX, MAILBOX, STORE, OVERLAY, NODE, API], keeps: &["uniffi", "uniffi_*"] },
    Package { name: TESTS, ours: &[MATRIX, MAILBOX, STORE, OVERLAY, NODE, API, DAEMON, MOBILE], keeps: &[] },
];

/// Kept crates that another package may import all the same, in one folder of its sources, which [`super::source`] holds it to.
/// `millpond demo` is two nodes and two Matrix clients; a client encrypts its messages by itself, which no layer of a server may
/// do for it.
pub const EXCEPTIONS: [Exception; 1] = [Exception { name: DAEMON, krate: "vodozemac", folder: "src/demo" }];

/// A kept crate in one folder of another package.
pub struct Exception {
    pub name: &'static str,
    pub krate: &'static str,
    pub folder: &'static str,
}

/// ruma's vocabulary is for the packages that speak Matrix. The overlay knows peers and bytes.
const SPEAK_MATRIX: [&str; 5] = [MATRIX, STORE, NODE, API, TESTS];

/// What brings async, I/O, clock, randomness or locks into a pure package (rand_core is only the trait by which randomness comes in as an
/// argument). Their tests may use what they like.
const IMPURE: &[&str] = &[
    "async-*",
    "crossbeam*",
    "fastrand",
    "futures-timer",
    "getrandom",
    "hyper",
    "hyper-util",
    "parking_lot",
    "quinn",
    "rand",
    "rand_chacha",
    "smol",
    "tempfile",
    "time",
    "tokio",
    "tokio-*",
];

/// Whether the package may not have async, I/O, clock, randomness or locks.
pub fn is_pure(name: &str) -> bool {
    name == MATRIX || name == MAILBOX
}

/// Says in words what the manifest breaks; empty if it keeps to its layer.
pub fn violations(manifest: &Manifest) -> Vec<String> {
    let Some(package) = PACKAGES.iter().find(|package| package.name == manifest.name) else {
        return vec![format!("{} has no place in the table of layers", manifest.name)];
    };
    manifest.dependencies.iter().filter_map(|line| violation(package, &line.krate, line.kind)).collect()
}

fn violation(package: &Package, krate: &str, kind: Kind) -> Option<String> {
    let name = package.name;
    if PACKAGES.iter().any(|other| other.name == krate) {
        let allowed = package.ours.contains(&krate) || (kind == Kind::Dev && stands_above(package, krate));
        return (!allowed).then(|| format!("{name} may not import {krate}"));
    }
    if name == TESTS {
        return None;
    }
    if let Some(owner) = PACKAGES.iter().find(|other| any_matches(other.keeps, krate))
        && owner.name != name
        && !EXCEPTIONS.iter().any(|exception| exception.name == name && exception.krate == krate)
    {
        return Some(format!("{name} may not import {krate}: it stays behind {}", owner.name));
    }
    if (krate == "ruma" || krate.starts_with("ruma-")) && !SPEAK_MATRIX.contains(&name) {
        return Some(format!("{name} may not import {krate}: only {} speak Matrix", SPEAK_MATRIX.join(", ")));
    }
    if is_pure(name) && kind == Kind::Shipped && any_matches(IMPURE, krate) {
        return Some(format!("{name} is pure and may not import {krate}"));
    }
    None
}

/// Whether `krate` is below the package at any depth: a test may put a node together from its parts, what is shipped may not.
fn stands_above(package: &Package, krate: &str) -> bool {
    PACKAGES
        .iter()
        .filter(|below| package.ours.contains(&below.name))
        .any(|below| below.ours.contains(&krate) || stands_above(below, krate))
}

fn any_matches(patterns: &[&str], krate: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => krate.starts_with(prefix),
        None => krate == *pattern,
    })
}
