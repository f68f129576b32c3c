//! Requests: what is in each, and who may make it.

use bytes::{BufMut, Bytes};

use super::{Fields, Seq};
use crate::{
    deposit::{Deposit, DepositError},
    host_key::HostKey,
    mailbox::{HostNonce, MailboxSecret, ReadKey, ReadPublicKey},
    stamp::{Class, MailboxId, MailboxKey, Serial},
    token::{Element, GRANT_LEN, Grant, MAX_TOKENS, TOKEN_LEN, Token},
};

/// What can be asked of a host.
#[derive(Clone)]
pub enum Request {
    /// Lay an envelope into a mailbox. Answered by `Done` (STORED) when it is on the disk.
    Put(Deposit),
    /// Read a pickup box, once. The claim is drawn by who takes it; the same claim may read again when the answer was lost.
    Take {
        /// Which box.
        id: BoxId,
        /// Who takes it.
        claim: Claim,
    },
    /// Turn a grant into tokens.
    Tokens {
        /// From the operator.
        grant: Grant,
        /// Blinded halves.
        blinded: Vec<Element>,
    },
    /// Make a mailbox.
    Create(SignedRequest<Creation>),
    /// What only the owner of a mailbox may ask.
    Owner(SignedRequest<OwnerRequest>),
}

/// What a mailbox is made from.
#[derive(Clone)]
pub struct Creation {
    /// Pays for it.
    pub token: Token,
    /// What it is for.
    pub purpose: Purpose,
    /// Its name.
    pub mailbox: MailboxId,
    /// What stamps are checked with.
    pub key: MailboxKey,
    /// What the owner's requests are checked with; it also signs this one.
    pub read_key: ReadPublicKey,
}

/// A request by the owner of a mailbox.
#[derive(Clone)]
pub struct OwnerRequest {
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// What is asked.
    pub ask: OwnerAsk,
}

/// What only an owner may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerAsk {
    /// Envelopes after the cursor, in the order of their arrival. Deletes nothing.
    Fetch {
        /// That of the last page, 0 at first.
        after: Cursor,
    },
    /// Forget envelopes; their serials stay spent.
    Delete {
        /// Which ones.
        serials: Vec<Serial>,
    },
    /// Tell on this stream when something arrives.
    Announce,
    /// Forget the mailbox and all that is in it.
    Close,
    /// How full is it?
    Quota,
    /// Lay down a pickup box.
    Box {
        /// Its name.
        id: BoxId,
        /// Its L body.
        body: Bytes,
    },
}

/// A request with the signature under it and the bytes that it covers.
#[derive(Clone)]
pub struct SignedRequest<T> {
    /// The request.
    pub content: T,
    signed: Bytes,
    signature: [u8; 64],
}

impl<T> SignedRequest<T> {
    /// Whether the holder of the read key made the request for this host and stream.
    #[must_use]
    pub fn is_signed_by(&self, key: &ReadPublicKey, host: &HostKey, nonce: &HostNonce) -> bool {
        key.verifies(host, nonce, &self.signed, &self.signature)
    }
}

/// What a mailbox is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One epoch: 7 days in use and 30 to be emptied; S and L.
    Ordinary,
    /// 400 days, S only, 256 envelopes.
    Recovery,
}

impl Purpose {
    /// As it travels.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Ordinary => 1,
            Self::Recovery => 2,
        }
    }

    /// Reads what `as_byte` gave.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Ordinary),
            2 => Some(Self::Recovery),
            _ => None,
        }
    }
}

/// Names a pickup box: derived from a contact link's secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoxId(pub [u8; 32]);

/// Says nothing: boxes stay out of logs.
impl std::fmt::Debug for BoxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxId(..)")
    }
}

/// Drawn by who takes a box.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Claim(pub [u8; 32]);

/// Where in a mailbox a fetch goes on: counts the envelopes that ever arrived there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

impl Request {
    /// Reads one request. Bytes that follow are an error, as is anything missing.
    ///
    /// # Errors
    /// What is wrong; with the number of the request where it could be read.
    pub fn parse(message: Bytes) -> Result<(Seq, Self), RequestError> {
        let whole = message.clone();
        let mut fields = Fields(message);
        let seq = Seq(u32::from_be_bytes(fields.take().ok_or(RequestError::Head)?));
        let [kind] = fields.take().ok_or(RequestError::Head)?;
        let parsed = match kind {
            PUT => Self::parse_put(&fields.rest()),
            TAKE => Self::parse_take(fields).ok_or(RequestError::Form { seq, kind }),
            TOKENS => Self::parse_tokens(fields).ok_or(RequestError::Form { seq, kind }),
            CREATE => Self::parse_create(fields, &whole).ok_or(RequestError::Form { seq, kind }),
            FETCH..=BOX => Self::parse_owner(fields, kind, &whole).ok_or(RequestError::Form { seq, kind }),
            _ => Err(RequestError::Kind { seq, kind }),
        };
        match parsed {
            Err(RequestError::Deposit { source, .. }) => Err(RequestError::Deposit { seq, source }),
            other => other.map(|request| (seq, request)),
        }
    }

    /// The number of a request, without looking at the rest.
    #[must_use]
    pub fn seq(message: &[u8]) -> Option<Seq> {
        message.first_chunk().map(|bytes| Seq(u32::from_be_bytes(*bytes)))
    }

    fn parse_put(rest: &Bytes) -> Result<Self, RequestError> {
        Deposit::parse(rest).map(Self::Put).map_err(|source| RequestError::Deposit { seq: Seq::NONE, source })
    }

    fn parse_take(mut fields: Fields) -> Option<Self> {
        let (id, claim) = (BoxId(fields.take()?), Claim(fields.take()?));
        fields.end()?;
        Some(Self::Take { id, claim })
    }

    fn parse_tokens(mut fields: Fields) -> Option<Self> {
        let grant = Grant::from_bytes(fields.take::<GRANT_LEN>()?);
        let rest = fields.rest();
        let (blinded, odd) = rest.as_chunks::<32>();
        let fits = odd.is_empty() && (1..=MAX_TOKENS).contains(&blinded.len());
        fits.then(|| Self::Tokens { grant, blinded: blinded.to_vec() })
    }

    fn parse_create(mut fields: Fields, whole: &Bytes) -> Option<Self> {
        let signature = fields.take_signature()?;
        let content = Creation {
            token: Token::from_bytes(&fields.take::<TOKEN_LEN>()?),
            purpose: Purpose::from_byte(fields.take::<1>()?[0])?,
            mailbox: MailboxId(fields.take()?),
            key: MailboxKey::from_bytes(fields.take()?),
            read_key: ReadPublicKey(fields.take()?),
        };
        fields.end()?;
        Some(Self::Create(SignedRequest { content, signed: without_signature(whole), signature }))
    }

    fn parse_owner(mut fields: Fields, kind: u8, whole: &Bytes) -> Option<Self> {
        let signature = fields.take_signature()?;
        let mailbox = MailboxId(fields.take()?);
        let ask = OwnerAsk::parse(kind, fields)?;
        let content = OwnerRequest { mailbox, ask };
        Some(Self::Owner(SignedRequest { content, signed: without_signature(whole), signature }))
    }

    /// A deposit as it travels.
    #[must_use]
    pub fn put(seq: Seq, deposit: &Deposit) -> Vec<u8> {
        [head(seq, PUT).as_slice(), &deposit.to_bytes()].concat()
    }

    /// The taking of a box as it travels.
    #[must_use]
    pub fn take(seq: Seq, id: &BoxId, claim: &Claim) -> Vec<u8> {
        [head(seq, TAKE).as_slice(), &id.0, &claim.0].concat()
    }

    /// A grant and blinded tokens as they travel.
    #[must_use]
    pub fn tokens(seq: Seq, grant: &Grant, blinded: &[Element]) -> Vec<u8> {
        [head(seq, TOKENS).as_slice(), grant.as_bytes(), blinded.as_flattened()].concat()
    }

    /// The making of a mailbox as it travels.
    #[must_use]
    pub fn create(
        seq: Seq,
        (host, nonce): (&HostKey, &HostNonce),
        secret: &MailboxSecret,
        purpose: Purpose,
        token: &Token,
    ) -> Vec<u8> {
        let key = secret.read_key();
        let request = [
            head(seq, CREATE).as_slice(),
            &token.to_bytes(),
            &[purpose.as_byte()],
            &secret.id().0,
            secret.mailbox_key().as_bytes(),
            &key.public().0,
        ]
        .concat();
        sign(request, &key, host, nonce)
    }

    /// An owner's request as it travels.
    #[must_use]
    pub fn owner(
        seq: Seq,
        (host, nonce): (&HostKey, &HostNonce),
        mailbox: &MailboxId,
        key: &ReadKey,
        ask: &OwnerAsk,
    ) -> Vec<u8> {
        let mut request = head(seq, ask.kind()).to_vec();
        request.extend_from_slice(&mailbox.0);
        ask.write(&mut request);
        sign(request, key, host, nonce)
    }
}

impl OwnerAsk {
    fn kind(&self) -> u8 {
        match self {
            Self::Fetch { .. } => FETCH,
            Self::Delete { .. } => DELETE,
            Self::Announce => ANNOUNCE,
            Self::Close => CLOSE,
            Self::Quota => QUOTA,
            Self::Box { .. } => BOX,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fetch { after } => out.put_u64(after.0),
            Self::Delete { serials } => serials.iter().for_each(|serial| out.put_u16(serial.0)),
            Self::Announce | Self::Close | Self::Quota => {}
            Self::Box { id, body } => {
                out.put_slice(&id.0);
                out.put_slice(body);
            }
        }
    }

    fn parse(kind: u8, mut fields: Fields) -> Option<Self> {
        let ask = match kind {
            FETCH => Self::Fetch { after: Cursor(u64::from_be_bytes(fields.take()?)) },
            DELETE => return Self::parse_delete(&fields.rest()),
            ANNOUNCE => Self::Announce,
            CLOSE => Self::Close,
            QUOTA => Self::Quota,
            _ => {
                let id = BoxId(fields.take()?);
                let body = fields.rest();
                return (body.len() == Class::L.body_len()).then_some(Self::Box { id, body });
            }
        };
        fields.end()?;
        Some(ask)
    }

    fn parse_delete(rest: &Bytes) -> Option<Self> {
        let (serials, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() || !(1..=MAX_DELETE).contains(&serials.len()) {
            return None;
        }
        Some(Self::Delete { serials: serials.iter().map(|bytes| Serial(u16::from_be_bytes(*bytes))).collect() })
    }
}

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not even a number and a kind.
    #[error("a request starts with its number and its kind")]
    Head,
    /// A kind of a later version.
    #[error("a request of the unknown kind {kind}")]
    Kind {
        /// The request's number.
        seq: Seq,
        /// Its kind.
        kind: u8,
    },
    /// Fields missing, left over or out of range.
    #[error("the fields of a request of kind {kind} are not as they should be")]
    Form {
        /// The request's number.
        seq: Seq,
        /// Its kind.
        kind: u8,
    },
    /// The deposit in it is none.
    #[error("{source}")]
    Deposit {
        /// The request's number.
        seq: Seq,
        /// What is wrong with it.
        source: DepositError,
    },
}

impl RequestError {
    /// The number of the request, where it could be read.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Head => None,
            Self::Kind { seq, .. } | Self::Form { seq, .. } | Self::Deposit { seq, .. } => Some(*seq),
        }
    }
}

fn head(seq: Seq, kind: u8) -> [u8; 5] {
    let [a, b, c, d] = seq.0.to_be_bytes();
    [a, b, c, d, kind]
}

fn sign(mut request: Vec<u8>, key: &ReadKey, host: &HostKey, nonce: &HostNonce) -> Vec<u8> {
    let signature = key.sign_request(host, nonce, &request);
    request.extend_from_slice(&signature);
    request
}

fn without_signature(whole: &Bytes) -> Bytes {
    whole.slice(..whole.len() - 64)
}

const PUT: u8 = 1;
const TAKE: u8 = 2;
const TOKENS: u8 = 3;
const CREATE: u8 = 4;
const FETCH: u8 = 16;
const DELETE: u8 = 17;
const ANNOUNCE: u8 = 18;
const CLOSE: u8 = 19;
const QUOTA: u8 = 20;
const BOX: u8 = 21;
/// Serials in one delete: two pages of small envelopes.
pub const MAX_DELETE: usize = 128;
