//! Ways to a node, as contact links, bundles and descriptors carry them: a direct address, a pickup box at a host, the host of a
//! mailbox, an onion service, or kinds that later versions define. What an address is, is the overlay's business.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_bytes::{ByteBuf, Bytes};

use crate::host_key::HostKey;

/// One way to reach a node. On the wire: the CBOR array `[kind, bytes]`.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// A direct address (a binary multiaddr).
    Direct(Vec<u8>),
    /// A pickup box at this host, see `pickup`. On the wire: host key 32 || address.
    Box(HostAddress),
    /// A mailbox of the node is at this host; which one, its stamps say. On the wire as `Box`.
    Mailbox(HostAddress),
    /// The node's own onion service: its address as the overlay writes it.
    Onion(Vec<u8>),
    /// A kind that this version does not use; kept as it is.
    Other {
        /// Its number; never one of the kinds above.
        kind: u8,
        /// Its content.
        body: Vec<u8>,
    },
}

/// Where a host can be reached, and which key it must have there.
#[derive(Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// Names the host.
    pub host: HostKey,
    /// An address as the overlay writes it.
    pub address: Vec<u8>,
}

impl Way {
    fn kind(&self) -> u8 {
        match self {
            Self::Direct(_) => DIRECT,
            Self::Box(_) => BOX,
            Self::Mailbox(_) => MAILBOX,
            Self::Onion(_) => ONION,
            Self::Other { kind, .. } => *kind,
        }
    }

    fn body(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Direct(body) | Self::Onion(body) | Self::Other { body, .. } => Cow::Borrowed(body),
            Self::Box(at) | Self::Mailbox(at) => Cow::Owned([at.host.as_bytes(), at.address.as_slice()].concat()),
        }
    }

    fn parse(kind: u8, body: Vec<u8>) -> Option<Self> {
        let at = |body: Vec<u8>| {
            let (host, address) = body.split_first_chunk::<32>()?;
            Some(HostAddress { host: HostKey::from_bytes(*host), address: address.to_vec() })
        };
        match kind {
            DIRECT => Some(Self::Direct(body)),
            BOX => at(body).map(Self::Box),
            MAILBOX => at(body).map(Self::Mailbox),
            ONION => Some(Self::Onion(body)),
            kind => Some(Self::Other { kind, body }),
        }
    }
}

/// Says nothing: hosts stay out of logs.
impl std::fmt::Debug for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostAddress(..)")
    }
}

/// Addresses stay out of logs.
impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way(kind {})", self.kind())
    }
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.kind(), Bytes::new(&self.body())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, body) = <(u8, ByteBuf)>::deserialize(deserializer)?;
        Self::parse(kind, body.into_vec())
            .ok_or_else(|| D::Error::custom("the way of a host begins with its 32-byte key"))
    }
}

/// Why a list of ways is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    /// Too few or too many.
    #[error("{count} ways; at most {MAX_WAYS}, and a contact link needs one")]
    Count {
        /// How many.
        count: usize,
    },
    /// One is empty or too long.
    #[error("a way has {length} bytes; 1 to {MAX_WAY_LEN} are allowed")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
}

pub(crate) fn check_ways(ways: &[Way], at_least: usize) -> Result<(), WayError> {
    if !(at_least..=MAX_WAYS).contains(&ways.len()) {
        return Err(WayError::Count { count: ways.len() });
    }
    match ways.iter().map(|way| way.body().len()).find(|length| !(1..=MAX_WAY_LEN).contains(length)) {
        Some(length) => Err(WayError::Length { length }),
        None => Ok(()),
    }
}

const DIRECT: u8 = 0;
const BOX: u8 = 1;
const MAILBOX: u8 = 2;
const ONION: u8 = 3;
/// In one link or box.
pub const MAX_WAYS: usize = 8;
/// Bytes: a multiaddr with a peer id, or a host's name and key, with room to spare.
pub const MAX_WAY_LEN: usize = 256;
