//! A room as one of its members sees it, page by page from its beginning: the user's scrollback belongs to the user.

use ruma::{OwnedRoomId, RoomId, UserId, api::client::filter::RoomEventFilter};

use super::History;
use crate::{
    Error,
    json::{key, raw, text_member},
    rooms::rows,
    timeline::{
        reader::{Form, Who, enter},
        select::Select,
        sight::JoinedUntil,
        state,
        token::Point,
        window,
    },
};

impl History {
    /// The rooms that a user is or was in and has not forgotten.
    ///
    /// # Errors
    /// Storage errors.
    pub fn rooms_of(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut rooms = Vec::new();
        for row in view.scan(millpond_store::tables::MEMBERSHIPS, (user,))? {
            let ((_, room), row) = row?;
            if row.event.is_some() && !row.forgotten {
                rooms.push(rows::room_id(view, room)?);
            }
        }
        Ok(rooms)
    }

    /// One page of a room: `{"events": [..], "next": ".."}` in the order of the timeline; the first one with the present
    /// `state` as well. Without `next` it was the last.
    ///
    /// # Errors
    /// 403 for a room that the user was never in, 400 for a token that is not ours, storage errors.
    pub fn export(&self, user: &UserId, room_id: &RoomId, from: Option<&str>) -> Result<Vec<u8>, Error> {
        let start = from.map(|token| Point::parse("from", token)).transpose()?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let reader = enter(view, Who::new(&self.core, view, user, None)?, room_id)?;
        if reader.sight.joined_until() == JoinedUntil::Never {
            return Err(Error::forbidden(format!("{user} is not and was not in room {room_id}")));
        }
        let filter = RoomEventFilter::default();
        let from = start.unwrap_or(Point(i64::MIN));
        let page = window::forward(&reader, from, None, EVENTS, &Select::new(&filter))?;
        let mut out = vec![b'{'];
        if start.is_none() {
            key(&mut out, "state");
            raw(&mut out, "[");
            for event in state::all(&reader)? {
                reader.write_state(&mut out, &rows::event(view, event)?, Form::Full)?;
            }
            raw(&mut out, "]");
        }
        key(&mut out, "events");
        raw(&mut out, "[");
        for placed in &page.events {
            reader.write(&mut out, &placed.row, Form::Full)?;
        }
        raw(&mut out, "]");
        if page.more {
            text_member(&mut out, "next", &page.reached.to_string());
        }
        out.push(b'}');
        Ok(out)
    }
}

/// Events of a page.
const EVENTS: usize = 500;
