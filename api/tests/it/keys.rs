//! Device keys, one-time keys, fallback keys.

use serde_json::{Value, json};

use crate::{
    encryption::{device_keys, key_pair},
    harness::{TestNode, TestUser},
};

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";

async fn claim(node: &TestNode, who: &TestUser, of: &TestUser) -> Value {
    let body = json!({ "one_time_keys": { of.id.as_str(): { of.device_id.as_str(): "signed_curve25519" } } });
    let answer = node.ok(node.post(who, CLAIM, body)).await;
    answer["one_time_keys"][of.id.as_str()][of.device_id.as_str()].clone()
}

fn one_time(n: u32) -> Value {
    json!({ format!("signed_curve25519:K{n}"): { "key": format!("key{n}"), "signatures": {} } })
}

#[tokio::test]
async fn uploaded_device_keys_come_back_with_the_device_name() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let keys = device_keys(&alice, &key_pair(alice.device_id.as_str()));
    let answer = node.ok(node.post(&alice, UPLOAD, json!({ "device_keys": keys }))).await;
    assert_eq!(answer, json!({ "one_time_key_counts": { "signed_curve25519": 0 } }));
    let device = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    node.ok(node.put(&alice, &device, json!({ "display_name": "Phone" }))).await;
    let query = json!({ "device_keys": { alice.id.as_str(): [], "@nobody:test.example": [] } });
    let answer = node.ok(node.post(&bob, QUERY, query)).await;
    let mut expected = keys;
    expected["unsigned"] = json!({ "device_display_name": "Phone" });
    assert_eq!(answer["device_keys"], json!({ alice.id.as_str(): { alice.device_id.as_str(): expected } }));
    let query = json!({ "device_keys": { alice.id.as_str(): ["OTHER"] } });
    let answer = node.ok(node.post(&bob, QUERY, query)).await;
    assert_eq!(answer["device_keys"], json!({ alice.id.as_str(): {} }));
}

#[tokio::test]
async fn device_keys_of_another_user_device_or_key_are_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let good = device_keys(&alice, &key_pair(alice.device_id.as_str()));
    let bad = |path: &str, value: Value| {
        let mut keys = good.clone();
        *keys.pointer_mut(path).unwrap() = value;
        node.post(&alice, UPLOAD, json!({ "device_keys": keys }))
    };
    node.fails(bad("/user_id", json!("@bob:test.example")), 400, "M_INVALID_PARAM").await;
    node.fails(bad("/device_id", json!("OTHER")), 400, "M_INVALID_PARAM").await;
    node.fails(bad("/keys", json!({ "ed25519:OTHER": "x" })), 400, "M_INVALID_PARAM").await;
    node.fails(bad("/algorithms", json!(["changed"])), 400, "M_INVALID_SIGNATURE").await;
    node.fails(node.post(&alice, UPLOAD, json!({ "device_keys": "text" })), 400, "M_BAD_JSON").await;
    node.fails(node.post("", UPLOAD, json!({})), 401, "M_MISSING_TOKEN").await;
}

#[tokio::test]
async fn one_time_keys_are_given_out_once_in_order_and_then_the_fallback_key() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let fallback = json!({ "signed_curve25519:F": { "key": "fallback", "fallback": true, "signatures": {} } });
    node.ok(node.post(&alice, UPLOAD, json!({ "one_time_keys": one_time(2), "fallback_keys": fallback }))).await;
    let answer = node.ok(node.post(&alice, UPLOAD, json!({ "one_time_keys": one_time(1) }))).await;
    assert_eq!(answer["one_time_key_counts"]["signed_curve25519"], 2);
    assert_eq!(claim(&node, &bob, &alice).await, one_time(2), "first come, first given");
    assert_eq!(claim(&node, &bob, &alice).await, one_time(1));
    let counts = || {
        let snapshot = node.node.core.snapshot().unwrap();
        millpond_node::keys::key_counts(snapshot.view(), &alice.id, &alice.device_id).unwrap()
    };
    assert_eq!(counts().unused_fallback.len(), 1);
    assert_eq!(claim(&node, &bob, &alice).await, fallback);
    assert_eq!(claim(&node, &bob, &alice).await, fallback, "it is given again");
    assert!(counts().unused_fallback.is_empty());
    assert_eq!(counts().one_time["signed_curve25519"], 0);
    node.ok(node.post(&alice, UPLOAD, json!({ "fallback_keys": fallback }))).await;
    assert!(counts().unused_fallback.is_empty(), "the same key again was used all the same");
    let other = json!({ "signed_curve25519:G": { "key": "other", "fallback": true } });
    node.ok(node.post(&alice, UPLOAD, json!({ "fallback_keys": other }))).await;
    assert_eq!(counts().unused_fallback.len(), 1);
}

#[tokio::test]
async fn a_one_time_key_id_stands_for_one_key() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    node.ok(node.post(&alice, UPLOAD, json!({ "one_time_keys": one_time(1) }))).await;
    let answer = node.ok(node.post(&alice, UPLOAD, json!({ "one_time_keys": one_time(1) }))).await;
    assert_eq!(answer["one_time_key_counts"]["signed_curve25519"], 1, "the same key again is the same key");
    let other = json!({ "signed_curve25519:K1": { "key": "other" } });
    node.fails(node.post(&alice, UPLOAD, json!({ "one_time_keys": other })), 400, "M_INVALID_PARAM").await;
    let no_key = json!({ "signed_curve25519:K2": { "signatures": {} } });
    node.fails(node.post(&alice, UPLOAD, json!({ "one_time_keys": no_key })), 400, "M_INVALID_PARAM").await;
    let many: serde_json::Map<_, _> =
        (0..1001).map(|n| (format!("signed_curve25519:M{n}"), json!({ "key": "k" }))).collect();
    node.fails(node.post(&alice, UPLOAD, json!({ "one_time_keys": many })), 413, "M_TOO_LARGE").await;
}

#[tokio::test]
async fn logging_out_takes_the_devices_keys_away() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let keys = device_keys(&alice, &key_pair(alice.device_id.as_str()));
    node.ok(node.post(&alice, UPLOAD, json!({ "device_keys": keys, "one_time_keys": one_time(1) }))).await;
    node.node.accounts.log_out_everywhere(&alice.id).await.unwrap();
    let query = json!({ "device_keys": { alice.id.as_str(): [] } });
    let answer = node.ok(node.post(&bob, QUERY, query)).await;
    assert_eq!(answer["device_keys"], json!({ alice.id.as_str(): {} }));
    assert_eq!(claim(&node, &bob, &alice).await, Value::Null);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_in_failures() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let query = json!({ "device_keys": { "@carol:there.example": [] } });
    let answer = node.ok(node.post(&alice, QUERY, query)).await;
    assert!(answer["failures"]["there.example"]["error"].is_string(), "{answer}");
    let claims = json!({ "one_time_keys": { "@carol:there.example": { "C": "signed_curve25519" } } });
    let answer = node.ok(node.post(&alice, CLAIM, claims)).await;
    assert!(answer["failures"]["there.example"].is_object() && answer["one_time_keys"] == json!({}), "{answer}");
}

#[tokio::test]
async fn changes_need_tokens_of_this_server() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let changes = |from: &str| {
        let path = format!("/_matrix/client/v3/keys/changes?from={from}&to=s99_0_0");
        let alice = alice.clone();
        let node = &node;
        async move { node.get(&alice, &path).await }
    };
    let before = node.ok(changes("s0_0_0")).await;
    assert_eq!(before, json!({ "changed": [], "left": [] }));
    let keys = device_keys(&alice, &key_pair(alice.device_id.as_str()));
    node.ok(node.post(&alice, UPLOAD, json!({ "device_keys": keys }))).await;
    assert_eq!(node.ok(changes("s0_0_0")).await["changed"], json!([alice.id]));
    for bad in ["", "12", "t12", "s", "s-1", "s1x"] {
        node.fails(changes(bad), 400, "M_INVALID_PARAM").await;
    }
}
