//! The room protocol, driven through its public functions over a room that is a few maps.

mod arrival;
mod build;
mod checks;
mod client;
mod create_room;
mod decide;
mod join;
mod pdu;
mod power;
mod resolution;
mod template;
mod visibility;
mod world;
