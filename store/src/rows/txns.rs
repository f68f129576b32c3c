//! Transaction ids of clients.

use ruma::{DeviceId, UserId};
use sha2::{Digest as _, Sha256};

/// The key of a row of `TXNS`: a hash of the device, and one of what it asked for under which id.
pub type TxnKey = ([u8; 6], [u8; 10]);

/// The key for a transaction of a device: `scope` says what was asked, of what, and the client's id.
pub fn txn_key(user: &UserId, device: &DeviceId, scope: &str) -> TxnKey {
    (txn_device(user, device), hash(&[scope]))
}

/// The first part of all keys of a device.
pub fn txn_device(user: &UserId, device: &DeviceId) -> [u8; 6] {
    hash(&[user.as_str(), device.as_str()])
}

/// Equal for two requests of one device by a chance of one in 2^80 only.
fn hash<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    *hash.finalize().first_chunk().expect("SHA-256 has 32 bytes")
}
