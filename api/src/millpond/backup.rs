//! Backups of the running node.

use std::path::PathBuf;

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{Error, NodeHandle};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Wanted {
    path: PathBuf,
    passphrase: String,
    #[serde(default)]
    media: bool,
}

pub(super) async fn make(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    answer(write(&node, request).await)
}

async fn write(node: &NodeHandle, request: Request<Body>) -> Result<Value, Error> {
    let Wanted { path, passphrase, media } = read(request).await?;
    if !path.is_absolute() {
        return Err(Error::invalid_param("`path` must be a whole path on the node's machine"));
    }
    let made = node.back_up(path, passphrase, media).await?;
    Ok(json!({ "server_name": made.server_name, "rows": made.rows, "files": made.files }))
}
