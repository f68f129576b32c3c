//! Values as flags and the file spell them; what is wrong is answered with what is allowed.

use std::net::SocketAddr;

use millpond_node::{
    config::{Pattern, Policy},
    egress::Network,
};
use serde::Deserialize;

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "allowed is an IP address with a port, like 127.0.0.1:8008 or [::1]:8008".to_owned())
}

pub(super) fn blocked(text: &str) -> Result<Pattern, String> {
    text.parse()
}

pub(super) fn blocked_in_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Pattern>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| blocked(text)).collect();
    parsed.map(Some).map_err(|wrong| serde::de::Error::custom(format!("block: {wrong}")))
}

pub(super) fn policy(text: &str) -> Result<Policy, String> {
    text.parse()
}

pub(super) fn policies_in_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Policy>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| policy(text)).collect();
    parsed.map(Some).map_err(|wrong| serde::de::Error::custom(format!("registration-terms: {wrong}")))
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    text.parse()
}

pub(super) fn networks_in_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Network>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| network(text)).collect();
    parsed.map(Some).map_err(|wrong| serde::de::Error::custom(format!("allow-networks: {wrong}")))
}

pub(super) fn listen_in_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    socket_address(&text).map(Some).map_err(|allowed| serde::de::Error::custom(format!("listen = {text:?}: {allowed}")))
}

/// Days that something is kept: none at all would empty what is there.
pub(super) fn lasting(key: &str, days: u32) -> anyhow::Result<u32> {
    anyhow::ensure!(days > 0, "{key} = 0: allowed is 1 or more; without the setting everything is kept");
    Ok(days)
}

/// Mebibytes in bytes, in a range where nothing overflows and no limit means "nothing at all".
pub(super) fn bytes(key: &str, mib: u64) -> anyhow::Result<u64> {
    anyhow::ensure!((1..=MAX_MIB).contains(&mib), "{key} = {mib}: allowed are 1 to {MAX_MIB} (MiB)");
    Ok(mib << 20)
}

/// One tebibyte, more than a node on a device has.
const MAX_MIB: u64 = 1 << 20;
