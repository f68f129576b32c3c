//! Stamps as they travel to a contact: one seed and 18 bytes a stamp. CBOR array
//! `[mailbox id, class, batch seed, stamps]`, `stamps` being `serial u16 BE | mac 16` one after the other.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_bytes::{ByteArray, ByteBuf, Bytes};

use super::{Class, MailboxId, Serial, Stamp, StampMac, StampSeed};
use crate::{host_key::HostKey, labels, secrets::Secret32};

/// Gives every stamp of one batch its seed.
#[derive(Clone)]
pub struct BatchSeed(pub(crate) Secret32);

impl BatchSeed {
    /// The seed itself. Whoever knows it and a stamp's mac can use the stamp.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// `seed_i = HKDF(batch seed, "millpond/stamp-seed/1" || serial)`.
    #[must_use]
    pub fn stamp_seed(&self, serial: Serial) -> StampSeed {
        StampSeed(self.0.derive_one(labels::STAMP_SEED, &serial.0.to_be_bytes()))
    }
}

/// Some stamps of one mailbox and class, issued together to one contact. The contact knows from the mailbox's descriptor
/// which host it is at.
#[derive(Clone)]
pub struct StampBatch {
    mailbox: MailboxId,
    class: Class,
    seed: BatchSeed,
    stamps: Vec<(Serial, StampMac)>,
}

impl StampBatch {
    pub(crate) fn new(mailbox: MailboxId, class: Class, seed: BatchSeed, stamps: Vec<(Serial, StampMac)>) -> Self {
        Self { mailbox, class, seed, stamps }
    }

    /// Which mailbox they are for.
    #[must_use]
    pub fn mailbox(&self) -> MailboxId {
        self.mailbox
    }

    /// Which size of envelope they are for.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// How many; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// The stamps one by one, as the contact keeps them.
    #[must_use]
    pub fn stamps(&self, host: HostKey) -> Vec<Stamp> {
        let one = |(serial, mac): &(Serial, StampMac)| Stamp {
            host,
            mailbox: self.mailbox,
            class: self.class,
            serial: *serial,
            seed: self.seed.stamp_seed(*serial),
            mac: *mac,
        };
        self.stamps.iter().map(one).collect()
    }

    /// The batch as a byte string of its own.
    ///
    /// # Panics
    /// Never: writing CBOR to memory does not fail.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_cbor::to_vec(self).expect("writing CBOR to memory does not fail")
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAX_BATCH_LEN {
            return Err(BatchError::Form);
        }
        serde_cbor::from_slice(bytes).map_err(|_| BatchError::Form)
    }

    fn from_wire(wire: WireIn) -> Result<Self, BatchError> {
        let WireIn(mailbox, class, seed, packed) = wire;
        let (stamps, rest) = packed.as_chunks::<STAMP_LEN>();
        if !rest.is_empty() || !(1..=MAX_BATCH).contains(&stamps.len()) {
            return Err(BatchError::Count);
        }
        let stamps: Vec<(Serial, StampMac)> = stamps.iter().map(unpack).collect();
        let mut serials: Vec<Serial> = stamps.iter().map(|(serial, _)| *serial).collect();
        serials.sort_unstable();
        if serials.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(BatchError::Twice);
        }
        Ok(Self { mailbox, class, seed: BatchSeed(Secret32::new(seed.into_array())), stamps })
    }
}

impl Serialize for StampBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let packed: Vec<u8> =
            self.stamps.iter().flat_map(|(serial, mac)| serial.0.to_be_bytes().into_iter().chain(mac.0)).collect();
        WireOut(&self.mailbox, self.class, Bytes::new(self.seed.as_bytes()), Bytes::new(&packed)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StampBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_wire(WireIn::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Says how many and no more.
impl std::fmt::Debug for StampBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StampBatch({} of {:?})", self.stamps.len(), self.class)
    }
}

/// Why bytes are not a batch of stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not the CBOR array that it should be.
    #[error("the batch of stamps cannot be read")]
    Form,
    /// None, too many, or a part of one.
    #[error("a batch has 1 to {MAX_BATCH} stamps of {STAMP_LEN} bytes each")]
    Count,
    /// One serial stands in it twice.
    #[error("a serial stands twice in the batch")]
    Twice,
}

fn unpack(packed: &[u8; STAMP_LEN]) -> (Serial, StampMac) {
    let mut mac = [0_u8; 16];
    mac.copy_from_slice(&packed[2..]);
    (Serial(u16::from_be_bytes([packed[0], packed[1]])), StampMac(mac))
}

#[derive(Serialize)]
struct WireOut<'a>(&'a MailboxId, Class, &'a Bytes, &'a Bytes);

#[derive(Deserialize)]
struct WireIn(MailboxId, Class, ByteArray<32>, ByteBuf);

/// Bytes of one stamp in a batch: serial and mac.
const STAMP_LEN: usize = 18;
/// Stamps in one batch: twice what a contact may hold of the small ones.
pub const MAX_BATCH: usize = 48;
/// Bytes: the stamps, the seed, the id and what CBOR puts before them.
const MAX_BATCH_LEN: usize = MAX_BATCH * STAMP_LEN + 80;
