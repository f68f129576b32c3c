//! What comes and goes through mailboxes.

use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// An item of a peer out of a mailbox: durable before the peer hears that we have it, worked off afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailIn {
    /// The link's peer.
    pub peer: OwnedServerName,
    /// The link is a contact's, not one by introduction.
    pub contact: bool,
    /// What kind of item it is, as on the wire.
    pub kind: u8,
    /// Its body.
    pub body: Vec<u8>,
}

/// The answer to a question of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailResponse {
    /// The peer's number of the question.
    pub id: u64,
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A question of ours that travels over mailboxes, until nobody needs its answer any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailAsked {
    /// The method of the request.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its body.
    pub body: Vec<u8>,
    /// From when on no answer is expected, in milliseconds since the epoch.
    pub deadline_ms: u64,
    /// What the peer said.
    pub answer: Option<MailAnswer>,
}

/// The answer to a question of ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailAnswer {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// Until when it stands for what the peer would say, in milliseconds since the epoch.
    pub until_ms: u64,
}

cbor_value!(MailIn, MailResponse, MailAsked);
