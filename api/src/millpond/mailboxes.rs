//! Our mailboxes at hosts.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{
    NodeHandle,
    links::{MailboxInfo, host_name},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Add {
    link: String,
    token: String,
}

#[derive(Deserialize)]
struct Host {
    host: String,
}

pub(super) async fn list(State(node): State<NodeHandle>) -> Response {
    let mailboxes = node.links.mailboxes().await;
    answer(mailboxes.map(|found| json!({ "mailboxes": found.iter().map(shown).collect::<Vec<_>>() })))
}

pub(super) fn shown(mailbox: &MailboxInfo) -> Value {
    json!({
        "host": host_name(mailbox),
        "kind": if mailbox.recovery { "recovery" } else { "ordinary" },
        "in_use": !mailbox.draining,
        "opened_ms": mailbox.opened.0,
        "announced": mailbox.listening,
        "read_ms": mailbox.read.map(|at| at.0),
        "onion": mailbox.onion,
    })
}

pub(super) async fn add(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let add = async {
        let body: Add = read(request).await?;
        node.links.add_mailbox(&body.link, &body.token).await?;
        Ok(json!({}))
    };
    answer(add.await)
}

pub(super) async fn leave(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let leave = async {
        let body: Host = read(request).await?;
        node.links.leave_host(&body.host).await?;
        Ok(json!({}))
    };
    answer(leave.await)
}
