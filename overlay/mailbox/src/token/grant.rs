//! What an operator prints and hands to a person: good for one request of tokens.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::SpentMark;

/// `id 16 | mac 32`, as text `millpond-token:` and base64url.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant(#[serde(with = "serde_bytes")] [u8; GRANT_LEN]);

impl Grant {
    pub(super) fn new(id: [u8; 16], mac: [u8; 32]) -> Self {
        let mut bytes = [0_u8; GRANT_LEN];
        bytes[..16].copy_from_slice(&id);
        bytes[16..].copy_from_slice(&mac);
        Self(bytes)
    }

    /// Takes a grant out of a request.
    #[must_use]
    pub fn from_bytes(bytes: [u8; GRANT_LEN]) -> Self {
        Self(bytes)
    }

    /// The grant as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; GRANT_LEN] {
        &self.0
    }

    /// Reads a grant as a user pastes it.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        let encoded = text.trim().strip_prefix(SCHEME).ok_or(GrantError)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| GrantError)?;
        bytes.try_into().map(Self).map_err(|_| GrantError)
    }

    /// The grant as the operator hands it out.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SCHEME}{}", BASE64URL_NOPAD.encode(&self.0))
    }

    /// What the host keeps of a used grant.
    #[must_use]
    pub fn spent_mark(&self) -> SpentMark {
        SpentMark::of(&self.id())
    }

    pub(super) fn id(&self) -> [u8; 16] {
        let mut id = [0_u8; 16];
        id.copy_from_slice(&self.0[..16]);
        id
    }

    pub(super) fn mac(&self) -> [u8; 32] {
        let mut mac = [0_u8; 32];
        mac.copy_from_slice(&self.0[16..]);
        mac
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        Self::parse(text)
    }
}

/// Says nothing: whoever reads it can use it.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(..)")
    }
}

/// The text is no token of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token for mailboxes: copy {SCHEME} and all that follows it from what the operator of the host gave you"
)]
pub struct GrantError;

const SCHEME: &str = "millpond-token:";
/// Bytes of a grant.
pub const GRANT_LEN: usize = 48;
