//! Introductions, which the overlay posts as CBOR (overlay.md section 2).

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::State,
    response::Response,
    routing::post,
};
use millpond_node::{
    Error, NodeHandle,
    federation::{INTRO_PATH, Origin},
};

use crate::glue::{Http, error_response};

/// Bytes of an introduction, generously; the overlay knows the exact bound.
const LIMIT: usize = 128 << 10;

pub(crate) fn router() -> Router<NodeHandle> {
    Router::new().route(INTRO_PATH, post(handler))
}

async fn handler(State(node): State<NodeHandle>, Extension(origin): Extension<Origin>, body: Body) -> Response {
    match take(&node, &origin, body).await {
        Ok(()) => Http::json("{}").0,
        Err(error) => error_response(&error),
    }
}

async fn take(node: &NodeHandle, origin: &Origin, body: Body) -> Result<(), Error> {
    let bytes = to_bytes(body, LIMIT).await.map_err(|_| Error::too_large("an introduction is shorter than that"))?;
    node.federation.introduction(origin, &bytes).await
}
