//! How many results there are. Only those that the reader may see count: else a search would tell which words were said
//! behind his back. Rooms whose history was never hidden need no look at each event.

use std::collections::HashMap;

use millpond_store::rows::RoomShort;
use ruma::events::room::history_visibility::HistoryVisibility;
use serde::Deserialize;

use super::{answer::Readers, lookup::Hit};
use crate::{
    Error,
    rooms::{current, rows},
    timeline::{reader::RoomReader, select::Select, sight::JoinedUntil},
};

/// Counts the hits that are shown. Beyond [`LOOKED_AT`] events that need a look, the rest does not count.
pub(super) fn count(readers: &mut Readers<'_>, hits: &[Hit], select: &Select<'_>) -> Result<u64, Error> {
    let mut open: HashMap<RoomShort, bool> = HashMap::new();
    let (mut count, mut looked_at) = (0, 0);
    for hit in hits {
        let reader = readers.of(hit.room)?;
        let is_open = match open.get(&hit.room) {
            Some(known) => *known,
            None => {
                let is_open = select.is_open() && is_open(reader)?;
                open.insert(hit.room, is_open);
                is_open
            }
        };
        if is_open {
            count += 1;
        } else if looked_at < LOOKED_AT {
            looked_at += 1;
            let row = rows::event(reader.view, hit.event)?;
            count += u64::from(select.takes(&row) && reader.shows(&row)?);
        }
    }
    Ok(count)
}

/// Whether the reader sees all of the room: he is in it, ignores nobody, and its history was open to members all the time.
fn is_open(reader: &RoomReader<'_>) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    if reader.sight.joined_until() != JoinedUntil::Now || !reader.who.ignored.is_empty() {
        return Ok(false);
    }
    let mut event = current::entry(reader.view, reader.room, "m.room.history_visibility", "")?;
    for _ in 0..CHANGES_MAX {
        let Some(this) = event else { return Ok(true) };
        let row = rows::event(reader.view, this)?;
        let content = serde_json::from_str::<Content>(row.header.content.of(&row.json));
        if matches!(content, Ok(Content { history_visibility: HistoryVisibility::Joined | HistoryVisibility::Invited }))
        {
            return Ok(false);
        }
        event = row.meta.replaces;
    }
    Ok(false)
}

/// Events that are looked at to be counted: some 15 ms.
const LOOKED_AT: usize = 5_000;
/// Changes of a room's visibility that are walked.
const CHANGES_MAX: usize = 16;
