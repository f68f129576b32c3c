//! Media.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// A media id, ours or fetched from a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Media {
    /// Who made it; none: fetched from a peer.
    pub creator: Option<OwnedUserId>,
    /// Milliseconds since the epoch.
    pub created_at_ms: u64,
    /// What was uploaded; none: the id is reserved and waits for its upload.
    pub content: Option<MediaContent>,
    /// Nobody is given it.
    #[serde(default)]
    pub quarantined: bool,
}

/// The content of a media id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaContent {
    /// The content's SHA-256, which is its file's name.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub len: u64,
    /// `Content-Type`, as the uploader said.
    pub content_type: Option<String>,
    /// The file's name, as the uploader said.
    pub filename: Option<String>,
}

/// What is known about a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Milliseconds since the epoch.
    pub fetched_at_ms: u64,
    /// What clients are told, a JSON object.
    pub json: String,
    /// The media id of its picture.
    pub media_id: Option<String>,
}

cbor_value!(Media, MediaContent, Preview);
