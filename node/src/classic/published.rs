//! Key documents of classic servers: `/_matrix/key/v2/server` as its server publishes it, checked, and the row that it
//! becomes. Keys that a server has used before stay in the row: its old events are signed with them.

use std::{collections::BTreeMap, time::Duration};

use millpond_matrix::signing::{PublicKeyMap, PublicKeySet, verify_json};
use millpond_store::rows::{ServerKey, ServerKeys};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, serde::Base64};
use serde::Deserialize;

/// Bytes of a document; as many as one of ours may have.
pub(super) const MAX_LEN: usize = 32 << 10;
/// Keys that are kept of one server, old ones included.
const MAX_KEYS: usize = 64;
/// How long a document is believed, whatever it says (server-server spec, "Publishing Keys").
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Deserialize)]
struct Fields {
    server_name: String,
    valid_until_ts: u64,
    verify_keys: BTreeMap<String, Key>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, OldKey>,
}

#[derive(Deserialize)]
struct Key {
    key: Base64,
}

#[derive(Deserialize)]
struct OldKey {
    key: Base64,
    expired_ts: u64,
}

/// A document that its own keys have signed.
#[derive(Clone)]
pub(super) struct Published {
    json: String,
    valid_until_ms: u64,
    keys: BTreeMap<String, ServerKey>,
}

impl Published {
    /// Checks a document of `server`, by whomever it was carried.
    pub(super) fn verify(server: &ServerName, json: &str) -> Result<Self, &'static str> {
        if json.len() > MAX_LEN {
            return Err("the key document is too long");
        }
        let object: CanonicalJsonObject = serde_json::from_str(json).map_err(|_| "the key document is not JSON")?;
        let fields: Fields = serde_json::from_str(json).map_err(|_| "the key document lacks something")?;
        if fields.server_name != server.as_str() {
            return Err("the key document is of another server");
        }
        let current: PublicKeySet = fields
            .verify_keys
            .iter()
            .filter(|(id, key)| is_ed25519(id, &key.key))
            .map(|(id, key)| (id.clone(), key.key.clone()))
            .collect();
        if current.is_empty() || current.len() > MAX_KEYS {
            return Err("the key document has no key that can be used, or too many");
        }
        if !is_signed_by(&object, server, &current) {
            return Err("the key document is not signed with its own keys");
        }
        let valid_until_ms = fields.valid_until_ts;
        let current = fields.verify_keys.into_iter().map(|(id, key)| (id, key.key, valid_until_ms, false));
        let old = fields.old_verify_keys.into_iter().map(|(id, old)| (id, old.key, old.expired_ts, true));
        let keys = old
            .chain(current)
            .filter(|(id, key, ..)| is_ed25519(id, key))
            .map(|(id, key, until_ms, expired)| (id, ServerKey { key: key.encode(), until_ms, expired }));
        Ok(Self { json: json.to_owned(), valid_until_ms, keys: keys.take(2 * MAX_KEYS).collect() })
    }

    /// Whether a notary, whose keys these are, has signed it as well.
    pub(super) fn is_signed_by(&self, notary: &ServerName, keys: &PublicKeySet) -> bool {
        let Ok(object) = serde_json::from_str::<CanonicalJsonObject>(&self.json) else { return false };
        is_signed_by(&object, notary, keys)
    }

    /// The row after this document: its keys, and the older ones that it does not name.
    pub(super) fn into_row(self, before: Option<ServerKeys>, now_ms: u64) -> ServerKeys {
        let longest_ms = now_ms + u64::try_from(LONGEST.as_millis()).expect("a week has few milliseconds");
        let valid_until_ms = self.valid_until_ms.min(longest_ms);
        let mut keys = self.keys;
        for key in keys.values_mut().filter(|key| !key.expired) {
            key.until_ms = key.until_ms.min(valid_until_ms);
        }
        for (id, key) in before.map(|row| row.keys).unwrap_or_default() {
            if keys.len() >= MAX_KEYS {
                break;
            }
            keys.entry(id).or_insert(key);
        }
        ServerKeys { document: self.json, fetched_at_ms: now_ms, valid_until_ms, keys }
    }
}

/// Whether a server has signed an object with one of these keys; what others have signed in it says nothing here.
fn is_signed_by(object: &CanonicalJsonObject, server: &ServerName, keys: &PublicKeySet) -> bool {
    let mut object = object.clone();
    let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") else { return false };
    signatures.retain(|signer, _| signer == server.as_str());
    let has_one = !signatures.is_empty();
    has_one && verify_json(&PublicKeyMap::from([(server.to_string(), keys.clone())]), &object).is_ok()
}

fn is_ed25519(id: &str, key: &Base64) -> bool {
    id.starts_with("ed25519:") && id.len() <= 128 && key.as_bytes().len() == 32
}

#[cfg(test)]
mod tests {
    use millpond_matrix::signing::{Ed25519KeyPair, sign_json};
    use ruma::server_name;
    use serde_json::{Value, json};

    use super::*;

    fn signed(mut document: Value, key: &Ed25519KeyPair) -> String {
        let mut object: CanonicalJsonObject = serde_json::from_value(document.take()).unwrap();
        sign_json("pond.example", key, &mut object).unwrap();
        serde_json::to_string(&object).unwrap()
    }

    fn key() -> (Ed25519KeyPair, String) {
        let der = Ed25519KeyPair::generate();
        let key = Ed25519KeyPair::from_der(&der, "1".to_owned()).unwrap();
        let public: Base64 = Base64::new(key.public_key().to_vec());
        (key, public.encode())
    }

    #[test]
    fn a_document_is_taken_for_its_own_server_if_its_own_keys_signed_it() {
        let server = server_name!("pond.example");
        let (pair, public) = key();
        let document = json!({ "server_name": server, "valid_until_ts": 1_000, "old_verify_keys": {},
            "verify_keys": { "ed25519:1": { "key": public } } });
        let good = signed(document.clone(), &pair);
        assert!(Published::verify(server, &good).is_ok());
        assert!(Published::verify(server_name!("other.example"), &good).is_err());
        assert!(Published::verify(server, &good.replace("1000", "9000")).is_err());
        let (other, _) = key();
        assert!(Published::verify(server, &signed(document.clone(), &other)).is_err());
        assert!(Published::verify(server, &document.to_string()).is_err());
        assert!(Published::verify(server, "[]").is_err());
    }

    #[test]
    fn keys_hold_for_a_week_at_most_and_old_ones_are_kept() {
        let server = server_name!("pond.example");
        let (pair, public) = key();
        let document = json!({ "server_name": server, "valid_until_ts": 4_000_000_000_000_u64,
            "verify_keys": { "ed25519:1": { "key": public } },
            "old_verify_keys": { "ed25519:0": { "key": public, "expired_ts": 5 } } });
        let published = Published::verify(server, &signed(document, &pair)).unwrap();
        let older = ServerKey { key: public, until_ms: 3, expired: false };
        let before = ServerKeys { keys: [("ed25519:x".to_owned(), older)].into(), ..ServerKeys::default() };
        let row = published.into_row(Some(before), 1_000);
        let week_ms = 7 * 24 * 3600 * 1000;
        let until = |id: &str| row.keys[id].until_ms;
        assert_eq!((until("ed25519:1"), until("ed25519:0"), until("ed25519:x")), (1_000 + week_ms, 5, 3));
        assert_eq!(row.valid_until_ms, 1_000 + week_ms);
    }
}
