//! The OAuth 2.0 API (client-server spec, "OAuth 2.0 API"): a small authorisation server beside the password login. A
//! session that it makes is a device like any other, with tokens that end (`refresh`), and belongs to the client that asked.
//!
//! ```text
//! client: register (RFC 7591) -> authorise in the browser (PKCE) -> code -> tokens
//!                             -> device code (RFC 8628) -> the user allows it on another screen -> tokens
//! ```

mod browser;
mod clients;
mod codes;
mod device_code;
mod exchange;
mod redirect;
mod scope;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

pub use self::{
    browser::SIGNED_IN_FOR,
    codes::{Authorization, Denial},
    device_code::DeviceRequest,
};
use super::Accounts;
use crate::{Error, config::Registration};

/// Why an OAuth request is refused, in the words of RFC 6749 and those that build on it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The error code and what is wrong.
    #[error("{code}: {description}")]
    OAuth {
        /// The code.
        code: &'static str,
        /// For the client's developer.
        description: String,
    },
    /// What any request may be refused for.
    #[error(transparent)]
    Node(#[from] Error),
}

impl Refusal {
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self::OAuth { code, description: description.into() }
    }
}

impl From<millpond_store::Error> for Refusal {
    fn from(error: millpond_store::Error) -> Self {
        Self::Node(error.into())
    }
}

impl From<millpond_store::WriteError<Self>> for Refusal {
    fn from(error: millpond_store::WriteError<Self>) -> Self {
        match error {
            millpond_store::WriteError::Refused(refusal) => refusal,
            millpond_store::WriteError::Store(error) => error.into(),
        }
    }
}

/// The parameters of a form.
pub type Form = std::collections::BTreeMap<String, String>;

/// A parameter that has to be there.
pub(super) fn required<'f>(form: &'f Form, name: &str) -> Result<&'f str, Refusal> {
    let found = form.get(name).filter(|value| !value.is_empty()).map(String::as_str);
    found.ok_or_else(|| Refusal::new("invalid_request", format!("`{name}` is missing")))
}

/// When device codes were asked about last: in memory, for a poll is no change worth a commit.
#[derive(Default)]
pub(super) struct Polls(Mutex<HashMap<[u8; 32], u64>>);

impl Polls {
    /// Whether a code is asked about too soon again.
    fn is_hasty(&self, code: [u8; 32], now_ms: u64, interval_ms: u64) -> bool {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.len() > codes::CODES_MAX {
            polls.clear();
        }
        polls.insert(code, now_ms).is_some_and(|last| now_ms < last.saturating_add(interval_ms))
    }
}

impl Accounts {
    /// The metadata of the authorisation server (RFC 8414).
    pub fn oauth_metadata(&self) -> Value {
        let base = self.base_url();
        let mut metadata = json!({
            "issuer": format!("{base}/"),
            "authorization_endpoint": format!("{base}/oauth2/authorize"),
            "token_endpoint": format!("{base}/oauth2/token"),
            "revocation_endpoint": format!("{base}/oauth2/revoke"),
            "registration_endpoint": format!("{base}/oauth2/clients/register"),
            "device_authorization_endpoint": format!("{base}/oauth2/device/authorize"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_CODE],
            "response_modes_supported": ["query", "fragment"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "account_management_uri": format!("{base}/account"),
            "account_management_actions_supported": ACTIONS,
        });
        if self.0.core.config().registration != Registration::Closed {
            metadata["prompt_values_supported"] = json!(["create"]);
        }
        metadata
    }

    /// Our address for clients, without a slash at its end.
    pub(super) fn base_url(&self) -> &str {
        self.0.core.config().client_base_url.trim_end_matches('/')
    }
}

/// What the account page can do.
const ACTIONS: [&str; 4] =
    ["org.matrix.devices_list", "org.matrix.device_view", "org.matrix.device_delete", "org.matrix.cross_signing_reset"];

/// The grant type of RFC 8628.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
