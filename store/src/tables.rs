//! Every table of the database, with its key and its value.

use ruma::{OwnedDeviceId, OwnedUserId};

use crate::rows::*;
use crate::table::tables;

tables! {
    /// Facts about the file itself: `layout`, `position`, and the node's own (`server_name` ...).
    META: String => Vec<u8>;

    /// Local accounts.
    ACCOUNTS: OwnedUserId => Account;
    /// Devices of local accounts.
    DEVICES: (OwnedUserId, OwnedDeviceId) => Device;
    /// Access tokens: SHA-256 of the token to its owner.
    TOKENS: [u8; 32] => TokenOwner;
}
