//! End-to-end encryption: one-time keys, device lists of peers, key backups.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// A one-time key that nobody has claimed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeKeyRow {
    /// `algorithm:id`.
    pub id: String,
    /// The key as uploaded, JSON.
    pub json: String,
}

/// The key that is given out when no one-time key is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackKeyRow {
    /// `algorithm:id`.
    pub id: String,
    /// The key as uploaded, JSON.
    pub json: String,
    /// It was given out.
    pub used: bool,
}

/// What a device is told about its keys in every `/sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounts {
    /// One-time keys that are left, by algorithm.
    pub one_time: BTreeMap<String, u64>,
    /// Algorithms whose fallback key was not given out yet.
    pub unused_fallback: BTreeSet<String>,
    /// The position of the last change.
    pub position: u64,
}

/// A change that peers are told: of a device, or (none) of the user's cross-signing keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOut {
    /// The local user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: Option<OwnedDeviceId>,
}

/// What we know about a remote user's device list as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteList {
    /// The `stream_id` up to which we know it.
    pub stream_id: u64,
    /// Our position when it was asked for. Only updates since a room was shared without a break keep it true.
    pub fetched_at: u64,
    /// An update was missed, or may have been: ask again before use.
    pub stale: bool,
}

/// A device of a remote user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteDevice {
    /// The identity keys, JSON.
    pub keys: String,
    /// The name that its owner gave it.
    pub display_name: Option<String>,
}

/// A version of a key backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The algorithm.
    pub algorithm: String,
    /// What the algorithm needs to know, JSON.
    pub auth_data: String,
    /// Counts the changes.
    pub etag: u64,
    /// How many sessions it holds.
    pub count: u64,
    /// Deleted; the row stays so that its number is not given again.
    pub deleted: bool,
}

/// The signing keys of a server with a name in the DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeys {
    /// Its newest key document as it signed it, JSON.
    pub document: String,
    /// When that was fetched, in milliseconds since the epoch.
    pub fetched_at_ms: u64,
    /// Until when it may be believed.
    pub valid_until_ms: u64,
    /// All keys that we know of it, old ones included, by key id.
    pub keys: BTreeMap<String, ServerKey>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKey {
    /// Base64.
    pub key: String,
    /// It is good for what was signed until then, in milliseconds since the epoch.
    pub until_ms: u64,
    /// Its server says that it signs no more.
    pub expired: bool,
}

cbor_value!(ServerKeys, OneTimeKeyRow, FallbackKeyRow, KeyCounts, DeviceOut, RemoteList, RemoteDevice, Backup);
