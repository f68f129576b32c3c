//! The homeserver: accounts, rooms, sync, outbox, inbox, backfill, push, media.
//!
//! Each part is a service: a cheap handle over [`Core`] with the methods that the API calls. [`NodeHandle`] holds one of
//! each; a handler takes only the one that it uses.

pub mod clock;
pub mod config;
mod core;
mod error;
pub mod identity;
pub mod notify;
pub mod rooms;
pub mod start;

pub use crate::{core::Core, error::Error};

/// The services of a running node. Cloning is cheap.
#[derive(Clone)]
pub struct NodeHandle {
    /// What all services stand on.
    pub core: Core,
    /// Rooms.
    pub rooms: rooms::Rooms,
}

impl NodeHandle {
    /// The services over `core`.
    pub fn new(core: Core) -> Self {
        Self { rooms: rooms::Rooms::new(core.clone()), core }
    }
}
