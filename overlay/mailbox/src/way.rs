//! Ways to a node, as contact links and boxes carry them: a direct address, or kinds that later versions define (a pickup
//! box at a host is reserved as kind 1). What is inside is the overlay's business.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

/// One way to reach a node. On the wire: the CBOR array `[kind, bytes]`.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// A direct address (a binary multiaddr).
    Direct(Vec<u8>),
    /// A kind that this version does not use; kept as it is.
    Other {
        /// Its number; never 0.
        kind: u8,
        /// Its content.
        body: Vec<u8>,
    },
}

impl Way {
    fn kind(&self) -> u8 {
        match self {
            Self::Direct(_) => DIRECT,
            Self::Other { kind, .. } => *kind,
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Direct(body) | Self::Other { body, .. } => body,
        }
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
        (self.kind(), Bytes::new(self.body())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, body) = <(u8, ByteBuf)>::deserialize(deserializer)?;
        let body = body.into_vec();
        Ok(if kind == DIRECT { Self::Direct(body) } else { Self::Other { kind, body } })
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
/// In one link or box.
pub const MAX_WAYS: usize = 8;
/// Bytes: a multiaddr with a peer id, or a host's name and key, with room to spare.
pub const MAX_WAY_LEN: usize = 256;
