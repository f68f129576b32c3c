//! Contacts: links with other nodes.

use axum::{body::Body, extract::State, response::Response};
use http::Request;
use millpond_node::{
    NodeHandle,
    links::{Contact, LinkClass, LinkState},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};

#[derive(Deserialize)]
struct Link {
    link: String,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

pub(super) async fn list(State(node): State<NodeHandle>) -> Response {
    let contacts = node.links.contacts().await;
    answer(contacts.map(|contacts| json!({ "contacts": contacts.iter().map(shown).collect::<Vec<_>>() })))
}

pub(super) fn shown(contact: &Contact) -> Value {
    let state = match contact.state {
        LinkState::Offered => "offered",
        LinkState::Dialling => "dialling",
        LinkState::AwaitsUs => "to be confirmed",
        LinkState::AwaitsPeer => "waiting for the other side",
        LinkState::Established => "established",
        LinkState::Closed => "closed by an alarm",
    };
    let class = match contact.class {
        LinkClass::Contact => "contact",
        LinkClass::Room => "room",
    };
    let name = contact.name.as_ref().map(|name| name.as_str());
    let mail = contact.mail.map(|mail| {
        json!({
            "unacknowledged": mail.unacknowledged,
            "busy": mail.busy,
            "stamps": mail.stamps,
            "dormant": mail.dormant,
            "last_heard_ms": mail.last_heard.map(|at| at.0),
        })
    });
    let (proven, server) = contact.server.as_ref().map(|(proven, server)| (proven, server)).unzip();
    json!({
        "name": name,
        "server_name": server,
        "name_proven": proven,
        "state": state,
        "class": class,
        "route": contact.route,
        "mail": mail,
        "hidden": contact.hidden,
    })
}

pub(super) async fn link(State(node): State<NodeHandle>) -> Response {
    let offer = node.links.offer().await;
    answer(offer.map(|offer| json!({ "link": offer.link, "addresses": offer.addresses })))
}

pub(super) async fn add(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let add = async {
        let body: Link = read(request).await?;
        Ok(json!({ "fingerprint": node.links.add(&body.link).await? }))
    };
    answer(add.await)
}

pub(super) async fn confirm(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let confirm = async {
        let body: Name = read(request).await?;
        node.links.confirm(&body.name).await?;
        Ok(json!({}))
    };
    answer(confirm.await)
}

pub(super) async fn remove(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let remove = async {
        let body: Name = read(request).await?;
        node.peers.remove(&body.name).await?;
        Ok(json!({}))
    };
    answer(remove.await)
}
