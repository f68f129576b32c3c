//! Stamps: the one-time right to deposit one envelope in one mailbox (overlay.md, section 3). Nothing in a stamp tells when,
//! to whom or with which others it was issued.
//!
//! ```text
//! header, 84 bytes: ver 1 | class 1 | mailbox id 32 | serial u16 BE | vk 32 | mac 16
//! batch seed  = HKDF(K, "millpond/stamp-batch/1" || batch)       K, batch: the owner's, see `mailbox`
//! seed_i      = HKDF(batch seed, "millpond/stamp-seed/1" || serial_i)
//! x_i         = Ed25519 key of the seed HKDF(seed_i, "millpond/stamp-key/1"), vk_i its public half
//! mac_i       = HMAC(k_mb, "millpond/stamp/1" || class || mailbox id || serial_i || vk_i)[..16]
//! ```

use std::fmt;

use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    deposit::{Body, Deposit},
    host_key::HostKey,
    labels,
    secrets::Secret32,
};

mod batch;
mod header;

pub use batch::{BatchError, BatchSeed, MAX_BATCH, StampBatch};
pub use header::{HEADER_LEN, HeaderError, StampHeader};

/// The two sizes of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Class {
    /// 4,096 bytes.
    S,
    /// 73,728 bytes: any legal PDU fits one.
    L,
}

impl Class {
    /// Exactly how many bytes a body of this class has.
    #[must_use]
    pub const fn body_len(self) -> usize {
        match self {
            Self::S => 4_096,
            Self::L => 73_728,
        }
    }

    /// As it stands in headers: S is 1, L is 2.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::S => 1,
            Self::L => 2,
        }
    }

    /// Reads what `as_byte` gave.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::S),
            2 => Some(Self::L),
            _ => None,
        }
    }
}

impl From<Class> for u8 {
    fn from(class: Class) -> Self {
        class.as_byte()
    }
}

impl TryFrom<u8> for Class {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, &'static str> {
        Self::from_byte(byte).ok_or("an envelope is of class 1 (S) or 2 (L)")
    }
}

/// Names a mailbox at its host: 32 bytes that are random to everybody but the owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailboxId(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// Says nothing: mailboxes stay out of logs.
impl fmt::Debug for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxId(..)")
    }
}

/// Which of the 2^16 stamps of a mailbox it is. Serials are drawn at random, so their order says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub u16);

/// `seed_i`: signs the one deposit of the stamp and is key material of the envelope in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StampSeed(pub(crate) Secret32);

impl StampSeed {
    /// The seed itself, key material of the envelope.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// `vk_i`.
    #[must_use]
    pub fn verify_key(&self) -> [u8; 32] {
        self.key().verifying_key().to_bytes()
    }

    fn key(&self) -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(self.0.derive(labels::STAMP_KEY).as_bytes())
    }
}

/// `k_mb`: what the owner and the host share, and nobody else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailboxKey(pub(crate) Secret32);

impl MailboxKey {
    /// As the owner sends it to the host, or as the host kept it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret32::new(bytes))
    }

    /// The key itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// `mac_i`, which shows the host that the owner issued the stamp.
    #[must_use]
    pub fn mac(&self, class: Class, mailbox: &MailboxId, serial: Serial, verify_key: &[u8; 32]) -> StampMac {
        let full = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of any length")
            .chain_update(labels::STAMP)
            .chain_update([class.as_byte()])
            .chain_update(mailbox.0)
            .chain_update(serial.0.to_be_bytes())
            .chain_update(verify_key)
            .finalize()
            .into_bytes();
        let mut mac = [0_u8; 16];
        mac.copy_from_slice(&full[..16]);
        StampMac(mac)
    }

    /// Whether the header's mac is the owner's.
    #[must_use]
    pub fn issued(&self, header: &StampHeader) -> bool {
        let mac = self.mac(header.class(), &header.mailbox(), header.serial(), &header.verify_key());
        mac.0.ct_eq(&header.mac().0).into()
    }
}

/// `mac_i`. Together with the seed it is the right to deposit, so it is not printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StampMac(#[serde(with = "serde_bytes")] pub [u8; 16]);

/// A stamp as a contact holds it. Used once: whoever signs with it must have put that on disk before.
#[derive(Clone, Serialize, Deserialize)]
pub struct Stamp {
    /// Where the mailbox is.
    pub host: HostKey,
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// Which size of envelope.
    pub class: Class,
    /// Its number in the mailbox.
    pub serial: Serial,
    /// What signs, and seals the envelope.
    pub seed: StampSeed,
    /// What the host checks.
    pub mac: StampMac,
}

impl Stamp {
    /// The header of the deposit; additional data of the envelope.
    #[must_use]
    pub fn header(&self) -> StampHeader {
        StampHeader::new(self.class, &self.mailbox, self.serial, &self.seed.verify_key(), &self.mac)
    }

    /// The finished deposit: header, signature over
    /// `"millpond/put/1" || host key || header || SHA256(body)`, body. `None`: the body has another length than the class says.
    #[must_use]
    pub fn deposit(&self, body: Body) -> Option<Deposit> {
        if body.len() != self.class.body_len() {
            return None;
        }
        let (header, digest) = (self.header(), Sha256::digest(&body));
        let signature = self.seed.key().sign(&signed(&self.host, &header, &digest.into())).to_bytes();
        Some(Deposit::from_parts(header, signature, body))
    }
}

/// What the signature of a deposit covers.
pub(crate) fn signed(host: &HostKey, header: &StampHeader, body_digest: &[u8; 32]) -> Vec<u8> {
    [labels::PUT, host.as_bytes(), header.as_bytes(), body_digest].concat()
}
