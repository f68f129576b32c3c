//! What connections of sliding sync have been told (MSC4186).

use serde::{Deserialize, Serialize};

use super::RoomShort;
use crate::value::cbor_value;

/// A connection: what its client had got by the last answer that it has confirmed, and what it has after the one after that.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlidingConnection {
    /// Says which connection of this name it is: one that starts anew has another.
    pub epoch: u64,
    /// When it was written last, in milliseconds since the epoch.
    pub written_at_ms: u64,
    /// At most two states, the older one first.
    pub states: Vec<SlidingState>,
}

/// What a client has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingState {
    /// Counts the states of the connection.
    pub version: u64,
    /// The rooms that it was told of, by number.
    pub rooms: Vec<(RoomShort, SentRoom)>,
    /// The sets of required state that rooms were sent with, each as JSON.
    pub required: Vec<String>,
}

/// What a client has got of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRoom {
    /// The position up to which it was told; none: everything up to the position of its token.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// How many of the newest events it has for certain.
    #[serde(rename = "d")]
    pub depth: u32,
    /// Which set of required state it was sent with.
    #[serde(rename = "r")]
    pub required: u32,
    /// It was told that the room is a direct chat.
    #[serde(rename = "m", default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// It was sent as a room that the user has been in, and not as an invite or a knock.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

cbor_value!(SlidingConnection);
