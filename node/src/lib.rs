//! The homeserver: accounts, rooms, sync, outbox, inbox, backfill, push, media.
//!
//! Each part is a service: a cheap handle over [`Core`] with the methods that the API calls. [`NodeHandle`] holds one of
//! each; a handler takes only the one that it uses.

pub mod accounts;
pub mod clock;
pub mod config;
mod core;
mod error;
pub mod identity;
pub mod notify;
pub mod rooms;
pub mod start;

pub use crate::{core::Core, error::Error};
pub use millpond_store::{Error as StoreError, rows};

/// The services of a running node. Cloning is cheap.
#[derive(Clone)]
pub struct NodeHandle {
    /// What all services stand on.
    pub core: Core,
    /// Accounts, devices, access tokens, logins.
    pub accounts: accounts::Accounts,
    /// Rooms.
    pub rooms: rooms::Rooms,
}

impl NodeHandle {
    /// The services over `core`.
    pub fn new(core: Core) -> Self {
        let accounts = accounts::Accounts::new(core.clone());
        let rooms = rooms::Rooms::new(core.clone());
        Self { accounts, rooms, core }
    }
}
