//! Answers of a host, and what it says unasked.

use bytes::{BufMut, Bytes};

use super::{Cursor, Fields, MAX_PAGE_LEN, Seq};
use crate::{
    deposit::{Deposit, deposit_len},
    stamp::{Class, MailboxId},
    time::UtcDay,
    token::{Evaluated, MAX_TOKENS},
};

/// What a host says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done and on the disk; for a deposit: STORED.
    Done,
    /// A page of envelopes.
    Page(Fetched),
    /// How full the mailbox is.
    Quota(Quota),
    /// The body of a pickup box.
    Box(Bytes),
    /// Evaluated tokens.
    Tokens(Evaluated),
    /// Unasked: something arrived in this mailbox.
    Arrived(MailboxId),
    /// One and the same for an unknown or closed mailbox, a stamp that the owner did not issue, is spent (SPENT) or is not the
    /// depositor's; and to an owner's request: no such mailbox, or not his signature.
    Refused,
    /// The mailbox holds as much as it may. Nothing was kept.
    Full,
    /// Too much at once, or the host's disk does not answer. Nothing was kept; to be tried again later.
    Busy,
    /// The bytes are no request; in words.
    Malformed(String),
    /// The box was taken before, by another claim.
    Taken,
    /// No such box, or its time is over.
    NoBox,
    /// The token or grant is not the operator's, or was used.
    TokenRefused,
}

/// A page of envelopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// In the order of their arrival.
    pub deposits: Vec<Deposit>,
    /// Where the next fetch goes on.
    pub next: Cursor,
    /// Whether there is more now.
    pub more: bool,
}

/// How full a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Envelopes in it.
    pub envelopes: u32,
    /// Their bytes.
    pub bytes: u64,
    /// The last day on which it is open.
    pub closes: UtcDay,
}

impl Answer {
    /// The answer as it travels.
    #[must_use]
    pub fn to_bytes(&self, seq: Seq) -> Vec<u8> {
        let mut out = seq.0.to_be_bytes().to_vec();
        out.put_u8(self.code());
        match self {
            Self::Page(page) => {
                out.put_u64(page.next.0);
                out.put_u8(u8::from(page.more));
                page.deposits.iter().for_each(|deposit| out.extend_from_slice(&deposit.to_bytes()));
            }
            Self::Quota(quota) => {
                out.put_u32(quota.envelopes);
                out.put_u64(quota.bytes);
                out.put_u32(quota.closes.0);
            }
            Self::Box(body) => out.extend_from_slice(body),
            Self::Tokens(evaluated) => {
                out.extend_from_slice(evaluated.elements.as_flattened());
                out.extend_from_slice(&evaluated.proof);
            }
            Self::Arrived(mailbox) => out.extend_from_slice(&mailbox.0),
            Self::Malformed(words) => out.extend_from_slice(words.as_bytes()),
            _ => {}
        }
        out
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// If the bytes are no answer; the stream is then of no use any more.
    pub fn parse(message: Bytes) -> Result<(Seq, Self), AnswerError> {
        let mut fields = Fields(message);
        let seq = Seq(u32::from_be_bytes(fields.take().ok_or(AnswerError)?));
        let [code] = fields.take().ok_or(AnswerError)?;
        Self::parse_fields(code, fields).map(|answer| (seq, answer)).ok_or(AnswerError)
    }

    fn parse_fields(code: u8, mut fields: Fields) -> Option<Self> {
        let plain = match code {
            PAGE => return parse_page(fields),
            QUOTA => return parse_quota(fields),
            BOX => {
                let body = fields.rest();
                return (body.len() == Class::L.body_len()).then_some(Self::Box(body));
            }
            TOKENS => return parse_tokens(fields),
            ARRIVED => Self::Arrived(MailboxId(fields.take()?)),
            MALFORMED => {
                let words = fields.rest();
                let text = std::str::from_utf8(&words).ok().filter(|text| text.len() <= MAX_WORDS)?;
                return Some(Self::Malformed(text.to_owned()));
            }
            DONE => Self::Done,
            REFUSED => Self::Refused,
            FULL => Self::Full,
            BUSY => Self::Busy,
            TAKEN => Self::Taken,
            NO_BOX => Self::NoBox,
            TOKEN_REFUSED => Self::TokenRefused,
            _ => return None,
        };
        fields.end()?;
        Some(plain)
    }

    fn code(&self) -> u8 {
        match self {
            Self::Done => DONE,
            Self::Page(_) => PAGE,
            Self::Quota(_) => QUOTA,
            Self::Box(_) => BOX,
            Self::Tokens(_) => TOKENS,
            Self::Arrived(_) => ARRIVED,
            Self::Refused => REFUSED,
            Self::Full => FULL,
            Self::Busy => BUSY,
            Self::Malformed(_) => MALFORMED,
            Self::Taken => TAKEN,
            Self::NoBox => NO_BOX,
            Self::TokenRefused => TOKEN_REFUSED,
        }
    }
}

/// The bytes are no answer of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host's answer cannot be read")]
pub struct AnswerError;

/// The class in each header says where the deposit ends.
fn parse_page(mut fields: Fields) -> Option<Answer> {
    let next = Cursor(u64::from_be_bytes(fields.take()?));
    let more = match fields.take::<1>()? {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    let mut rest = fields.rest();
    if rest.len() > MAX_PAGE_LEN {
        return None;
    }
    let mut deposits = Vec::new();
    while !rest.is_empty() {
        let length = deposit_len(Class::from_byte(*rest.get(1)?)?);
        if rest.len() < length {
            return None;
        }
        deposits.push(Deposit::parse(&rest.split_to(length)).ok()?);
    }
    Some(Answer::Page(Fetched { deposits, next, more }))
}

fn parse_quota(mut fields: Fields) -> Option<Answer> {
    let quota = Quota {
        envelopes: u32::from_be_bytes(fields.take()?),
        bytes: u64::from_be_bytes(fields.take()?),
        closes: UtcDay(u32::from_be_bytes(fields.take()?)),
    };
    fields.end()?;
    Some(Answer::Quota(quota))
}

fn parse_tokens(mut fields: Fields) -> Option<Answer> {
    let proof = fields.take_signature()?;
    let rest = fields.rest();
    let (elements, odd) = rest.as_chunks::<32>();
    let fits = odd.is_empty() && (1..=MAX_TOKENS).contains(&elements.len());
    fits.then(|| Answer::Tokens(Evaluated { elements: elements.to_vec(), proof }))
}

const DONE: u8 = 0;
const PAGE: u8 = 1;
const QUOTA: u8 = 2;
const BOX: u8 = 3;
const TOKENS: u8 = 4;
const ARRIVED: u8 = 5;
const REFUSED: u8 = 16;
const FULL: u8 = 17;
const BUSY: u8 = 18;
const MALFORMED: u8 = 19;
const TAKEN: u8 = 20;
const NO_BOX: u8 = 21;
const TOKEN_REFUSED: u8 = 22;
/// Bytes of words in an answer.
const MAX_WORDS: usize = 200;
