//! The first events of a room, in the order of the client-server spec (`POST /createRoom`), and their signatures.
//!
//! The events depend on nothing but the request, so the whole room is built before the writer sees any of it.

use std::collections::HashMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedUserId, RoomId, UInt,
    UserId,
    api::client::room::create_room::v3::RoomPreset,
    events::{StateEventType, TimelineEventType},
    int,
    signatures::KeyPair,
    state_res::check_state_dependent_auth_rules,
};

use crate::{
    CheckedPdu, RoomRules, StateKey,
    build::{self, BuildError, EventDraft, Parents, Signer},
};

/// What the creator asks for.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// The creator, a user of this node.
    pub creator: OwnedUserId,
    /// `displayname` and `avatar_url` of the creator's join.
    pub creator_profile: CanonicalJsonObject,
    /// The preset; the caller derives it from `visibility` when the request names none.
    pub preset: RoomPreset,
    /// `creation_content`, with whatever the node adds to it.
    pub creation_content: CanonicalJsonObject,
    /// `power_level_content_override`.
    pub power_levels: CanonicalJsonObject,
    /// The full alias of `room_alias_name`.
    pub alias: Option<OwnedRoomAliasId>,
    /// `initial_state`.
    pub initial_state: Vec<InitialState>,
    /// `name`.
    pub name: Option<String>,
    /// `topic`.
    pub topic: Option<String>,
    /// `invite`, each with the profile for the content of the invite.
    pub invite: Vec<(OwnedUserId, CanonicalJsonObject)>,
    /// `is_direct`.
    pub is_direct: bool,
    /// Now. From version 12 on the create event's hash is the room id, so two rooms of one creator that are asked for
    /// alike must not have the same time.
    pub now: MilliSecondsSinceUnixEpoch,
}

/// One entry of `initial_state`.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The event type.
    pub kind: TimelineEventType,
    /// The state key; empty when the request has none.
    pub state_key: String,
    /// The content.
    pub content: CanonicalJsonObject,
}

/// Why a room cannot be created as asked.
#[derive(Debug, thiserror::Error)]
pub enum CreateRoomError {
    /// `M_BAD_JSON`: a field has the wrong type.
    #[error("`{field}` must be {wanted}")]
    Field {
        /// The field, with its path.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// `M_INVALID_ROOM_STATE`: the auth rules refuse one of the events.
    #[error("the room cannot start with this `{kind}` event: {why}")]
    Refused {
        /// The type of the event.
        kind: String,
        /// The rule that it breaks.
        why: String,
    },
    /// One of the events cannot be built.
    #[error("cannot build the `{kind}` event of the room: {source}")]
    Build {
        /// The type of the event.
        kind: String,
        /// What is wrong.
        source: BuildError,
    },
}

/// The events of the new room in their order.
///
/// # Errors
/// When `creation_content` or the power levels have a wrong form.
pub fn plan(rules: &RoomRules, room: NewRoom) -> Result<Vec<EventDraft>, CreateRoomError> {
    let mut events = Events { drafts: Vec::with_capacity(10), creator: room.creator.clone(), now: room.now };
    let creators = Creators::of(rules, &room)?;
    // 1. The `m.room.create` event itself.
    events.add("m.room.create", "", create_content(rules, &room, &creators));
    // 2. The creator joins.
    let mut join = room.creator_profile.clone();
    join.insert("membership".to_owned(), text("join"));
    events.add("m.room.member", room.creator.as_str(), join);
    // 3. Power levels.
    events.add("m.room.power_levels", "", power_levels(rules, &room, &creators)?);
    // 4. The alias.
    if let Some(alias) = &room.alias {
        events.add("m.room.canonical_alias", "", object([("alias", text(alias.as_str()))]));
    }
    // 5. The preset, where `initial_state` does not say otherwise.
    let given =
        |kind: &str| room.initial_state.iter().any(|event| event.kind == kind.into() && event.state_key.is_empty());
    for (kind, field, value) in preset(&room.preset) {
        if !given(kind) {
            events.add(kind, "", object([(field, text(value))]));
        }
    }
    // 6. `initial_state`, where `name` and `topic` do not say otherwise.
    for event in room.initial_state {
        let overridden = event.state_key.is_empty()
            && (event.kind == TimelineEventType::RoomName && room.name.is_some()
                || event.kind == TimelineEventType::RoomTopic && room.topic.is_some());
        if !overridden {
            events.add(&event.kind.to_string(), &event.state_key, event.content);
        }
    }
    // 7. Name and topic.
    if let Some(name) = &room.name {
        events.add("m.room.name", "", object([("name", text(name))]));
    }
    if let Some(topic) = &room.topic {
        events.add("m.room.topic", "", topic_content(topic));
    }
    // 8. Invites.
    for (user, mut content) in room.invite {
        content.insert("membership".to_owned(), text("invite"));
        if room.is_direct {
            content.insert("is_direct".to_owned(), CanonicalJsonValue::Bool(true));
        }
        events.add("m.room.member", user.as_str(), content);
    }
    Ok(events.drafts)
}

/// Signs the events of a new room, each on top of the one before, and checks that each is allowed. `room_id` is what
/// the caller drew for versions 6 to 11; in version 12 it is not looked at, the create event's hash is the room id.
///
/// # Errors
/// When one of the events is not allowed or cannot be built.
pub fn sign<K: KeyPair>(
    rules: &RoomRules,
    room_id: &RoomId,
    drafts: Vec<EventDraft>,
    signer: &Signer<'_, K>,
) -> Result<Vec<CheckedPdu>, CreateRoomError> {
    let mut pdus: Vec<CheckedPdu> = Vec::with_capacity(drafts.len());
    let mut state: HashMap<StateKey, usize> = HashMap::new();
    for draft in drafts {
        let kind = draft.kind.to_string();
        let failed = |source| CreateRoomError::Build { kind: kind.clone(), source };
        let find = |kind: &StateEventType, key: &str| state.get(&(kind.clone(), key.to_owned())).map(|at| &pdus[*at]);
        let entry = |kind: &StateEventType, key: &str| Ok(find(kind, key).map(|pdu| pdu.owned_event_id()));
        let parents = Parents {
            prev_events: pdus.last().map(|pdu| pdu.owned_event_id()).into_iter().collect(),
            depth: UInt::new_saturating(pdus.len() as u64 + 1),
            auth_events: build::auth_events(rules, &draft, entry).map_err(failed)?,
        };
        let room_id = match pdus.first() {
            Some(create) => Some(create.room_id()),
            None if rules.create_is_room_id() => None,
            None => Some(room_id),
        };
        let pdu = build::sign(rules, room_id, draft, parents, signer).map_err(failed)?;
        let rule = |why| CreateRoomError::Refused { kind: kind.clone(), why };
        check_state_dependent_auth_rules(&rules.room.authorization, &**pdu.pdu(), |kind, key| {
            find(kind, key).map(|pdu| pdu.pdu())
        })
        .map_err(rule)?;
        if kind == "m.room.create" && !pdus.is_empty() {
            return Err(rule("the room has a create event already".to_owned()));
        }
        if let Some(key) = pdu.state_entry() {
            state.insert(key, pdus.len());
        }
        pdus.push(pdu);
    }
    Ok(pdus)
}

struct Events {
    drafts: Vec<EventDraft>,
    creator: OwnedUserId,
    now: MilliSecondsSinceUnixEpoch,
}

impl Events {
    fn add(&mut self, kind: &str, state_key: &str, content: CanonicalJsonObject) {
        let draft = EventDraft::new(kind.into(), content, self.creator.clone(), self.now);
        self.drafts.push(EventDraft { state_key: Some(state_key.to_owned()), ..draft });
    }
}

/// Who has creator powers, and who merely gets the creator's level.
struct Creators {
    additional: Vec<OwnedUserId>,
    with_level: Vec<OwnedUserId>,
}

impl Creators {
    fn of(rules: &RoomRules, room: &NewRoom) -> Result<Self, CreateRoomError> {
        let trusted: Vec<_> = match room.preset {
            RoomPreset::TrustedPrivateChat => room.invite.iter().map(|(user, _)| user.clone()).collect(),
            _ => Vec::new(),
        };
        if !rules.room.authorization.additional_room_creators {
            let with_level = std::iter::once(room.creator.clone()).chain(trusted).collect();
            return Ok(Self { additional: Vec::new(), with_level });
        }
        let wrong =
            || CreateRoomError::Field { field: "creation_content.additional_creators", wanted: "a list of user ids" };
        let named = match room.creation_content.get("additional_creators") {
            None => &[][..],
            Some(value) => value.as_array().ok_or_else(wrong)?,
        };
        let mut additional = Vec::new();
        for value in named {
            let user = value.as_str().and_then(|user| UserId::parse(user).ok()).ok_or_else(wrong)?;
            additional.push(user);
        }
        additional.extend(trusted);
        additional.retain(|user| *user != room.creator);
        additional.sort_unstable();
        additional.dedup();
        Ok(Self { additional, with_level: Vec::new() })
    }
}

fn create_content(rules: &RoomRules, room: &NewRoom, creators: &Creators) -> CanonicalJsonObject {
    let mut content = room.creation_content.clone();
    content.insert("room_version".to_owned(), text(rules.version.as_str()));
    if rules.room.authorization.use_room_create_sender {
        content.remove("creator");
    } else {
        content.insert("creator".to_owned(), text(room.creator.as_str()));
    }
    if !creators.additional.is_empty() {
        let list = creators.additional.iter().map(|user| text(user.as_str())).collect();
        content.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(list));
    }
    content
}

fn power_levels(
    rules: &RoomRules,
    room: &NewRoom,
    creators: &Creators,
) -> Result<CanonicalJsonObject, CreateRoomError> {
    let invite = if room.preset == RoomPreset::PublicChat { 50 } else { 0 };
    let explicit = rules.room.authorization.explicitly_privilege_room_creators;
    let tombstone = if explicit { TOMBSTONE_LEVEL } else { 100 };
    let events = [
        ("m.room.avatar", 50),
        ("m.room.canonical_alias", 50),
        ("m.room.encryption", 100),
        ("m.room.history_visibility", 100),
        ("m.room.name", 50),
        ("m.room.power_levels", 100),
        ("m.room.server_acl", 100),
        ("m.room.tombstone", tombstone),
    ];
    let users = creators.with_level.iter().map(|user| (user.as_str(), level(100)));
    let mut content = object([
        ("ban", level(50)),
        ("events", CanonicalJsonValue::Object(object(events.map(|(kind, required)| (kind, level(required)))))),
        ("events_default", level(0)),
        ("invite", level(invite)),
        ("kick", level(50)),
        ("redact", level(50)),
        ("state_default", level(50)),
        ("users", CanonicalJsonValue::Object(object(users))),
        ("users_default", level(0)),
    ]);
    content.extend(room.power_levels.clone());
    if explicit {
        raise_tombstone(&mut content)?;
    }
    Ok(content)
}

/// Version 12: the level for tombstones must be named and be above `state_default`, whatever the override left of it.
fn raise_tombstone(content: &mut CanonicalJsonObject) -> Result<(), CreateRoomError> {
    let default = content.get("state_default").and_then(CanonicalJsonValue::as_integer).unwrap_or(int!(50));
    let events =
        content.entry("events".to_owned()).or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
    let wrong = CreateRoomError::Field { field: "power_level_content_override.events", wanted: "an object" };
    let events = events.as_object_mut().ok_or(wrong)?;
    let above = default.saturating_add(int!(1)).max(TOMBSTONE_LEVEL.into());
    events.entry("m.room.tombstone".to_owned()).or_insert(CanonicalJsonValue::Integer(above));
    Ok(())
}

fn preset(preset: &RoomPreset) -> [(&'static str, &'static str, &'static str); 3] {
    let public = *preset == RoomPreset::PublicChat;
    [
        ("m.room.join_rules", "join_rule", if public { "public" } else { "invite" }),
        ("m.room.history_visibility", "history_visibility", "shared"),
        ("m.room.guest_access", "guest_access", if public { "forbidden" } else { "can_join" }),
    ]
}

/// The plain topic, and its text/plain form as the spec asks since 1.15.
fn topic_content(topic: &str) -> CanonicalJsonObject {
    let body = CanonicalJsonValue::Object(object([("body", text(topic))]));
    let texts = CanonicalJsonValue::Array(vec![body]);
    object([("topic", text(topic)), ("m.topic", CanonicalJsonValue::Object(object([("m.text", texts)])))])
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, CanonicalJsonValue)>) -> CanonicalJsonObject {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(value: &str) -> CanonicalJsonValue {
    CanonicalJsonValue::String(value.to_owned())
}

fn level(level: i32) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(level.into())
}

/// The spec's own example of a level that only creators reach.
const TOMBSTONE_LEVEL: i32 = 150;
