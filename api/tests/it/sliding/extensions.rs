//! The extensions: to-device messages, keys, account data, receipts, typing.

use serde_json::{Value, json};

use super::all;
use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

fn with(extensions: Value) -> Value {
    json!({ "lists": all(9, 1), "extensions": extensions })
}

async fn send(node: &TestNode, from: &TestUser, to: &TestUser, n: u64) {
    let body = json!({ "messages": { to.id.as_str(): { to.device_id.as_str(): { "n": n } } } });
    node.ok(node.put(from, format!("/_matrix/client/v3/sendToDevice/m.test/t{n}"), body)).await;
}

fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["extensions"]["to_device"]["events"].as_array().unwrap();
    events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_there() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let answer = node.slide(&alice, &Value::Null, &json!({ "extensions": { "e2ee": { "enabled": false } } })).await;
    assert_eq!(answer["extensions"], json!({}));
}

#[tokio::test]
async fn to_device_messages_have_a_token_of_their_own() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    for n in 0..3 {
        send(&node, &alice, &bob, n).await;
    }
    let ask = |since: &Value| {
        let mut asked = json!({ "enabled": true, "limit": 2 });
        if since.is_string() {
            asked["since"] = since.clone();
        }
        json!({ "conn_id": "encryption", "extensions": { "to_device": asked, "e2ee": { "enabled": true } } })
    };
    let first = node.slide(&bob, &Value::Null, &ask(&Value::Null)).await;
    assert_eq!(numbers(&first), [0, 1]);
    // Without the token nothing has arrived, whatever `pos` says.
    let again = node.slide(&bob, &first["pos"], &ask(&Value::Null)).await;
    assert_eq!(numbers(&again), [0, 1]);
    let since = &again["extensions"]["to_device"]["next_batch"];
    let second = node.slide(&bob, &again["pos"], &ask(since)).await;
    assert_eq!(numbers(&second), [2]);
    // A connection that starts anew goes on where the messages stood.
    let anew = node.slide(&bob, &Value::Null, &ask(&second["extensions"]["to_device"]["next_batch"])).await;
    assert!(numbers(&anew).is_empty());
    assert!(numbers(&node.slide(&bob, &Value::Null, &ask(&Value::Null)).await).is_empty(), "they are gone");
    // A token from before a restored backup hides nothing.
    send(&node, &alice, &bob, 7).await;
    assert_eq!(numbers(&node.slide(&bob, &Value::Null, &ask(&json!("999999"))).await), [7]);
}

#[tokio::test]
async fn key_counts_and_changed_device_lists_are_told() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let ask = json!({ "extensions": { "e2ee": { "enabled": true } } });
    let first = node.slide(&alice, &Value::Null, &ask).await;
    let e2ee = &first["extensions"]["e2ee"];
    assert_eq!(e2ee["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(e2ee["device_unused_fallback_key_types"], json!([]));
    assert!(e2ee.get("device_lists").is_none());
    node.join(&bob, &room).await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    assert_eq!(second["extensions"]["e2ee"]["device_lists"]["changed"], json!([bob.id]));
    node.leave(&bob, &room).await;
    let third = node.slide(&alice, &second["pos"], &ask).await;
    assert_eq!(third["extensions"]["e2ee"]["device_lists"]["left"], json!([bob.id]));
    let fourth = node.slide(&alice, &third["pos"], &ask).await;
    assert!(fourth["extensions"]["e2ee"].get("device_lists").is_none());
}

#[tokio::test]
async fn account_data_comes_whole_and_then_as_it_changes() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let other = node.public_room(&alice).await;
    let user = format!("/_matrix/client/v3/user/{}", alice.id);
    let of = |room: &str| format!("{user}/rooms/{}/account_data/m.marked_unread", escape(room));
    node.ok(node.put(&alice, of(&room), json!({ "unread": true }))).await;
    node.ok(node.put(&alice, of(&other), json!({ "unread": true }))).await;
    let one = json!({ "lists": all(0, 1), "extensions": { "account_data": { "enabled": true } } });
    let first = node.slide(&alice, &Value::Null, &one).await;
    let data = &first["extensions"]["account_data"];
    assert!(data["global"].as_array().unwrap().iter().any(|event| event["type"] == "m.push_rules"));
    let event = json!([{ "type": "m.marked_unread", "content": { "unread": true } }]);
    assert_eq!(data["rooms"], json!({ &other: event }), "only of the rooms that are asked for");
    let two = with(json!({ "account_data": { "enabled": true } }));
    let second = node.slide(&alice, &first["pos"], &two).await;
    assert_eq!(second["extensions"]["account_data"], json!({ "rooms": { &room: event } }));
    // It changes while the room is not asked for, and comes when it is again.
    node.ok(node.put(&alice, of(&room), json!({ "unread": false }))).await;
    let third = node.slide(&alice, &second["pos"], &one).await;
    assert!(third["extensions"].get("account_data").is_none(), "{third}");
    let fourth = node.slide(&alice, &third["pos"], &two).await;
    let event = json!([{ "type": "m.marked_unread", "content": { "unread": false } }]);
    assert_eq!(fourth["extensions"]["account_data"], json!({ "rooms": { &room: event } }));
    node.ok(node.put(&alice, format!("{user}/account_data/org.example"), json!({ "a": 1 }))).await;
    let fifth = node.slide(&alice, &fourth["pos"], &two).await;
    let event = json!([{ "type": "org.example", "content": { "a": 1 } }]);
    assert_eq!(fifth["extensions"]["account_data"], json!({ "global": event }));
}

#[tokio::test]
async fn receipts_are_those_on_what_is_shown_and_then_the_new_ones() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = node.public_room(&alice).await;
    for user in [&bob, &carol] {
        node.join(user, &room).await;
    }
    let read = async |who: &TestUser, event: &str, kind: &str| {
        node.ok(node.post(who, path(&room, &format!("receipt/{kind}/{}", escape(event))), json!({}))).await;
    };
    let old = node.text(&alice, &room, "old").await;
    let new = node.text(&alice, &room, "new").await;
    read(&bob, &old, "m.read").await;
    read(&carol, &new, "m.read").await;
    read(&alice, &old, "m.read.private").await;
    let ask = with(json!({ "receipts": { "enabled": true, "rooms": ["*"] } }));
    let first = node.slide(&alice, &Value::Null, &ask).await;
    let content = &first["extensions"]["receipts"]["rooms"][&room]["content"];
    assert!(content[&new]["m.read"][carol.id.as_str()]["ts"].is_u64(), "{content}");
    assert!(content[&old]["m.read.private"][alice.id.as_str()].is_object());
    assert!(content[&old].get("m.read").is_none(), "nobody sees where bob has read");
    read(&bob, &new, "m.read").await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    let receipt = &second["extensions"]["receipts"]["rooms"][&room];
    assert_eq!(receipt["type"], "m.receipt");
    assert!(receipt["content"][&new]["m.read"].get(bob.id.as_str()).is_some());
    assert!(receipt["content"][&new]["m.read"].get(carol.id.as_str()).is_none());
    assert!(second.get("rooms").is_none(), "a receipt of another is no news of the room");
    let third = node.slide(&alice, &second["pos"], &ask).await;
    assert!(third["extensions"].get("receipts").is_none());
    read(&carol, &new, "m.read.private").await;
    let fourth = node.slide(&alice, &third["pos"], &ask).await;
    assert!(fourth["extensions"].get("receipts").is_none(), "private is private");
    // An extension can be kept to some lists.
    let text = node.text(&alice, &room, "three").await;
    read(&bob, &text, "m.read").await;
    let none = with(json!({ "receipts": { "enabled": true, "lists": [], "rooms": [] } }));
    let fifth = node.slide(&alice, &fourth["pos"], &none).await;
    assert!(fifth["extensions"].get("receipts").is_none());
}

#[tokio::test]
async fn typing_is_told_when_it_changes() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let ask = with(json!({ "typing": { "enabled": true } }));
    let first = node.slide(&alice, &Value::Null, &ask).await;
    assert!(first["extensions"].get("typing").is_none());
    let typing = path(&room, &format!("typing/{}", bob.id));
    node.ok(node.put(&bob, &typing, json!({ "typing": true, "timeout": 30000 }))).await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    let event = json!({ "content": { "user_ids": [bob.id] }, "type": "m.typing" });
    assert_eq!(second["extensions"]["typing"]["rooms"], json!({ &room: event }));
    assert!(node.slide(&alice, &second["pos"], &ask).await["extensions"].get("typing").is_none());
    let anew = node.slide(&alice, &Value::Null, &ask).await;
    assert_eq!(anew["extensions"]["typing"]["rooms"], json!({ &room: event }));
    node.ok(node.put(&bob, &typing, json!({ "typing": false }))).await;
    let last = node.slide(&alice, &anew["pos"], &ask).await;
    assert_eq!(last["extensions"]["typing"]["rooms"][&room]["content"]["user_ids"], json!([]));
}
