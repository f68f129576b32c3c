//! The 84 bytes that every deposit starts with.

use super::{Class, MailboxId, Serial, StampMac};

/// A header in its bytes; the version and the class in it are known ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StampHeader([u8; HEADER_LEN]);

impl StampHeader {
    pub(super) fn new(class: Class, mailbox: &MailboxId, serial: Serial, vk: &[u8; 32], mac: &StampMac) -> Self {
        let mut bytes = [0_u8; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = class.as_byte();
        bytes[MAILBOX].copy_from_slice(&mailbox.0);
        bytes[SERIAL].copy_from_slice(&serial.0.to_be_bytes());
        bytes[KEY].copy_from_slice(vk);
        bytes[MAC].copy_from_slice(&mac.0);
        Self(bytes)
    }

    /// Reads the header of a deposit.
    ///
    /// # Errors
    /// If the version or the class is unknown. Everything else in it is judged by who holds the mailbox.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        if bytes[0] != VERSION {
            return Err(HeaderError::Version { version: bytes[0] });
        }
        if Class::from_byte(bytes[1]).is_none() {
            return Err(HeaderError::Class { class: bytes[1] });
        }
        Ok(Self(*bytes))
    }

    /// The header as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }

    /// Which size of body follows.
    ///
    /// # Panics
    /// Never: the constructors admit known classes only.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::from_byte(self.0[1]).expect("the constructors admit known classes only")
    }

    /// Which mailbox.
    #[must_use]
    pub fn mailbox(&self) -> MailboxId {
        MailboxId(self.part(MAILBOX))
    }

    /// Which stamp of the mailbox.
    #[must_use]
    pub fn serial(&self) -> Serial {
        Serial(u16::from_be_bytes(self.part(SERIAL)))
    }

    /// The key that must have signed the deposit.
    #[must_use]
    pub fn verify_key(&self) -> [u8; 32] {
        self.part(KEY)
    }

    /// What shows that the owner issued the stamp.
    #[must_use]
    pub fn mac(&self) -> StampMac {
        StampMac(self.part(MAC))
    }

    fn part<const N: usize>(&self, range: std::ops::Range<usize>) -> [u8; N] {
        let mut out = [0_u8; N];
        out.copy_from_slice(&self.0[range]);
        out
    }
}

/// Says nothing: mailboxes and stamps stay out of logs.
impl std::fmt::Debug for StampHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StampHeader(..)")
    }
}

/// Why 84 bytes are not the header of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Made by a later version.
    #[error("the deposit has version {version}; version {VERSION} is known")]
    Version {
        /// Its version.
        version: u8,
    },
    /// Neither S nor L.
    #[error("the deposit has class {class}; 1 (S) and 2 (L) are known")]
    Class {
        /// Its class.
        class: u8,
    },
}

const VERSION: u8 = 1;
const MAILBOX: std::ops::Range<usize> = 2..34;
const SERIAL: std::ops::Range<usize> = 34..36;
const KEY: std::ops::Range<usize> = 36..68;
const MAC: std::ops::Range<usize> = 68..84;
/// Bytes of a header.
pub const HEADER_LEN: usize = 84;
