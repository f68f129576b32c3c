//! The first 16 bytes of a stream: `HMAC(hint key, role || UTC day)[..16]`, and the table that a listener looks them up in.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::StreamPsk;
use crate::{link::Role, secrets::Secret32, time::UtcDay};

/// The two keys that a link secret (or `s0`) gives to streams.
#[derive(Clone)]
pub struct StreamKeys {
    pub(crate) psk: StreamPsk,
    pub(crate) hint_key: HintKey,
}

impl StreamKeys {
    /// The hint of a stream that the side with this role dials on this day.
    #[must_use]
    pub fn hint(&self, dialer: Role, day: UtcDay) -> Hint {
        self.hint_key.hint(dialer, day)
    }
}

/// `HKDF(LS[e], "millpond/hint/1")`.
#[derive(Clone)]
pub struct HintKey(pub(crate) Secret32);

impl HintKey {
    fn hint(&self, dialer: Role, day: UtcDay) -> Hint {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of any length")
            .chain_update([dialer.as_byte()])
            .chain_update(day.0.to_be_bytes())
            .finalize()
            .into_bytes();
        let mut hint = [0_u8; HINT_LEN];
        hint.copy_from_slice(&mac[..HINT_LEN]);
        Hint(hint)
    }
}

/// What a stream opens with. Random bytes to everybody but the two nodes.
#[derive(Clone, Copy)]
pub struct Hint(pub [u8; HINT_LEN]);

impl ConstantTimeEq for Hint {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// Every hint that this node answers to at the moment: three days for each live secret. The owner is whatever the caller
/// wants to find by a hint.
pub struct HintTable<T> {
    day: UtcDay,
    owners: Vec<(T, StreamKeys)>,
    /// Hint and index into `owners`.
    hints: Vec<(Hint, u32)>,
}

impl<T> HintTable<T> {
    /// An empty table for this day. Make a new one when the day or the set of live secrets changes.
    #[must_use]
    pub fn new(day: UtcDay) -> Self {
        Self { day, owners: Vec::new(), hints: Vec::new() }
    }

    /// The day that the table was made for.
    #[must_use]
    pub fn day(&self) -> UtcDay {
        self.day
    }

    /// Number of secrets in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// True if no stream would be answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Adds one live secret; `dialer` is the role of the other side, who will dial.
    pub fn insert(&mut self, owner: T, keys: StreamKeys, dialer: Role) {
        let index = u32::try_from(self.owners.len()).expect("a node has fewer than 2^32 live secrets");
        for day in self.day.window() {
            self.hints.push((keys.hint(dialer, day), index));
        }
        self.owners.push((owner, keys));
    }

    /// Finds the owner of a hint. Walks the whole table whatever it finds, so that the time says nothing about the entry.
    #[must_use]
    pub fn find(&self, hint: &Hint) -> Option<(&T, &StreamKeys)> {
        let mut found = Choice::from(0);
        let mut at = 0_u32;
        for (known, index) in &self.hints {
            let equal = known.ct_eq(hint);
            at.conditional_assign(index, equal);
            found |= equal;
        }
        if !bool::from(found) {
            return None;
        }
        let (owner, keys) = self.owners.get(usize::try_from(at).ok()?)?;
        Some((owner, keys))
    }
}

/// Length of a hint in bytes.
pub const HINT_LEN: usize = 16;
