//! `POST /_matrix/client/{api/v1,r0,v3}/rooms/{roomId}/send/{eventType}`: messages, calls and any other events without a
//! transaction id, as the first public API had it and old scripts still do.

use http::Method;
use millpond_node::{Error, rooms::Rooms};
use ruma::{OwnedRoomId, api::auth_scheme::AccessToken, events::TimelineEventType};
use serde::Serialize;

use crate::glue::{Http, Plain, Routes};

const PATHS: [&str; 2] =
    ["/_matrix/client/r0/rooms/{room_id}/send/{event_type}", "/_matrix/client/v3/rooms/{room_id}/send/{event_type}"];

/// Registers the endpoint.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add_at(Method::POST, &PATHS, handler);
}

async fn handler(rooms: Rooms, request: Plain<AccessToken>) -> Result<Http, Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        event_id: &'a ruma::EventId,
    }
    request.sender.active()?;
    let (room_id, kind): (OwnedRoomId, String) = (request.path(0)?, request.path(1)?);
    let content = std::str::from_utf8(&request.json).map_err(|e| Error::bad_json(e.to_string()))?;
    let kind = TimelineEventType::from(kind);
    let sent = rooms.send_once(&request.sender.user_id, &room_id, kind, content).await?;
    Http::of(&Body { event_id: &sent.event_id })
}
