//! What the replacement of a room starts with.

use millpond_matrix::{
    create_room::{InitialState, NewRoom},
    power::Powers,
};
use millpond_store::{View, rows::RoomShort, tables};
use ruma::{api::client::room::create_room::v3::RoomPreset, events::room::member::MembershipState};

use super::levels;
use super::{super::create::FEDERATION_KEY, *};

/// The replacement, before it is signed.
pub(super) struct Replica {
    pub(super) room: NewRoom,
    pub(super) overlay: bool,
    /// The power levels at the end, if those at the beginning give the upgrading user more to build the room with.
    pub(super) last_levels: Option<CanonicalJsonObject>,
}

/// State of the old room that goes over as it is, with its default where there is none, so that no preset fills it in.
const CARRIED: [(&str, Option<(&str, &str)>); 10] = [
    ("m.room.join_rules", Some(("join_rule", "invite"))),
    ("m.room.history_visibility", Some(("history_visibility", "shared"))),
    ("m.room.guest_access", Some(("guest_access", "forbidden"))),
    ("m.room.encryption", None),
    ("m.room.server_acl", None),
    ("m.room.name", None),
    ("m.room.topic", None),
    ("m.room.avatar", None),
    ("m.room.retention", None),
    ("org.matrix.room.preview_urls", None),
];

impl Rooms {
    /// Reads the old room.
    pub(super) fn replica(
        &self,
        user: &UserId,
        old: &RoomId,
        rules: &RoomRules,
        additional_creators: &[OwnedUserId],
    ) -> Result<Replica, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (short, row) = known_room(view, old)?;
        if !current::is_joined(view, short, user)? {
            return Err(Error::forbidden(format!("you are not in room {old}")));
        }
        let powers = powers(view, short, &row)?;
        if !powers.may_send(user, &TimelineEventType::RoomTombstone, true) {
            return Err(Error::forbidden("you do not have the power to end this room, which an upgrade does"));
        }
        let mut creation_content = creation_content(view, short, old, rules, additional_creators)?;
        let overlay = self.room_policy(&rules.version, &mut creation_content)?;
        let creators = levels::Creators::of(
            rules,
            user,
            additional_creators,
            powers.privileged_creators().map(ToOwned::to_owned).collect(),
        );
        let content = current::content(view, short, "m.room.power_levels", "")?.unwrap_or_default();
        let (power_levels, last_levels) = levels::carried(content, user, &powers, &creators);
        let room = NewRoom {
            creator: user.to_owned(),
            creator_profile: membership::profile(&self.core, view, user)?,
            preset: RoomPreset::PrivateChat,
            creation_content,
            power_levels,
            alias: None,
            initial_state: self.initial_state(view, short, old)?,
            name: None,
            topic: None,
            invite: Vec::new(),
            is_direct: false,
            now: self.creation_time(),
        };
        Ok(Replica { room, overlay, last_levels })
    }

    fn initial_state(&self, view: View<'_>, room: RoomShort, old: &RoomId) -> Result<Vec<InitialState>, Error> {
        let mut carried = Vec::new();
        let mut add = |kind: &str, state_key: &str, content: CanonicalJsonObject| {
            carried.push(InitialState { kind: kind.into(), state_key: state_key.to_owned(), content });
        };
        for (kind, default) in CARRIED {
            let content: Option<CanonicalJsonObject> = current::content(view, room, kind, "")?;
            match (content.filter(|content| !content.is_empty()), default) {
                (Some(content), _) => add(kind, "", content),
                (None, Some((field, value))) => {
                    add(kind, "", [(field.to_owned(), CanonicalJsonValue::String(value.to_owned()))].into());
                }
                (None, None) => {}
            }
        }
        if let Some(content) = self.canonical_alias(view, room, old)? {
            add("m.room.canonical_alias", "", content);
        }
        for kind in ["m.space.child", "m.space.parent"] {
            for row in view.scan(tables::ROOM_STATE, (room, kind))? {
                let ((_, _, state_key), _) = row?;
                let content: Option<CanonicalJsonObject> = current::content(view, room, kind, &state_key)?;
                if let Some(content) = content.filter(|content| content.contains_key("via")) {
                    add(kind, &state_key, content);
                }
            }
        }
        for user in current::members(view, room, |membership| *membership == MembershipState::Ban)? {
            let content: Option<CanonicalJsonObject> = current::content(view, room, "m.room.member", user.as_str())?;
            let reason = content.and_then(|mut content| content.remove_entry("reason"));
            let ban = ("membership".to_owned(), CanonicalJsonValue::String("ban".to_owned()));
            add("m.room.member", user.as_str(), [ban].into_iter().chain(reason).collect());
        }
        Ok(carried)
    }

    /// The canonical aliases that go over: those that were made here and mean the old room.
    fn canonical_alias(
        &self,
        view: View<'_>,
        room: RoomShort,
        old: &RoomId,
    ) -> Result<Option<CanonicalJsonObject>, Error> {
        let content: Option<CanonicalJsonObject> = current::content(view, room, "m.room.canonical_alias", "")?;
        let Some(content) = content else { return Ok(None) };
        let moves = |value: &CanonicalJsonValue| -> Result<bool, Error> {
            let Some(Ok(alias)) = value.as_str().map(OwnedRoomAliasId::try_from) else { return Ok(false) };
            Ok(view.get(tables::ALIASES, &*alias)?.is_some_and(|row| row.room_id == old))
        };
        let mut carried = CanonicalJsonObject::new();
        if let Some(alias) = content.get("alias")
            && moves(alias)?
        {
            carried.insert("alias".to_owned(), alias.clone());
        }
        let mut others = Vec::new();
        for alias in content.get("alt_aliases").and_then(CanonicalJsonValue::as_array).into_iter().flatten() {
            if moves(alias)? {
                others.push(alias.clone());
            }
        }
        if !others.is_empty() {
            carried.insert("alt_aliases".to_owned(), CanonicalJsonValue::Array(others));
        }
        Ok(Some(carried).filter(|carried| !carried.is_empty()))
    }
}

/// The old create event's content as that of the new one: `type`, `m.federate` and what else was put there go over.
fn creation_content(
    view: View<'_>,
    room: RoomShort,
    old: &RoomId,
    rules: &RoomRules,
    additional_creators: &[OwnedUserId],
) -> Result<CanonicalJsonObject, Error> {
    let content: Option<CanonicalJsonObject> = current::content(view, room, "m.room.create", "")?;
    let mut content = content.ok_or_else(|| Error::internal("a room without its create event"))?;
    for key in ["creator", "room_version", "predecessor", "additional_creators"] {
        content.remove(key);
    }
    if rules.version != RoomVersionId::V12 {
        // Only version 12 can be an overlay room.
        content.remove(FEDERATION_KEY);
    }
    let mut predecessor: CanonicalJsonObject =
        [("room_id".to_owned(), CanonicalJsonValue::String(old.to_string()))].into();
    if let Some(row) = view.scan(tables::EXTREMITIES, (room,))?.next_back().transpose()? {
        let last = rows::event_id(view, row.0.1)?;
        predecessor.insert("event_id".to_owned(), CanonicalJsonValue::String(last.to_string()));
    }
    content.insert("predecessor".to_owned(), CanonicalJsonValue::Object(predecessor));
    if rules.room.authorization.additional_room_creators && !additional_creators.is_empty() {
        let users = additional_creators.iter().map(|user| CanonicalJsonValue::String(user.to_string()));
        content.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(users.collect()));
    }
    Ok(content)
}

fn powers(view: View<'_>, room: RoomShort, row: &Room) -> Result<Powers, Error> {
    let pdu = |kind| -> Result<_, Error> {
        let event = current::entry_row(view, room, kind, "")?;
        Ok(event.map(|event| rows::pdu(&row.room_id, event)).transpose()?)
    };
    let create = pdu("m.room.create")?.ok_or_else(|| Error::internal("a room without its create event"))?;
    let rules = rules(&row.version).map_err(|e| Error::internal(e.to_string()))?;
    Powers::of(rules, &create, pdu("m.room.power_levels")?.as_deref()).map_err(Error::internal)
}
