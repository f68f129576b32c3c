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

cbor_value!(MailIn, MailResponse);
