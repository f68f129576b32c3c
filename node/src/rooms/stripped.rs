//! Stripped state: what somebody outside a room is shown of it with an invite or a knock.

use millpond_matrix::client::write_stripped_event;
use millpond_store::{
    Error, View,
    rows::{EventShort, RoomShort},
};

use super::{current, rows};

/// The state events that an invite shows (client-server spec, "Stripped state").
const SHOWN: [&str; 7] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
];

/// The events of the current state that outsiders are shown, and the inviter's member event.
pub(crate) fn events(
    view: View<'_>,
    room: RoomShort,
    inviter: Option<&ruma::UserId>,
) -> Result<Vec<EventShort>, Error> {
    let mut events = Vec::new();
    for kind in SHOWN {
        events.extend(current::entry(view, room, kind, "")?);
    }
    if let Some(inviter) = inviter {
        events.extend(current::entry(view, room, "m.room.member", inviter.as_str())?);
    }
    Ok(events)
}

/// The stripped state of a room as a JSON array: the usual events, the inviter's member event, and `own`, the event that
/// invites or knocks.
pub(crate) fn state(
    view: View<'_>,
    room: RoomShort,
    inviter: Option<&ruma::UserId>,
    own: Option<EventShort>,
) -> Result<String, Error> {
    let mut events = events(view, room, inviter)?;
    events.extend(own);
    let mut out = vec![b'['];
    for (at, event) in events.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let row = rows::event(view, event)?;
        write_stripped_event(&mut out, &row.header, &row.json);
    }
    out.push(b']');
    Ok(String::from_utf8(out).expect("spliced of strings"))
}

/// Strips events that a peer shows: full PDUs or stripped ones. What is no state event is left out.
pub(crate) fn of_jsons<'a>(events: impl Iterator<Item = &'a str>) -> String {
    #[derive(serde::Deserialize, serde::Serialize)]
    struct Event<'a> {
        #[serde(borrow)]
        content: &'a serde_json::value::RawValue,
        sender: ruma::OwnedUserId,
        state_key: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let events: Vec<Event<'_>> = events.filter_map(|json| serde_json::from_str(json).ok()).collect();
    serde_json::to_string(&events).unwrap_or_else(|_| "[]".to_owned())
}

/// Whether stripped state shows the create event of an overlay room.
pub(crate) fn is_overlay(shown: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: String,
        #[serde(borrow)]
        content: &'a serde_json::value::RawValue,
    }
    let events: Vec<Event<'_>> = serde_json::from_str(shown).unwrap_or_default();
    events.iter().any(|event| event.kind == "m.room.create" && super::is_overlay_content(event.content.get()))
}
