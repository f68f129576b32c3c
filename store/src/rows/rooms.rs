//! Rooms, events, state, memberships.

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, events::room::member::MembershipState,
};
use serde::{Deserialize, Serialize};

use super::{EventShort, MailResponse, StateGroup};
use crate::value::{Value, cbor_value};

/// What is fixed about a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Room {
    /// The room id.
    pub room_id: OwnedRoomId,
    /// The room version.
    pub version: RoomVersionId,
    /// `org.millpond.federation` of the create event says `overlay`: PDUs of this room never take the classic route.
    pub overlay: bool,
}

/// History that is missing in the middle of a timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// What the event after the gap refers to and is not here; each is in `BACKWARD` as well.
    pub missing: Vec<OwnedEventId>,
}

/// The newest end of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomHead {
    /// The state group of the current state.
    pub group: StateGroup,
    /// The position of the newest event that people see as something new: a message, a call. None: not known.
    pub bump: Option<u64>,
}

/// Eight bytes of the group, and eight of the position if it is known: rows of before have the group alone.
impl Value for RoomHead {
    fn encode(&self) -> std::borrow::Cow<'_, [u8]> {
        let mut bytes = self.group.0.to_be_bytes().to_vec();
        bytes.extend(self.bump.into_iter().flat_map(u64::to_be_bytes));
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (group, bump) =
            bytes.split_at_checked(8).ok_or_else(|| format!("{} bytes for a room head", bytes.len()))?;
        let bump = if bump.is_empty() { None } else { Some(u64::decode(bump)?) };
        Ok(Self { group: StateGroup(u64::decode(group)?), bump })
    }
}

/// A state key's two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateKeyName {
    /// The event type.
    pub kind: String,
    /// The state key.
    pub state_key: String,
}

/// One change of the current state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateChange {
    /// What is there now.
    pub event: Option<EventShort>,
    /// What was there before.
    pub replaces: Option<EventShort>,
}

/// A PDU that waits for others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParkedPdu {
    /// The signed JSON.
    pub json: String,
    /// Who brought it.
    pub origin: OwnedServerName,
    /// Milliseconds since the epoch.
    pub received_at_ms: u64,
    /// The events it waits for.
    pub missing: Vec<OwnedEventId>,
}

/// An event that relates to another (`m.relates_to`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relation {
    /// `rel_type`.
    pub rel_type: String,
    /// The relating event's type.
    pub kind: String,
    /// The relating event.
    pub event: EventShort,
    /// Its sender.
    pub sender: OwnedUserId,
    /// `key` of an annotation.
    pub key: Option<String>,
}

/// A user's membership in a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The membership.
    pub membership: MembershipState,
    /// The member event; none for an invite over federation into a room that we are not in.
    pub event: Option<EventShort>,
    /// The position of the commit that made it so.
    pub position: u64,
    /// The user forgot the room.
    pub forgotten: bool,
}

/// Members of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomCounts {
    /// Joined members.
    pub joined: u64,
    /// Invited members.
    pub invited: u64,
}

/// A room alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who made it.
    pub creator: OwnedUserId,
}

/// A receipt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The event up to which the user has read.
    pub event_id: OwnedEventId,
    /// Milliseconds since the epoch.
    pub ts_ms: u64,
    /// The position of the commit.
    pub position: u64,
}

/// A receipt whose event is not here yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyReceipt {
    /// The event up to which the user has read.
    pub event_id: OwnedEventId,
    /// Milliseconds since the epoch.
    pub ts_ms: u64,
}

/// Which receipt a log entry is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// The user.
    pub user_id: OwnedUserId,
    /// `m.read`, `m.read.private`.
    pub kind: String,
    /// The thread (`main` or a root event id), empty for an unthreaded receipt.
    pub thread: String,
}

/// A user's account data of one type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountData {
    /// The position of the commit.
    pub position: u64,
    /// The content, JSON.
    pub content: String,
}

/// Which account data a log entry is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountDataKey {
    /// The room id, empty for global account data.
    pub room_id: String,
    /// The event type.
    pub kind: String,
}

/// What we know of another server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Peer {
    /// There is an established link.
    pub linked: bool,
    /// Since this position.
    #[serde(default)]
    pub linked_since: u64,
    /// Receipts up to this position were sent to it.
    #[serde(default)]
    pub receipts_sent: u64,
    /// Device list changes up to this position were sent to it.
    #[serde(default)]
    pub device_lists_sent: u64,
}

/// A PDU that a peer has sent: durable before the peer is answered, judged afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagedPdu {
    /// The link's peer.
    pub origin: OwnedServerName,
    /// The servers that its sender serves directly, so that we need not.
    pub via: Vec<OwnedServerName>,
    /// The JSON as received.
    pub json: String,
}

/// How many soft-failed events were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOn {
    /// On which day: days since the epoch.
    pub day: u64,
    /// How many on that day.
    pub count: u64,
}

/// Something owed to a destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OutboxItem {
    /// A PDU, by reference.
    Pdu(EventShort),
    /// An invite of a user of the destination, by reference.
    Invite(EventShort),
    /// A to-device EDU or another one that must not be lost, as JSON.
    Edu(String),
    /// The answer to a question that came over mailboxes.
    Response(MailResponse),
    /// A question that goes over mailboxes: the row of `MAIL_ASKED` at this position.
    Question,
}

/// Something that a destination refused for what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetAside {
    /// What it was owed.
    pub item: Option<OutboxItem>,
    /// The HTTP status of its last refusal.
    pub status: u16,
    /// And what it said.
    pub said: String,
    /// When it was set aside, in milliseconds since the epoch.
    pub at_ms: u64,
}

cbor_value!(
    Room,
    Gap,
    StateKeyName,
    StateChange,
    ParkedPdu,
    Relation,
    Membership,
    RoomCounts,
    Alias,
    Receipt,
    EarlyReceipt,
    Peer,
    StagedPdu,
    PassedOn,
    ReceiptKey,
    AccountData,
    AccountDataKey,
    OutboxItem,
    SetAside,
);
