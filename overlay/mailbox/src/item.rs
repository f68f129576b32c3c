//! Items: what travels over a link in frames. The overlay knows bytes, not Matrix: an item says what kind of thing it is and
//! carries it as opaque bytes. On the wire an item is `[seq, kind, body]`; the bodies with structure are CBOR arrays.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::{key_pack::KeyPack, name::NodeName, session::LsItem, time::UnixMillis};

/// One thing for the other side of a link.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// A federation transaction.
    Transaction {
        /// The member servers that its sender serves directly: whom the receiver need not tell.
        via: Vec<NodeName>,
        /// The transaction's body.
        body: Vec<u8>,
    },
    /// A to-device message. These arrive in the order in which they were offered.
    ToDevice {
        /// Counts them; the session sets it, whatever was offered.
        order: u64,
        /// The message.
        body: Vec<u8>,
    },
    /// A request of the federation API that can wait.
    Request(Request),
    /// The answer to one.
    Response(Response),
    /// Keys of one peer's devices, for claims and queries while he sleeps. Goes before other items.
    KeyPack(KeyPack),
    /// A sealed introduction, see `introduction`.
    Introduction(Vec<u8>),
    /// A step of the link-secret ratchet. Made and taken by the session.
    Ls(Box<LsItem>),
    /// What became of an earlier item: append, soft-fail, reject, park. Only information.
    Verdict(Vec<u8>),
    /// A part of an item that is too large for one envelope. Made and taken by the session.
    Fragment(Fragment),
    /// How to reach the sender, see `descriptor`.
    Descriptor(Vec<u8>),
    /// Nothing: a frame that has to be acknowledged, and has nothing to say.
    Void,
}

/// A request, shaped like HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by who asks; the response names it.
    pub id: u64,
    /// From then on nobody waits for the response.
    pub deadline: UnixMillis,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header names and values.
    pub headers: Vec<(String, ByteBuf)>,
    /// The body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// The answer to a `Request`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Of the request.
    pub id: u64,
    /// The status code.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, ByteBuf)>,
    /// The body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// One part of a large item.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// Which large item of this link; they are numbered from 0.
    pub of: u32,
    /// Which part.
    pub index: u8,
    /// How many parts there are.
    pub count: u8,
    /// The part. All together are `kind u8 || body` of the large item.
    #[serde(with = "serde_bytes")]
    pub part: Vec<u8>,
}

impl Item {
    /// The number of the kind on the wire.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Transaction { .. } => TRANSACTION,
            Self::ToDevice { .. } => TO_DEVICE,
            Self::Request(_) => REQUEST,
            Self::Response(_) => RESPONSE,
            Self::KeyPack(_) => KEY_PACK,
            Self::Introduction(_) => INTRODUCTION,
            Self::Ls(_) => LS,
            Self::Verdict(_) => VERDICT,
            Self::Fragment(_) => FRAGMENT,
            Self::Descriptor(_) => DESCRIPTOR,
            Self::Void => VOID,
        }
    }

    /// The body as it stands on the wire.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::Transaction { via, body } => cbor(&(via, Bytes::new(body))),
            Self::Request(request) => cbor(request),
            Self::Response(response) => cbor(response),
            Self::KeyPack(pack) => pack.to_bytes(),
            Self::Ls(step) => cbor(step),
            Self::Fragment(fragment) => cbor(fragment),
            Self::ToDevice { order, body } => [order.to_be_bytes().as_slice(), body].concat(),
            Self::Introduction(body) | Self::Verdict(body) | Self::Descriptor(body) => body.clone(),
            Self::Void => Vec::new(),
        }
    }

    /// Reads what `kind` and `body` gave.
    ///
    /// # Errors
    /// If the kind is of a later version, or the body is not one of its kind.
    pub fn parse(kind: u8, body: Vec<u8>) -> Result<Self, ItemError> {
        if body.len() > MAX_ITEM_LEN {
            return Err(ItemError::TooLong { length: body.len() });
        }
        let form = |_| ItemError::Form { kind };
        match kind {
            TRANSACTION => {
                let (via, body): (Vec<NodeName>, ByteBuf) = serde_cbor::from_slice(&body).map_err(form)?;
                if via.len() > MAX_VIA {
                    return Err(ItemError::Form { kind });
                }
                Ok(Self::Transaction { via, body: body.into_vec() })
            }
            TO_DEVICE => {
                let (order, body) = body.split_first_chunk::<8>().ok_or(ItemError::Form { kind })?;
                Ok(Self::ToDevice { order: u64::from_be_bytes(*order), body: body.to_vec() })
            }
            REQUEST => {
                let request: Request = serde_cbor::from_slice(&body).map_err(form)?;
                let fits = request.method.len() <= MAX_METHOD_LEN && request.target.len() <= MAX_TARGET_LEN;
                let fits = fits && request.headers.len() <= MAX_HEADERS;
                if fits { Ok(Self::Request(request)) } else { Err(ItemError::Form { kind }) }
            }
            RESPONSE => {
                let response: Response = serde_cbor::from_slice(&body).map_err(form)?;
                let fits = (100..1_000).contains(&response.status) && response.headers.len() <= MAX_HEADERS;
                if fits { Ok(Self::Response(response)) } else { Err(ItemError::Form { kind }) }
            }
            KEY_PACK => KeyPack::from_bytes(&body).map(Self::KeyPack).map_err(|_| ItemError::Form { kind }),
            INTRODUCTION => Ok(Self::Introduction(body)),
            LS => serde_cbor::from_slice(&body).map(Self::Ls).map_err(form),
            VERDICT => Ok(Self::Verdict(body)),
            FRAGMENT => {
                let fragment: Fragment = serde_cbor::from_slice(&body).map_err(form)?;
                let fits = (2..=MAX_FRAGMENTS).contains(&fragment.count) && fragment.index < fragment.count;
                let fits = fits && (1..=FRAGMENT_LEN).contains(&fragment.part.len());
                if fits { Ok(Self::Fragment(fragment)) } else { Err(ItemError::Form { kind }) }
            }
            DESCRIPTOR => Ok(Self::Descriptor(body)),
            VOID if body.is_empty() => Ok(Self::Void),
            VOID => Err(ItemError::Form { kind }),
            _ => Err(ItemError::Kind { kind }),
        }
    }
}

/// Says the kind and no more.
impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item(kind {})", self.kind())
    }
}

/// Why bytes are not an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Of a later version.
    #[error("an item of the unknown kind {kind}")]
    Kind {
        /// Its number.
        kind: u8,
    },
    /// The body is not one of its kind.
    #[error("the body of an item of kind {kind} cannot be read")]
    Form {
        /// The kind's number.
        kind: u8,
    },
    /// More bytes than any item may have.
    #[error("an item of {length} bytes; {MAX_ITEM_LEN} are the most")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

fn cbor(value: &impl Serialize) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("writing CBOR to memory does not fail")
}

const TRANSACTION: u8 = 1;
pub(crate) const TO_DEVICE: u8 = 2;
const REQUEST: u8 = 3;
const RESPONSE: u8 = 4;
const KEY_PACK: u8 = 5;
const INTRODUCTION: u8 = 6;
pub(crate) const LS: u8 = 7;
const VERDICT: u8 = 8;
pub(crate) const FRAGMENT: u8 = 9;
const DESCRIPTOR: u8 = 10;
pub(crate) const VOID: u8 = 11;
/// Bytes of the body of one item: media of 1 MiB with what a response puts around it.
pub const MAX_ITEM_LEN: usize = (1 << 20) + (32 << 10);
/// Bytes of one part: what surely fits an L envelope beside acknowledgements and stamps.
pub const FRAGMENT_LEN: usize = 68_000;
/// Parts of one item.
pub const MAX_FRAGMENTS: u8 = 16;
/// Member servers named in one transaction: as many as a room may have before it is another kind of room (overlay.md, section 8),
/// with much room to spare.
const MAX_VIA: usize = 256;
/// Bytes of a method.
const MAX_METHOD_LEN: usize = 16;
/// Bytes of a target.
const MAX_TARGET_LEN: usize = 8_192;
/// Headers of one request or response.
const MAX_HEADERS: usize = 32;
