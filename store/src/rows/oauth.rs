//! The authorisation server (OAuth 2.0): clients, codes, browsers.

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// A client that registered itself. Keyed by its client id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OAuthClient {
    /// The name shown to the user.
    pub name: Option<String>,
    /// Its home page.
    pub uri: String,
    /// Where it may be answered.
    pub redirect_uris: Vec<String>,
    /// It runs on the user's device and not on a web site.
    pub native: bool,
    /// Milliseconds since the epoch.
    pub registered_at_ms: u64,
}

/// A code that stands for an authorisation. Keyed by the SHA-256 of the authorisation code or the device code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OAuthCode {
    /// Who asked.
    pub client_id: String,
    /// The device that it asks for.
    pub device_id: OwnedDeviceId,
    /// The scope as it was asked for.
    pub scope: String,
    /// Who allowed it.
    pub user_id: Option<OwnedUserId>,
    /// How far it is.
    pub stage: OAuthStage,
    /// Milliseconds since the epoch.
    pub expires_at_ms: u64,
    /// Where an authorisation code was sent.
    pub redirect_uri: Option<String>,
    /// The PKCE challenge of an authorisation code (S256).
    pub challenge: Option<String>,
    /// SHA-256 of what the user types in, of a device code.
    pub user_code: Option<[u8; 32]>,
}

/// How far an authorisation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OAuthStage {
    /// The user has not decided.
    Asked,
    /// The user allowed it.
    Allowed,
    /// The user refused it.
    Denied,
    /// The client has its tokens. Who shows the code again has stolen it, or the client's has been stolen.
    Used,
}

/// A browser that is signed in on our pages. Keyed by the SHA-256 of its cookie.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OAuthBrowser {
    /// The user.
    pub user_id: OwnedUserId,
    /// Milliseconds since the epoch.
    pub expires_at_ms: u64,
}

cbor_value!(OAuthClient, OAuthCode, OAuthBrowser);
