//! Sending to devices.

use millpond_store::Position;
use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

const SEND: &str = "/_matrix/client/v3/sendToDevice/m.room.encrypted";

fn waiting(node: &TestNode, user: &TestUser) -> Vec<Value> {
    let snapshot = node.node.core.snapshot().unwrap();
    let pending =
        millpond_node::to_device::pending(snapshot.view(), &user.id, &user.device_id, Position(0), 100).unwrap();
    pending.iter().map(|(_, event)| serde_json::from_str(event.json().get()).unwrap()).collect()
}

#[tokio::test]
async fn a_message_reaches_the_device_once_as_it_was_sent() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let other = node.device(&bob).await;
    let content =
        json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": { "k": { "body": "AA", "type": 0 } } });
    let body = json!({ "messages": { bob.id.as_str(): { bob.device_id.as_str(): content } } });
    for _ in 0..2 {
        assert_eq!(node.ok(node.put(&alice, &format!("{SEND}/txn1"), body.clone())).await, json!({}));
    }
    let event = json!({ "type": "m.room.encrypted", "sender": alice.id, "content": content });
    assert_eq!(waiting(&node, &bob), [event]);
    assert!(waiting(&node, &other).is_empty());
    let body = json!({ "messages": { bob.id.as_str(): { "*": {} } } });
    node.ok(node.put(&alice, &format!("{SEND}/txn2"), body)).await;
    assert_eq!((waiting(&node, &bob).len(), waiting(&node, &other).len()), (2, 1));
}

#[tokio::test]
async fn malformed_messages_are_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let send = |body: Value| {
        let (alice, node) = (alice.clone(), &node);
        async move { node.put(&alice, &format!("{SEND}/t"), body).await }
    };
    node.fails(send(json!({})), 400, "M_MISSING_PARAM").await;
    node.fails(send(json!({ "messages": { "bob": {} } })), 400, "M_BAD_JSON").await;
    node.fails(send(json!({ "messages": { "@bob:b.c": { "": {} } } })), 400, "M_BAD_JSON").await;
    node.fails(send(json!({ "messages": [] })), 400, "M_BAD_JSON").await;
}
