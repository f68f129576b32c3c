//! Ed25519 over canonical JSON (appendices, "Signing JSON"): ruma's functions under one name. Every other package signs and verifies through here, so
//! that a change of ruma's signatures touches this package only.

pub use ruma::signatures::{
    Ed25519KeyPair, JsonError, KeyPair, PublicKeyMap, PublicKeySet, sign_json, to_canonical_json_string_for_signing,
    verify_canonical_json_bytes, verify_json,
};
