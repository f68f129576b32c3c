//! An event on its way to another server, with the policy of its room in its type. The one place that makes such values
//! reads the room's row; nothing else can.
//!
//! The classic sender takes events of classic rooms:
//!
//! ```
//! use millpond_node::classic::{ClassicRoom, Outgoing, Sendable};
//!
//! fn transaction(pdu: Sendable<ClassicRoom>) -> Result<Outgoing, String> {
//!     Outgoing::transaction("1", vec![pdu], |_| Ok(Vec::new()))
//! }
//! ```
//!
//! With those of overlay rooms the same does not compile:
//!
//! ```compile_fail,E0308
//! use millpond_node::classic::{OverlayRoom, Outgoing, Sendable};
//!
//! fn transaction(pdu: Sendable<OverlayRoom>) -> Result<Outgoing, String> {
//!     Outgoing::transaction("1", vec![pdu], |_| Ok(Vec::new()))
//! }
//! ```
//!
//! Nor can anybody else make one:
//!
//! ```compile_fail,E0451
//! use millpond_node::classic::{ClassicRoom, Sendable};
//!
//! fn pretend(json: Box<serde_json::value::RawValue>) -> Sendable<ClassicRoom> {
//!     Sendable { json, policy: std::marker::PhantomData }
//! }
//! ```

use std::marker::PhantomData;

use millpond_store::rows::Room;
use serde_json::value::RawValue;

/// The policy of a room whose events travel over links only.
#[derive(Clone, Copy, Debug)]
pub enum OverlayRoom {}

/// The policy of a room whose events may take the classic route.
#[derive(Clone, Copy, Debug)]
pub enum ClassicRoom {}

/// An event of a room with the policy `P`, as JSON.
#[derive(Clone, Debug)]
pub struct Sendable<P> {
    json: Box<RawValue>,
    policy: PhantomData<P>,
}

impl<P> Sendable<P> {
    fn new(json: Box<RawValue>) -> Self {
        Self { json, policy: PhantomData }
    }

    /// The event, for a request that is made of it.
    pub(super) fn into_json(self) -> Box<RawValue> {
        self.json
    }
}

/// An event with the policy of its room.
#[derive(Clone, Debug)]
pub enum AnyPdu {
    /// Links only.
    Overlay(Sendable<OverlayRoom>),
    /// The classic route as well.
    Classic(Sendable<ClassicRoom>),
}

impl AnyPdu {
    /// An event of a room that is here.
    pub(crate) fn of(room: &Room, json: Box<RawValue>) -> Self {
        if room.overlay { Self::Overlay(Sendable::new(json)) } else { Self::Classic(Sendable::new(json)) }
    }

    /// An event that enters or leaves a room which may not be here: what we know of the room decides, and a room of which
    /// nothing is known is the one that the asked server says it is in.
    pub(crate) fn outside(room: Option<&Room>, json: Box<RawValue>) -> Self {
        match room {
            Some(room) => Self::of(room, json),
            None => Self::Classic(Sendable::new(json)),
        }
    }

    /// The event as JSON, for a link, over which all may go.
    pub(crate) fn for_link(self) -> Box<RawValue> {
        match self {
            Self::Overlay(pdu) => pdu.into_json(),
            Self::Classic(pdu) => pdu.into_json(),
        }
    }

    /// The event as JSON, to look at.
    pub(crate) fn json(&self) -> &RawValue {
        match self {
            Self::Overlay(pdu) => &pdu.json,
            Self::Classic(pdu) => &pdu.json,
        }
    }
}
