//! Waiting syncs.

use std::time::Duration;

use serde_json::json;

use crate::{
    harness::TestNode,
    room::{bodies, sync_path},
};

async fn waiting(node: &TestNode, who: &crate::harness::TestUser, since: &serde_json::Value) -> serde_json::Value {
    let path = sync_path(&[("since", since.as_str().unwrap()), ("timeout", "30000")]);
    tokio::time::timeout(Duration::from_secs(20), node.ok(node.get(who, &path))).await.expect("woken")
}

#[tokio::test]
async fn a_waiting_sync_is_answered_by_a_send() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    let (synced, _) = tokio::join!(waiting(&node, &bob, &token), async {
        tokio::task::yield_now().await;
        node.text(&alice, &room, "wake up").await
    });
    assert_eq!(bodies(&synced["rooms"]["join"][&room]["timeline"]["events"]), ["wake up"]);
}

#[tokio::test]
async fn a_waiting_sync_is_answered_by_an_invite() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let token = node.token(&bob).await;
    let (synced, ()) = tokio::join!(waiting(&node, &bob, &token), async {
        tokio::task::yield_now().await;
        node.invite(&alice, &room, &bob).await;
    });
    assert!(synced["rooms"]["invite"][&room]["invite_state"]["events"].is_array());
}

#[tokio::test]
async fn what_is_there_already_is_answered_at_once_and_silence_ends_with_the_timeout() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let token = node.token(&alice).await;
    node.text(&alice, &room, "before").await;
    let synced = waiting(&node, &alice, &token).await;
    assert_eq!(bodies(&synced["rooms"]["join"][&room]["timeline"]["events"]), ["before"]);
    let next = synced["next_batch"].as_str().unwrap();
    let silent = node.sync(&alice, &[("since", next), ("timeout", "50")]).await;
    assert!(silent.get("rooms").is_none());
    let full = node.sync(&alice, &[("since", next), ("timeout", "30000"), ("full_state", "true")]).await;
    assert!(full["rooms"]["join"][&room]["state"]["events"].is_array());
}

#[tokio::test]
async fn events_that_the_filter_hides_do_not_wake() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    let filter = json!({ "room": { "timeline": { "types": ["m.shown"] } } }).to_string();
    let path = sync_path(&[("since", token.as_str().unwrap()), ("timeout", "30000"), ("filter", &filter)]);
    let (synced, ()) = tokio::join!(node.ok(node.get(&bob, &path)), async {
        tokio::task::yield_now().await;
        node.text(&alice, &room, "hidden").await;
        let shown = crate::room::path(&room, "send/m.shown/1");
        node.ok(node.put(&alice, &shown, json!({ "body": "shown" }))).await;
    });
    assert_eq!(bodies(&synced["rooms"]["join"][&room]["timeline"]["events"]), ["shown"]);
}
