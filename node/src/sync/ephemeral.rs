//! What is no part of a room's history: receipts, and who is typing.

use millpond_matrix::client::write_string;
use millpond_store::{Position, rows::RoomShort};
use ruma::OwnedUserId;

use super::answer::Sweep;
use crate::{
    Error,
    json::{comma, events_member, raw},
    receipts,
    timeline::{reader::RoomReader, select::Select},
};

/// Whether the device does not know yet who is typing.
pub(super) fn is_typing_news(sweep: &Sweep<'_>, room: RoomShort) -> bool {
    typing(sweep, room).is_some()
}

fn typing(sweep: &Sweep<'_>, room: RoomShort) -> Option<Vec<OwnedUserId>> {
    sweep.sync.typing.since(room, sweep.since.map(|since| since.typing))
}

/// Appends `ephemeral`; says whether there was anything. `whole`: all receipts and not only the new ones.
pub(super) fn write(sweep: &Sweep<'_>, out: &mut Vec<u8>, reader: &RoomReader<'_>, whole: bool) -> Result<bool, Error> {
    let filter = Select::new(&sweep.request.filter.room.ephemeral);
    if !filter.takes_room(&reader.room_id) {
        return Ok(false);
    }
    events_member(out, "ephemeral", |out| {
        if filter.takes_kind("m.receipt") {
            let since = Position(if whole { 0 } else { sweep.position() });
            if let Some(event) = receipts::since(sweep.view, reader.room, since, sweep.who.user)? {
                comma(out);
                raw(out, event.json().get());
            }
        }
        if filter.takes_kind("m.typing")
            && let Some(users) = typing(sweep, reader.room)
        {
            write_typing(sweep, out, &users);
        }
        Ok(())
    })
}

fn write_typing(sweep: &Sweep<'_>, out: &mut Vec<u8>, users: &[OwnedUserId]) {
    comma(out);
    raw(out, "{\"content\":{\"user_ids\":[");
    for user in users.iter().filter(|user| !sweep.who.ignored.contains(*user)) {
        comma(out);
        write_string(out, user.as_str());
    }
    raw(out, "]},\"type\":\"m.typing\"}");
}
