//! The delivery protocol as pure state machines: names, key documents, contact links, links and streams.
//!
//! Nothing here does I/O or reads a clock. Time and randomness come in as arguments, effects go out as values; the one
//! exception is vodozemac, which draws its own randomness. The rules are those of the design text "The overlay".
//!
//! Two nodes make a link; what would travel over a stream is handed over as values:
//!
//! ```
//! use std::collections::BTreeMap;
//! use millpond_mailbox::{
//!     identity::IdentityKey, key_document::{DocumentKeys, KeyDocument}, link::{Effect, Link, Own},
//!     rand_core::{CryptoRng, UnwrapErr}, signing_key::{Generation, SigningKey}, time::UnixMillis, way::Way,
//! };
//!
//! fn node(rng: &mut impl CryptoRng) -> Result<(IdentityKey, KeyDocument), Box<dyn std::error::Error>> {
//!     let identity = IdentityKey::generate(rng);
//!     let signing = SigningKey::generate(Generation::FIRST, rng);
//!     let keys = DocumentKeys {
//!         generation: Generation::FIRST, current: &[&signing], old: &BTreeMap::new(), intro_key: None,
//!     };
//!     let document = KeyDocument::build(&identity, &keys)?;
//!     Ok((identity, document))
//! }
//!
//! let mut rng = UnwrapErr(getrandom::SysRng);
//! let ways = [Way::Direct(vec![4, 127, 0, 0, 1, 6, 31, 64])];
//! let (alice, alice_document) = node(&mut rng)?;
//! let (bob, bob_document) = node(&mut rng)?;
//! let alice_is = Own { identity: &alice, key_document: &alice_document, ways: &ways, stamps: &[] };
//! let bob_is = Own { identity: &bob, key_document: &bob_document, ways: &ways, stamps: &[] };
//! let now = UnixMillis(1_800_000_000_000);
//!
//! // Alice shows a contact link, Bob pastes it and dials her.
//! let (mut at_alice, contact) = Link::offer(&alice_is, now, &mut rng)?;
//! let mut at_bob = Link::add(&contact.to_uri().parse()?, &bob.public(), now)?;
//!
//! // She sends her box, he answers and confirms, she is asked.
//! let mut effects = Vec::new();
//! for offer in at_alice.opening(false) {
//!     for effect in at_bob.handle(&bob_is, &offer, now, &mut rng)? {
//!         if let Effect::Send(message) = effect {
//!             effects = at_alice.handle(&alice_is, &message, now, &mut rng)?;
//!         }
//!     }
//! }
//! assert!(effects.contains(&Effect::AskUser { peer: bob.name() }));
//!
//! // She says yes; Bob reads her confirmation.
//! for effect in at_alice.confirm()? {
//!     if let Effect::Send(message) = effect {
//!         at_bob.handle(&bob_is, &message, now, &mut rng)?;
//!     }
//! }
//! assert_eq!(at_alice.established_peer(), Some(&bob.name()));
//! assert_eq!(at_bob.established_peer(), Some(&alice.name()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backup_file;
pub mod bundle;
pub mod contact_link;
pub mod deposit;
pub mod descriptor;
pub mod discovery;
pub mod envelope;
pub mod exchange;
pub mod frame;
pub mod host;
pub mod host_key;
pub mod host_link;
pub mod host_protocol;
pub mod identity;
pub mod introduction;
pub mod item;
pub mod key_document;
pub mod key_pack;
pub mod link;
pub mod mailbox;
pub mod message;
pub mod name;
pub mod pickup;
pub mod schedule;
pub mod secrets;
pub mod session;
pub mod signing_key;
pub mod stamp;
pub mod stream;
pub mod time;
pub mod token;
pub mod way;
pub mod window;
pub mod xwing;

mod canonical_json;
mod compress;
mod labels;
mod olm;

pub use canonical_json::JsonError;
pub use olm::OlmError;
pub use rand_core;
