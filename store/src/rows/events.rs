//! Stored events.

use std::borrow::Cow;

use millpond_matrix::PduHeader;

use super::{EventShort, RoomShort, StateGroup};
use crate::value::Value;

/// What we know about an event beside its own JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMeta {
    /// The room.
    pub room: RoomShort,
    /// Where it stands in the timeline; none if it does not.
    pub position: Option<i64>,
    /// The state after the event; none for outliers.
    pub state_after: Option<StateGroup>,
    /// The redaction that emptied it.
    pub redacted_by: Option<EventShort>,
    /// The state event that it replaced in the current state, for `unsigned.prev_content`.
    pub replaces: Option<EventShort>,
    /// If one of our users sent it: `device id NUL transaction id`.
    pub txn: Option<Box<str>>,
}

/// A stored event: what we know about it, the spans of its parts, and the PDU as signed (redacted if it was redacted).
/// Encoded as `layout u8 | room | position | state_after | redacted_by | replaces (u64 each) | txn length u16 | txn |
/// header length u16 | header | JSON`.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// What we know about it.
    pub meta: EventMeta,
    /// The spans of its parts.
    pub header: PduHeader,
    /// The PDU's JSON.
    pub json: Box<str>,
}

const LAYOUT: u8 = 1;
/// `position` of an event that is not in the timeline.
const NOWHERE: i64 = i64::MIN;
/// Interned numbers start at 1, so that 0 can say "none".
const NONE: u64 = 0;

impl Value for EventRow {
    fn encode(&self) -> Cow<'_, [u8]> {
        let meta = &self.meta;
        let header = self.header.to_bytes();
        let txn = meta.txn.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(48 + txn.len() + header.len() + self.json.len());
        out.push(LAYOUT);
        let numbers = [
            meta.room.0,
            meta.position.unwrap_or(NOWHERE) as u64,
            meta.state_after.map_or(NONE, |group| group.0),
            meta.redacted_by.map_or(NONE, |event| event.0),
            meta.replaces.map_or(NONE, |event| event.0),
        ];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        for part in [txn.as_bytes(), header.as_slice()] {
            // Transaction ids are bounded by the API, headers by the 255 bytes of an event id.
            let length = u16::try_from(part.len()).expect("transaction ids and headers are short");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.json.as_bytes());
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes;
        let layout = take(&mut rest, 1)?[0];
        if layout != LAYOUT {
            return Err(format!("event row of layout {layout}"));
        }
        let mut number = || Ok::<_, String>(u64::from_be_bytes(take(&mut rest, 8)?.try_into().map_err(|_| "short")?));
        let (room, position, state_after) = (number()?, number()? as i64, number()?);
        let (redacted_by, replaces) = (number()?, number()?);
        let txn = text(part(&mut rest)?)?;
        let header = PduHeader::from_bytes(part(&mut rest)?).map_err(|e| e.to_string())?;
        let meta = EventMeta {
            room: RoomShort(room),
            position: Some(position).filter(|p| *p != NOWHERE),
            state_after: Some(state_after).filter(|n| *n != NONE).map(StateGroup),
            redacted_by: Some(redacted_by).filter(|n| *n != NONE).map(EventShort),
            replaces: Some(replaces).filter(|n| *n != NONE).map(EventShort),
            txn: Some(txn).filter(|t| !t.is_empty()).map(Into::into),
        };
        Ok(Self { meta, header, json: text(rest)?.into() })
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (head, tail) = bytes.split_at_checked(n).ok_or("event row is cut short")?;
    *bytes = tail;
    Ok(head)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = take(bytes, 2)?;
    take(bytes, usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "event row is not UTF-8".to_owned())
}
