//! Rooms that were joined with a part of their state: what needs every member waits for the rest (MSC3902, "Handling
//! client-server requests").

use std::time::Duration;

use millpond_store::{Topic, View, tables};
use ruma::{RoomId, UserId};
use tokio::time::Instant;

use super::{Rooms, current, rows};
use crate::{Core, Error};

/// How long a client waits. Clients and proxies give up half a minute after they asked.
const PATIENCE: Duration = Duration::from_secs(25);

impl Rooms {
    /// Waits until every member of a room is known here: at once, but for a room that was just joined.
    ///
    /// # Errors
    /// 504 when that takes too long; storage errors. Dropping the future is safe.
    pub async fn until_whole(&self, room_id: &RoomId) -> Result<(), Error> {
        until_whole(&self.core, room_id).await
    }

    /// As [`Rooms::until_whole`], where only one user's membership is needed, which may be known.
    pub(super) async fn until_known(&self, room_id: &RoomId, user: &UserId) -> Result<(), Error> {
        if is_known(self.core.snapshot()?.view(), room_id, user)? {
            return Ok(());
        }
        until_whole(&self.core, room_id).await
    }
}

fn is_known(view: View<'_>, room_id: &RoomId, user: &UserId) -> Result<bool, Error> {
    match rows::room_short(view, room_id)? {
        Some(room) => Ok(!is_partial(view, room)? || current::membership(view, room, user)?.is_some()),
        None => Ok(true),
    }
}

/// Whether members of a room are missing here.
pub(crate) fn is_partial(view: View<'_>, room: millpond_store::rows::RoomShort) -> Result<bool, millpond_store::Error> {
    view.contains(tables::PARTIAL, room)
}

/// As [`Rooms::until_whole`].
pub(crate) async fn until_whole(core: &Core, room_id: &RoomId) -> Result<(), Error> {
    let Some(room) = rows::room_short(core.snapshot()?.view(), room_id)? else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    // The usual room costs one look.
    while is_partial(core.snapshot()?.view(), room)? {
        let changed = core.notifier().register([Topic::Room(room)]);
        if !is_partial(core.snapshot()?.view(), room)? {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            return Err(Error::unreachable(
                "this node has just joined the room and is still fetching its members: try again later",
            ));
        }
    }
    Ok(())
}
