//! Which thread an event is in (client-server API, "Threaded read receipts").

use millpond_store::{
    Error, View,
    rows::{EventRow, RoomShort},
};
use ruma::OwnedEventId;
use serde::Deserialize;

use crate::rooms::rows;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
}

/// The root of the thread that an event is in: its own `m.thread`, or that of an event it relates to, over three hops.
/// None: the main timeline.
///
/// # Errors
/// Storage errors.
pub fn of(view: View<'_>, room: RoomShort, event: &EventRow) -> Result<Option<OwnedEventId>, Error> {
    let Some(mut relation) = relation(event) else { return Ok(None) };
    for _ in 0..HOPS {
        if relation.rel_type == "m.thread" {
            return Ok(Some(relation.event_id));
        }
        let Some((_, parent)) = rows::event_in_room(view, room, &relation.event_id)? else { return Ok(None) };
        match self::relation(&parent) {
            Some(next) => relation = next,
            None => return Ok(None),
        }
    }
    Ok((relation.rel_type == "m.thread").then_some(relation.event_id))
}

fn relation(event: &EventRow) -> Option<RelatesTo> {
    let content = event.header.content.of(&event.json);
    // Most events relate to nothing: a search of bytes is cheaper than a parse.
    if event.header.state_key.is_some() || !content.contains("\"m.relates_to\"") {
        return None;
    }
    serde_json::from_str::<Content>(content).ok().map(|content| content.relates_to)
}

/// Hops to follow (spec, "Threaded read receipts").
const HOPS: usize = 3;
