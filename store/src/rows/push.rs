//! What leaves the node about its users because they asked for it: push notifications, proofs of who they are.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// Where a user is notified. Keyed by user, app id and pushkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pusher {
    /// The device that set it, with which it goes.
    pub device_id: OwnedDeviceId,
    /// The app's name for people.
    pub app_display_name: String,
    /// The device's name for people.
    pub device_display_name: String,
    /// Which rules of the device it follows.
    pub profile_tag: Option<String>,
    /// The language of the notifications.
    pub lang: String,
    /// The gateway.
    pub url: String,
    /// The rest of `data`, a JSON object: it is passed on to the gateway.
    pub data: String,
    /// Milliseconds since the epoch.
    pub set_at_ms: u64,
    /// The position up to which the gateway was told.
    pub told: u64,
}

/// Whom a third party may take the bearer of a token for. Keyed by the SHA-256 of the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIdToken {
    /// The user.
    pub user_id: OwnedUserId,
    /// Milliseconds since the epoch.
    pub expires_at_ms: u64,
}

cbor_value!(Pusher, OpenIdToken);
