//! Receipts, typing, unread counts and account data in `/sync`.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path, sync_path},
};

async fn read(node: &TestNode, who: &TestUser, room: &str, kind: &str, event: &str) {
    node.ok(node.post(who, &path(room, &format!("receipt/{kind}/{}", escape(event))), json!({}))).await;
}

fn ephemeral(synced: &Value, room: &str, kind: &str) -> Option<Value> {
    let events = synced["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
    events.into_iter().find(|event| event["type"] == kind).map(|event| event["content"].clone())
}

#[tokio::test]
async fn receipts_and_unread_counts_follow_what_is_read() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    node.text(&alice, &room, "one").await;
    let last = node.text(&alice, &room, "two").await;
    let unread = node.sync_since(&bob, &token).await;
    let counts = &unread["rooms"]["join"][&room]["unread_notifications"];
    assert_eq!(*counts, json!({ "highlight_count": 0, "notification_count": 2 }));
    read(&node, &bob, &room, "m.read", &last).await;
    let synced = node.sync_since(&bob, &unread["next_batch"]).await;
    assert_eq!(synced["rooms"]["join"][&room]["unread_notifications"]["notification_count"], 0);
    let receipt = ephemeral(&synced, &room, "m.receipt").unwrap();
    assert!(receipt[&last]["m.read"][bob.id.as_str()]["ts"].is_u64());
    assert!(ephemeral(&node.sync(&alice, &[]).await, &room, "m.receipt").is_some(), "a first sync has them all");
    assert!(node.sync_since(&bob, &synced["next_batch"]).await.get("rooms").is_none());
    let filter = json!({ "room": { "ephemeral": { "not_types": ["m.receipt"] } } }).to_string();
    let since = unread["next_batch"].as_str().unwrap();
    let filtered = node.sync(&bob, &[("since", since), ("filter", &filter)]).await;
    assert!(ephemeral(&filtered, &room, "m.receipt").is_none());
}

#[tokio::test]
async fn private_receipts_are_their_owners_only() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let event = node.text(&alice, &room, "one").await;
    read(&node, &bob, &room, "m.read.private", &event).await;
    assert!(ephemeral(&node.sync(&bob, &[]).await, &room, "m.receipt").is_some());
    assert!(ephemeral(&node.sync(&alice, &[]).await, &room, "m.receipt").is_none());
}

#[tokio::test]
async fn typing_wakes_who_waits_and_is_told_once() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    let waiting = sync_path(&[("since", token.as_str().unwrap()), ("timeout", "30000")]);
    let typing = path(&room, &format!("typing/{}", escape(alice.id.as_str())));
    let (synced, ()) = tokio::join!(node.ok(node.get(&bob, &waiting)), async {
        tokio::task::yield_now().await;
        node.ok(node.put(&alice, &typing, json!({ "typing": true, "timeout": 30000 }))).await;
    });
    assert_eq!(ephemeral(&synced, &room, "m.typing").unwrap(), json!({ "user_ids": [alice.id] }));
    assert!(node.sync_since(&bob, &synced["next_batch"]).await.get("rooms").is_none());
    node.ok(node.put(&alice, &typing, json!({ "typing": false }))).await;
    let over = node.sync_since(&bob, &synced["next_batch"]).await;
    assert_eq!(ephemeral(&over, &room, "m.typing").unwrap(), json!({ "user_ids": [] }));
}

#[tokio::test]
async fn account_data_comes_when_it_changes_and_with_a_new_room() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let other = node.public_room(&bob).await;
    let first = node.sync(&alice, &[]).await;
    let kinds = crate::room::bodies(&first["account_data"]["events"]);
    assert_eq!(kinds, ["m.push_rules"], "the default rules");
    let user = format!("/_matrix/client/v3/user/{}", escape(alice.id.as_str()));
    node.ok(node.put(&alice, &format!("{user}/account_data/org.x"), json!({ "n": 1 }))).await;
    for room in [&room, &other] {
        let of_room = format!("{user}/rooms/{}/account_data/org.y", escape(room));
        node.ok(node.put(&alice, &of_room, json!({ "n": 2 }))).await;
    }
    let synced = node.sync_since(&alice, &first["next_batch"]).await;
    assert_eq!(synced["account_data"]["events"], json!([{ "type": "org.x", "content": { "n": 1 } }]));
    let expected = json!([{ "type": "org.y", "content": { "n": 2 } }]);
    assert_eq!(synced["rooms"]["join"][&room]["account_data"]["events"], expected);
    assert!(synced["rooms"]["join"].get(&other).is_none());
    node.join(&alice, &other).await;
    let joined = node.sync_since(&alice, &synced["next_batch"]).await;
    assert_eq!(joined["rooms"]["join"][&other]["account_data"]["events"], expected, "older than the join");
}

#[tokio::test]
async fn a_stored_filter_is_used_by_its_id() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.text(&alice, &room, "text").await;
    let filters = format!("/_matrix/client/v3/user/{}/filter", escape(alice.id.as_str()));
    let filter = json!({ "room": { "timeline": { "types": ["m.room.message"] } } });
    let id = node.ok(node.post(&alice, &filters, filter)).await["filter_id"].as_str().unwrap().to_owned();
    let synced = node.sync(&alice, &[("filter", &id)]).await;
    assert_eq!(crate::room::bodies(&synced["rooms"]["join"][&room]["timeline"]["events"]), ["text"]);
    node.fails(node.get(&alice, &sync_path(&[("filter", "none")])), 404, "M_NOT_FOUND").await;
}
