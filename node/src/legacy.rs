//! How clients followed rooms before `/sync` (client-server API, deprecated parts of "Syncing", "Getting events for a
//! room" and "Room Previews"): made of the same reads, without their speed.

use std::time::Duration;

use millpond_matrix::client::{Unsigned, write_client_event};
use millpond_store::{Topic, View, rows::RoomShort, tables};
use ruma::{
    DeviceId, EventId, OwnedRoomId, RoomId, UserId,
    api::{
        Direction,
        client::filter::{FilterDefinition, RoomEventFilter},
    },
    events::room::member::MembershipState,
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    Core, Error,
    rooms::{current, rows},
    sync::{Request, Sync},
    timeline::{
        PageRequest, Point, Timeline,
        reader::{Form, RoomReader, Who, enter},
        select::Select,
        window,
    },
};

/// The old way to follow rooms. Cloning is cheap.
#[derive(Clone)]
pub struct Legacy {
    core: Core,
    sync: Sync,
    timeline: Timeline,
}

/// What `/initialSync` asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitialSync {
    /// Messages of a room.
    pub limit: Option<u64>,
    /// Rooms that were left, too.
    pub archived: bool,
}

type Asker<'a> = (&'a UserId, &'a DeviceId);

/// An event with its place in the order of commits.
type Placed = (i64, Vec<u8>);

impl Legacy {
    /// The service over the others.
    pub fn new(core: Core, sync: Sync, timeline: Timeline) -> Self {
        Self { core, sync, timeline }
    }

    /// All rooms of a user. Dropping the future is safe.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn initial_sync(&self, (user, device): Asker<'_>, ask: InitialSync) -> Result<Vec<u8>, Error> {
        let mut filter = FilterDefinition::default();
        filter.room.include_leave = ask.archived;
        filter.room.timeline.limit = Some(limit(ask.limit).try_into().unwrap_or_default());
        let request = Request { filter, use_state_after: true, ..Request::default() };
        let body = self.sync.answer(user, device, request).await?;
        let mut synced: Value = serde_json::from_slice(&body).map_err(|e| Error::internal(e.to_string()))?;
        let end = synced["next_batch"].take();
        let mut rooms = Vec::new();
        for membership in ["join", "leave"] {
            for (room_id, room) in object(&mut synced["rooms"][membership]) {
                rooms.push(self.room_of_sync(&room_id, membership, room, &end)?);
            }
        }
        for (room_id, _) in object(&mut synced["rooms"]["invite"]) {
            rooms.push(self.invite(user, &room_id)?);
        }
        let account_data = synced["account_data"]["events"].take();
        let account_data = if account_data.is_array() { account_data } else { json!([]) };
        let presence = synced["presence"]["events"].take();
        let presence = if presence.is_array() { presence } else { json!([]) };
        let answer = json!({ "end": end, "rooms": rooms, "presence": presence, "account_data": account_data });
        Ok(answer.to_string().into_bytes())
    }

    /// What happened in all rooms of a user since a token, or from now on; waits for it. Dropping the future is safe.
    ///
    /// # Errors
    /// 400 for a token that is not ours; storage errors.
    pub async fn events(
        &self,
        (user, device): Asker<'_>,
        from: Option<String>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Error> {
        let from = self.start(from)?;
        self.wait(from, timeout, [Topic::User(user.to_owned())], |view| {
            let who = Who::new(&self.core, view, user, Some(device))?;
            let (mut events, mut topics) = (Vec::new(), vec![Topic::User(user.to_owned())]);
            for row in view.scan(tables::MEMBERSHIPS, (user,))? {
                let ((_, room), row) = row?;
                match row.membership {
                    MembershipState::Join => {
                        topics.push(Topic::Room(room));
                        let reader = RoomReader::new(view, who.clone(), room, rows::room_id(view, room)?)?;
                        after(&reader, from, &mut events)?;
                    }
                    MembershipState::Invite if row.position.cast_signed() > from.0 => {
                        events.extend(own_member(view, user, room)?.map(|event| (row.position.cast_signed(), event)));
                    }
                    _ => {}
                }
            }
            Ok((events, topics))
        })
        .await
    }

    /// What happens in one room that the user may look into. Dropping the future is safe.
    ///
    /// # Errors
    /// 403 for a room that he may not look into, 400 for a token that is not ours; storage errors.
    pub async fn peek(
        &self,
        (user, device): Asker<'_>,
        room_id: &RoomId,
        from: Option<String>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Error> {
        let from = self.start(from)?;
        self.wait(from, timeout, [], |view| {
            let reader = enter(view, Who::new(&self.core, view, user, Some(device))?, room_id)?;
            let mut events = Vec::new();
            after(&reader, from, &mut events)?;
            Ok((events, vec![Topic::Room(reader.room)]))
        })
        .await
    }

    /// An event of any room.
    ///
    /// # Errors
    /// 404 for an event that is not here or not shown to the user; storage errors.
    pub fn event(&self, asker: Asker<'_>, event_id: &EventId) -> Result<Vec<u8>, Error> {
        let unknown = || Error::not_found(format!("event {event_id} is not known, or not shown to you"));
        let room_id = {
            let snapshot = self.core.snapshot()?;
            let (_, row) = rows::event_by_id(snapshot.view(), event_id)?.ok_or_else(unknown)?;
            rows::room_id(snapshot.view(), row.meta.room)?
        };
        self.timeline.event(asker, &room_id, event_id).map_err(|error| match error {
            Error::Matrix { .. } => unknown(),
            error => error,
        })
    }

    /// One room with its state and last messages. Dropping the future is safe.
    ///
    /// # Errors
    /// 403 for a room that the user may not look into; storage errors.
    pub async fn room(&self, asker: Asker<'_>, room_id: &RoomId, wanted: Option<u64>) -> Result<Vec<u8>, Error> {
        let request = PageRequest {
            room_id: room_id.to_owned(),
            from: None,
            to: None,
            dir: Direction::Backward,
            limit: limit(wanted),
            filter: RoomEventFilter::default(),
        };
        let page = self.timeline.page(asker, request).await?;
        let mut page: Value = serde_json::from_slice(&page).map_err(|e| Error::internal(e.to_string()))?;
        let mut chunk = page["chunk"].take();
        chunk.as_array_mut().into_iter().for_each(|events| events.reverse());
        let state: Value = serde_json::from_slice(&self.timeline.state(asker, room_id)?)
            .map_err(|e| Error::internal(e.to_string()))?;
        let mut answer = json!({
            "room_id": room_id,
            // The page went back: it starts at its end.
            "messages": { "chunk": chunk, "start": page["end"], "end": page["start"] },
            "state": state,
            "visibility": self.visibility(room_id)?,
            "account_data": self.account_data(asker.0, room_id)?,
        });
        if page["end"].is_null() {
            answer["messages"].as_object_mut().and_then(|messages| messages.remove("start"));
        }
        let snapshot = self.core.snapshot()?;
        if let Some(short) = rows::room_short(snapshot.view(), room_id)?
            && let Some(row) = current::membership(snapshot.view(), short, asker.0)?
        {
            answer["membership"] = json!(row.membership);
        }
        Ok(answer.to_string().into_bytes())
    }

    /// Reads until there is something or the time is up.
    async fn wait<const N: usize>(
        &self,
        from: Point,
        timeout: Duration,
        first: [Topic; N],
        read: impl Fn(View<'_>) -> Result<(Vec<Placed>, Vec<Topic>), Error>,
    ) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        let mut topics = Vec::from(first);
        loop {
            // Register, read, then wait: what comes in between is not missed.
            let registration = self.core.notifier().register(topics.iter().cloned());
            let (mut events, now, listened) = {
                let snapshot = self.core.snapshot()?;
                let (events, topics) = read(snapshot.view())?;
                (events, Point(snapshot.view().position()?.as_timeline()), topics)
            };
            let complete = listened == topics;
            topics = listened;
            if events.is_empty() && deadline > Instant::now() {
                if complete {
                    let _ = tokio::time::timeout_at(deadline, registration.changed()).await;
                }
                continue;
            }
            events.sort_by_key(|(position, _)| *position);
            let end = match events.get(EVENTS_MAX - 1) {
                Some((position, _)) if events.len() > EVENTS_MAX => Point(*position),
                _ => now,
            };
            events.truncate(EVENTS_MAX);
            let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
            return Ok(chunk(from, end, &events));
        }
    }

    fn start(&self, from: Option<String>) -> Result<Point, Error> {
        match from.as_deref().filter(|from| !from.is_empty()) {
            Some(from) => Point::parse("from", from),
            None => Ok(Point(self.core.snapshot()?.view().position()?.as_timeline())),
        }
    }

    fn room_of_sync(&self, room_id: &str, membership: &str, mut room: Value, end: &Value) -> Result<Value, Error> {
        let named = |mut events: Value| {
            for event in events.as_array_mut().into_iter().flatten() {
                event["room_id"] = json!(room_id);
            }
            if events.is_array() { events } else { json!([]) }
        };
        let room_id = OwnedRoomId::try_from(room_id).map_err(|e| Error::internal(e.to_string()))?;
        let account_data = room["account_data"]["events"].take();
        Ok(json!({
            "room_id": room_id,
            "membership": membership,
            "messages": {
                "chunk": named(room["timeline"]["events"].take()),
                "start": room["timeline"]["prev_batch"],
                "end": end,
            },
            "state": named(room["state_after"]["events"].take()),
            "visibility": self.visibility(&room_id)?,
            "account_data": if account_data.is_array() { account_data } else { json!([]) },
        }))
    }

    fn invite(&self, user: &UserId, room_id: &str) -> Result<Value, Error> {
        let mut room = json!({ "room_id": room_id, "membership": "invite" });
        let snapshot = self.core.snapshot()?;
        if let Ok(room_id) = <&RoomId>::try_from(room_id)
            && let Some(short) = rows::room_short(snapshot.view(), room_id)?
            && let Some(event) = own_member(snapshot.view(), user, short)?
        {
            room["invite"] = serde_json::from_slice(&event).map_err(|e| Error::internal(e.to_string()))?;
        }
        Ok(room)
    }

    fn visibility(&self, room_id: &RoomId) -> Result<&'static str, Error> {
        let published = self.core.snapshot()?.view().contains(tables::PUBLISHED, room_id)?;
        Ok(if published { "public" } else { "private" })
    }

    fn account_data(&self, user: &UserId, room_id: &RoomId) -> Result<Vec<Value>, Error> {
        let snapshot = self.core.snapshot()?;
        let mut events = Vec::new();
        for row in snapshot.view().scan(tables::ACCOUNT_DATA, (user, room_id.as_str()))? {
            let ((_, _, kind), row) = row?;
            let content: Value = serde_json::from_str(&row.content).unwrap_or_default();
            events.push(json!({ "type": kind, "content": content }));
        }
        Ok(events)
    }
}

/// The events of a room's timeline after a point that its reader sees.
fn after(reader: &RoomReader<'_>, from: Point, events: &mut Vec<Placed>) -> Result<(), Error> {
    let filter = RoomEventFilter::default();
    let found = window::forward(reader, from, None, EVENTS_MAX + 1, &Select::new(&filter))?;
    for placed in found.events {
        let mut out = Vec::new();
        reader.write(&mut out, &placed.row, Form::Full)?;
        events.push((placed.position, out));
    }
    Ok(())
}

/// The user's own member event of a room, which he may always see.
fn own_member(view: View<'_>, user: &UserId, room: RoomShort) -> Result<Option<Vec<u8>>, Error> {
    let event = current::membership(view, room, user)?.and_then(|row| row.event);
    let Some(row) = event.map(|event| rows::event(view, event)).transpose()? else { return Ok(None) };
    let mut out = Vec::new();
    write_client_event(&mut out, &row.header, &row.json, Some(&rows::room_id(view, room)?), &Unsigned::default());
    Ok(Some(out))
}

fn chunk(start: Point, end: Point, events: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("{{\"start\":\"{start}\",\"end\":\"{end}\",\"chunk\":[").into_bytes();
    out.extend_from_slice(&events.join(&b','));
    out.extend_from_slice(b"]}");
    out
}

fn object(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn limit(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or(MESSAGES).clamp(1, MESSAGES_MAX)
}

/// Messages of a room unless the client says otherwise, and at most.
const MESSAGES: u64 = 20;
const MESSAGES_MAX: u64 = 100;
/// Events of one answer of `/events`.
const EVENTS_MAX: usize = 100;
/// How long a client may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
