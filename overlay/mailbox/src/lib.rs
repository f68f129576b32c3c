//! The delivery protocol as pure state machines: names, key documents, contact links, links and streams.
//!
//! Nothing here does I/O or reads a clock. Time and randomness come in as arguments, effects go out as values; the one
//! exception is vodozemac, which draws its own randomness. The rules are those of the design text "The overlay".

pub mod bundle;
pub mod contact_link;
pub mod exchange;
pub mod identity;
pub mod introduction;
pub mod key_document;
pub mod link;
pub mod message;
pub mod name;
pub mod secrets;
pub mod signing_key;
pub mod stream;
pub mod time;
pub mod way;
pub mod xwing;

mod canonical_json;
mod labels;
mod olm;

pub use canonical_json::JsonError;
pub use olm::OlmError;
pub use rand_core;
