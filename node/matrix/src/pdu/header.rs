//! What is known about a stored event without parsing it: where its parts stand in the JSON, and its flags.
//!
//! A header row lets `/sync` splice the client form from bytes. String spans include their quotes, so that they are
//! copied, never unescaped and escaped again.

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, UInt};
use serde::{Deserialize, Serialize};

use super::PduFlags;

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
    /// The compact form for a store row: 38 bytes and the event id.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + self.event_id.as_str().len());
        out.push(LAYOUT);
        out.push(
            u8::from(self.flags.rejected)
                | u8::from(self.flags.soft_failed) << 1
                | u8::from(self.redacts_in_content) << 2,
        );
        let optional = [self.state_key.unwrap_or_default(), self.redacts.unwrap_or_default()];
        for span in [self.kind, self.sender, self.content].into_iter().chain(optional) {
            out.extend_from_slice(&span.start.to_le_bytes());
            out.extend_from_slice(&span.end.to_le_bytes());
        }
        out.extend_from_slice(&u64::from(self.origin_server_ts.0).to_le_bytes());
        out.extend_from_slice(&u64::from(self.depth).to_le_bytes());
        out.extend_from_slice(self.event_id.as_bytes());
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are cut short, of another layout, or hold no event id.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (fixed, id) = bytes.split_at_checked(FIXED).ok_or(HeaderError("too short"))?;
        if fixed[0] != LAYOUT {
            return Err(HeaderError("unknown layout"));
        }
        let span = |n: usize| {
            let at = 2 + n * 4;
            Span {
                start: u16::from_le_bytes([fixed[at], fixed[at + 1]]),
                end: u16::from_le_bytes([fixed[at + 2], fixed[at + 3]]),
            }
        };
        let optional = |n| Some(span(n)).filter(|span| !span.is_absent());
        let number = |at: usize| {
            let bytes = fixed[at..at + 8].try_into().map_err(|_| HeaderError("too short"))?;
            UInt::new(u64::from_le_bytes(bytes)).ok_or(HeaderError("number out of range"))
        };
        let id = std::str::from_utf8(id).map_err(|_| HeaderError("event id is not UTF-8"))?;
        Ok(Self {
            event_id: EventId::parse(id).map_err(|_| HeaderError("event id is invalid"))?,
            origin_server_ts: MilliSecondsSinceUnixEpoch(number(22)?),
            depth: number(30)?,
            kind: span(0),
            sender: span(1),
            content: span(2),
            state_key: optional(3),
            redacts: optional(4),
            redacts_in_content: fixed[1] & 4 != 0,
            flags: PduFlags { rejected: fixed[1] & 1 != 0, soft_failed: fixed[1] & 2 != 0 },
        })
    }
}

/// Number of the byte layout; a change needs a migration of the store.
const LAYOUT: u8 = 1;

/// Bytes before the event id: layout, flags, five spans, two numbers.
const FIXED: usize = 2 + 5 * 4 + 8 + 8;
