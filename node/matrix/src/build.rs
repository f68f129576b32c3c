//! Building and signing the events of our own users.
//!
//! Server-server spec, "Signing events" and "Auth events selection". Version 12: the create event has no room id, its
//! hash is the room id, and no event names it among its auth events.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId, ServerName,
    UInt,
    events::{StateEventType, TimelineEventType},
    signatures::{Ed25519KeyPair, JsonError, KeyPair, hash_and_sign_event, sign_event},
    state_res::auth_types_for_event,
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    CheckedPdu, ReadError, RoomReader, RoomRules, StateKey,
    check::{CheckError, MAX_PDU_LEN, Origin},
};

/// What the sender decides about an event.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// The event type.
    pub kind: TimelineEventType,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content; [`content`] makes it of bytes.
    pub content: CanonicalJsonObject,
    /// For `m.room.redaction`: the event to redact. It is put where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// The user who sends it.
    pub sender: OwnedUserId,
    /// Now, or what an application service claims.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// The place of an event in the DAG.
#[derive(Clone, Debug, Default)]
pub struct Parents {
    /// At most 20 of the forward extremities.
    pub prev_events: Vec<OwnedEventId>,
    /// One more than the deepest of them.
    pub depth: UInt,
    /// Chosen from the state before the event.
    pub auth_events: Vec<OwnedEventId>,
}

/// Who signs.
#[derive(Debug)]
pub struct Signer<'a, K = Ed25519KeyPair> {
    /// The server name that the signature stands under.
    pub server: &'a ServerName,
    /// The key.
    pub key: &'a K,
}

/// Why an event could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `M_TOO_LARGE`: the event has more than 65,535 bytes.
    #[error("the event would have {0} bytes; the limit is 65535")]
    TooLarge(usize),
    /// `M_TOO_LARGE`: type or state key have more than 255 bytes.
    #[error("the event's `{field}` has {len} bytes; the limit is 255")]
    FieldTooLong {
        /// `type` or `state_key`.
        field: &'static str,
        /// Its length.
        len: usize,
    },
    /// `M_BAD_JSON`: the content is no object or holds what canonical JSON has not (fractions, huge numbers).
    #[error("the content is not valid: {0}")]
    Content(#[source] serde_json::Error),
    /// `M_BAD_JSON`: a membership event without the fields that choose its auth events.
    #[error("the content is not valid: {0}")]
    Auth(String),
    /// The event could not be hashed or signed.
    #[error("the event cannot be signed: {0}")]
    Sign(#[source] JsonError),
    /// What was built is no event: a bug, or a room id of the wrong kind.
    #[error("the event that was built is not valid: {0}")]
    Invalid(#[source] CheckError),
    /// The store failed.
    #[error("cannot read the room: {0}")]
    Read(#[from] ReadError),
}

impl EventDraft {
    /// A message; a state event has its `state_key` set beside.
    pub fn new(
        kind: TimelineEventType,
        content: CanonicalJsonObject,
        sender: OwnedUserId,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        Self { kind, state_key: None, content, redacts: None, sender, origin_server_ts }
    }

    /// The state entries that authorise this event, in the order of the spec.
    ///
    /// # Errors
    /// When it is a membership event whose content is malformed.
    pub fn auth_types(&self, rules: &RoomRules) -> Result<Vec<StateKey>, BuildError> {
        // Only membership events choose by content: the rest is spared the text form.
        let content = match self.kind {
            TimelineEventType::RoomMember => Some(to_raw_value(&self.content).map_err(BuildError::Content)?),
            _ => None,
        };
        let content = content.as_deref().unwrap_or(RawValue::NULL);
        auth_types_for_event(&self.kind, &self.sender, self.state_key.as_deref(), content, &rules.room.authorization)
            .map_err(BuildError::Auth)
    }

    /// The event without hashes and signatures.
    pub(crate) fn into_object(
        mut self,
        rules: &RoomRules,
        room_id: Option<&RoomId>,
        parents: Parents,
    ) -> Result<CanonicalJsonObject, BuildError> {
        check_len("type", self.kind.to_string().len())?;
        check_len("state_key", self.state_key.as_ref().map_or(0, String::len))?;
        let mut object = CanonicalJsonObject::new();
        if let Some(redacts) = self.redacts.take() {
            let target = if rules.room.redaction.content_field_redacts { &mut self.content } else { &mut object };
            target.insert("redacts".to_owned(), CanonicalJsonValue::String(redacts.into()));
        }
        object.insert("auth_events".to_owned(), ids(parents.auth_events));
        object.insert("content".to_owned(), CanonicalJsonValue::Object(self.content));
        object.insert("depth".to_owned(), CanonicalJsonValue::Integer(parents.depth.into()));
        object.insert("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(self.origin_server_ts.0.into()));
        object.insert("prev_events".to_owned(), ids(parents.prev_events));
        if let Some(room_id) = room_id {
            object.insert("room_id".to_owned(), CanonicalJsonValue::String(room_id.to_string()));
        }
        object.insert("sender".to_owned(), CanonicalJsonValue::String(self.sender.into()));
        if let Some(state_key) = self.state_key {
            object.insert("state_key".to_owned(), CanonicalJsonValue::String(state_key));
        }
        object.insert("type".to_owned(), CanonicalJsonValue::String(self.kind.to_string()));
        Ok(object)
    }
}

/// Parses what a client gives as content.
///
/// # Errors
/// `M_BAD_JSON` or `M_NOT_JSON`, see [`BuildError::Content`].
pub fn content(json: &[u8]) -> Result<CanonicalJsonObject, BuildError> {
    serde_json::from_slice(json).map_err(BuildError::Content)
}

/// The content of a typed event.
///
/// # Errors
/// When the value holds what canonical JSON has not.
pub fn content_of<T: serde::Serialize>(value: &T) -> Result<CanonicalJsonObject, BuildError> {
    content(&serde_json::to_vec(value).map_err(BuildError::Content)?)
}

/// The place of the next event: after the forward extremities, authorised by the current state.
///
/// # Errors
/// When the store fails or the draft is a malformed membership event.
pub fn parents(reader: &impl RoomReader, rules: &RoomRules, draft: &EventDraft) -> Result<Parents, BuildError> {
    let mut deepest = Vec::new();
    for id in reader.extremities()? {
        let depth = reader.pdu(&id)?.map(|pdu| pdu.depth()).unwrap_or_default();
        deepest.push((depth, id));
    }
    // With more extremities than an event may name, the deepest are joined first; the next events take the rest.
    deepest.sort_unstable_by(|a, b| b.cmp(a));
    deepest.truncate(MAX_PREV_EVENTS);
    let depth = deepest.first().map_or(UInt::MIN, |(depth, _)| *depth);
    let prev_events = deepest.into_iter().map(|(_, id)| id).collect();
    let auth_events = auth_events(rules, draft, |kind, state_key| reader.current_entry(kind, state_key))?;
    Ok(Parents { prev_events, depth: depth.checked_add(UInt::from(1_u8)).unwrap_or(UInt::MAX), auth_events })
}

/// The auth events of a draft, looked up in a state.
///
/// # Errors
/// When a lookup fails or the draft is a malformed membership event.
pub fn auth_events(
    rules: &RoomRules,
    draft: &EventDraft,
    entry: impl Fn(&StateEventType, &str) -> Result<Option<OwnedEventId>, ReadError>,
) -> Result<Vec<OwnedEventId>, BuildError> {
    let mut ids = Vec::with_capacity(4);
    for (kind, state_key) in draft.auth_types(rules)? {
        ids.extend(entry(&kind, &state_key)?);
    }
    Ok(ids)
}

/// Hashes and signs an event. `room_id` is absent for the create event of version 12 only.
///
/// # Errors
/// When the event is too large or cannot be signed.
pub fn sign<K: KeyPair>(
    rules: &RoomRules,
    room_id: Option<&RoomId>,
    draft: EventDraft,
    parents: Parents,
    signer: &Signer<'_, K>,
) -> Result<CheckedPdu, BuildError> {
    sign_object(rules, draft.into_object(rules, room_id, parents)?, signer)
}

/// Builds the next event of a room: [`parents`], then [`sign`].
///
/// # Errors
/// As these two.
pub fn next<K: KeyPair>(
    reader: &impl RoomReader,
    rules: &RoomRules,
    room_id: &RoomId,
    draft: EventDraft,
    signer: &Signer<'_, K>,
) -> Result<CheckedPdu, BuildError> {
    let parents = parents(reader, rules, &draft)?;
    sign(rules, Some(room_id), draft, parents, signer)
}

/// Adds our signature to an event of somebody else: an invite for our user, a restricted join that our user authorises.
/// The event id stays.
///
/// # Errors
/// When the event would grow over the limit.
pub fn add_signature<K: KeyPair>(
    rules: &RoomRules,
    pdu: &CheckedPdu,
    signer: &Signer<'_, K>,
) -> Result<CheckedPdu, BuildError> {
    let mut object: CanonicalJsonObject = serde_json::from_str(pdu.json()).map_err(BuildError::Content)?;
    sign_event(signer.server.as_str(), signer.key, &mut object, &rules.room.redaction).map_err(BuildError::Sign)?;
    CheckedPdu::from_object(&object, rules, pdu.origin()).map_err(built)
}

/// Adds our signature to an event that is not verified yet, because it cannot be without ours: a restricted join for which
/// our user vouches. The event id stays.
///
/// # Errors
/// When it is no JSON object, or cannot be signed.
pub fn cosign<K: KeyPair>(rules: &RoomRules, json: &str, signer: &Signer<'_, K>) -> Result<String, BuildError> {
    let mut object: CanonicalJsonObject = serde_json::from_str(json).map_err(BuildError::Content)?;
    object.remove("unsigned");
    sign_event(signer.server.as_str(), signer.key, &mut object, &rules.room.redaction).map_err(BuildError::Sign)?;
    serde_json::to_string(&object).map_err(BuildError::Content)
}

pub(crate) fn sign_object<K: KeyPair>(
    rules: &RoomRules,
    mut object: CanonicalJsonObject,
    signer: &Signer<'_, K>,
) -> Result<CheckedPdu, BuildError> {
    hash_and_sign_event(signer.server.as_str(), signer.key, &mut object, &rules.room.redaction).map_err(|error| {
        match error {
            JsonError::PduTooLarge => BuildError::TooLarge(MAX_PDU_LEN + 1),
            error => BuildError::Sign(error),
        }
    })?;
    CheckedPdu::from_object(&object, rules, Origin::Local).map_err(built)
}

fn built(error: CheckError) -> BuildError {
    match error {
        CheckError::TooLarge(len) => BuildError::TooLarge(len),
        error => BuildError::Invalid(error),
    }
}

fn check_len(field: &'static str, len: usize) -> Result<(), BuildError> {
    if len > ruma::ID_MAX_BYTES { Err(BuildError::FieldTooLong { field, len }) } else { Ok(()) }
}

fn ids(ids: Vec<OwnedEventId>) -> CanonicalJsonValue {
    CanonicalJsonValue::Array(ids.into_iter().map(|id| CanonicalJsonValue::String(id.into())).collect())
}

/// Most `prev_events` of one event (room version spec, "Event format").
const MAX_PREV_EVENTS: usize = 20;
