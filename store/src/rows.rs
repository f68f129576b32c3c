//! The rows: what the tables of [`crate::tables`] hold, one file per part of the homeserver.

mod accounts;
mod rooms;

pub use accounts::*;
pub use rooms::*;

use crate::key::short_id;

short_id! {
    /// The interned number of a room.
    RoomShort
}
short_id! {
    /// The interned number of an event. Given out on the writer only: two numbers for one event would be unrepairable.
    EventShort
}
short_id! {
    /// The interned number of an (event type, state key) pair.
    StateKeyShort
}
short_id! {
    /// The number of a state group: the state of a room after some event.
    StateGroup
}
