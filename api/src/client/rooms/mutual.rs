//! `GET /_matrix/client/v1/mutual_rooms`

use http::{Method, StatusCode};
use millpond_node::{
    Error,
    limits::{Kind, Limits},
    rooms::Rooms,
};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::{auth_scheme::AccessToken, error::ErrorKind},
};
use serde::{Deserialize, Serialize};

use crate::glue::{Http, Plain, Routes};

const PATHS: [&str; 2] =
    ["/_matrix/client/v1/mutual_rooms", "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"];

/// Registers the endpoint.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add_at(Method::GET, &PATHS, handler);
}

#[derive(Deserialize)]
struct Query {
    user_id: Option<String>,
    from: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    joined: &'a [OwnedRoomId],
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

async fn handler(limits: Limits, rooms: Rooms, request: Plain<AccessToken>) -> Result<Http, Error> {
    // The specification marks this endpoint; requests that ruma has a type for are counted by their metadata.
    limits.take(Kind::Action, Some((&request.sender.user_id, &request.sender.device_id)), request.address)?;
    let query: Query = request.query()?;
    let Some(user_id) = query.user_id else {
        let message = "The request lacks `user_id`: whose rooms shall be compared with yours?";
        return Err(Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::InvalidParam, message));
    };
    let user_id = OwnedUserId::try_from(user_id).map_err(|e| Error::invalid_param(format!("`user_id`: {e}")))?;
    user_id.validate_strict().map_err(|e| Error::invalid_param(format!("`user_id`: {e}")))?;
    if user_id == request.sender.user_id {
        return Err(Error::invalid_param("`user_id` is your own: all your rooms are mutual"));
    }
    let start = query.from.as_deref().map_or(Ok(0), offset)?;
    let shared = rooms.shared(&request.sender.user_id, &user_id)?;
    if start > shared.len() {
        return Err(expired());
    }
    let end = start.saturating_add(PAGE).min(shared.len());
    let next_batch = (end < shared.len()).then(|| format!("m{end}"));
    Http::of(&Answer { joined: &shared[start..end], count: shared.len(), next_batch })
}

fn offset(token: &str) -> Result<usize, Error> {
    token.strip_prefix('m').and_then(|rest| rest.parse().ok()).ok_or_else(expired)
}

fn expired() -> Error {
    Error::invalid_param("`from` is not a token of this list: ask once without it")
}

/// Rooms of a page.
const PAGE: usize = 500;
