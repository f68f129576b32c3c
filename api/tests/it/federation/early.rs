//! One transaction with an event and what is said about it: the event is judged after the rest was read.

use http::{Method, StatusCode};
use millpond_matrix::build::{self, EventDraft, Signer};
use millpond_node::rooms::{reader::StoredRoom, rows};
use ruma::RoomId;
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::nodes::{Net, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_with_its_event_is_shown_when_the_event_is() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let room_id = RoomId::parse(&room).unwrap();
    let pdu = {
        let snapshot = b.node.core.snapshot().unwrap();
        let (short, row) = rows::room(snapshot.view(), &room_id).unwrap().unwrap();
        let rules = millpond_matrix::rules::rules(&row.version).unwrap();
        let identity = b.node.core.identity();
        let signer = Signer { server: identity.server_name(), key: identity.signing_key() };
        let content = build::content(br#"{"body":"both at once","msgtype":"m.text"}"#).unwrap();
        let draft = EventDraft::new("m.room.message".into(), content, bob.id.clone(), b.node.core.clock().now());
        build::next(&StoredRoom::new(snapshot.view(), short, &row), rules, &room_id, draft, &signer).unwrap()
    };
    let receipt = json!({ "edu_type": "m.receipt", "content": { &room: { "m.read": { bob.id.as_str(): {
        "data": { "ts": 5 }, "event_ids": [pdu.event_id()] } } } } });
    let event: Value = serde_json::from_str(pdu.json()).unwrap();
    let body = json!({ "origin": b.server(), "origin_server_ts": 1, "pdus": [event], "edus": [receipt] });
    let (status, json) = b.ask(&a, Method::PUT, "/_matrix/federation/v1/send/both", body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    until("the receipt is shown", async || {
        let sync = a.ok(a.get(&alice, "/_matrix/client/v3/sync")).await;
        let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
        let shown = |event: &Value| !event["content"][pdu.event_id().as_str()]["m.read"][bob.id.as_str()].is_null();
        events.iter().any(shown)
    })
    .await;
    let snapshot = a.node.core.snapshot().unwrap();
    assert!(!snapshot.view().any(millpond_store::tables::EARLY_RECEIPTS, ()).unwrap(), "it waits no more");
}
