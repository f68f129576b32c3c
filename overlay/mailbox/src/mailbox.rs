//! A mailbox as its owner sees it: everything is derived from one master key `K`, and everything fetched is checked against
//! what the owner issued (overlay.md, section 3).
//!
//! | secret | from `K` |
//! |---|---|
//! | mailbox id | `HKDF(K, "millpond/mailbox-id/1")` |
//! | `k_mb`, shared with the host | `HKDF(K, "millpond/mailbox-key/1")` |
//! | read key (Ed25519 seed) | `HKDF(K, "millpond/read-key/1")` |
//! | batch seed | `HKDF(K, "millpond/stamp-batch/1" \|\| batch)` |
//!
//! The seed of a stamp comes from its batch's (see `stamp`): a contact gets the batch seed and can make no other batch's. The
//! owner keeps, for each serial, whom it went to and in which batch.

mod secret;
mod serials;
mod verdict;

pub use secret::{BatchId, HostNonce, MailboxSecret, ReadKey, ReadPublicKey};
pub use serials::{SerialSet, draw_serials};
pub use verdict::{HostFault, Issued, Verdict};
