//! Rooms by the word of one server: snapshot invites, with which rooms can be entered while everybody in them sleeps, and
//! joins with a part of the state.

use ruma::{OwnedEventId, OwnedServerName};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// What came with an invite: the room as it was before it. Checked when it came, and again when it is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteSnapshot {
    /// The server that described the room.
    pub from: OwnedServerName,
    /// The invite, JSON.
    pub invite: String,
    /// The state before it, JSON events.
    pub state: Vec<String>,
    /// The auth chain of that state and of the invite.
    pub auth_chain: Vec<String>,
}

/// A room that we know by one server's word only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// The invite, before which the room was described.
    pub invite: OwnedEventId,
    /// Who described it.
    pub from: OwnedServerName,
}

/// A room that we joined with a state from which members were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// Our join, before which the state is to be completed.
    pub join: OwnedEventId,
    /// Our server, which is in the room for as long as it has members there.
    pub us: OwnedServerName,
    /// Who described the room.
    pub from: OwnedServerName,
    /// When, in milliseconds since the epoch.
    pub since_ms: u64,
}

cbor_value!(InviteSnapshot, Unconfirmed, Partial);
