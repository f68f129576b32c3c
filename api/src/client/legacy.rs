//! The way to follow events before `/sync`, deprecated and still in the specification: `GET /_matrix/client/v3/`
//! `initialSync`, `events` (also to look into a room without being in it), `events/{eventId}` and
//! `rooms/{roomId}/initialSync`.

use std::time::Duration;

use http::Method;
use millpond_node::{
    Error,
    legacy::{InitialSync, Legacy},
};
use ruma::{OwnedEventId, OwnedRoomId, api::auth_scheme::AccessToken};
use serde::Deserialize;

use crate::glue::{Http, Plain, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    let paths = |name: &'static str| -> [&'static str; 2] {
        match name {
            "initialSync" => ["/_matrix/client/v3/initialSync", "/_matrix/client/r0/initialSync"],
            "events" => ["/_matrix/client/v3/events", "/_matrix/client/r0/events"],
            "event" => ["/_matrix/client/v3/events/{event_id}", "/_matrix/client/r0/events/{event_id}"],
            _ => ["/_matrix/client/v3/rooms/{room_id}/initialSync", "/_matrix/client/r0/rooms/{room_id}/initialSync"],
        }
    };
    routes.add_at(Method::GET, &paths("initialSync"), initial_sync);
    routes.add_at(Method::GET, &paths("events"), events);
    routes.add_at(Method::GET, &paths("event"), event);
    routes.add_at(Method::GET, &paths("room"), room);
}

#[derive(Deserialize)]
struct Initial {
    limit: Option<u64>,
    #[serde(default)]
    archived: bool,
}

async fn initial_sync(legacy: Legacy, request: Plain<AccessToken>) -> Result<Http, Error> {
    let query: Initial = request.query()?;
    let asker = (&*request.sender.user_id, &*request.sender.device_id);
    let ask = InitialSync { limit: query.limit, archived: query.archived };
    Ok(Http::json(legacy.initial_sync(asker, ask).await?))
}

#[derive(Deserialize)]
struct Events {
    from: Option<String>,
    timeout: Option<u64>,
    room_id: Option<String>,
}

async fn events(legacy: Legacy, request: Plain<AccessToken>) -> Result<Http, Error> {
    let query: Events = request.query()?;
    let asker = (&*request.sender.user_id, &*request.sender.device_id);
    // The default of the specification's examples.
    let timeout = Duration::from_millis(query.timeout.unwrap_or(30_000));
    let Some(room_id) = query.room_id else {
        return Ok(Http::json(legacy.events(asker, query.from, timeout).await?));
    };
    let room_id = OwnedRoomId::try_from(room_id).map_err(|e| Error::invalid_param(format!("`room_id`: {e}")))?;
    Ok(Http::json(legacy.peek(asker, &room_id, query.from, timeout).await?))
}

async fn event(legacy: Legacy, request: Plain<AccessToken>) -> Result<Http, Error> {
    let event_id: OwnedEventId = request.path(0)?;
    Ok(Http::json(legacy.event((&request.sender.user_id, &request.sender.device_id), &event_id)?))
}

#[derive(Deserialize)]
struct Room {
    limit: Option<u64>,
}

async fn room(legacy: Legacy, request: Plain<AccessToken>) -> Result<Http, Error> {
    let (room_id, query): (OwnedRoomId, Room) = (request.path(0)?, request.query()?);
    let asker = (&*request.sender.user_id, &*request.sender.device_id);
    Ok(Http::json(legacy.room(asker, &room_id, query.limit).await?))
}
