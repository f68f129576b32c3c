//! Key packs: what lets the clients of a contact begin encrypted sessions while our node sleeps, and what we hold of theirs.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{FallbackKeyRow, OneTimeKeyRow};
use crate::value::cbor_value;

/// Packs that may have to be made anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackDue {
    /// The local user whose keys changed; none: every local user.
    pub user_id: Option<OwnedUserId>,
    /// The peer that holds the pack; none: every linked peer.
    pub server: Option<OwnedServerName>,
}

/// The pack of a local user that a peer holds, or will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackSent {
    /// The position at which it was made.
    pub version: u64,
    /// SHA-256 over everything in it but the one-time keys, in hex.
    pub digest: String,
    /// One-time keys in it of which the peer has not said that they are used: device to key ids.
    pub outstanding: BTreeMap<String, Vec<String>>,
}

/// A pack that the peer does not have yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackOwed {
    /// The position at which it was made.
    pub version: u64,
    /// One-time keys that it brings; everything else is read when it is sent.
    pub keys: BTreeMap<String, Vec<OneTimeKeyRow>>,
}

/// What we hold for a device of a peer's user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPack {
    /// One-time keys that nobody here has claimed.
    pub one_time: Vec<OneTimeKeyRow>,
    /// Fallback keys by algorithm.
    pub fallback: BTreeMap<String, FallbackKeyRow>,
    /// The newest ids that were claimed: a pack that was made before its owner knew does not bring them back.
    pub used: Vec<String>,
}

cbor_value!(PackDue, PackSent, PackOwed, KeyPack);
