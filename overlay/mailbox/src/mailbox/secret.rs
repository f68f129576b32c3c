//! The master key of a mailbox and what is derived from it.

use ed25519_dalek::{Signer, VerifyingKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::{
    host_key::HostKey,
    identity::verifies_strict,
    labels,
    secrets::{LinkId, Secret32},
    stamp::{BatchSeed, Class, MailboxId, MailboxKey, Serial, StampBatch},
};

/// `K`: whoever holds it owns the mailbox. Drawn anew for every mailbox, so that no two can be connected.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailboxSecret(Secret32);

impl MailboxSecret {
    /// Draws the key of a new mailbox.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret32::generate(rng))
    }

    /// Takes the key out of the database, or that of a recovery mailbox out of a backup.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::new(bytes))
    }

    /// The 32 bytes, for database and backup.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// What the mailbox is called at its host.
    #[must_use]
    pub fn id(&self) -> MailboxId {
        MailboxId(*self.0.derive(labels::MAILBOX_ID).as_bytes())
    }

    /// What the host checks stamps with.
    #[must_use]
    pub fn mailbox_key(&self) -> MailboxKey {
        MailboxKey(self.0.derive(labels::MAILBOX_KEY))
    }

    /// What signs the owner's requests.
    #[must_use]
    pub fn read_key(&self) -> ReadKey {
        ReadKey(ed25519_dalek::SigningKey::from_bytes(self.0.derive(labels::READ_KEY).as_bytes()))
    }

    /// Gives the stamps of a batch their seeds.
    #[must_use]
    pub fn batch_seed(&self, batch: BatchId) -> BatchSeed {
        BatchSeed(self.0.derive_one(labels::STAMP_BATCH, &batch.0.to_be_bytes()))
    }

    /// The batch of all stamps for this recovery mailbox that go to the peer of a link: whoever was set up from a backup knows by it whose those are that
    /// were issued after the backup. The first eight bytes of `HKDF(K, "millpond/recovery-batch/1" || link id)`.
    #[must_use]
    pub fn recovery_batch(&self, link: LinkId) -> BatchId {
        let derived = self.0.derive_one(labels::RECOVERY_BATCH, &link.0);
        let [a, b, c, d, e, f, g, h, ..] = *derived.as_bytes();
        BatchId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Makes stamps with these serials, for one contact. The serials must not have been used before, nor the batch for another contact.
    ///
    /// # Panics
    /// If there are no serials, or more than `MAX_BATCH`.
    #[must_use]
    pub fn issue(&self, batch: BatchId, class: Class, serials: &[Serial]) -> StampBatch {
        assert!((1..=crate::stamp::MAX_BATCH).contains(&serials.len()), "a batch has 1 to MAX_BATCH stamps");
        let (id, key, seed) = (self.id(), self.mailbox_key(), self.batch_seed(batch));
        let mac = |serial: &Serial| {
            let verify_key = seed.stamp_seed(*serial).verify_key();
            (*serial, key.mac(class, &id, *serial, &verify_key))
        };
        let stamps = serials.iter().map(mac).collect();
        StampBatch::new(id, class, seed, stamps)
    }
}

/// Tells the batches of a mailbox apart. Drawn at random, so that a restored node does not use one twice; that of a recovery mailbox is
/// [`MailboxSecret::recovery_batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub u64);

impl BatchId {
    /// Draws a batch.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(rng.next_u64())
    }
}

/// Signs what only the owner may ask of the host.
#[derive(Clone)]
pub struct ReadKey(ed25519_dalek::SigningKey);

impl ReadKey {
    /// What the host checks the owner's requests with.
    #[must_use]
    pub fn public(&self) -> ReadPublicKey {
        ReadPublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a request to this host on the stream on which it sent this nonce:
    /// `"millpond/get/1" || host key || nonce || request`.
    #[must_use]
    pub fn sign_request(&self, host: &HostKey, nonce: &HostNonce, request: &[u8]) -> [u8; 64] {
        self.0.sign(&signed(host, nonce, request)).to_bytes()
    }
}

/// The public half of a read key, as the host keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReadPublicKey(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl ReadPublicKey {
    /// Whether the owner signed this request to this host on the stream with this nonce.
    #[must_use]
    pub fn verifies(&self, host: &HostKey, nonce: &HostNonce, request: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| verifies_strict(&key, &signed(host, nonce, request), signature))
    }
}

/// What a host draws for each stream, so that no request can be repeated on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNonce(pub [u8; 32]);

fn signed(host: &HostKey, nonce: &HostNonce, request: &[u8]) -> Vec<u8> {
    [labels::GET, host.as_bytes(), &nonce.0, request].concat()
}
