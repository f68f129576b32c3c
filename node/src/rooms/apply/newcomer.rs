//! A server that enters a room by what came with its invite has not seen what was said since: who gets its join owes it
//! that. One that enters through a resident server has it all behind its join.

use std::ops::Bound;

use millpond_matrix::Pdu;
use millpond_store::{
    Error, Topic, WriteTxn,
    rows::{EventShort, OutboxItem, RoomShort},
    tables,
};
use ruma::{
    UserId,
    events::{TimelineEventType, room::history_visibility::HistoryVisibility},
};

use crate::{
    identity::Identity,
    peers,
    rooms::{current, rows},
};

/// Events since the invite that are owed; older ones are fetched when somebody scrolls there.
const MAX_OWED: usize = 200;

/// Owes the server of a user who has just joined what the room said beside his join, unless only those who were joined may
/// read it.
pub(super) fn write(
    txn: &mut WriteTxn<'_>,
    identity: &Identity,
    room: RoomShort,
    pdu: &Pdu,
    event: EventShort,
) -> Result<(), Error> {
    if *pdu.kind() != TimelineEventType::RoomMember || !pdu.content().get().contains("\"join\"") {
        return Ok(());
    }
    let Some(Ok(user)) = pdu.state_key().map(<&UserId>::try_from) else { return Ok(()) };
    let server = user.server_name();
    let [prev] = pdu.prev_events() else { return Ok(()) };
    let first = txn.view().get(tables::ROOM_SERVERS, (room, server))? == Some(1);
    if identity.is_ours(server) || !first || !peers::is_linked(txn.view(), server)? {
        return Ok(());
    }
    #[derive(serde::Deserialize)]
    struct Visibility {
        history_visibility: HistoryVisibility,
    }
    let visibility: Option<Visibility> = current::content(txn.view(), room, "m.room.history_visibility", "")?;
    if visibility.is_some_and(|content| content.history_visibility == HistoryVisibility::Joined) {
        return Ok(());
    }
    let Some((_, invite)) = rows::event_in_room(txn.view(), room, prev)? else { return Ok(()) };
    let is_invite = invite.header.state_key.is_some_and(|key| key.of(&invite.json).contains(user.as_str()));
    let Some(position) = invite.meta.position.filter(|_| is_invite) else { return Ok(()) };
    let between = (Bound::Excluded((room, position)), Bound::Included((room, i64::MAX)));
    let since = txn.view().range(tables::TIMELINE, between.0, between.1)?;
    let since = since.rev().take(MAX_OWED + 1).map(|row| row.map(|(_, event)| event));
    let since: Vec<EventShort> = since.collect::<Result<_, _>>()?;
    for other in since.into_iter().rev().filter(|other| *other != event) {
        let position = txn.next_position().0;
        txn.put(tables::OUTBOX, (server, position), &OutboxItem::Pdu(other))?;
        txn.touch(Topic::Outbox(server.to_owned()));
    }
    Ok(())
}
