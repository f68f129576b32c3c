//! For who knows that the device goes to sleep: a script of the operating system, or the app around the node on a phone.

use axum::{extract::State, response::Response};
use millpond_node::NodeHandle;
use serde_json::json;

use super::answer;

pub(super) async fn suspend(State(node): State<NodeHandle>) -> Response {
    answer(node.suspend().await.map(|()| json!({})))
}

pub(super) async fn resume(State(node): State<NodeHandle>) -> Response {
    answer(node.resume().await.map(|()| json!({})))
}
