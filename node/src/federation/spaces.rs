//! `/hierarchy`: a space and its children, for another server. `/timestamp_to_event`.

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId,
    api::{
        Direction,
        federation::space::{SpaceHierarchyParentSummary, get_hierarchy},
    },
    room::RoomSummary,
};

use millpond_store::{View, rows::RoomShort};

use super::{Door, Federation, Origin, is_in, sight::Seen};
use crate::{Error, rooms::rows, spaces::summary, timeline::nearest};

impl Federation {
    /// Answers `/hierarchy`.
    ///
    /// # Errors
    /// 404 for rooms that are not here and for those that the server may not know of: they look alike.
    pub fn hierarchy(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<get_hierarchy::v1::Response, Error> {
        let unknown = || Error::not_found(format!("room {room_id} is not here, or not to be seen by your server"));
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (short, room) = self.whole(view, origin, room_id).map_err(|error| match error {
            Error::Matrix { .. } => unknown(),
            error => error,
        })?;
        let summary = summary::of(view, short, &room)?;
        if !may_know(view, origin, short, &summary)? {
            return Err(unknown());
        }
        let events =
            if summary::is_space(&summary) { summary::children(view, short, suggested_only)? } else { Vec::new() };
        let (mut children, mut hidden) = (Vec::new(), Vec::new());
        for child in events.iter().take(CHILDREN_MAX) {
            // Of a room in which nobody of ours is we know nothing new.
            let Ok((short, room)) = self.whole(view, origin, &child.room_id) else { continue };
            let summary = summary::of(view, short, &room)?;
            match may_know(view, origin, short, &summary)? {
                true => children.push(summary),
                false => hidden.push(child.room_id.clone()),
            }
        }
        let events = events.into_iter().take(CHILDREN_MAX).map(|child| child.event.cast_unchecked()).collect();
        let mut answer = get_hierarchy::v1::Response::new(SpaceHierarchyParentSummary::new(summary, events));
        answer.children = children;
        answer.inaccessible_children = hidden;
        Ok(answer)
    }

    /// Answers `/timestamp_to_event`.
    ///
    /// # Errors
    /// 403 for a server that is not in the room, 404 when there is no such event that it may see.
    pub fn timestamp_to_event(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        dir: Direction,
    ) -> Result<(OwnedEventId, MilliSecondsSinceUnixEpoch), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut sight = self.sight(view, origin, room_id)?;
        let short = sight.room.0;
        let found = nearest::find(view, short, ts, dir, |row| {
            let pdu = rows::pdu(room_id, row.clone())?;
            Ok(sight.seen(&pdu, row)? == Seen::Whole)
        })?;
        let found = found.ok_or_else(|| Error::not_found("there is no event of that time here"))?;
        Ok((found.header.event_id.clone(), found.header.origin_server_ts))
    }
}

/// Whether a server may know of a room: one that a user of it is in; contacts also of what their users may enter.
fn may_know(view: View<'_>, origin: &Origin, room: RoomShort, summary: &RoomSummary) -> Result<bool, Error> {
    if is_in(view, room, &origin.server)? {
        return Ok(true);
    }
    // The classic door leads to classic rooms only.
    Ok((origin.is_contact() || origin.door == Door::Classic)
        && (summary::is_open(summary) || summary::is_in_any(view, &origin.server, summary)?))
}

/// Children of one answer.
const CHILDREN_MAX: usize = 200;
