//! Events that their senders want to be sent later (MSC4140).

use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// A delayed event. Keyed by its delay id, which whoever knows it may use to send, restart or cancel it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedEvent {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device that scheduled it.
    pub device_id: OwnedDeviceId,
    /// The client's id for that request, if it had one.
    pub txn_id: Option<String>,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event's type.
    pub kind: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content, JSON.
    pub content: String,
    /// How long it waits, in milliseconds.
    pub delay_ms: u64,
    /// When it was scheduled or restarted last, in milliseconds since the epoch.
    pub running_since_ms: u64,
    /// What came of it; none: it waits.
    pub end: Option<DelayedEnd>,
}

/// What came of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedEnd {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// Somebody asked for it before its time.
    pub by_action: bool,
    /// What.
    pub outcome: DelayedOutcome,
}

/// Sent or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DelayedOutcome {
    /// It is this event.
    Sent(OwnedEventId),
    /// Somebody did not want it any more.
    Cancelled,
    /// It could not be sent: the error as a client is told, a JSON object.
    Failed(String),
}

impl DelayedEvent {
    /// When it is sent, if nobody acts before.
    pub fn due_ms(&self) -> u64 {
        self.running_since_ms.saturating_add(self.delay_ms)
    }
}

cbor_value!(DelayedEvent);
