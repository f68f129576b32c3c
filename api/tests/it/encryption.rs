//! Keys that the tests sign with, as clients do.

use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::harness::TestUser;

/// A key pair that signs as `ed25519:<name>`.
pub fn key_pair(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), name.to_owned()).unwrap()
}

/// A key pair that is named after itself, as cross-signing keys are.
pub fn self_named() -> Ed25519KeyPair {
    let der = Ed25519KeyPair::generate();
    let probe = Ed25519KeyPair::from_der(&der, "probe".to_owned()).unwrap();
    Ed25519KeyPair::from_der(&der, public(&probe)).unwrap()
}

/// The public key.
pub fn public(pair: &Ed25519KeyPair) -> String {
    Base64::<Standard, _>::new(pair.public_key()).encode()
}

/// The object with a signature added.
pub fn signed(object: &Value, user: &TestUser, pair: &Ed25519KeyPair) -> Value {
    let mut canonical: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    sign_json(user.id.as_str(), pair, &mut canonical).unwrap();
    serde_json::to_value(canonical).unwrap()
}

/// Device keys of a user's device.
pub fn device_keys(user: &TestUser, pair: &Ed25519KeyPair) -> Value {
    let device = user.device_id.as_str();
    let keys = json!({
        "user_id": user.id, "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): public(pair), format!("curve25519:{device}"): public(&key_pair("c")) },
    });
    signed(&keys, user, pair)
}

/// A cross-signing key of a user.
pub fn cross_signing_key(user: &TestUser, usage: &str, pair: &Ed25519KeyPair) -> Value {
    json!({ "user_id": user.id, "usage": [usage], "keys": { format!("ed25519:{}", public(pair)): public(pair) } })
}
