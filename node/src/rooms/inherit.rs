//! What a user takes along into the replacement of a room: tags, its place among the direct chats, push rules
//! (client-server API, "Room Upgrades": at his join).

use millpond_matrix::Pdu;
use millpond_store::{
    Error, WriteTxn,
    rows::{EventShort, RoomShort},
};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::Value;

use super::{current, rows};
use crate::{
    account_data::{self, PUSH_RULES},
    identity::Identity,
};

#[derive(Deserialize)]
struct Create {
    predecessor: Option<Predecessor>,
}

#[derive(Deserialize)]
struct Predecessor {
    room_id: OwnedRoomId,
}

#[derive(Deserialize)]
struct Tombstone {
    replacement_room: OwnedRoomId,
}

/// A user of ours joined: if the room replaces another one, and that one says so, its settings go over.
pub(super) fn on_join(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    room: RoomShort,
    pdu: &Pdu,
    event: EventShort,
) -> Result<(), Error> {
    if *pdu.kind() != TimelineEventType::RoomMember {
        return Ok(());
    }
    let Some(Ok(user)) = pdu.state_key().map(<&UserId>::try_from) else { return Ok(()) };
    if !identity.is_our_user(user) {
        return Ok(());
    }
    let row = current::membership(txn.view(), room, user)?;
    let joined = row.is_some_and(|row| row.membership == MembershipState::Join && row.event == Some(event));
    if !joined || was_joined(txn, event)? {
        return Ok(());
    }
    let create: Option<Create> = current::content(txn.view(), room, "m.room.create", "")?;
    let Some(Predecessor { room_id: old }) = create.and_then(|create| create.predecessor) else { return Ok(()) };
    let new = rows::room_id(txn.view(), room)?;
    let Some(old_room) = rows::room_short(txn.view(), &old)? else { return Ok(()) };
    // Anybody can name any room as the predecessor of his.
    let tombstone: Option<Tombstone> = current::content(txn.view(), old_room, "m.room.tombstone", "")?;
    if tombstone.is_none_or(|tombstone| tombstone.replacement_room != new) {
        return Ok(());
    }
    settings(txn, user, &old, &new)
}

/// Whether a member event changes only how somebody looks who was in the room before it.
fn was_joined(txn: &WriteTxn<'_>, event: EventShort) -> Result<bool, Error> {
    let Some(before) = rows::event(txn.view(), event)?.meta.replaces else { return Ok(false) };
    Ok(current::membership_of(&rows::event(txn.view(), before)?) == MembershipState::Join)
}

/// Copies a user's settings of one room to another.
pub(super) fn settings(txn: &mut WriteTxn<'_>, user: &UserId, old: &RoomId, new: &RoomId) -> Result<(), Error> {
    if let Some(tags) = account_data::row(txn.view(), user, Some(old), TAGS)?
        && account_data::row(txn.view(), user, Some(new), TAGS)?.is_none()
    {
        account_data::put(txn, user, Some(new), TAGS, &tags.content)?;
    }
    for (kind, change) in [(DIRECT, direct as fn(&mut Value, &str, &str) -> bool), (PUSH_RULES, push_rules)] {
        let Some(row) = account_data::row(txn.view(), user, None, kind)? else { continue };
        let Ok(mut content) = serde_json::from_str::<Value>(&row.content) else { continue };
        if change(&mut content, old.as_str(), new.as_str()) {
            account_data::put(txn, user, None, kind, &content.to_string())?;
        }
    }
    Ok(())
}

/// Adds the new room beside the old one to the direct chats.
fn direct(content: &mut Value, old: &str, new: &str) -> bool {
    let mut changed = false;
    for rooms in content.as_object_mut().into_iter().flatten().filter_map(|(_, rooms)| rooms.as_array_mut()) {
        let has = |rooms: &[Value], id: &str| rooms.iter().any(|room| room == id);
        if has(rooms, old) && !has(rooms, new) {
            rooms.push(new.into());
            changed = true;
        }
    }
    changed
}

/// Copies the rules that are named after the old room, with the new id wherever they have the old one.
fn push_rules(content: &mut Value, old: &str, new: &str) -> bool {
    let mut changed = false;
    for kind in ["override", "room"] {
        let Some(rules) = content.pointer_mut(&format!("/global/{kind}")).and_then(Value::as_array_mut) else {
            continue;
        };
        if rules.iter().any(|rule| rule["rule_id"] == new) {
            continue;
        }
        let Some(at) = rules.iter().position(|rule| rule["rule_id"] == old) else { continue };
        let copy = rules[at].to_string().replace(old, new);
        if let Ok(copy) = serde_json::from_str(&copy) {
            rules.insert(at + 1, copy);
            changed = true;
        }
    }
    changed
}

const TAGS: &str = "m.tag";
const DIRECT: &str = "m.direct";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_and_chats_of_the_old_room_are_copied_once() {
        let mut chats = json!({ "@bob:b.c": ["!old", "!other"], "@eve:b.c": ["!other"], "odd": 1 });
        assert!(direct(&mut chats, "!old", "!new"));
        assert_eq!(chats, json!({ "@bob:b.c": ["!old", "!other", "!new"], "@eve:b.c": ["!other"], "odd": 1 }));
        assert!(!direct(&mut chats, "!old", "!new"));
        let rule =
            |id: &str| json!({ "rule_id": id, "actions": [], "conditions": [{ "key": "room_id", "pattern": id }] });
        let mut rules = json!({ "global": { "override": [rule("!old"), rule("x")], "room": [] } });
        assert!(push_rules(&mut rules, "!old", "!new"));
        assert_eq!(rules["global"]["override"], json!([rule("!old"), rule("!new"), rule("x")]));
        assert!(!push_rules(&mut rules, "!old", "!new"));
    }
}
