//! Frames: the plaintext of the Olm messages in envelopes (overlay.md, section 4). A CBOR map; what is empty is left out.
//!
//! | key | what |
//! |---|---|
//! | `a` | frames of the other side that were taken: `[below, [[gap, length], ...]]` |
//! | `n` | those of them that could not be opened: their items are to be encrypted anew |
//! | `f` | what will not come any more: `[frames below, items below]` |
//! | `g` | stamps of the other side that were taken: grants below |
//! | `u` | how many stamps of the other side were used: `[mailbox, small, large]` |
//! | `s` | stamps: `[grant number, host key, recovery, batch]` |
//! | `t` | the transcript of the first contact, until the other side is known to have seen it |
//! | `i` | items: byte strings, one for each room: `0 || CBOR` or `1 || zstd(CBOR)` of `[[seq, kind, body], ...]` |
//!
//! Items of one room share a compression context, those of two never do: what fits an envelope must not tell somebody in one
//! room what was said in another.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    compress::{compress, decompress},
    host_key::HostKey,
    item::{Item, ItemError},
    secrets::Transcript,
    stamp::{MailboxId, StampBatch},
    window::Window,
};

/// One frame.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Frames of the other side that were taken, those in `nak` included.
    pub acks: Window,
    /// Frames of the other side that could not be opened.
    pub nak: Vec<u32>,
    /// Frames of the sender below this one are settled: none of them is still under way.
    pub frame_floor: u32,
    /// Items of the sender below this one are settled.
    pub item_floor: u64,
    /// Grants of the other side below this one were taken.
    pub granted: u32,
    /// How many of the other side's stamps were used, by mailbox: some envelopes never arrive, and nobody else knows of them.
    pub used: Vec<(MailboxId, u16, u16)>,
    /// Stamps for the other side, with the number of each grant.
    pub stamps: Vec<(u32, Grant)>,
    /// The transcript of the first contact.
    pub th: Option<Transcript>,
    /// Items with their numbers.
    pub items: Vec<(u64, Item)>,
}

/// Stamps for the other side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Where the mailbox is.
    pub host: HostKey,
    /// Whether it is a recovery mailbox: its one stamp is for a HELLO only.
    pub recovery: bool,
    /// The stamps.
    pub batch: StampBatch,
}

/// The items of one room on the wire: put together once, and written as they are.
#[derive(Clone)]
pub(crate) struct Group(Vec<u8>);

impl Group {
    /// Compresses the items of one room.
    pub(crate) fn pack(items: &[WireItem]) -> Self {
        let plain = serde_cbor::to_vec(&items).expect("writing CBOR to memory does not fail");
        let packed = compress(&plain);
        Self(match packed {
            Some(packed) if packed.len() < plain.len() => [&[ZSTD], packed.as_slice()].concat(),
            _ => [&[RAW], plain.as_slice()].concat(),
        })
    }

    /// Bytes on the wire, with what CBOR puts before them.
    pub(crate) fn wire_len(&self) -> usize {
        self.0.len() + 5
    }

    /// At most `budget` bytes come out, and what comes out is taken off it.
    fn unpack(bytes: &[u8], budget: &mut usize) -> Result<Vec<WireItem>, FrameError> {
        let (method, packed) = bytes.split_first().ok_or(FrameError::Form)?;
        let plain = match *method {
            RAW if packed.len() <= *budget => packed.to_vec(),
            ZSTD => decompress(packed, *budget).ok_or(FrameError::TooLong)?,
            RAW => return Err(FrameError::TooLong),
            _ => return Err(FrameError::Form),
        };
        *budget -= plain.len();
        serde_cbor::from_slice(&plain).map_err(|_| FrameError::Form)
    }
}

/// An item with its number, body encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireItem(pub(crate) u64, pub(crate) u8, pub(crate) ByteBuf);

impl Frame {
    /// The frame with its items each in a group of their own. The session packs those of one room together.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let one = |(seq, item): &(u64, Item)| Group::pack(&[WireItem(*seq, item.kind(), ByteBuf::from(item.body()))]);
        let groups: Vec<Group> = self.items.iter().map(one).collect();
        self.write(&groups)
    }

    /// Writes the frame with these groups in place of its items.
    pub(crate) fn write(&self, groups: &[Group]) -> Vec<u8> {
        let mut last = self.acks.below();
        let gaps = self.acks.runs().map(|(first, len)| {
            let gap = first - last;
            last = first + len;
            (gap, len)
        });
        let acks = (self.acks.below(), gaps.collect());
        let wire = Wire {
            acks: Some(acks),
            nak: self.nak.clone(),
            floor: Some((self.frame_floor, self.item_floor)),
            granted: self.granted,
            used: self.used.clone(),
            stamps: self.stamps.iter().map(|(number, grant)| WireGrant::from((*number, grant))).collect(),
            th: self.th.map(|th| ByteBuf::from(th.0)),
            items: groups.iter().map(|group| ByteBuf::from(group.0.as_slice())).collect(),
        };
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }

    /// Reads a frame. Items of kinds that this version does not know are left out, and counted in the second value.
    ///
    /// # Errors
    /// If the frame has another form, or holds more than any frame may.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        let wire: Wire = serde_cbor::from_slice(bytes).map_err(|_| FrameError::Form)?;
        let (below, gaps) = wire.acks.unwrap_or_default();
        if below > u64::from(u32::MAX)
            || wire.nak.len() > MAX_NAKS
            || wire.stamps.len() > MAX_GRANTS
            || wire.used.len() > MAX_USED
        {
            return Err(FrameError::TooMany);
        }
        let acks = Window::from_parts(below, runs(below, &gaps)?).map_err(|_| FrameError::Form)?;
        let th = match wire.th {
            Some(th) => Some(Transcript(th.as_slice().try_into().map_err(|_| FrameError::Form)?)),
            None => None,
        };
        let (items, unknown) = unpack_items(&wire.items)?;
        let (frame_floor, item_floor) = wire.floor.unwrap_or_default();
        let stamps = wire.stamps.into_iter().map(WireGrant::into_grant).collect();
        let (nak, granted, used) = (wire.nak, wire.granted, wire.used);
        let frame = Self { acks, nak, frame_floor, item_floor, granted, used, stamps, th, items };
        Ok((frame, unknown))
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not the CBOR map that it should be.
    #[error("the frame cannot be read")]
    Form,
    /// More acknowledgements, stamps or items than a frame may have.
    #[error("the frame holds more of something than a frame may")]
    TooMany,
    /// More bytes than a frame may give.
    #[error("the items of the frame have more than {MAX_PLAIN} bytes")]
    TooLong,
    /// One of the items.
    #[error("{source}")]
    Item {
        /// What is wrong with it.
        source: ItemError,
    },
}

fn runs(below: u64, gaps: &[(u64, u64)]) -> Result<Vec<(u64, u64)>, FrameError> {
    let mut last = below;
    let mut runs = Vec::with_capacity(gaps.len().min(MAX_NAKS));
    for (gap, len) in gaps.iter().take(MAX_NAKS + 1) {
        let first = last.checked_add(*gap).ok_or(FrameError::Form)?;
        last = first.checked_add(*len).ok_or(FrameError::Form)?;
        runs.push((first, *len));
    }
    Ok(runs)
}

fn unpack_items(groups: &[ByteBuf]) -> Result<(Vec<(u64, Item)>, usize), FrameError> {
    let (mut items, mut unknown, mut budget) = (Vec::new(), 0, MAX_PLAIN);
    if groups.len() > MAX_ITEMS {
        return Err(FrameError::TooMany);
    }
    for group in groups {
        for WireItem(seq, kind, body) in Group::unpack(group, &mut budget)? {
            match Item::parse(kind, body.into_vec()) {
                Ok(item) => items.push((seq, item)),
                Err(ItemError::Kind { .. }) => unknown += 1,
                Err(source) => return Err(FrameError::Item { source }),
            }
        }
        if items.len() + unknown > MAX_ITEMS {
            return Err(FrameError::TooMany);
        }
    }
    Ok((items, unknown))
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    acks: Option<(u64, Vec<(u64, u64)>)>,
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    nak: Vec<u32>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    floor: Option<(u32, u64)>,
    #[serde(rename = "g", default)]
    granted: u32,
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    used: Vec<(MailboxId, u16, u16)>,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    stamps: Vec<WireGrant>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    th: Option<ByteBuf>,
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<ByteBuf>,
}

#[derive(Serialize, Deserialize)]
struct WireGrant(u32, HostKey, bool, StampBatch);

impl From<(u32, &Grant)> for WireGrant {
    fn from((number, grant): (u32, &Grant)) -> Self {
        Self(number, grant.host, grant.recovery, grant.batch.clone())
    }
}

impl WireGrant {
    fn into_grant(self) -> (u32, Grant) {
        let Self(number, host, recovery, batch) = self;
        (number, Grant { host, recovery, batch })
    }
}

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Bytes that all groups of a frame may give together (overlay.md, section 4).
pub const MAX_PLAIN: usize = 1 << 20;
/// Items in one frame.
pub const MAX_ITEMS: usize = 256;
/// Naks in one frame; more than frames can be unacknowledged.
pub const MAX_NAKS: usize = 64;
/// Mailboxes of which a frame says how many stamps were used.
pub(crate) const MAX_USED: usize = 4;
/// Grants in one frame.
pub const MAX_GRANTS: usize = 32;
