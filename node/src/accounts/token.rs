//! Access tokens: random, kept as their SHA-256 only, looked up on every request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt;
use http::StatusCode;
use millpond_store::{Position, job, tables};
use ruma::{OwnedDeviceId, OwnedUserId, api::error::ErrorKind};
use sha2::{Digest, Sha256};

use super::Accounts;
use crate::Error;

/// Whom an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// May use the admin endpoints.
    pub admin: bool,
}

/// A new secret of 256 bits, for a token.
pub(super) fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is kept of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// `last_seen` is written at most this often per device: it is shown to people, and costs a commit.
const LAST_SEEN_EVERY_MS: u64 = 5 * 60 * 1000;

impl Accounts {
    /// Whom a token stands for; notes that and whence the device was seen.
    ///
    /// # Errors
    /// 401 `M_UNKNOWN_TOKEN`; storage errors.
    pub fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Sender, Error> {
        let hash = hash(token);
        let now_ms = self.0.core.clock().now_ms();
        let sender = match self.0.tokens.sender(&hash) {
            Some(sender) => sender,
            None => self.look_up(hash)?,
        };
        if self.0.tokens.is_seen_due(&hash, now_ms) {
            self.note_seen(&sender, address, now_ms);
        }
        Ok(sender)
    }

    fn look_up(&self, hash: [u8; 32]) -> Result<Sender, Error> {
        let snapshot = self.0.core.snapshot()?;
        let view = snapshot.view();
        let owner = view.get(tables::TOKENS, hash)?.ok_or_else(unknown_token)?;
        let account = view.get(tables::ACCOUNTS, &owner.user_id)?.filter(|a| !a.deactivated);
        let admin = account.ok_or_else(unknown_token)?.admin;
        let sender = Sender { user_id: owner.user_id, device_id: owner.device_id, admin };
        let device = view.get(tables::DEVICES, (&sender.user_id, &sender.device_id))?;
        let seen_ms = device.and_then(|device| device.last_seen_ms).unwrap_or(0);
        self.0.tokens.insert(hash, sender.clone(), seen_ms, view.position()?);
        Ok(sender)
    }

    fn note_seen(&self, sender: &Sender, address: Option<IpAddr>, now_ms: u64) {
        let key = (sender.user_id.clone(), sender.device_id.clone());
        let to_read = key.clone();
        let seen = job(
            move |view| Ok::<_, Error>(view.get(tables::DEVICES, &to_read)?),
            move |device: Option<millpond_store::rows::Device>, txn| {
                let Some(mut device) = device else { return Ok(()) };
                device.last_seen_ms = Some(now_ms);
                device.last_seen_ip = address.map(|address| address.to_string());
                txn.put(tables::DEVICES, &key, &device)
            },
        );
        // Queued, not awaited: nobody's answer depends on it, and a full queue may well drop it.
        let _ = self.0.core.write(seen).now_or_never();
    }
}

fn unknown_token() -> Error {
    let message = "This access token is not known here: log in again";
    Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(Default::default()), message)
}

/// Tokens looked up lately. A revoked one must not come back from a reader of an old snapshot, so each revocation raises
/// a barrier: only what was read at or after it is kept.
#[derive(Default)]
pub(super) struct TokenCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    entries: HashMap<[u8; 32], Entry>,
    barrier: Position,
}

struct Entry {
    sender: Sender,
    seen_ms: AtomicU64,
}

/// A node has a handful of devices; beyond this the cache starts over.
const CAPACITY: usize = 4096;

impl TokenCache {
    fn sender(&self, hash: &[u8; 32]) -> Option<Sender> {
        self.lock().entries.get(hash).map(|entry| entry.sender.clone())
    }

    fn is_seen_due(&self, hash: &[u8; 32], now_ms: u64) -> bool {
        let cached = self.lock();
        let Some(entry) = cached.entries.get(hash) else { return false };
        let due = now_ms >= entry.seen_ms.load(Ordering::Relaxed).saturating_add(LAST_SEEN_EVERY_MS);
        if due {
            entry.seen_ms.store(now_ms, Ordering::Relaxed);
        }
        due
    }

    fn insert(&self, hash: [u8; 32], sender: Sender, seen_ms: u64, read_at: Position) {
        let mut cached = self.lock();
        if read_at < cached.barrier {
            return;
        }
        if cached.entries.len() >= CAPACITY {
            cached.entries.clear();
        }
        cached.entries.insert(hash, Entry { sender, seen_ms: AtomicU64::new(seen_ms) });
    }

    /// Called inside the job that removes tokens, with a position of its commit.
    pub(super) fn revoke(&self, position: Position) {
        let mut cached = self.lock();
        cached.barrier = cached.barrier.max(position);
        cached.entries.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_revocation_is_not_kept() {
        let cache = TokenCache::default();
        let sender = Sender { user_id: ruma::user_id!("@a:b.c").to_owned(), device_id: "D".into(), admin: false };
        cache.insert([1; 32], sender.clone(), 0, Position(4));
        assert!(cache.sender(&[1; 32]).is_some());
        cache.revoke(Position(5));
        cache.insert([1; 32], sender.clone(), 0, Position(4));
        assert!(cache.sender(&[1; 32]).is_none());
        cache.insert([1; 32], sender, 0, Position(5));
        assert!(cache.sender(&[1; 32]).is_some());
    }
}
