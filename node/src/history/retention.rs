//! How long the messages of a room live (MSC1763): what the room's `m.room.retention` says, within the limits of the
//! settings; where it says nothing, the setting's default. State events never expire.

use millpond_store::{
    View,
    rows::{EventRow, RoomShort},
    tables,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::History;
use crate::{
    Error,
    rooms::{current, rows},
};

/// The owner's settings. Without any, rooms decide, and a room that says nothing keeps everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether `m.room.retention` counts.
    pub by_room: bool,
    /// How long messages live where the room does not say, in milliseconds.
    pub default_ms: Option<u64>,
    /// Whatever a room says, they live so long.
    pub min_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by_room: true, default_ms: None, min_ms: 0 }
    }
}

/// How long the messages of a room live, in milliseconds; none: for ever.
pub(crate) fn lifetime_ms(
    view: View<'_>,
    settings: &Settings,
    room: RoomShort,
) -> Result<Option<u64>, millpond_store::Error> {
    #[derive(Deserialize)]
    struct Content {
        max_lifetime: Option<u64>,
    }
    let policy = match settings.by_room {
        true => current::content::<Content>(view, room, "m.room.retention", "")?,
        false => None,
    };
    // A policy without a maximum says that the room keeps everything.
    let lifetime = policy.map_or(settings.default_ms, |policy| policy.max_lifetime);
    Ok(lifetime.map(|lifetime| lifetime.max(settings.min_ms)))
}

/// Whether an event is one that a lifetime ends.
pub(super) fn may_end(row: &EventRow) -> bool {
    row.meta.position.is_some()
        && !row.meta.purged
        && row.header.state_key.is_none()
        && row.header.kind.of(&row.json) != "\"m.room.redaction\""
}

/// Whether an event was sent before a time, as its server says.
pub(crate) fn is_before(row: &EventRow, before_ms: u64) -> bool {
    row.header.state_key.is_none() && u64::from(row.header.origin_server_ts.0) < before_ms
}

impl History {
    /// Purges what has expired in all rooms.
    pub(super) async fn expire(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut due = Vec::new();
        {
            let now_ms = self.core.clock().now_ms();
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            for row in view.scan(tables::ROOMS, ())? {
                let (room, _) = row?;
                if let Some(lifetime) = lifetime_ms(view, &self.core.config().retention, room)? {
                    due.push((rows::room_id(view, room)?, now_ms.saturating_sub(lifetime)));
                }
            }
        }
        for (room_id, before_ms) in due {
            if stop.is_cancelled() {
                break;
            }
            self.purge(Some(&room_id), before_ms).await?;
        }
        Ok(())
    }
}
