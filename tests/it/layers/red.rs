//! Each rule, broken once on a made-up manifest or source: the layer test would be worth nothing if it could not go red.

use super::manifest::Manifest;
use super::{rules, source};

/// What the rules say to a package with these dependency tables.
fn broken(name: &str, tables: &str) -> Vec<String> {
    let root = "[workspace.dependencies]\ndatabase = { package = \"redb\", version = \"4\" }\nserde = \"1\"";
    let text = format!("[package]\nname = \"{name}\"\n{tables}");
    rules::violations(&Manifest::parse(&text, &root.parse().unwrap()))
}

fn depends(name: &str, on: &str) -> Vec<String> {
    broken(name, &format!("[dependencies]\n{on}.workspace = true"))
}

#[test]
fn nobody_imports_upward() {
    for (name, on) in [
        ("millpond-matrix", "millpond-store"),
        ("millpond-mailbox", "millpond-overlay"),
        ("millpond-store", "millpond-node"),
        ("millpond-overlay", "millpond-node"),
        ("millpond-node", "millpond-api"),
        ("millpond-api", "millpond"),
        ("millpond", "millpond-tests"),
        ("millpond-mobile", "millpond"),
    ] {
        assert_eq!(depends(name, on), [format!("{name} may not import {on}")]);
    }
}

#[test]
fn the_pure_packages_do_not_know_each_other() {
    assert_eq!(depends("millpond-matrix", "millpond-mailbox").len(), 1);
    assert_eq!(depends("millpond-mailbox", "millpond-matrix").len(), 1);
}

#[test]
fn store_and_overlay_do_not_know_each_other() {
    assert_eq!(depends("millpond-store", "millpond-overlay").len(), 1);
    assert_eq!(depends("millpond-overlay", "millpond-store").len(), 1);
    assert_eq!(depends("millpond-overlay", "millpond-matrix").len(), 1);
}

#[test]
fn api_sees_neither_store_nor_overlay() {
    for on in ["millpond-store", "millpond-overlay", "millpond-mailbox"] {
        assert_eq!(depends("millpond-api", on), [format!("millpond-api may not import {on}")]);
    }
}

#[test]
fn a_test_may_import_what_is_below_but_never_upward() {
    assert_eq!(broken("millpond-api", "[dev-dependencies]\nmillpond-store.workspace = true"), [""; 0]);
    assert_eq!(broken("millpond-store", "[dev-dependencies]\nmillpond-node.workspace = true").len(), 1);
    assert_eq!(broken("millpond-overlay", "[dev-dependencies]\nmillpond-store.workspace = true").len(), 1);
}

#[test]
fn each_kept_crate_is_refused_outside_its_package() {
    for (owner, krate, stranger) in [
        ("millpond-matrix", "ruma-state-res", "millpond-node"),
        ("millpond-matrix", "ruma-signatures", "millpond-api"),
        ("millpond-mailbox", "vodozemac", "millpond-overlay"),
        ("millpond-mailbox", "vodozemac", "millpond-api"),
        ("millpond-mailbox", "hpke", "millpond-node"),
        ("millpond-mailbox", "x25519-dalek", "millpond-overlay"),
        ("millpond-mailbox", "chacha20poly1305", "millpond-store"),
        ("millpond-store", "redb", "millpond-node"),
        ("millpond-overlay", "libp2p", "millpond"),
        ("millpond-overlay", "libp2p-stream", "millpond-node"),
        ("millpond-overlay", "arti-client", "millpond-node"),
        ("millpond-overlay", "tor-rtcompat", "millpond"),
        ("millpond-node", "reqwest", "millpond-overlay"),
        ("millpond-node", "hickory-resolver", "millpond-api"),
        ("millpond-api", "axum", "millpond-node"),
        ("millpond-api", "tower-http", "millpond"),
        ("millpond", "clap", "millpond-node"),
        ("millpond", "indicatif", "millpond-api"),
        ("millpond-mobile", "uniffi", "millpond-node"),
    ] {
        assert_eq!(depends(owner, krate), [""; 0], "{owner} keeps {krate}");
        assert_eq!(depends(stranger, krate), [format!("{stranger} may not import {krate}: it stays behind {owner}")]);
    }
}

#[test]
fn packages_that_do_not_speak_matrix_may_not_import_ruma() {
    for name in ["millpond-mailbox", "millpond-overlay", "millpond", "millpond-mobile"] {
        assert_eq!(depends(name, "ruma").len(), 1, "{name}");
    }
    for name in ["millpond-matrix", "millpond-store", "millpond-node", "millpond-api"] {
        assert_eq!(depends(name, "ruma"), [""; 0], "{name}");
    }
}

#[test]
fn pure_packages_ship_without_async_randomness_or_locks() {
    for krate in ["tokio", "tokio-util", "rand", "getrandom", "parking_lot", "hyper", "async-trait"] {
        assert_eq!(depends("millpond-matrix", krate), [format!("millpond-matrix is pure and may not import {krate}")]);
        assert_eq!(depends("millpond-mailbox", krate).len(), 1);
    }
    assert_eq!(broken("millpond-matrix", "[dev-dependencies]\nrand = \"0.9\""), [""; 0]);
}

#[test]
fn dev_build_and_target_tables_are_read_too() {
    for table in ["dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
        assert_eq!(broken("millpond-node", &format!("[{table}]\nredb = \"4\"")).len(), 1, "{table}");
    }
}

#[test]
fn a_renamed_crate_is_known_by_its_real_name() {
    assert_eq!(broken("millpond-node", "[dependencies]\nrows = { package = \"redb\", version = \"4\" }").len(), 1);
    assert_eq!(depends("millpond-node", "database").len(), 1);
}

#[test]
fn a_package_outside_the_table_is_refused() {
    assert_eq!(broken("millpond-common", ""), ["millpond-common has no place in the table of layers"]);
}

#[test]
fn state_resolution_and_signatures_are_found_in_any_spelling() {
    for (text, found) in [
        ("use ruma::state_res::resolve;", vec!["state_res"]),
        ("let hash = ruma::signatures::reference_hash(&json, &rules)?;", vec!["signatures"]),
        ("use ruma::{\n    OwnedEventId,\n    signatures::{sign_json, KeyPair},\n};", vec!["signatures"]),
        ("use ruma::{events::{room, StateEventType}, state_res};", vec!["state_res"]),
        ("use ruma::{OwnedEventId, api::signatures};\nlet signatures = 1;", vec![]),
        ("// see ruma::state_res", vec![]),
        ("use ruma::signatures_upload;", vec![]),
    ] {
        assert_eq!(source::ruma_modules_kept_in_matrix(text), found, "{text}");
    }
}

#[test]
fn a_clippy_file_without_the_bans_is_refused() {
    assert_eq!(source::bans_missing("").len(), 4);
    let some = "disallowed-methods = [{ path = \"std::time::Instant::now\" }, \"std::fs::File::open\"]";
    assert_eq!(source::bans_missing(some), ["std::time::SystemTime", "std::net::TcpStream"]);
}
