//! The search index: where words occur.

use std::borrow::Cow;

use millpond_matrix::number;

use super::EventShort;
use crate::value::Value;

/// One event in which a word occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The event.
    pub event: EventShort,
    /// When it was sent, as its server says, but not after it was indexed; milliseconds since the epoch.
    pub ts_ms: u64,
    /// In which fields the word occurs, one bit each; at most three.
    pub fields: u8,
    /// How often it occurs, up to 31.
    pub times: u8,
}

/// A block of the list of one word in one room, ordered by event. Events grow, so new ones go to the end of the last block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postings(pub Vec<Posting>);

impl Postings {
    /// Postings of a block at most; about five bytes each.
    pub const MAX: usize = 256;
}

/// For each posting: the difference to the event before and to its time (zigzag) as variable-length integers, and one byte
/// of fields (three bits) and times (five bits).
impl Value for Postings {
    fn encode(&self) -> Cow<'_, [u8]> {
        let mut out = Vec::with_capacity(self.0.len() * 6);
        let (mut event, mut ts) = (0, 0);
        for posting in &self.0 {
            number::write(&mut out, posting.event.0.wrapping_sub(event));
            let step = posting.ts_ms.wrapping_sub(ts) as i64;
            number::write(&mut out, ((step << 1) ^ (step >> 63)) as u64);
            out.push((posting.fields & 7) | posting.times.min(31) << 3);
            (event, ts) = (posting.event.0, posting.ts_ms);
        }
        out.into()
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let mut postings = Vec::with_capacity(bytes.len() / 4);
        let (mut event, mut ts) = (0_u64, 0_u64);
        while !bytes.is_empty() {
            event = event.wrapping_add(number::read(&mut bytes).ok_or("a posting is cut short")?);
            let step = number::read(&mut bytes).ok_or("a posting is cut short")?;
            ts = ts.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
            let (&last, rest) = bytes.split_first().ok_or("a posting is cut short")?;
            bytes = rest;
            postings.push(Posting { event: EventShort(event), ts_ms: ts, fields: last & 7, times: last >> 3 });
        }
        Ok(Self(postings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_come_back_as_they_went_in_and_are_small() {
        let at = |n: u64, ts_ms: u64| Posting { event: EventShort(n), ts_ms, fields: 1, times: 2 };
        let postings =
            Postings(vec![at(5, 1_700_000_000_000), at(6, 1_699_999_999_000), at(9000, u64::MAX), at(9001, 0)]);
        assert_eq!(Postings::decode(&postings.encode()).unwrap(), postings);
        let even = Postings((0..100).map(|n| at(1000 + n * 4, 1_700_000_000_000 + n * 1000)).collect());
        assert!(even.encode().len() < 420, "{}", even.encode().len());
        assert!(Postings::decode(&[0x80]).is_err());
        assert!(Postings::decode(&[1, 1]).is_err());
        assert!(Postings::decode(&[0xFF; 11]).is_err());
    }
}
