//! The rows: what the tables of [`crate::tables`] hold, one file per part of the homeserver.

mod accounts;
mod delayed;
mod events;
mod groups;
mod key_packs;
mod keys;
mod mail;
mod moderation;
mod names;
mod oauth;
mod push;
mod rooms;
mod search;
mod sliding;
mod snapshots;
mod txns;
mod userdata;

pub use accounts::*;
pub use delayed::*;
pub(crate) use events::first::decode as events_of_layout_1;
pub use events::*;
pub use groups::*;
pub use key_packs::*;
pub use keys::*;
pub use mail::*;
pub use moderation::*;
pub use names::*;
pub use oauth::*;
pub use push::*;
pub use rooms::*;
pub use search::*;
pub use sliding::*;
pub use snapshots::*;
pub use txns::*;
pub use userdata::*;

use crate::key::{foreign_short_id, short_id};

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
pub use millpond_matrix::StateGroup;

foreign_short_id!(StateGroup);
