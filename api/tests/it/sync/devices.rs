//! To-device messages and keys in `/sync`.

use millpond_store::{Topic, job, tables};
use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

async fn send(node: &TestNode, to: &TestUser, numbers: std::ops::Range<u64>) {
    let (user, device) = (to.id.clone(), to.device_id.clone());
    let write = job(
        |_| Ok::<_, millpond_node::Error>(()),
        move |(), txn| {
            for n in numbers.clone() {
                let position = txn.next_position().0;
                let event = json!({ "type": "m.test", "sender": user, "content": { "n": n } }).to_string();
                txn.put(tables::TO_DEVICE, (&*user, &*device, position), &event)?;
            }
            txn.touch(Topic::User(user.clone()));
            Ok(())
        },
    );
    node.node.core.write(write).await.unwrap();
}

fn numbers(synced: &Value) -> Vec<u64> {
    let events = synced["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn to_device_messages_come_until_the_next_token_says_that_they_came() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let phone = node.device(&alice).await;
    let token = node.token(&alice).await;
    send(&node, &alice, 0..2).await;
    let first = node.sync_since(&alice, &token).await;
    assert_eq!(numbers(&first), [0, 1]);
    assert_eq!(numbers(&node.sync_since(&alice, &token).await), [0, 1], "the answer may be lost");
    assert!(numbers(&node.sync_since(&alice, &first["next_batch"]).await).is_empty());
    assert!(numbers(&node.sync(&alice, &[]).await).is_empty(), "acknowledged for good");
    assert!(numbers(&node.sync(&phone, &[]).await).is_empty(), "not this device's");
}

#[tokio::test]
async fn more_messages_than_one_answer_holds_come_one_after_the_other() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let mut token = node.token(&alice).await;
    send(&node, &alice, 0..250).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let synced = node.sync_since(&alice, &token).await;
        seen.extend(numbers(&synced));
        token = synced["next_batch"].clone();
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn key_counts_are_always_told_and_new_company_is_a_changed_device_list() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let first = node.sync(&alice, &[]).await;
    assert_eq!(first["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(first["device_unused_fallback_key_types"], json!([]));
    assert!(first.get("device_lists").is_none());
    node.join(&bob, &room).await;
    let synced = node.sync_since(&alice, &first["next_batch"]).await;
    assert_eq!(synced["device_lists"]["changed"], json!([bob.id]));
    node.leave(&bob, &room).await;
    let synced = node.sync_since(&alice, &synced["next_batch"]).await;
    assert_eq!(synced["device_lists"]["left"], json!([bob.id]));
}
