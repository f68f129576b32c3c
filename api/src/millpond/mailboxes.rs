//! Our mailboxes at hosts.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{
    NodeHandle,
    links::{LodgingInfo, MailboxInfo, host_name},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Add {
    link: String,
    token: String,
    /// The host whose mailboxes are to go when the new one is made.
    from: Option<String>,
}

#[derive(Deserialize)]
struct Accept {
    name: String,
}

#[derive(Deserialize)]
struct Host {
    host: String,
}

pub(super) async fn list(State(node): State<NodeHandle>) -> Response {
    let list = async {
        let (mailboxes, offers) = (node.links.mailboxes().await?, node.links.lodgings().await?);
        let mailboxes: Vec<Value> = mailboxes.iter().map(shown).collect();
        Ok(json!({ "mailboxes": mailboxes, "offers": offers.iter().map(offer).collect::<Vec<_>>() }))
    };
    answer(list.await)
}

pub(super) fn shown(mailbox: &MailboxInfo) -> Value {
    json!({
        "host": host_name(&mailbox.host),
        "kind": if mailbox.recovery { "recovery" } else { "ordinary" },
        "in_use": !mailbox.draining,
        "opened_ms": mailbox.opened.0,
        "announced": mailbox.listening,
        "read_ms": mailbox.read.map(|at| at.0),
        "onion": mailbox.onion,
    })
}

/// What a contact offers.
fn offer(lodging: &LodgingInfo) -> Value {
    json!({
        "name": lodging.peer.as_str(),
        "host": host_name(&lodging.host),
        "onion": lodging.onion,
        "in_use": lodging.in_use,
    })
}

pub(super) async fn accept(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let accept = async {
        let body: Accept = read(request).await?;
        node.links.lodge(&body.name).await?;
        Ok(json!({}))
    };
    answer(accept.await)
}

pub(super) async fn add(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let add = async {
        let body: Add = read(request).await?;
        match &body.from {
            Some(from) => node.links.move_mailbox(from, &body.link, &body.token).await?,
            None => node.links.add_mailbox(&body.link, &body.token).await?,
        }
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
