//! Stored events.

use std::borrow::Cow;

use millpond_matrix::{PduHeader, number};

use super::{EventShort, RoomShort, StateGroup};
use crate::value::Value;

mod packed;

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
    /// Its content was purged here: what is left is its redacted form, which the DAG needs and nobody is shown. It is in no
    /// timeline, though `position` still says where it was.
    pub purged: bool,
    /// If one of our users sent it: `device id NUL transaction id`.
    pub txn: Option<Box<str>>,
}

/// A stored event: what we know about it, the spans of its parts, and the PDU as signed (redacted if it was redacted).
/// Encoded as `layout u8 | form u8 | room | position | state_after | redacted_by | replaces | txn | header | JSON`: numbers as
/// LEB128, the txn and the header after their lengths, the JSON packed where that makes it shorter.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// What we know about it.
    pub meta: EventMeta,
    /// The spans of its parts.
    pub header: PduHeader,
    /// The PDU's JSON.
    pub json: Box<str>,
}

/// An event's row without its JSON, for those who need not unpack it.
#[derive(Clone, Debug)]
pub struct EventHead {
    /// What we know about it.
    pub meta: EventMeta,
    /// The spans of its parts.
    pub header: PduHeader,
}

const LAYOUT: u8 = 2;
/// The form: the JSON is packed, the event has a place in the timeline, it was purged.
const PACKED: u8 = 1;
const PLACED: u8 = 2;
const PURGED: u8 = 4;
/// Interned numbers start at 1, so that 0 can say "none".
const NONE: u64 = 0;

impl Value for EventRow {
    fn encode(&self) -> Cow<'_, [u8]> {
        let meta = &self.meta;
        let header = self.header.to_bytes();
        let txn = meta.txn.as_deref().unwrap_or_default();
        let packed = packed::pack(&self.json);
        let json = packed.as_deref().unwrap_or(self.json.as_bytes());
        let mut out = Vec::with_capacity(48 + txn.len() + header.len() + json.len());
        out.push(LAYOUT);
        let form = [(packed.is_some(), PACKED), (meta.position.is_some(), PLACED), (meta.purged, PURGED)];
        out.push(form.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
        let numbers = [
            meta.room.0,
            zigzag(meta.position.unwrap_or_default()),
            meta.state_after.map_or(NONE, |group| group.0),
            meta.redacted_by.map_or(NONE, |event| event.0),
            meta.replaces.map_or(NONE, |event| event.0),
        ];
        numbers.iter().for_each(|n| number::write(&mut out, *n));
        for part in [txn.as_bytes(), header.as_slice()] {
            number::write(&mut out, part.len() as u64);
            out.extend_from_slice(part);
        }
        out.extend_from_slice(json);
        out.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (EventHead { meta, header }, form, json) = head(bytes)?;
        let json = if form & PACKED == 0 { text(json)?.to_owned() } else { packed::unpack(json)? };
        Ok(Self { meta, header, json: json.into() })
    }
}

impl EventHead {
    /// Reads the head of a row's bytes.
    ///
    /// # Errors
    /// A description of what did not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        head(bytes).map(|(head, ..)| head)
    }
}

fn head(mut bytes: &[u8]) -> Result<(EventHead, u8, &[u8]), String> {
    let rest = &mut bytes;
    let layout = take(rest, 1)?[0];
    if layout != LAYOUT {
        return Err(format!("event row of layout {layout}"));
    }
    let form = take(rest, 1)?[0];
    let mut number = || number::read(rest).ok_or("event row is cut short");
    let (room, position, state_after) = (number()?, number()?, number()?);
    let (redacted_by, replaces) = (number()?, number()?);
    let txn = text(part(rest)?)?;
    let header = PduHeader::from_bytes(part(rest)?).map_err(|e| e.to_string())?;
    let meta = EventMeta {
        room: RoomShort(room),
        position: (form & PLACED != 0).then(|| unzigzag(position)),
        state_after: Some(state_after).filter(|n| *n != NONE).map(StateGroup),
        redacted_by: Some(redacted_by).filter(|n| *n != NONE).map(EventShort),
        replaces: Some(replaces).filter(|n| *n != NONE).map(EventShort),
        purged: form & PURGED != 0,
        txn: Some(txn).filter(|t| !t.is_empty()).map(Into::into),
    };
    Ok((EventHead { meta, header }, form, bytes))
}

/// Numbers of either sign as small ones: history counts downward from zero.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (head, tail) = bytes.split_at_checked(n).ok_or("event row is cut short")?;
    *bytes = tail;
    Ok(head)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = number::read(bytes).and_then(|n| usize::try_from(n).ok()).ok_or("event row is cut short")?;
    take(bytes, length)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "event row is not UTF-8".to_owned())
}

/// Rows as layout 1 of the database held them: `1 | room | position | state_after | redacted_by | replaces (u64 each) | txn
/// length u16 | txn | header length u16 | header | JSON`, big-endian.
pub(crate) mod first {
    use super::*;

    /// `position` of an event that is not in the timeline.
    const NOWHERE: i64 = i64::MIN;

    /// Reads such a row.
    pub(crate) fn decode(bytes: &[u8]) -> Result<EventRow, String> {
        let mut rest = bytes;
        let layout = take(&mut rest, 1)?[0];
        if layout != 1 {
            return Err(format!("event row of layout {layout} where 1 was expected"));
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
            purged: false,
            txn: Some(txn).filter(|t| !t.is_empty()).map(Into::into),
        };
        Ok(EventRow { meta, header, json: text(rest)?.into() })
    }

    fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
        let length = take(bytes, 2)?;
        take(bytes, usize::from(u16::from_be_bytes([length[0], length[1]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purged_event_is_told_by_a_bit_that_older_rows_do_not_have() {
        let header = PduHeader {
            event_id: ruma::owned_event_id!("$e"),
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(5)),
            depth: ruma::uint!(1),
            kind: Default::default(),
            sender: Default::default(),
            content: Default::default(),
            state_key: None,
            redacts: None,
            redacts_in_content: false,
            flags: Default::default(),
        };
        let meta = EventMeta {
            room: RoomShort(1),
            position: Some(-3),
            state_after: Some(StateGroup(2)),
            redacted_by: None,
            replaces: None,
            purged: false,
            txn: Some("D\0t".into()),
        };
        let mut row = EventRow { meta, header, json: "{}".into() };
        let before = row.encode().into_owned();
        assert_eq!(before[1], PLACED);
        assert_eq!(EventRow::decode(&before).unwrap().meta, row.meta);
        row.meta.purged = true;
        let after = row.encode().into_owned();
        assert_eq!((after[1], &after[2..]), (PLACED | PURGED, &before[2..]));
        assert_eq!(EventRow::decode(&after).unwrap().meta, row.meta);
    }
}
