//! The envelope of a backup: one file of chunks under one key, which a passphrase gives (docs/backup.md).
//!
//! ```text
//! header 57: "millpond backup\n" | version u8 = 1 | salt16 | memory KiB u32 | passes u32 | nonce prefix 16
//! chunks:    XChaCha20-Poly1305(key, prefix16 || number u64 | last << 63, aad = header, up to 65,536 bytes) each with its tag
//! ```
//!
//! Big-endian. The number of the last chunk has its highest bit set: what is cut off, put in another order or put together
//! of two files does not open. How the passphrase becomes the key is the caller's part: Argon2id with what the header says.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

/// What stands before the chunks.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupHeader {
    /// Makes equal passphrases different keys.
    pub salt: [u8; 16],
    /// Memory of Argon2id, in KiB.
    pub memory_kib: u32,
    /// Passes of Argon2id.
    pub passes: u32,
    prefix: [u8; 16],
}

/// Why a backup does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupFileError {
    /// Another kind of file.
    #[error("this is no backup of Millpond")]
    Form,
    /// Made by a later version.
    #[error("this backup has format version {version}; this program knows version {VERSION}")]
    Version {
        /// Its version.
        version: u8,
    },
    /// More work than is sensible: made to keep us busy.
    #[error("the header of the backup asks for more memory or time than any real one")]
    Work,
    /// The key is another one, or the bytes are.
    #[error("the passphrase is wrong, or the backup is damaged")]
    DoesNotOpen,
}

impl BackupHeader {
    /// The header of a new backup, of fresh random bytes.
    #[must_use]
    pub fn new(salt: [u8; 16], prefix: [u8; 16]) -> Self {
        Self { salt, memory_kib: MEMORY_KIB, passes: PASSES, prefix }
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16] = VERSION;
        bytes[17..33].copy_from_slice(&self.salt);
        bytes[33..37].copy_from_slice(&self.memory_kib.to_be_bytes());
        bytes[37..41].copy_from_slice(&self.passes.to_be_bytes());
        bytes[41..].copy_from_slice(&self.prefix);
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If it is none, of a later version, or asks for too much work.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BackupFileError> {
        let [head @ .., _] = &bytes[..17] else { return Err(BackupFileError::Form) };
        if head != MAGIC {
            return Err(BackupFileError::Form);
        }
        if bytes[16] != VERSION {
            return Err(BackupFileError::Version { version: bytes[16] });
        }
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (memory_kib, passes) = (number(33), number(37));
        if !(8..=MAX_MEMORY_KIB).contains(&memory_kib) || !(1..=MAX_PASSES).contains(&passes) {
            return Err(BackupFileError::Work);
        }
        let part = |at: usize| bytes[at..at + 16].try_into().map_err(|_| BackupFileError::Form);
        Ok(Self { salt: part(17)?, memory_kib, passes, prefix: part(41)? })
    }
}

/// Seals or opens the chunks of one backup, in order.
pub struct BackupChunks {
    cipher: XChaCha20Poly1305,
    header: [u8; HEADER_LEN],
    prefix: [u8; 16],
    next: u64,
}

impl BackupChunks {
    /// From the first chunk on.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>, header: &BackupHeader) -> Self {
        let cipher = XChaCha20Poly1305::new((&**key).into());
        Self { cipher, header: header.to_bytes(), prefix: header.prefix, next: 0 }
    }

    /// Seals the next chunk, of at most [`CHUNK_LEN`] bytes.
    ///
    /// # Panics
    /// If the chunk is longer.
    pub fn seal(&mut self, chunk: &[u8], last: bool) -> Vec<u8> {
        assert!(chunk.len() <= CHUNK_LEN, "a chunk has at most CHUNK_LEN bytes");
        let nonce = self.nonce(last);
        let payload = Payload { msg: chunk, aad: &self.header };
        self.cipher.encrypt(&nonce, payload).expect("a chunk is far shorter than the cipher's limit")
    }

    /// Opens the next chunk.
    ///
    /// # Errors
    /// With another key, or if this is not the next chunk of this file.
    pub fn open(&mut self, sealed: &[u8], last: bool) -> Result<Zeroizing<Vec<u8>>, BackupFileError> {
        let nonce = self.nonce(last);
        let payload = Payload { msg: sealed, aad: &self.header };
        self.cipher.decrypt(&nonce, payload).map(Zeroizing::new).map_err(|_| BackupFileError::DoesNotOpen)
    }

    fn nonce(&mut self, last: bool) -> XNonce {
        let number = self.next | (u64::from(last) << 63);
        self.next += 1;
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.prefix);
        nonce[16..].copy_from_slice(&number.to_be_bytes());
        nonce.into()
    }
}

const MAGIC: &[u8; 16] = b"millpond backup\n";
const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_LEN: usize = 57;
/// Plaintext bytes of every chunk but the last.
pub const CHUNK_LEN: usize = 65_536;
/// Bytes that sealing adds to a chunk.
pub const TAG_LEN: usize = 16;
/// 64 MiB, which a phone has; a guess costs an attacker as much.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// 2 GiB: what a later version may ask of a desktop.
const MAX_MEMORY_KIB: u32 = 2 << 20;
const MAX_PASSES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> (BackupHeader, BackupChunks) {
        let header = BackupHeader::parse(
            &BackupHeader { salt: [1; 16], memory_kib: 1024, passes: 2, prefix: [2; 16] }.to_bytes(),
        )
        .unwrap();
        let chunks = BackupChunks::new(&Zeroizing::new([3; 32]), &header);
        (header, chunks)
    }

    #[test]
    fn chunks_come_back_in_order_and_only_whole() {
        let (_, mut seal) = chunks();
        let sealed = [seal.seal(b"one", false), seal.seal(b"two", false), seal.seal(b"", true)];
        let (_, mut open) = chunks();
        assert_eq!(&**open.open(&sealed[0], false).unwrap(), b"one");
        assert_eq!(&**open.open(&sealed[1], false).unwrap(), b"two");
        assert_eq!(&**open.open(&sealed[2], true).unwrap(), b"");
        // Cut off behind the first, in another order, with a byte turned.
        assert!(chunks().1.open(&sealed[0], true).is_err());
        assert!(chunks().1.open(&sealed[1], false).is_err());
        let mut turned = sealed[0].clone();
        turned[0] ^= 1;
        assert_eq!(chunks().1.open(&turned, false).unwrap_err(), BackupFileError::DoesNotOpen);
    }

    #[test]
    fn a_header_that_is_changed_opens_nothing_and_one_that_asks_too_much_is_refused() {
        let (header, mut seal) = chunks();
        let sealed = seal.seal(b"x", true);
        let other = BackupHeader { passes: 3, ..header.clone() };
        assert!(BackupChunks::new(&Zeroizing::new([3; 32]), &other).open(&sealed, true).is_err());
        let mut bytes = header.to_bytes();
        bytes[33] = 0xff;
        assert_eq!(BackupHeader::parse(&bytes).err(), Some(BackupFileError::Work));
        bytes[16] = 2;
        assert_eq!(BackupHeader::parse(&bytes).err(), Some(BackupFileError::Version { version: 2 }));
        bytes[0] = b'M';
        assert_eq!(BackupHeader::parse(&bytes).err(), Some(BackupFileError::Form));
    }
}
