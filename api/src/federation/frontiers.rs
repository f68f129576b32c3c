//! `POST /_matrix/federation/unstable/org.millpond/frontiers`: where shared rooms end here and there.

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::State,
    response::Response,
    routing::post,
};
use millpond_node::{
    Error, NodeHandle,
    federation::{Door, Origin},
    inbox::{Exchange, FRONTIERS_PATH},
};

use crate::glue::{Http, error_response};

/// Bytes of an exchange: 200 rooms with 20 ends each.
const LIMIT: usize = 512 << 10;

pub(crate) fn router() -> Router<NodeHandle> {
    Router::new().route(FRONTIERS_PATH, post(handler))
}

async fn handler(State(node): State<NodeHandle>, Extension(origin): Extension<Origin>, body: Body) -> Response {
    match compare(&node, &origin, body).await {
        Ok(answer) => Http::json(answer).0,
        Err(error) => error_response(&error),
    }
}

async fn compare(node: &NodeHandle, origin: &Origin, body: Body) -> Result<Vec<u8>, Error> {
    if origin.door == Door::Classic {
        return Err(Error::forbidden("frontiers are for linked nodes"));
    }
    let bytes = to_bytes(body, LIMIT).await.map_err(|_| Error::too_large("frontiers are shorter than that"))?;
    let _: Exchange =
        serde_json::from_slice(&bytes).map_err(|e| Error::bad_json(format!("not an exchange of frontiers: {e}")))?;
    let ours = node.inbox.frontiers(&origin.server)?;
    serde_json::to_vec(&ours).map_err(|e| Error::internal(e.to_string()))
}
