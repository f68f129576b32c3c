//! Power levels of a replacement: those of the old room, as the new version lets them be.

use millpond_matrix::{power::Powers, rules::RoomRules};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId, UserId, events::room::power_levels::UserPowerLevel,
};

/// Who has the power of a creator, before and after.
pub(super) struct Creators {
    /// In the new room; none before version 12.
    new: Vec<OwnedUserId>,
    /// In the old one; none before version 12.
    old: Vec<OwnedUserId>,
}

impl Creators {
    pub(super) fn of(rules: &RoomRules, user: &UserId, additional: &[OwnedUserId], old: Vec<OwnedUserId>) -> Self {
        let new = match rules.room.authorization.explicitly_privilege_room_creators {
            true => std::iter::once(user.to_owned()).chain(additional.iter().cloned()).collect(),
            false => Vec::new(),
        };
        Self { new, old }
    }
}

/// The power levels that the new room starts with, and those that it ends with if they differ.
pub(super) fn carried(
    mut content: CanonicalJsonObject,
    user: &UserId,
    powers: &Powers,
    creators: &Creators,
) -> (CanonicalJsonObject, Option<CanonicalJsonObject>) {
    let mut users = object(&content, "users");
    if !creators.new.is_empty() {
        // Version 12: creators are above all levels and may not be named.
        users.retain(|id, _| creators.new.iter().all(|creator| creator.as_str() != id));
        let mut events = object(&content, "events");
        if creators.old.is_empty()
            && let Some(level) = events.get_mut(TOMBSTONE)
        {
            // Who had the highest level there could end the room. Here that is for creators, unless it was higher still.
            let raised = level.as_integer().unwrap_or_default().max(CREATORS_ONLY.into());
            *level = CanonicalJsonValue::Integer(raised);
        }
        content.insert("events".to_owned(), CanonicalJsonValue::Object(events));
        content.insert("users".to_owned(), CanonicalJsonValue::Object(users));
        return (content, None);
    }
    for creator in &creators.old {
        // Their power has no number: before version 12 the highest usual one comes nearest.
        users.insert(creator.to_string(), CanonicalJsonValue::Integer(HIGHEST.into()));
    }
    content.insert("users".to_owned(), CanonicalJsonValue::Object(users.clone()));
    let needed = needed(&content);
    let own = match powers.user(user) {
        UserPowerLevel::Int(level) => level,
        _ => Int::from(HIGHEST),
    };
    if own >= needed {
        return (content, None);
    }
    let mut first = content.clone();
    users.insert(user.to_string(), CanonicalJsonValue::Integer(needed));
    first.insert("users".to_owned(), CanonicalJsonValue::Object(users));
    (first, Some(content))
}

/// The level that sending any state takes.
fn needed(content: &CanonicalJsonObject) -> Int {
    let events = object(content, "events");
    let named = ["state_default", "ban"].into_iter().filter_map(|name| content.get(name));
    let levels = events.values().chain(named).filter_map(CanonicalJsonValue::as_integer);
    levels.max().unwrap_or_default().max(HIGHEST.into())
}

fn object(content: &CanonicalJsonObject, name: &str) -> CanonicalJsonObject {
    content.get(name).and_then(CanonicalJsonValue::as_object).cloned().unwrap_or_default()
}

const TOMBSTONE: &str = "m.room.tombstone";
/// The specification's own example of a level that only creators reach.
const CREATORS_ONLY: i32 = 150;
/// The usual level of administrators.
const HIGHEST: i32 = 100;
