//! Form, hash and signature of an event: a function of its bytes, so that its outcome is remembered for all nodes together.

use std::{collections::HashMap, sync::Arc};

use millpond_matrix::{CheckedPdu, RoomRules, check::RawPdu};
use ruma::signatures::PublicKeyMap;

/// The checks that need no room.
pub struct Checks {
    rules: &'static RoomRules,
    keys: PublicKeyMap,
    known: HashMap<Arc<str>, Option<CheckedPdu>>,
}

impl Checks {
    /// With the signing keys of all.
    #[must_use]
    pub fn new(rules: &'static RoomRules, keys: PublicKeyMap) -> Self {
        Self { rules, keys, known: HashMap::new() }
    }

    /// The rules of the rooms.
    #[must_use]
    pub fn rules(&self) -> &'static RoomRules {
        self.rules
    }

    /// The event, if it holds.
    pub fn check(&mut self, json: &str) -> Option<CheckedPdu> {
        if let Some(known) = self.known.get(json) {
            return known.clone();
        }
        let checked = RawPdu::parse(json).and_then(|raw| raw.check(self.rules, &self.keys)).ok();
        self.known.insert(json.into(), checked.clone());
        checked
    }
}
