//! A deposit: `header 84 | signature 64 | body`, as it travels to a host, lies there and is fetched (overlay.md, section 3).

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

use crate::{
    host_key::HostKey,
    identity::verifies_strict,
    stamp::{Class, HEADER_LEN, HeaderError, StampHeader, signed},
};

/// The sealed bytes of an envelope: 4,096 or 73,728.
pub type Body = Bytes;

/// A deposit whose lengths fit its class. Nothing else about it has been checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Deposit {
    header: StampHeader,
    signature: [u8; SIGNATURE_LEN],
    body: Body,
}

impl Deposit {
    pub(crate) fn from_parts(header: StampHeader, signature: [u8; SIGNATURE_LEN], body: Body) -> Self {
        Self { header, signature, body }
    }

    /// Reads a deposit. The body stays where it is in memory.
    ///
    /// # Errors
    /// If the version or class is unknown, or the length is not exactly that of the class.
    pub fn parse(bytes: &Bytes) -> Result<Self, DepositError> {
        let length = bytes.len();
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(DepositError::Short { length })?;
        let header = StampHeader::parse(header).map_err(|source| DepositError::Header { source })?;
        let (signature, body) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or(DepositError::Short { length })?;
        let class = header.class();
        if body.len() != class.body_len() {
            return Err(DepositError::Length { class, length, expected: deposit_len(class) });
        }
        Ok(Self { header, signature: *signature, body: bytes.slice(PREFIX_LEN..) })
    }

    /// The deposit as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.header.as_bytes().as_slice(), &self.signature, &self.body].concat()
    }

    /// What the stamp says.
    #[must_use]
    pub fn header(&self) -> &StampHeader {
        &self.header
    }

    /// The envelope.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// By this a host knows the same deposit again: `SHA256(body)`; all else in it follows from the stamp.
    #[must_use]
    pub fn digest(&self) -> BodyDigest {
        BodyDigest(Sha256::digest(&self.body).into())
    }

    /// Whether the holder of the stamp made this deposit for this host.
    #[must_use]
    pub fn is_signed_for(&self, host: &HostKey) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.header.verify_key()) else {
            return false;
        };
        verifies_strict(&key, &signed(host, &self.header, &self.digest().0), &self.signature)
    }
}

/// Says how large it is and no more.
impl std::fmt::Debug for Deposit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deposit({:?})", self.header.class())
    }
}

/// `SHA256(body)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest(pub [u8; 32]);

/// Why bytes are not a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DepositError {
    /// Not even a header and a signature.
    #[error("a deposit of {length} bytes; header and signature alone have {PREFIX_LEN}")]
    Short {
        /// Its length in bytes.
        length: usize,
    },
    /// The header is none.
    #[error("{source}")]
    Header {
        /// What is wrong with it.
        source: HeaderError,
    },
    /// Another length than the class says.
    #[error("a deposit of {length} bytes; class {class:?} has exactly {expected}")]
    Length {
        /// What the header says.
        class: Class,
        /// Its length in bytes.
        length: usize,
        /// What it should have.
        expected: usize,
    },
}

/// Exactly how many bytes a whole deposit of this class has.
#[must_use]
pub const fn deposit_len(class: Class) -> usize {
    PREFIX_LEN + class.body_len()
}

const SIGNATURE_LEN: usize = 64;
/// Bytes before the body.
const PREFIX_LEN: usize = HEADER_LEN + SIGNATURE_LEN;
