//! What users reported, for the node's owner.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{
    NodeHandle,
    rows::{Reported, UserReport},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Number {
    number: u64,
}

pub(super) async fn list(State(node): State<NodeHandle>) -> Response {
    let reports = node.reports.list();
    answer(reports.map(|reports| json!({ "reports": reports.iter().map(shown).collect::<Vec<_>>() })))
}

fn shown((number, report): &(u64, UserReport)) -> Value {
    let (room, event, user) = match &report.about {
        Reported::Room(room) => (Some(room), None, None),
        Reported::Event(room, event) => (Some(room), Some(event), None),
        Reported::User(user) => (None, None, Some(user)),
    };
    json!({
        "number": number, "reporter": report.reporter, "room_id": room, "event_id": event, "user_id": user,
        "reason": report.reason, "at_ms": report.at_ms,
    })
}

pub(super) async fn remove(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let remove = async {
        let body: Number = read(request).await?;
        node.reports.remove(body.number).await?;
        Ok(json!({}))
    };
    answer(remove.await)
}
