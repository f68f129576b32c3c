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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    /// The name shown to the user.
    pub display_name: Option<String>,
    /// Milliseconds since the epoch; updated at most every few minutes.
    pub last_seen_ms: Option<u64>,
    /// Where it was last seen from.
    pub last_seen_ip: Option<String>,
    /// SHA-256 of its access token, so that it can be revoked.
    pub token_hash: Option<[u8; 32]>,
    /// Of a device whose access tokens end and are refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
    /// The OAuth client whose session it is; none: a login of the client-server API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl Device {
    /// The hashes of the access tokens that the device knows.
    pub fn access_hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        let refresh = self.refresh.as_ref();
        let next = refresh.and_then(|refresh| refresh.next.as_ref()).map(|next| next.access);
        self.token_hash.into_iter().chain(next).chain(refresh.and_then(|refresh| refresh.previous))
    }

    /// The hashes of its refresh tokens.
    pub fn refresh_hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        let refresh = self.refresh.as_ref();
        let next = refresh.and_then(|refresh| refresh.next.as_ref()).map(|next| next.refresh);
        refresh.map(|refresh| refresh.token).into_iter().chain(next)
    }
}

/// How the access token of a device is refreshed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refresh {
    /// SHA-256 of the refresh token that was given out with the access token.
    pub token: [u8; 32],
    /// What the last refresh gave out. The client may not have got it, so both pairs hold until one token of it is used.
    pub next: Option<TokenPair>,
    /// SHA-256 of the access token before: it has ended, but who shows it should refresh and not log out.
    pub previous: Option<[u8; 32]>,
}

/// SHA-256 of an access token and of its refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPair {
    /// Of the access token.
    pub access: [u8; 32],
    /// Of the refresh token.
    pub refresh: [u8; 32],
}

/// Whom an access or refresh token stands for. Keyed by the token's SHA-256: a thief of the file gets no usable token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOwner {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it ends, in milliseconds since the epoch; none: with the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// A device that is kept for a user while nobody is logged in with it (MSC3814). Keyed by the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DehydratedDevice {
    /// The device, which is one of the user's.
    pub device_id: OwnedDeviceId,
    /// What only the user can read of it, a JSON object.
    pub data: String,
}

/// An e-mail address or a phone number of a local user, as the identity server has validated it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threepid {
    /// Milliseconds since the epoch.
    pub validated_at_ms: u64,
    /// When it was added to the account, by which it can be entered then; none: it is only published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at_ms: Option<u64>,
    /// The identity server, by its host, that tells others whose it is; none: it is not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
}

cbor_value!(Account, Device, TokenOwner, DehydratedDevice, Threepid);
