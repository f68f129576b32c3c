//! Key packs: what a node tells a contact about the keys of its users' devices, so that queries and claims for a sleeping peer
//! are answered at home (overlay.md, section 5). The overlay carries a pack as bytes, before other items; only its number and
//! its size mean something here.

use serde_bytes::{ByteBuf, Bytes};

/// A pack as it travels: CBOR `[version, pack]`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPack {
    /// Of two packs the higher holds. Chosen by the sender, growing.
    pub version: u64,
    /// Device lists, cross-signing keys, fallback and one-time keys, as the node writes them.
    pub pack: Vec<u8>,
}

impl KeyPack {
    /// The body of the item.
    ///
    /// # Panics
    /// Never: writing CBOR to memory does not fail.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_cbor::to_vec(&(self.version, Bytes::new(&self.pack))).expect("writing CBOR to memory does not fail")
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the bytes are anything else, or the pack is longer than any may be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyPackError> {
        let (version, pack): (u64, ByteBuf) = serde_cbor::from_slice(bytes).map_err(|_| KeyPackError)?;
        if pack.len() > MAX_KEY_PACK_LEN {
            return Err(KeyPackError);
        }
        Ok(Self { version, pack: pack.into_vec() })
    }
}

/// Says how large it is and no more.
impl std::fmt::Debug for KeyPack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPack({} bytes)", self.pack.len())
    }
}

/// The bytes are no key pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key pack of at most {MAX_KEY_PACK_LEN} bytes")]
pub struct KeyPackError;

/// Bytes: 100 devices with lists, keys and signatures of about 2,600 bytes each.
pub const MAX_KEY_PACK_LEN: usize = 256 << 10;
