//! What is known about a stored event without parsing it: where its parts stand in the JSON, and its flags.
//!
//! A header row lets `/sync` splice the client form from bytes. String spans include their quotes, so that they are
//! copied, never unescaped and escaped again.

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, UInt};
use serde::{Deserialize, Serialize};

use super::PduFlags;
use crate::{event_id, number};

/// A byte range in the JSON of one PDU; a PDU has at most 65,535 bytes, so 16 bits are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The text that the span names, or an empty text when the span does not fit the JSON.
    pub fn of(self, json: &str) -> &str {
        json.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    /// The span of `part`, which must be a slice of `json`.
    pub(super) fn within(json: &str, part: &str) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        if end > json.len() {
            return None;
        }
        Some(Self { start: u16::try_from(start).ok()?, end: u16::try_from(end).ok()? })
    }

    fn is_absent(self) -> bool {
        self.end == 0
    }
}

/// The small row that stands beside the raw JSON of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PduHeader {
    /// The event id; from version 3 on it is the reference hash and not in the JSON.
    pub event_id: OwnedEventId,
    /// When the sender's server says it was made; decides nothing.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// The depth that the event claims.
    pub depth: UInt,
    /// The event type, with quotes.
    pub kind: Span,
    /// The sender, with quotes.
    pub sender: Span,
    /// The content object.
    pub content: Span,
    /// The state key, with quotes.
    pub state_key: Option<Span>,
    /// The id of the event that a redaction redacts, with quotes.
    pub redacts: Option<Span>,
    /// Whether `redacts` stands in the content (version 11 on) and not beside it.
    pub redacts_in_content: bool,
    /// Rejected, soft-failed.
    pub flags: PduFlags,
}

/// Bytes that are not a header of this layout.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("stored event header is damaged: {0}")]
pub struct HeaderError(&'static str);

impl PduHeader {
    /// The compact form for a store row, about 55 bytes: `layout u8 | flags u8 | spans | time | depth | event id`, numbers
    /// as LEB128, a span as its start and its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(LAYOUT);
        out.push(
            u8::from(self.flags.rejected)
                | u8::from(self.flags.soft_failed) << 1
                | u8::from(self.redacts_in_content) << 2
                | u8::from(self.state_key.is_some()) << 3
                | u8::from(self.redacts.is_some()) << 4,
        );
        for span in [self.kind, self.sender, self.content].into_iter().chain(self.state_key).chain(self.redacts) {
            number::write(&mut out, span.start.into());
            number::write(&mut out, span.end.saturating_sub(span.start).into());
        }
        number::write(&mut out, self.origin_server_ts.0.into());
        number::write(&mut out, self.depth.into());
        match event_id::hash(&self.event_id) {
            Some(hash) => {
                out.push(HASH);
                out.extend_from_slice(&hash);
            }
            None => {
                out.push(TEXT);
                out.extend_from_slice(self.event_id.as_bytes());
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote, and what it wrote in layout 1.
    ///
    /// # Errors
    /// When the bytes are cut short, of another layout, or hold no event id.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, HeaderError> {
        match take(&mut bytes, 1)?[0] {
            1 => first::read(bytes),
            LAYOUT => Self::read(bytes),
            _ => Err(HeaderError("unknown layout")),
        }
    }

    fn read(mut bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = &mut bytes;
        let flags = take(bytes, 1)?[0];
        let (kind, sender, content) = (read_span(bytes)?, read_span(bytes)?, read_span(bytes)?);
        let state_key = (flags & 8 != 0).then(|| read_span(bytes)).transpose()?;
        let redacts = (flags & 16 != 0).then(|| read_span(bytes)).transpose()?;
        let (time, depth) = (read_uint(bytes)?, read_uint(bytes)?);
        let event_id = match take(bytes, 1)?[0] {
            HASH => event_id::of_hash((*bytes).try_into().map_err(|_| HeaderError("event id of another length"))?),
            TEXT => read_event_id(bytes)?,
            _ => return Err(HeaderError("event id of an unknown form")),
        };
        Ok(Self {
            event_id,
            origin_server_ts: MilliSecondsSinceUnixEpoch(time),
            depth,
            kind,
            sender,
            content,
            state_key,
            redacts,
            redacts_in_content: flags & 4 != 0,
            flags: PduFlags { rejected: flags & 1 != 0, soft_failed: flags & 2 != 0 },
        })
    }
}

/// The first layout: `flags u8 | five spans, four bytes each | time u64 | depth u64 | event id`, little-endian.
mod first {
    use super::*;

    const FIXED: usize = 1 + 5 * 4 + 8 + 8;

    pub(super) fn read(bytes: &[u8]) -> Result<PduHeader, HeaderError> {
        let (fixed, id) = bytes.split_at_checked(FIXED).ok_or(SHORT)?;
        let span = |n: usize| {
            let at = 1 + n * 4;
            Span {
                start: u16::from_le_bytes([fixed[at], fixed[at + 1]]),
                end: u16::from_le_bytes([fixed[at + 2], fixed[at + 3]]),
            }
        };
        let optional = |n| Some(span(n)).filter(|span| !span.is_absent());
        let number = |at: usize| {
            let bytes = fixed[at..at + 8].try_into().map_err(|_| SHORT)?;
            UInt::new(u64::from_le_bytes(bytes)).ok_or(HeaderError("number out of range"))
        };
        Ok(PduHeader {
            event_id: read_event_id(id)?,
            origin_server_ts: MilliSecondsSinceUnixEpoch(number(21)?),
            depth: number(29)?,
            kind: span(0),
            sender: span(1),
            content: span(2),
            state_key: optional(3),
            redacts: optional(4),
            redacts_in_content: fixed[0] & 4 != 0,
            flags: PduFlags { rejected: fixed[0] & 1 != 0, soft_failed: fixed[0] & 2 != 0 },
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], HeaderError> {
    let (head, tail) = bytes.split_at_checked(n).ok_or(SHORT)?;
    *bytes = tail;
    Ok(head)
}

fn read_uint(bytes: &mut &[u8]) -> Result<UInt, HeaderError> {
    number::read(bytes).and_then(UInt::new).ok_or(HeaderError("number cut short or out of range"))
}

fn read_span(bytes: &mut &[u8]) -> Result<Span, HeaderError> {
    let mut part = || number::read(bytes).and_then(|n| u16::try_from(n).ok());
    let span = part().zip(part()).and_then(|(start, len)| Some(Span { start, end: start.checked_add(len)? }));
    span.ok_or(HeaderError("span cut short or out of range"))
}

fn read_event_id(bytes: &[u8]) -> Result<OwnedEventId, HeaderError> {
    let id = std::str::from_utf8(bytes).map_err(|_| HeaderError("event id is not UTF-8"))?;
    EventId::parse(id).map_err(|_| HeaderError("event id is invalid"))
}

const SHORT: HeaderError = HeaderError("too short");

/// Number of the byte layout; a change needs a migration of the store.
const LAYOUT: u8 = 2;
/// How the event id stands there: as the 32 bytes of a hash, or as text.
const HASH: u8 = 1;
const TEXT: u8 = 2;
