//! A stored room event: its raw canonical JSON, and the few fields that every decision reads.
//!
//! The JSON is kept as one text with its signatures and without `unsigned`; the content is a range of it. Values are
//! immutable and shared as `Arc<Pdu>`.

use std::borrow::Cow;

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::Event,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod header;

pub use header::{HeaderError, PduHeader, Span};

use crate::{RoomRules, StateKey};

/// What `decide` found about an event that is stored all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PduFlags {
    /// Failed auth by its auth events or by the state before it: changes no state, is shown to nobody.
    pub rejected: bool,
    /// Failed auth by the current state when it came: is shown to nobody and followed by none of our events.
    pub soft_failed: bool,
}

/// An immutable room event.
#[derive(Clone, Debug)]
pub struct Pdu {
    header: PduHeader,
    room_id: OwnedRoomId,
    room_id_in_json: bool,
    sender: OwnedUserId,
    kind: TimelineEventType,
    state_key: Option<Box<str>>,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    redacts: Option<OwnedEventId>,
    json: Box<str>,
}

/// JSON that is not an event.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// A field is missing or of the wrong type.
    #[error("event JSON is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// An identifier does not parse.
    #[error("event has an invalid `{field}`: {source}")]
    Id {
        /// The field that holds it.
        field: &'static str,
        /// What is wrong with it.
        source: ruma::IdParseError,
    },
    /// No room id, in a place where only the create event of version 12 may lack it.
    #[error("event has no `room_id`")]
    NoRoomId,
    /// The content is a text, a number or a list.
    #[error("event has a `content` that is no object")]
    Content,
    /// Longer than a PDU may be.
    #[error("event has more than 65535 bytes")]
    TooLarge,
    /// A part that redaction looks at has the wrong type.
    #[error("event cannot be redacted: {0}")]
    Redact(String),
    /// The header row belongs to other JSON.
    #[error("stored header does not fit the stored event")]
    HeaderMismatch,
}

impl Pdu {
    /// Reads the canonical JSON of an event whose id is known. Checks the types of the fields that it keeps and nothing
    /// else.
    ///
    /// # Errors
    /// When a field is missing or malformed.
    pub fn parse(event_id: OwnedEventId, rules: &RoomRules, json: Box<str>, flags: PduFlags) -> Result<Self, PduError> {
        let fields: Fields<'_> = serde_json::from_str(&json)?;
        if !fields.content.get().starts_with('{') {
            return Err(PduError::Content);
        }
        let room_id_in_json = fields.room_id.is_some();
        let room_id = match fields.room_id.clone() {
            Some(id) => id,
            None if rules.create_is_room_id() => room_id_of_create(&event_id)?,
            None => return Err(PduError::NoRoomId),
        };
        let header = fields.header(event_id, rules, &json, flags)?;
        Self::assemble(header, fields.owned()?, room_id, room_id_in_json, json)
    }

    /// Rebuilds an event from its rows.
    ///
    /// # Errors
    /// When the rows do not belong together or the JSON is damaged.
    pub fn from_stored(room_id: OwnedRoomId, header: PduHeader, json: Box<str>) -> Result<Self, PduError> {
        let fields: Fields<'_> = serde_json::from_str(&json)?;
        if Span::within(&json, fields.content.get()) != Some(header.content) {
            return Err(PduError::HeaderMismatch);
        }
        let room_id_in_json = fields.room_id.is_some();
        Self::assemble(header, fields.owned()?, room_id, room_id_in_json, json)
    }

    /// The event id.
    pub fn event_id(&self) -> &EventId {
        &self.header.event_id
    }

    /// The event id, for those who keep a copy.
    pub fn owned_event_id(&self) -> OwnedEventId {
        self.header.event_id.clone()
    }

    /// The room; for the create event of version 12 it is derived from the event id.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The user who sent it.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// The event type.
    pub fn kind(&self) -> &TimelineEventType {
        &self.kind
    }

    /// The state key; only state events have one.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Type and state key of a state event.
    pub fn state_entry(&self) -> Option<StateKey> {
        let state_key = self.state_key.as_deref()?;
        Some((StateEventType::from(self.kind.to_string()), state_key.to_owned()))
    }

    /// Whether this is the state event of that type and key.
    pub fn is_state(&self, kind: &TimelineEventType, state_key: &str) -> bool {
        self.state_key.as_deref() == Some(state_key) && self.kind == *kind
    }

    /// When the sender's server says it was made.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.header.origin_server_ts
    }

    /// The depth that it claims.
    pub fn depth(&self) -> UInt {
        self.header.depth
    }

    /// The events before it.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The events that authorise it.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// The event that this redaction redacts.
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// The content as raw JSON.
    pub fn content(&self) -> &RawValue {
        // The span was compared with the parsed field when the value was made, so this scan cannot fail.
        serde_json::from_str(self.header.content.of(&self.json)).unwrap_or(RawValue::NULL)
    }

    /// Reads some fields of the content.
    ///
    /// # Errors
    /// When the content lacks them.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.header.content.of(&self.json))
    }

    /// The whole event as canonical JSON, in the federation's form.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The row that stands beside the JSON.
    pub fn header(&self) -> &PduHeader {
        &self.header
    }

    /// Rejected, soft-failed.
    pub fn flags(&self) -> PduFlags {
        self.header.flags
    }

    /// The same event with other flags.
    pub fn with_flags(mut self, flags: PduFlags) -> Self {
        self.header.flags = flags;
        self
    }

    fn assemble(
        header: PduHeader,
        owned: Owned,
        room_id: OwnedRoomId,
        room_id_in_json: bool,
        json: Box<str>,
    ) -> Result<Self, PduError> {
        let redacts = header.redacts.and_then(|span| serde_json::from_str(span.of(&json)).ok());
        Ok(Self {
            header,
            room_id,
            room_id_in_json,
            sender: owned.sender,
            kind: owned.kind,
            state_key: owned.state_key,
            prev_events: owned.prev_events,
            auth_events: owned.auth_events,
            redacts,
            json,
        })
    }
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.header.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        // The auth rules of version 12 look whether the create event carries a room id.
        self.room_id_in_json.then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.header.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawValue {
        self.content()
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.header.flags.rejected
    }
}

/// The room id of version 12: the create event's hash with the other sigil.
pub(crate) fn room_id_of_create(event_id: &EventId) -> Result<OwnedRoomId, PduError> {
    let hash = event_id.as_str().strip_prefix('$').unwrap_or_default();
    RoomId::new_v2(hash).map_err(|source| PduError::Id { field: "room_id", source })
}

/// The create event of a version 12 room.
pub(crate) fn create_of_room_id(room_id: &RoomId) -> Option<OwnedEventId> {
    EventId::parse(format!("${}", room_id.strip_sigil())).ok()
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(borrow)]
    sender: &'a RawValue,
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow, default)]
    state_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    redacts: Option<&'a RawValue>,
    room_id: Option<OwnedRoomId>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: UInt,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
}

struct Owned {
    sender: OwnedUserId,
    kind: TimelineEventType,
    state_key: Option<Box<str>>,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
}

impl Fields<'_> {
    fn header(
        &self,
        event_id: OwnedEventId,
        rules: &RoomRules,
        json: &str,
        flags: PduFlags,
    ) -> Result<PduHeader, PduError> {
        let span = |raw: &RawValue| Span::within(json, raw.get()).ok_or(PduError::TooLarge);
        let redacts_in_content = rules.room.redaction.content_field_redacts;
        // Only a valid event id counts: a malformed one must not make the event unreadable.
        let redacts = match self.kind.get() == REDACTION {
            false => None,
            true if redacts_in_content => redacts_of_content(self.content),
            true => self.redacts,
        }
        .filter(|raw| serde_json::from_str::<OwnedEventId>(raw.get()).is_ok());
        Ok(PduHeader {
            event_id,
            origin_server_ts: self.origin_server_ts,
            depth: self.depth,
            kind: span(self.kind)?,
            sender: span(self.sender)?,
            content: span(self.content)?,
            state_key: self.state_key.map(span).transpose()?,
            redacts: redacts.map(span).transpose()?,
            redacts_in_content,
            flags,
        })
    }

    fn owned(self) -> Result<Owned, PduError> {
        let text = |raw: &RawValue| serde_json::from_str::<Text<'_>>(raw.get()).map(|text| text.0.into_owned());
        let sender = UserId::parse(text(self.sender)?).map_err(|source| PduError::Id { field: "sender", source })?;
        Ok(Owned {
            sender,
            kind: text(self.kind)?.into(),
            state_key: self.state_key.map(text).transpose()?.map(String::into_boxed_str),
            prev_events: self.prev_events.into(),
            auth_events: self.auth_events.into(),
        })
    }
}

/// A string that is borrowed when it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn redacts_of_content(content: &RawValue) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Redacts<'a> {
        #[serde(borrow, default)]
        redacts: Option<&'a RawValue>,
    }
    serde_json::from_str::<Redacts<'_>>(content.get()).ok()?.redacts
}

/// The type of a redaction as it stands in JSON.
const REDACTION: &str = "\"m.room.redaction\"";
