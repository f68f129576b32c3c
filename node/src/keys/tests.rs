//! The parts that clients cannot see through the API: peers, cursors, positions.

pub(crate) mod fixture;
mod lists;
mod packs;
mod peers;
mod remote;
