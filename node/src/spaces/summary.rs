//! The summary of a room that is here, its children, and who may know of it.

use millpond_store::{
    View,
    rows::{Room, RoomShort},
    tables,
};
use ruma::{
    OwnedRoomId, OwnedServerName, ServerName, UInt, UserId,
    events::{room::member::MembershipState, space::child::HierarchySpaceChildEvent},
    room::{JoinRule, JoinRuleSummary, RoomSummary},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Error,
    directory::{field, is_world_readable},
    rooms::{current, rows},
};

/// A child of a space.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// The child.
    pub(crate) room_id: OwnedRoomId,
    /// Servers that know it.
    pub(crate) via: Vec<OwnedServerName>,
    /// The stripped event.
    pub(crate) event: Raw<HierarchySpaceChildEvent>,
    order: Order,
}

/// Children with an `order` come first, then by time, then by id (client-server API, "Ordering of children").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order(bool, String, u64, OwnedRoomId);

/// The summary of a room.
pub(crate) fn of(view: View<'_>, room: RoomShort, row: &Room) -> Result<RoomSummary, Error> {
    let counts = view.get(tables::ROOM_COUNTS, room)?.unwrap_or_default();
    let rule = current::content::<JoinRule>(view, room, "m.room.join_rules", "")?.unwrap_or(JoinRule::Invite);
    let guests = field::<String>(view, room, "m.room.guest_access", "guest_access")?;
    let mut summary = RoomSummary::new(
        row.room_id.clone(),
        JoinRuleSummary::from(rule),
        guests.as_deref() == Some("can_join"),
        UInt::new_saturating(counts.joined),
        is_world_readable(view, room)?,
    );
    summary.canonical_alias = field(view, room, "m.room.canonical_alias", "alias")?;
    summary.name = field(view, room, "m.room.name", "name")?;
    summary.topic = field(view, room, "m.room.topic", "topic")?;
    summary.avatar_url = field(view, room, "m.room.avatar", "url")?;
    summary.room_type = field(view, room, "m.room.create", "type")?;
    summary.encryption = field(view, room, "m.room.encryption", "algorithm")?;
    summary.room_version = Some(row.version.clone());
    Ok(summary)
}

/// Whether a user may know of a room that is here.
pub(crate) fn may_know(view: View<'_>, user: &UserId, room: RoomShort, summary: &RoomSummary) -> Result<bool, Error> {
    let membership = current::membership(view, room, user)?.map(|row| row.membership);
    Ok(matches!(membership, Some(MembershipState::Join | MembershipState::Invite))
        || is_open(summary)
        || is_joined_to_any(view, user, summary)?)
}

/// Whether everybody may know of a room: it can be entered, knocked at, or read.
pub(crate) fn is_open(summary: &RoomSummary) -> bool {
    use JoinRuleSummary::{Knock, KnockRestricted, Public};
    summary.world_readable || matches!(summary.join_rule, Public | Knock | KnockRestricted(_))
}

/// Whether a user is in a room whose members may enter.
pub(crate) fn is_joined_to_any(view: View<'_>, user: &UserId, summary: &RoomSummary) -> Result<bool, Error> {
    for allowed in allowed(summary) {
        if let Some(room) = rows::room_short(view, allowed)?
            && current::is_joined(view, room, user)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a server has a user in a room whose members may enter.
pub(crate) fn is_in_any(view: View<'_>, server: &ServerName, summary: &RoomSummary) -> Result<bool, Error> {
    for allowed in allowed(summary) {
        if let Some(room) = rows::room_short(view, allowed)?
            && view.get(tables::ROOM_SERVERS, (room, server))?.is_some_and(|members| members > 0)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn allowed(summary: &RoomSummary) -> &[OwnedRoomId] {
    match &summary.join_rule {
        JoinRuleSummary::Restricted(rule) | JoinRuleSummary::KnockRestricted(rule) => &rule.allowed_room_ids,
        _ => &[],
    }
}

/// The children of a space in their order; an event without `via` is no child.
pub(crate) fn children(view: View<'_>, room: RoomShort, suggested_only: bool) -> Result<Vec<Child>, Error> {
    let mut children = Vec::new();
    for row in view.scan(tables::ROOM_STATE, (room, "m.space.child"))? {
        let ((_, _, state_key), event) = row?;
        let row = rows::event(view, event)?;
        let stripped = format!(
            r#"{{"type":"m.space.child","state_key":{},"content":{},"sender":{},"origin_server_ts":{}}}"#,
            serde_json::Value::from(state_key),
            row.header.content.of(&row.json),
            row.header.sender.of(&row.json),
            row.header.origin_server_ts.0,
        );
        children
            .extend(RawValue::from_string(stripped).ok().and_then(|json| child(Raw::from_json(json), suggested_only)));
    }
    sort(&mut children);
    Ok(children)
}

/// Puts children in their order.
pub(crate) fn sort(children: &mut [Child]) {
    children.sort_by(|one, other| one.order.cmp(&other.order));
}

/// Reads a stripped child event; none if it is no child.
pub(crate) fn child(event: Raw<HierarchySpaceChildEvent>, suggested_only: bool) -> Option<Child> {
    #[derive(Deserialize)]
    struct Event {
        content: Content,
        state_key: OwnedRoomId,
        origin_server_ts: u64,
    }
    #[derive(Deserialize)]
    struct Content {
        via: Vec<OwnedServerName>,
        #[serde(default)]
        order: Option<serde_json::Value>,
        #[serde(default)]
        suggested: Option<serde_json::Value>,
    }
    let Event { content, state_key, origin_server_ts } = event.deserialize_as_unchecked().ok()?;
    if content.via.is_empty() || (suggested_only && content.suggested != Some(true.into())) {
        return None;
    }
    // Orders of over 50 characters, or with others than these, do not count.
    let is_order = |order: &str| order.len() <= 50 && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let order = content.order.as_ref().and_then(|order| order.as_str()).filter(|order| is_order(order));
    let order = Order(order.is_none(), order.unwrap_or_default().to_owned(), origin_server_ts, state_key.clone());
    Some(Child { room_id: state_key, via: content.via, event, order })
}

/// Whether a room is a space.
pub(crate) fn is_space(summary: &RoomSummary) -> bool {
    summary.room_type == Some(ruma::room::RoomType::Space)
}
