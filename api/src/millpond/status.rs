//! What the node is doing.

use axum::{extract::State, response::Response};
use millpond_node::{Error, NodeHandle};
use serde_json::{Value, json};

use super::{answer, contacts, mailboxes};

pub(super) async fn get(State(node): State<NodeHandle>) -> Response {
    answer(status(&node).await)
}

async fn status(node: &NodeHandle) -> Result<Value, Error> {
    let contacts = node.links.contacts().await?;
    let (rooms, waiting) = node.counts()?;
    let contacts: Vec<Value> = contacts
        .iter()
        .map(|contact| {
            let mut shown = contacts::shown(contact);
            let name = contact.name.as_ref().map_or("", |name| name.as_str());
            shown["waiting"] = waiting.get(name).copied().unwrap_or(0).into();
            shown
        })
        .collect();
    let refused: Vec<Value> = node
        .outbox
        .set_aside()?
        .into_iter()
        .map(|(server, (count, status, said))| json!({ "server": server, "count": count, "status": status, "said": said }))
        .collect();
    let joining: Vec<Value> = node
        .inbox
        .completions()?
        .iter()
        .map(|room| {
            json!({
                "room_id": room.room_id, "since_ms": room.since_ms, "asked": room.asked,
                "events": room.events.0, "of": room.events.1, "failed": room.failed,
            })
        })
        .collect();
    let tor = node.links.tor().map(|tor| json!({ "state": tor.state.word(), "percent": tor.percent, "why": tor.why }));
    Ok(json!({
        "server_name": node.core.identity().server_name(),
        "version": env!("CARGO_PKG_VERSION"),
        "accounts": node.accounts.list()?.len(),
        "rooms": rooms,
        "joining": joining,
        "refused": refused,
        "contacts": contacts,
        "tor": tor,
        "mailboxes": node.links.mailboxes().await?.iter().map(mailboxes::shown).collect::<Vec<_>>(),
    }))
}
