//! Public keys of servers with the time until which each was good. An event is checked with keys that were valid when it
//! says it was made (room versions 5 and later, "Signing key validity period").

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use millpond_matrix::{
    CheckedPdu, RoomRules,
    check::{CheckError, RawPdu},
    signing::{PublicKeyMap, PublicKeySet},
};
use ruma::{OwnedServerName, ServerName, serde::Base64};

/// Keys of several servers.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: PublicKeyMap,
    /// By server and key id; a key that is not in here is good for ever.
    until_ms: HashMap<(String, String), u64>,
}

impl KeyRing {
    /// Adds the keys of a key-named server: they hold until they are superseded.
    pub(crate) fn add_lasting(&mut self, server: &ServerName, keys: PublicKeySet) {
        self.keys.insert(server.to_string(), keys);
    }

    /// Adds a key that is good for what was signed until then.
    pub(crate) fn add(&mut self, server: &ServerName, id: &str, key: Base64, until_ms: u64) {
        self.keys.entry(server.to_string()).or_default().insert(id.to_owned(), key);
        self.until_ms.insert((server.to_string(), id.to_owned()), until_ms);
    }

    /// Adds the keys of another ring.
    pub(crate) fn merge(&mut self, other: Self) {
        for (server, keys) in other.keys {
            self.keys.entry(server).or_default().extend(keys);
        }
        self.until_ms.extend(other.until_ms);
    }

    /// Whether there is any key of a server.
    pub fn knows(&self, server: &ServerName) -> bool {
        self.keys.contains_key(server.as_str())
    }

    /// The keys that were good at a time, of these servers with these key ids.
    pub(crate) fn at(&self, needed: &BTreeMap<OwnedServerName, Vec<String>>, at_ms: u64) -> Cow<'_, PublicKeyMap> {
        let is_over = |server: &OwnedServerName, id: &String| {
            self.until_ms.get(&(server.to_string(), id.clone())).is_some_and(|until| *until < at_ms)
        };
        if !needed.iter().any(|(server, ids)| ids.iter().any(|id| is_over(server, id))) {
            return Cow::Borrowed(&self.keys);
        }
        let mut good = PublicKeyMap::new();
        for server in needed.keys() {
            let Some(keys) = self.keys.get(server.as_str()) else { continue };
            let keys = keys.iter().filter(|(id, _)| !is_over(server, id));
            good.insert(server.to_string(), keys.map(|(id, key)| (id.clone(), key.clone())).collect());
        }
        Cow::Owned(good)
    }

    /// Steps 1 to 3 of the checks on an event, with the keys that were good when it was made.
    ///
    /// # Errors
    /// When the event must be dropped.
    pub(crate) fn check(&self, rules: &RoomRules, pdu: RawPdu) -> Result<CheckedPdu, CheckError> {
        let needed = pdu.required_keys(rules)?;
        let keys = self.at(&needed, pdu.made_at_ms());
        pdu.check(rules, &keys)
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;

    #[test]
    fn a_key_that_had_run_out_does_not_count() {
        let server = owned_server_name!("pond.example");
        let mut ring = KeyRing::default();
        ring.add(&server, "ed25519:a", Base64::new(vec![1; 32]), 100);
        ring.add(&server, "ed25519:b", Base64::new(vec![2; 32]), 200);
        let needed = |id: &str| BTreeMap::from([(server.clone(), vec![id.to_owned()])]);
        let good = |id, at| ring.at(&needed(id), at).get("pond.example").is_some_and(|keys| keys.contains_key(id));
        assert!(good("ed25519:a", 100) && !good("ed25519:a", 101));
        assert!(good("ed25519:b", 101) && !good("ed25519:b", 201));
    }
}
