//! `send_join`'s answer, `/state`, `/state_ids`, `/event`, `/event_auth`: states and auth chains.

use std::collections::BTreeMap;

use millpond_matrix::Pdu;
use millpond_store::{
    View,
    rows::{EventRow, EventShort, Room, RoomShort},
    tables,
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId,
    api::federation::{
        authorization::get_event_authorization,
        event::{get_event, get_room_state, get_room_state_ids},
        membership::create_join_event::{self, v2::RoomState},
    },
    events::room::member::MembershipState,
};
use serde_json::value::RawValue;

use super::{
    Federation, Origin,
    member_events::{Taken, known_rules, raw},
    sight::{Seen, Sight},
};
use crate::{
    Error,
    rooms::{
        current::membership_of,
        groups::{self, ShortState},
        rows,
    },
};

/// Events of one answer. A room with more is not described whole.
const MAX_EVENTS: usize = 50_000;

/// Events by id, each with its row.
pub(super) type Rows = BTreeMap<OwnedEventId, EventRow>;

impl Federation {
    /// Answers `send_join`: the join is part of the room, and this is the room's state before it.
    ///
    /// # Errors
    /// As [`Federation::make`], and 400 for an event that is not what the path says.
    pub async fn send_join(
        &self,
        origin: &Origin,
        request: &create_join_event::v2::Request,
    ) -> Result<RoomState, Error> {
        let create_join_event::v2::Request { room_id, event_id, pdu, omit_members, .. } = request;
        let Taken { room, pdu } = self.take(origin, room_id, event_id, pdu, MembershipState::Join).await?;
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (short, row) = rows::event_by_id(view, pdu.event_id())?
            .ok_or_else(|| Error::internal("a join that was written is not there"))?;
        let mut state = events(view, &state_before(view, &room.1, short, &row)?)?;
        if *omit_members {
            omit_most_members(&mut state);
        }
        let of = state.values().cloned().chain([row.clone()]);
        let chain = auth_chain(view, &room, of)?;
        let mut answer = RoomState::new();
        answer.members_omitted = *omit_members;
        answer.state = jsons(state)?;
        answer.auth_chain = jsons(chain)?;
        answer.event = Some(raw(row.json)?);
        let servers = view.scan(tables::ROOM_SERVERS, (room.0,))?;
        let servers = servers.map(|row| row.map(|((_, server), _)| server.to_string()));
        answer.servers_in_room = Some(servers.collect::<Result<_, _>>()?);
        Ok(answer)
    }

    /// Answers `/state`.
    ///
    /// # Errors
    /// 403 for a server that is not in the room or may not see the event, 404 for an event that is not in it.
    pub fn state(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<get_room_state::v1::Response, Error> {
        let snapshot = self.core.snapshot()?;
        let (state, chain) = self.state_at(snapshot.view(), origin, room_id, event_id)?;
        Ok(get_room_state::v1::Response::new(jsons(chain)?, jsons(state)?))
    }

    /// Answers `/state_ids`.
    ///
    /// # Errors
    /// As [`Federation::state`].
    pub fn state_ids(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<get_room_state_ids::v1::Response, Error> {
        let snapshot = self.core.snapshot()?;
        let (state, chain) = self.state_at(snapshot.view(), origin, room_id, event_id)?;
        Ok(get_room_state_ids::v1::Response::new(chain.into_keys().collect(), state.into_keys().collect()))
    }

    /// Answers `/event`.
    ///
    /// # Errors
    /// 404 for an event that is not here or that the server may not see: they look alike.
    pub fn event(&self, origin: &Origin, event_id: &EventId) -> Result<get_event::v1::Response, Error> {
        let unknown = || Error::not_found(format!("event {event_id} is not here, or not for your server"));
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (_, row) = rows::event_by_id(view, event_id)?.ok_or_else(unknown)?;
        let room_id = rows::room_id(view, row.meta.room)?;
        let mut sight = self.sight(view, origin, &room_id).map_err(|_| unknown())?;
        let pdu = rows::pdu(&room_id, row.clone())?;
        if row.meta.state_after.is_none() || sight.seen(&pdu, &row)? != Seen::Whole {
            return Err(unknown());
        }
        let now = MilliSecondsSinceUnixEpoch(self.core.clock().now().0);
        Ok(get_event::v1::Response::new(self.core.identity().server_name().to_owned(), now, raw(row.json)?))
    }

    /// Answers `/event_auth`.
    ///
    /// # Errors
    /// As [`Federation::state`].
    pub fn event_auth(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<get_event_authorization::v1::Response, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let mut sight = self.sight(view, origin, room_id)?;
        let (_, row, _) = visible(&mut sight, event_id)?;
        Ok(get_event_authorization::v1::Response::new(jsons(auth_chain(view, &sight.room, [row])?)?))
    }

    fn state_at(
        &self,
        view: View<'_>,
        origin: &Origin,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(Rows, Rows), Error> {
        let mut sight = self.sight(view, origin, room_id)?;
        let (short, row, pdu) = visible(&mut sight, event_id)?;
        // Of one that set what was not set before it looks the same as of one that was stored without this.
        if pdu.flags().soft_failed && pdu.state_key().is_some() && row.meta.replaces.is_none() {
            return Err(Error::not_found("the state before that event was not kept"));
        }
        let state = events(view, &state_before(view, &sight.room.1, short, &row)?)?;
        let chain = auth_chain(view, &sight.room, state.values().cloned())?;
        Ok((state, chain))
    }
}

/// An event that the server may see as it is.
fn visible(sight: &mut Sight<'_>, event_id: &EventId) -> Result<(EventShort, EventRow, std::sync::Arc<Pdu>), Error> {
    let (short, row) = sight.event(event_id)?;
    let pdu = rows::pdu(&sight.room.1.room_id, row.clone())?;
    if row.meta.state_after.is_none() {
        return Err(Error::not_found(format!("event {event_id} is not known in this room")));
    }
    if sight.seen(&pdu, &row)? != Seen::Whole {
        return Err(Error::forbidden("your server may not see that event"));
    }
    Ok((short, row, pdu))
}

/// The state before an event of the timeline: the one after it, with its own entry taken back.
pub(super) fn state_before(
    view: View<'_>,
    room: &Room,
    event: EventShort,
    row: &EventRow,
) -> Result<ShortState, Error> {
    let unknown = || Error::not_found("the state before that event is not known here");
    let mut state = groups::state(view, row.meta.state_after.ok_or_else(unknown)?)?;
    let pdu = rows::pdu(&room.room_id, row.clone())?;
    if let Some((kind, state_key)) = pdu.state_entry()
        && let Some(key) = rows::state_key_short(view, &kind.to_string(), &state_key)?
        && state.get(&key) == Some(&event)
    {
        match row.meta.replaces {
            Some(before) => state.insert(key, before),
            None => state.remove(&key),
        };
    }
    Ok(state)
}

pub(super) fn events(view: View<'_>, state: &ShortState) -> Result<Rows, Error> {
    if state.len() > MAX_EVENTS {
        return Err(too_large());
    }
    state.values().map(|event| rows::event(view, *event)).map(|row| row.map(by_id).map_err(Error::from)).collect()
}

/// Leaves the member events out of a state, but for some from whose users a name of the room can be made if it has none.
fn omit_most_members(state: &mut Rows) {
    let is = |row: &EventRow, kind: &str| row.header.kind.of(&row.json).trim_matches(QUOTE) == kind;
    let named = state.values().any(|row| is(row, "m.room.name") || is(row, "m.room.canonical_alias"));
    let mut heroes = if named { 0 } else { HEROES };
    state.retain(|_, row| {
        let member = is(row, "m.room.member");
        let hero =
            member && heroes > 0 && matches!(membership_of(row), MembershipState::Join | MembershipState::Invite);
        heroes -= usize::from(hero);
        !member || hero
    });
}

/// Members of whom a room's name is made (client-server spec, "Calculating the display name for a room").
const HEROES: usize = 5;
const QUOTE: char = '"';

fn by_id(row: EventRow) -> (OwnedEventId, EventRow) {
    (row.header.event_id.clone(), row)
}

/// All events behind these by their auth events. From version 12 on the create event, which no event names, comes with
/// them: everything is judged by it.
pub(super) fn auth_chain(
    view: View<'_>,
    (short, room): &(RoomShort, Room),
    of: impl IntoIterator<Item = EventRow>,
) -> Result<Rows, Error> {
    let mut chain = Rows::new();
    let mut todo = Vec::new();
    for row in of {
        todo.extend(rows::pdu(&room.room_id, row)?.auth_events().iter().cloned());
    }
    if known_rules(room)?.create_is_room_id() {
        todo.extend(EventId::parse(format!("${}", room.room_id.strip_sigil())).ok());
    }
    while let Some(id) = todo.pop() {
        if chain.contains_key(&id) {
            continue;
        }
        let Some((_, row)) = rows::event_in_room(view, *short, &id)? else { continue };
        todo.extend(rows::pdu(&room.room_id, row.clone())?.auth_events().iter().cloned());
        chain.insert(id, row);
        if chain.len() > MAX_EVENTS {
            return Err(too_large());
        }
    }
    Ok(chain)
}

pub(super) fn jsons(rows: Rows) -> Result<Vec<Box<RawValue>>, Error> {
    rows.into_values().map(|row| raw(row.json)).collect()
}

fn too_large() -> Error {
    Error::too_large(format!("the room's state has more than {MAX_EVENTS} events, too many for one answer"))
}
