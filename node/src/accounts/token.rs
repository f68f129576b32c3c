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
use millpond_store::{Position, job, rows::AccountMarks, tables};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::error::{ErrorKind, UnknownTokenErrorData},
};
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
    /// What administrators did to the account.
    pub marks: AccountMarks,
}

impl Sender {
    /// That the account may take part: suspended ones read, leave and log out, and do nothing else.
    ///
    /// # Errors
    /// 403 `M_USER_SUSPENDED`.
    pub fn active(&self) -> Result<(), Error> {
        if !self.marks.suspended {
            return Ok(());
        }
        let message = "This account is suspended by an administrator: it can read, leave rooms and log out";
        Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::UserSuspended, message))
    }

    /// That the account is not locked.
    ///
    /// # Errors
    /// 401 `M_USER_LOCKED`, a soft logout: the device stays.
    pub fn unlocked(&self) -> Result<(), Error> {
        if !self.marks.locked {
            return Ok(());
        }
        let message = "This account is locked by an administrator; all that can be done is to log out";
        Err(Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::UserLocked, message))
    }
}

/// A new secret of 256 bits, for a token.
pub(super) fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is kept of a token.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token and what is kept of it.
#[derive(Clone)]
pub(super) struct Secret {
    /// The token, for its owner.
    pub(super) text: String,
    /// Its hash.
    pub(super) hash: [u8; 32],
}

impl Secret {
    /// Draws one.
    pub(super) fn random() -> Self {
        let text = random_token();
        Self { hash: hash(&text), text }
    }
}

/// `last_seen` is written at most this often per device: it is shown to people, and costs a commit.
const LAST_SEEN_EVERY_MS: u64 = 5 * 60 * 1000;

impl Accounts {
    /// A secret of 256 bits that is nobody's yet.
    pub fn secret() -> String {
        random_token()
    }

    /// Whom a token stands for; notes that and whence the device was seen.
    ///
    /// # Errors
    /// 401 `M_UNKNOWN_TOKEN`, with `soft_logout` for a token that ended and whose device is still there; storage errors.
    pub fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Sender, Error> {
        let hash = hash(token);
        let now_ms = self.0.core.clock().now_ms();
        let (sender, expires_at_ms) = match self.0.tokens.sender(&hash) {
            Some(found) => found,
            None => self.look_up(hash)?,
        };
        if expires_at_ms.is_some_and(|end| end <= now_ms) {
            return Err(ended_token());
        }
        if self.0.tokens.is_seen_due(&hash, now_ms) {
            self.note_seen(&sender, address, now_ms);
        }
        Ok(sender)
    }

    fn look_up(&self, hash: [u8; 32]) -> Result<(Sender, Option<u64>), Error> {
        let snapshot = self.0.core.snapshot()?;
        let view = snapshot.view();
        let owner = view.get(tables::TOKENS, hash)?.ok_or_else(unknown_token)?;
        let account = view.get(tables::ACCOUNTS, &owner.user_id)?.filter(|a| !a.deactivated);
        let admin = account.ok_or_else(unknown_token)?.admin;
        let marks = view.get(tables::ACCOUNT_MARKS, &owner.user_id)?.unwrap_or_default();
        let sender = Sender { user_id: owner.user_id, device_id: owner.device_id, admin, marks };
        let device = view.get(tables::DEVICES, (&sender.user_id, &sender.device_id))?;
        let next = device.as_ref().and_then(|device| device.refresh.as_ref()?.next);
        if next.is_some_and(|next| next.access == hash) {
            // The client has got what its refresh gave out: the tokens before it end. It is kept in memory when they have.
            self.note_refreshed(&sender, hash);
        } else {
            let seen_ms = device.and_then(|device| device.last_seen_ms).unwrap_or(0);
            let entry = Entry { sender: sender.clone(), expires_at_ms: owner.expires_at_ms, seen_ms: seen_ms.into() };
            self.0.tokens.insert(hash, entry, view.position()?);
        }
        Ok((sender, owner.expires_at_ms))
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

pub(super) fn ended_token() -> Error {
    let mut data = UnknownTokenErrorData::new();
    data.soft_logout = true;
    let message = "This access token has ended: get a new one with your refresh token, or log in again";
    Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(data), message)
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
    expires_at_ms: Option<u64>,
    seen_ms: AtomicU64,
}

/// A node has a handful of devices; beyond this the cache starts over.
const CAPACITY: usize = 4096;

impl TokenCache {
    fn sender(&self, hash: &[u8; 32]) -> Option<(Sender, Option<u64>)> {
        self.lock().entries.get(hash).map(|entry| (entry.sender.clone(), entry.expires_at_ms))
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

    fn insert(&self, hash: [u8; 32], entry: Entry, read_at: Position) {
        let mut cached = self.lock();
        if read_at < cached.barrier {
            return;
        }
        if cached.entries.len() >= CAPACITY {
            cached.entries.clear();
        }
        cached.entries.insert(hash, entry);
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
        let user_id = ruma::user_id!("@a:b.c").to_owned();
        let sender = Sender { user_id, device_id: "D".into(), admin: false, marks: AccountMarks::default() };
        let entry = || Entry { sender: sender.clone(), expires_at_ms: None, seen_ms: AtomicU64::new(0) };
        cache.insert([1; 32], entry(), Position(4));
        assert!(cache.sender(&[1; 32]).is_some());
        cache.revoke(Position(5));
        cache.insert([1; 32], entry(), Position(4));
        assert!(cache.sender(&[1; 32]).is_none());
        cache.insert([1; 32], entry(), Position(5));
        assert!(cache.sender(&[1; 32]).is_some());
    }
}
