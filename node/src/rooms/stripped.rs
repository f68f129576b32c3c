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

/// The stripped state of a room as a JSON array: the usual events, the inviter's member event, and `own`, the event that
/// invites or knocks.
pub(crate) fn state(
    view: View<'_>,
    room: RoomShort,
    inviter: Option<&ruma::UserId>,
    own: Option<EventShort>,
) -> Result<String, Error> {
    let mut events = Vec::new();
    for kind in SHOWN {
        events.extend(current::entry(view, room, kind, "")?);
    }
    if let Some(inviter) = inviter {
        events.extend(current::entry(view, room, "m.room.member", inviter.as_str())?);
    }
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
