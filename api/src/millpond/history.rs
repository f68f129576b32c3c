//! The end of history, and its way out.

use std::time::Duration;

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{Error, NodeHandle, history::Purged, start};
use ruma::{OwnedMxcUri, OwnedRoomId};
use serde::Deserialize;
use serde_json::json;

use super::{answer, read};
use crate::glue::{Http, error_response};

/// What to purge. Without a time nothing is emptied, and the database is only written anew.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    room: Option<OwnedRoomId>,
    before_ms: Option<u64>,
}

pub(super) async fn purge(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let purge = async {
        let Purge { room, before_ms } = read(request).await?;
        // The mark comes first: what is emptied is on its way out of the disk even if we are stopped in between.
        start::rewrite_at_next_start(&node.core.config().data_dir)
            .map_err(|e| Error::internal(format!("the mark in the data directory cannot be made: {e}")))?;
        let Purged { events, media } = match before_ms {
            Some(before_ms) => node.history.purge(room.as_deref(), before_ms).await?,
            None if room.is_some() => return Err(Error::invalid_param("`room` needs `before_ms` beside it")),
            None => Purged::default(),
        };
        Ok(json!({ "events": events, "media": media }))
    };
    answer(purge.await)
}

/// A page of a room as a user sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    user: String,
    room: OwnedRoomId,
    from: Option<String>,
}

pub(super) async fn export(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let page = async {
        let Export { user, room, from } = read(request).await?;
        let user = node.accounts.find(&user)?;
        node.history.export(&user, &room, from.as_deref())
    };
    page.await.map_or_else(|error| error_response(&error), |page| Http::json(page).0)
}

/// A file that is here, or that its server still has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Media {
    uri: OwnedMxcUri,
}

pub(super) async fn media(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let found = async {
        let Media { uri } = read(request).await?;
        let (server, media_id) = uri.parts().map_err(|_| Error::invalid_param("`uri` is not an mxc:// URI"))?;
        node.media.download(server, media_id, PATIENCE).await
    };
    match found.await {
        Ok(file) => Response::new(Body::from_stream(file.bytes(0..file.len()))),
        Err(error) => error_response(&error),
    }
}

/// How long an export waits for a file of another server.
const PATIENCE: Duration = Duration::from_secs(20);
