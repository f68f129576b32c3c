//! The simulator: many nodes and hosts in one process on virtual time, out of one seed. See docs/simulator.md for what is real in it
//! and what is modelled.
//!
//! ```text
//! plan (seed) -> world: one queue -> node: disk, sessions, steps --- deposits ---> host: the real machine
//!                   |                   ^ kills fall between two steps               ^ the Byzantine one stands in front of it
//!                   +-> ledger (what was accepted) -> verdict: everything everywhere, once
//! ```

pub mod checks;
pub mod disk;
pub mod fate;
pub mod host;
pub mod ledger;
pub mod node;
pub mod people;
pub mod plan;
pub mod random;
pub mod room;
pub mod run;
pub mod stats;
pub mod trace;
pub mod verdict;
pub mod world;
