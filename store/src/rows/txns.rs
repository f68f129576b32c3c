//! Transaction ids of clients.

use ruma::{DeviceId, UserId};
use sha2::{Digest as _, Sha256};

/// The key of a row of `TXNS`: the device, what it asked for, and the end of its transaction id. Ids that a client counts up
/// stand beside each other, so that many are written in one page.
pub type TxnKey = ([u8; 8], [u8; 8], String);

/// The key for a transaction of a device: `scope` says what was asked, of what, and the client's id.
pub fn txn_key(user: &UserId, device: &DeviceId, scope: &str) -> TxnKey {
    let (what, id) = scope.rsplit_once('/').unwrap_or(("", scope));
    (txn_device(user, device), tag(&[what]), id.to_owned())
}

/// The first part of all keys of a device.
pub fn txn_device(user: &UserId, device: &DeviceId) -> [u8; 8] {
    tag(&[user.as_str(), device.as_str()])
}

/// Equal for two texts by a chance of one in 2^64 only, and then a client's own request is taken for one of its others.
fn tag(parts: &[&str]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    *hash.finalize().first_chunk().expect("SHA-256 has 32 bytes")
}
