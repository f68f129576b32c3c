//! Events that one server prepares and another signs: `make_join`, `make_leave`, `make_knock`.
//!
//! The server that signs compares the template with what it asked for before its key touches it, and takes nothing from
//! it but the place in the DAG and the authorising user of a restricted join.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedUserId, RoomId, UInt, UserId,
    canonical_json::CanonicalJsonObjectExt,
    events::{TimelineEventType, room::member::MembershipState},
    signatures::KeyPair,
};

use crate::{
    CheckedPdu, RoomRules,
    build::{self, BuildError, EventDraft, Parents, Signer},
};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// Our user, who is sender and state key.
    pub user: &'a UserId,
    /// Join, leave or knock.
    pub membership: &'a MembershipState,
}

/// A template that is what was asked for.
#[derive(Clone, Debug)]
pub struct Template {
    parents: Parents,
    authorised_via: Option<OwnedUserId>,
}

/// Why a template is not signed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// No event at all.
    #[error("the template is malformed: {0}")]
    Malformed(String),
    /// Another event than the one that was asked for.
    #[error("the template is for another event: its `{0}` is not what was asked for")]
    Mismatch(&'static str),
}

/// The unsigned event that a resident server answers with.
///
/// # Errors
/// When a field is too long.
pub fn make(
    rules: &RoomRules,
    room_id: &RoomId,
    draft: EventDraft,
    parents: Parents,
) -> Result<CanonicalJsonObject, BuildError> {
    draft.into_object(rules, Some(room_id), parents)
}

/// Compares a template with the request.
///
/// # Errors
/// When it differs, or has more parents than an event may have.
pub fn check(json: &str, expected: &Expected<'_>) -> Result<Template, TemplateError> {
    let object: CanonicalJsonObject =
        serde_json::from_str(json).map_err(|error| TemplateError::Malformed(error.to_string()))?;
    let text = |object: &CanonicalJsonObject, field: &'static str| {
        object.get(field).and_then(CanonicalJsonValue::as_str).map(str::to_owned)
    };
    let must = |object, field, wanted: &str| match text(object, field) {
        Some(found) if found == wanted => Ok(()),
        _ => Err(TemplateError::Mismatch(field)),
    };
    must(&object, "type", "m.room.member")?;
    must(&object, "room_id", expected.room_id.as_str())?;
    must(&object, "sender", expected.user.as_str())?;
    must(&object, "state_key", expected.user.as_str())?;
    let content = object
        .get_as_required_object("content", "content")
        .map_err(|error| TemplateError::Malformed(error.to_string()))?;
    must(content, "membership", expected.membership.as_str())?;
    let authorised_via = match text(content, "join_authorised_via_users_server") {
        Some(user) if *expected.membership == MembershipState::Join => Some(
            UserId::parse(user)
                .map_err(|_| TemplateError::Malformed("`join_authorised_via_users_server` is no user id".to_owned()))?,
        ),
        _ => None,
    };
    let depth = match object.get("depth").and_then(CanonicalJsonValue::as_integer).map(i64::from).map(u64::try_from) {
        Some(Ok(depth)) => UInt::new_saturating(depth),
        _ => return Err(TemplateError::Malformed("`depth` is no natural number".to_owned())),
    };
    let parents =
        Parents { prev_events: ids(&object, "prev_events", 20)?, depth, auth_events: ids(&object, "auth_events", 10)? };
    Ok(Template { parents, authorised_via })
}

impl Template {
    /// Builds and signs our own event at the template's place. `profile` holds what we add to the content:
    /// `displayname`, `avatar_url`, `reason`.
    ///
    /// # Errors
    /// As [`build::sign`].
    pub fn sign<K: KeyPair>(
        self,
        rules: &RoomRules,
        expected: &Expected<'_>,
        profile: CanonicalJsonObject,
        now: MilliSecondsSinceUnixEpoch,
        signer: &Signer<'_, K>,
    ) -> Result<CheckedPdu, BuildError> {
        let mut content = profile;
        content.insert("membership".to_owned(), CanonicalJsonValue::String(expected.membership.to_string()));
        if let Some(user) = self.authorised_via {
            content.insert("join_authorised_via_users_server".to_owned(), CanonicalJsonValue::String(user.into()));
        }
        let draft = EventDraft {
            state_key: Some(expected.user.to_string()),
            ..EventDraft::new(TimelineEventType::RoomMember, content, expected.user.to_owned(), now)
        };
        build::sign(rules, Some(expected.room_id), draft, self.parents, signer)
    }
}

fn ids(
    object: &CanonicalJsonObject,
    field: &'static str,
    most: usize,
) -> Result<Vec<ruma::OwnedEventId>, TemplateError> {
    let wrong = || TemplateError::Malformed(format!("`{field}` is no list of at most {most} event ids"));
    let list =
        object.get(field).and_then(CanonicalJsonValue::as_array).filter(|list| list.len() <= most).ok_or_else(wrong)?;
    list.iter().map(|id| id.as_str().and_then(|id| EventId::parse(id).ok()).ok_or_else(wrong)).collect()
}
