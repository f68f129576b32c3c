//! What administrators did to accounts, and what users reported to them.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// What administrators did to an account, and what its user asked for at its end. No row: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountMarks {
    /// Cannot be used until it is unlocked; its devices stay.
    pub locked: bool,
    /// Can read, and leave, and not take part.
    pub suspended: bool,
    /// Deactivated with the wish to be forgotten: its messages are shown redacted to whoever joined after them.
    pub erased: bool,
}

/// Something that a user reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReport {
    /// Who reported it.
    pub reporter: OwnedUserId,
    /// What.
    pub about: Reported,
    /// Why, in the reporter's words.
    pub reason: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
}

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reported {
    /// A room.
    Room(OwnedRoomId),
    /// An event of a room.
    Event(OwnedRoomId, OwnedEventId),
    /// A user.
    User(OwnedUserId),
}

cbor_value!(AccountMarks, UserReport);
