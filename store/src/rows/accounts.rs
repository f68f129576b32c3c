//! Accounts, devices and access tokens.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// A local account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The password as an Argon2id PHC string; none: no password login.
    pub password_hash: Option<String>,
    /// Milliseconds since the epoch.
    pub created_at_ms: u64,
    /// May use the admin endpoints.
    pub admin: bool,
    /// Deactivated for good: no login, the name stays taken.
    pub deactivated: bool,
}

/// A device of a local account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// The name shown to the user.
    pub display_name: Option<String>,
    /// Milliseconds since the epoch; updated at most every few minutes.
    pub last_seen_ms: Option<u64>,
    /// Where it was last seen from.
    pub last_seen_ip: Option<String>,
    /// SHA-256 of its access token, so that it can be revoked.
    pub token_hash: Option<[u8; 32]>,
}

/// Whom an access token stands for. Keyed by the token's SHA-256: a thief of the file gets no usable token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOwner {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
}

cbor_value!(Account, Device, TokenOwner);
