//! One line of a link: an Olm session and the numbers that count under it. A HELLO begins a new line; the one before only
//! receives, for 37 days.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Handle, ratchet::Ratchet};
use crate::{
    frame::{Frame, MAX_NAKS},
    olm::SessionAtRest,
    secrets::Transcript,
    window::Window,
};

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) olm: SessionAtRest,
    pub(super) th: Transcript,
    /// The peer has shown `th`: it is who it says.
    pub(super) proven: bool,
    /// The peer has acknowledged a frame of ours: it has seen `th`.
    pub(super) heard: bool,
    pub(super) ratchet: Ratchet,
    pub(super) next_frame: u32,
    pub(super) next_item: u64,
    pub(super) next_order: u64,
    pub(super) next_large: u32,
    /// Frames of the peer that were taken, those that do not open included.
    pub(super) frames: Window,
    /// Items of the peer that were taken.
    pub(super) items: Window,
    /// Frames of the peer that do not open.
    pub(super) naks: Vec<u32>,
    /// Frames in a row that did not open.
    pub(super) unopened: u8,
    /// Grants of the peer below this one were taken.
    pub(super) granted: u32,
    /// The next to-device message of the peer to hand over.
    pub(super) order: u64,
    /// Later ones, in rows.
    pub(super) held: BTreeSet<u64>,
    /// Large items of the peer of which parts are in rows.
    pub(super) partial: Vec<Partial>,
    /// Large items of ours that are not wholly acknowledged.
    pub(super) large: Vec<Large>,
    /// Bytes of what is held.
    #[serde(default)]
    pub(super) held_len: u64,
}

/// A large item that comes in.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Partial {
    pub(super) of: u32,
    pub(super) count: u8,
    /// A bit for each part that is there.
    pub(super) have: u16,
}

/// A large item that goes out.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Large {
    pub(super) of: u32,
    pub(super) handle: Handle,
    pub(super) count: u8,
    /// Parts that are sealed, from the front.
    pub(super) sealed: u8,
    /// A bit for each part that the peer has.
    pub(super) acked: u16,
}

impl Line {
    /// Frame 0 is the first contact itself, on both sides.
    pub(super) fn new(olm: SessionAtRest, th: Transcript, ratchet: Ratchet) -> Self {
        let mut frames = Window::default();
        frames.insert(0);
        Self {
            olm,
            th,
            proven: false,
            heard: false,
            ratchet,
            next_frame: 1,
            next_item: 0,
            next_order: 0,
            next_large: 0,
            frames,
            items: Window::default(),
            naks: Vec::new(),
            unopened: 0,
            granted: 0,
            order: 0,
            held: BTreeSet::new(),
            partial: Vec::new(),
            large: Vec::new(),
            held_len: 0,
        }
    }

    /// A frame that says what was received, and nothing else yet.
    pub(super) fn header(&self) -> Frame {
        Frame {
            acks: self.frames.clone(),
            nak: self.naks.clone(),
            granted: self.granted,
            th: (!self.heard).then_some(self.th),
            ..Frame::default()
        }
    }

    /// Records that a frame does not open. `false`: too many do not; it is then left as a hole.
    pub(super) fn nak(&mut self, frame_no: u32) -> bool {
        if self.naks.len() >= MAX_NAKS {
            return false;
        }
        self.naks.push(frame_no);
        true
    }

    /// The peer says what is settled on its side.
    pub(super) fn raise(&mut self, frames: u32, items: u64) {
        self.naks.retain(|frame_no| *frame_no >= frames);
        self.frames.raise(u64::from(frames));
        self.items.raise(items);
    }
}
