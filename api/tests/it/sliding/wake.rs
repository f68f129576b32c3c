//! Waiting requests, and connections across a restart of the node.

use std::time::Duration;

use millpond_node::{
    accounts::{NewAccount, NewDevice},
    config::Config,
    rooms::ClientTxn,
    start,
    sync::sliding::Request,
};
use ruma::{api::client::room::create_room, device_id};
use serde_json::{Value, json};

use super::{all, rooms};
use crate::{
    harness::{TestNode, TestUser},
    room::bodies,
};

async fn waiting(node: &TestNode, who: &TestUser, pos: &Value, body: &Value) -> Value {
    let answer = node.ok(node.post(who, super::path(pos, 30_000), body.clone()));
    tokio::time::timeout(Duration::from_secs(20), answer).await.expect("woken")
}

#[tokio::test]
async fn a_waiting_request_is_answered_by_what_it_asks_for() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let ask = json!({
        "lists": all(9, 1),
        "extensions": { "to_device": { "enabled": true }, "typing": { "enabled": true } },
    });
    let start = node.slide(&bob, &Value::Null, &ask).await;
    let (answer, _) = tokio::join!(waiting(&node, &bob, &start["pos"], &ask), async {
        tokio::task::yield_now().await;
        node.text(&alice, &room, "wake up").await
    });
    assert_eq!(bodies(&answer["rooms"][&room]["timeline"]), ["wake up"]);
    let (answer, ()) = tokio::join!(waiting(&node, &bob, &answer["pos"], &ask), async {
        tokio::task::yield_now().await;
        let body = json!({ "messages": { bob.id.as_str(): { "*": { "n": 1 } } } });
        node.ok(node.put(&alice, "/_matrix/client/v3/sendToDevice/m.test/t", body)).await;
    });
    assert_eq!(answer["extensions"]["to_device"]["events"][0]["content"]["n"], 1);
    let other = node.public_room(&alice).await;
    let (answer, ()) = tokio::join!(waiting(&node, &bob, &answer["pos"], &ask), async {
        tokio::task::yield_now().await;
        node.invite(&alice, &other, &bob).await;
    });
    // The message is still there, for its own token was not shown; so the invite may come with the answer after it.
    let answer = if rooms(&answer).is_empty() { node.slide(&bob, &answer["pos"], &ask).await } else { answer };
    assert!(answer["rooms"][&other]["invite_state"].is_array(), "{answer}");
}

#[tokio::test]
async fn silence_ends_with_the_timeout_and_the_first_answer_does_not_wait() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let ask = json!({ "lists": all(9, 1) });
    let start = waiting(&node, &alice, &Value::Null, &ask).await;
    let silent = node.ok(node.post(&alice, super::path(&start["pos"], 50), ask.clone())).await;
    assert!(rooms(&silent).is_empty());
    node.slide(&alice, &silent["pos"], &ask).await;
}

#[tokio::test]
async fn a_request_that_is_replaced_ends_and_the_newer_one_goes_on() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let ask = json!({ "lists": all(9, 1) });
    let start = node.slide(&alice, &Value::Null, &ask).await;
    let sub = json!({ "room_subscriptions": { &room: { "timeline_limit": 20, "required_state": [] } } });
    let (replaced, newer) = tokio::join!(waiting(&node, &alice, &start["pos"], &ask), async {
        tokio::task::yield_now().await;
        node.slide(&alice, &start["pos"], &sub).await
    });
    assert_eq!(replaced["pos"], start["pos"]);
    assert_eq!(newer["rooms"][&room]["unstable_expanded_timeline"], true);
    assert!(rooms(&node.slide(&alice, &newer["pos"], &sub).await).is_empty());
}

#[tokio::test]
async fn a_connection_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || loop {
        match start::open(Config::new(dir.path().to_owned())) {
            // The last handle may go with a job, on the writer's own thread: then it lets go of the file a moment later.
            Err(start::StartError::Store(millpond_node::StoreError::InUse { .. })) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let device = device_id!("D");
    let slide = async |node: &millpond_node::NodeHandle, user: &ruma::UserId, pos: &Value| -> Value {
        let mut ask: Request = serde_json::from_value(json!({ "conn_id": "c", "lists": all(9, 1) })).unwrap();
        ask.pos = pos.as_str().map(str::to_owned);
        serde_json::from_slice(&node.sync.slide(user, device, ask).await.unwrap()).unwrap()
    };
    let node = open();
    let account = NewAccount { name: "alice".to_owned(), password: None, admin: false };
    let new = NewDevice { device_id: Some(device.to_owned()), ..NewDevice::default() };
    let (user, _) = node.accounts.create(account, Some(new)).await.unwrap();
    let room = node.rooms.create(&user, create_room::v3::Request::new()).await.unwrap();
    let mut named = create_room::v3::Request::new();
    named.name = Some("quiet".to_owned());
    node.rooms.create(&user, named).await.unwrap();
    let first = slide(&node, &user, &Value::Null).await;
    assert_eq!(rooms(&first).len(), 2);
    drop(node);
    let node = open();
    let txn = ClientTxn { device_id: device, txn_id: "1".into() };
    node.rooms.send(&user, txn, &room, "m.room.message".into(), r#"{"body":"after"}"#).await.unwrap();
    let after = slide(&node, &user, &first["pos"]).await;
    assert_eq!(rooms(&after), [room.to_string()]);
    assert_eq!(bodies(&after["rooms"][room.as_str()]["timeline"]), ["after"]);
    assert!(after["rooms"][room.as_str()].get("initial").is_none());
    drop(node);
    let node = open();
    assert!(rooms(&slide(&node, &user, &after["pos"]).await).is_empty());
    // Logged out, the device leaves nothing behind.
    node.accounts.delete_devices(&user, vec![device.to_owned()]).await.unwrap();
    let snapshot = node.core.snapshot().unwrap();
    assert!(!snapshot.view().any(millpond_store::tables::SLIDING, ()).unwrap());
}
