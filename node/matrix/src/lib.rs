//! The room protocol as pure functions: PDU checks, auth, state resolution, DAG decisions.
//!
//! No async, I/O, clock, randomness or locks: time and keys come in as arguments, effects go out as values, storage is
//! read through [`RoomReader`]. A PDU changes its type as it is checked: [`check::RawPdu`] (parsed),
//! [`check::CheckedPdu`] (form, hash and signatures verified, or built here), and then a [`decide::Verdict`] says what
//! becomes of it.
//!
//! ```
//! use millpond_matrix::{build::{self, EventDraft, Parents, Signer}, check::RawPdu, rules};
//! use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId, server_name, uint, user_id};
//! use ruma::signatures::{Ed25519KeyPair, PublicKeyMap, PublicKeySet};
//!
//! let rules = rules::rules(&RoomVersionId::V12)?;
//! let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned())?;
//! let signer = Signer { server: server_name!("a.example"), key: &key };
//!
//! // Build and sign the create event of a room; its room id is its own hash.
//! let (alice, now) = (user_id!("@alice:a.example").to_owned(), MilliSecondsSinceUnixEpoch(uint!(1)));
//! let content = build::content(br#"{"room_version":"12"}"#)?;
//! let mut draft = EventDraft::new("m.room.create".into(), content, alice, now);
//! draft.state_key = Some(String::new());
//! let create = build::sign(rules, None, draft, Parents::default(), &signer)?;
//! assert_eq!(create.room_id().as_str()[1..], create.event_id().as_str()[1..]);
//!
//! // What another server does with the bytes: parse, see whose keys it needs, verify.
//! let raw = RawPdu::parse(create.json())?;
//! assert!(raw.required_keys(rules)?.contains_key(server_name!("a.example")));
//! let public = ruma::serde::Base64::new(key.public_key().to_vec());
//! let keys = PublicKeyMap::from([("a.example".to_owned(), PublicKeySet::from([("ed25519:1".to_owned(), public)]))]);
//! let checked = raw.check(rules, &keys)?;
//! assert_eq!(checked.event_id(), create.event_id());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod base64;
pub mod build;
pub mod check;
pub mod client;
pub mod create_room;
pub mod decide;
pub mod event_id;
pub mod frontier;
pub mod join;
pub mod number;
pub mod pdu;
pub mod policy_server;
pub mod power;
pub mod reader;
pub mod redact;
pub mod resettle;
pub mod rules;
pub mod signing;
pub mod state;
pub mod template;
pub mod visibility;

pub use check::CheckedPdu;
pub use decide::{Verdict, decide};
pub use pdu::{Pdu, PduFlags, PduHeader};
pub use reader::{ReadError, RoomReader, StateGroup};
pub use rules::{RoomRules, UnsupportedRoomVersion};
pub use state::{StateKey, StateMap};
