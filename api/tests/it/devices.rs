//! Devices.

use serde_json::json;

use crate::harness::{NOW_MS, TestNode};

const DEVICES: &str = "/_matrix/client/v3/devices";

#[tokio::test]
async fn devices_are_listed_shown_and_renamed() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let second = node.device(&alice).await;
    let path = format!("{DEVICES}/{}", second.device_id);
    node.ok(node.put(&alice, &path, json!({ "display_name": "Laptop" }))).await;
    let json = node.ok(node.get(&alice, &path)).await;
    assert_eq!(json["display_name"], "Laptop");
    assert_eq!(json["last_seen_ts"], NOW_MS);
    assert_eq!(node.ok(node.get(&alice, DEVICES)).await["devices"].as_array().unwrap().len(), 2);
    let long = json!({ "display_name": "x".repeat(2000) });
    node.fails(node.put(&alice, &path, long), 400, "M_INVALID_PARAM").await;

    let bob = node.user("bob").await;
    node.fails(node.get(&bob, &path), 404, "M_NOT_FOUND").await;
    node.fails(node.put(&bob, &path, json!({ "display_name": "Mine" })), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn last_seen_moves_with_use_but_not_with_every_request() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let seen = || node.node.accounts.device(&alice.id, &alice.device_id).unwrap().last_seen_ms.unwrap();
    node.pass(std::time::Duration::from_secs(60));
    node.ok(node.get(&alice, DEVICES)).await;
    assert_eq!(seen(), NOW_MS);
    node.pass(std::time::Duration::from_secs(600));
    node.ok(node.get(&alice, DEVICES)).await;
    assert_eq!(seen(), NOW_MS + 660_000);
}

#[tokio::test]
async fn deleting_devices_takes_the_password() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let (second, third) = (node.device(&alice).await, node.device(&alice).await);
    node.ok(node.get(&second, DEVICES)).await;
    let path = format!("{DEVICES}/{}", second.device_id);
    let (status, json) = node.delete(&alice, &path, json!({})).await;
    assert_eq!((status.as_u16(), &json["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let auth = |user: &str, password: &str, session: &serde_json::Value| {
        let identifier = json!({ "type": "m.id.user", "user": user });
        json!({ "type": "m.login.password", "identifier": identifier, "password": password, "session": session })
    };
    node.user_with_password("bob", "other").await;
    for (user, password) in [("alice", "guess"), ("bob", "other")] {
        let wrong = json!({ "auth": auth(user, password, &json["session"]) });
        node.fails(node.delete(&alice, &path, wrong), 401, "M_FORBIDDEN").await;
    }
    let right = json!({ "auth": auth("alice", "secret", &json["session"]) });
    let elsewhere = format!("{DEVICES}/{}", third.device_id);
    node.fails(node.delete(&alice, &elsewhere, right.clone()), 403, "M_FORBIDDEN").await;
    node.ok(node.delete(&alice, &path, right)).await;
    node.fails(node.get(&second, DEVICES), 401, "M_UNKNOWN_TOKEN").await;

    // The old spelling, without a session, as matrix-nio has it.
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "secret" });
    let many = json!({ "devices": [third.device_id, "UNKNOWN"], "auth": auth });
    node.ok(node.post(&alice, "/_matrix/client/v3/delete_devices", many)).await;
    assert_eq!(node.ok(node.get(&alice, DEVICES)).await["devices"].as_array().unwrap().len(), 1);
}
