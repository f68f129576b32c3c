//! Dehydrated devices (MSC3814): kept, seen by others as a device, their messages read without losing them, replaced, removed.

use ruma::OwnedDeviceId;
use serde_json::{Value, json};

use crate::{
    encryption::{key_pair, public, signed},
    harness::{TestNode, TestUser},
    room::escape,
};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
const QUERY: &str = "/_matrix/client/v3/keys/query";

/// A device that a client would keep, and its id.
fn device(user: &TestUser) -> (OwnedDeviceId, Value) {
    let id: OwnedDeviceId = public(&key_pair("c")).into();
    let pair = key_pair(id.as_str());
    let keys = json!({
        "user_id": user.id, "device_id": id, "algorithms": ["m.olm.v1.curve25519-aes-sha2"], "dehydrated": true,
        "keys": { format!("ed25519:{id}"): public(&pair), format!("curve25519:{id}"): id },
    });
    let body = json!({
        "device_id": id, "initial_device_display_name": "Kept",
        "device_data": { "algorithm": "org.matrix.msc3814.v2", "device_pickle": "pickle", "nonce": "n" },
        "device_keys": signed(&keys, user, &pair),
        "one_time_keys": { "signed_curve25519:AAA": { "key": "one", "signatures": {} } },
        "fallback_keys": { "signed_curve25519:F": { "key": "last", "fallback": true, "signatures": {} } },
    });
    (id, body)
}

async fn ids(node: &TestNode, who: &TestUser, of: &TestUser) -> Vec<String> {
    let asked = json!({ "device_keys": { of.id.as_str(): [] } });
    let answer = node.ok(node.post(who, QUERY, asked)).await;
    answer["device_keys"][of.id.as_str()].as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_device_is_kept_with_its_keys_and_replaced_as_a_whole() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    node.fails(node.get(&alice, PATH), 404, "M_NOT_FOUND").await;
    let (first, body) = device(&alice);
    assert_eq!(node.ok(node.put(&alice, PATH, body.clone())).await, json!({ "device_id": first }));
    let kept = node.ok(node.get(&alice, PATH)).await;
    assert_eq!(kept, json!({ "device_id": first, "device_data": body["device_data"] }));
    assert_eq!(ids(&node, &bob, &alice).await, [first.as_str()]);
    let claim = json!({ "one_time_keys": { alice.id.as_str(): { first.as_str(): "signed_curve25519" } } });
    for key in ["signed_curve25519:AAA", "signed_curve25519:F"] {
        let claimed = node.ok(node.post(&bob, "/_matrix/client/v3/keys/claim", claim.clone())).await;
        assert!(claimed["one_time_keys"][alice.id.as_str()][first.as_str()].get(key).is_some(), "{claimed}");
    }
    let (second, body) = device(&alice);
    node.ok(node.put(&alice, PATH, body)).await;
    assert_eq!(ids(&node, &bob, &alice).await, [second.as_str()]);
    assert_eq!(node.ok(node.delete(&alice, PATH, json!({}))).await, json!({ "device_id": second }));
    assert_eq!(ids(&node, &bob, &alice).await, [""; 0]);
    node.fails(node.delete(&alice, PATH, json!({})), 404, "M_NOT_FOUND").await;
    node.fails(node.get("", PATH), 401, "M_MISSING_TOKEN").await;
}

#[tokio::test]
async fn its_messages_are_read_in_batches_and_stay() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (id, body) = device(&alice);
    node.ok(node.put(&alice, PATH, body)).await;
    for n in 0..101 {
        let to = json!({ "messages": { alice.id.as_str(): { id.as_str(): { "n": n } } } });
        node.ok(node.put(&bob, format!("/_matrix/client/v3/sendToDevice/org.example/{n}"), to)).await;
    }
    let events = format!("{PATH}/{}/events", escape(id.as_str()));
    let read = async |since: Option<&Value>| {
        let body = since.map_or(json!({}), |since| json!({ "next_batch": since }));
        node.ok(node.post(&alice, &events, body)).await
    };
    for _ in 0..2 {
        let first = read(None).await;
        assert_eq!(
            (first["events"].as_array().unwrap().len(), &first["events"][0]["content"]),
            (100, &json!({ "n": 0 }))
        );
        let last = read(Some(&first["next_batch"])).await;
        assert_eq!(last["events"].as_array().unwrap().len(), 1);
        assert_eq!(read(Some(&last["next_batch"])).await["events"], json!([]));
    }
    let other = format!("{PATH}/{}/events", alice.device_id);
    node.fails(node.post(&alice, other, json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&alice, &events, json!({ "next_batch": "x" })), 400, "M_INVALID_PARAM").await;
    node.fails(node.post(&bob, &events, json!({})), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn what_is_no_dehydrated_device_is_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (_, good) = device(&alice);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        node.put(&alice, PATH, body)
    };
    node.fails(with("device_id", json!(alice.device_id)), 400, "M_INVALID_PARAM").await;
    node.fails(with("device_data", json!({ "device_pickle": "x" })), 400, "M_BAD_JSON").await;
    for field in ["device_id", "device_data", "device_keys"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        node.fails(node.put(&alice, PATH, body), 400, "M_MISSING_PARAM").await;
    }
    let (id, mut body) = device(&alice);
    body["device_keys"]["algorithms"] = json!(["changed"]);
    node.fails(node.put(&alice, PATH, body), 400, "M_INVALID_SIGNATURE").await;
    node.fails(node.get(&alice, PATH), 404, "M_NOT_FOUND").await;
    // It is listed, and removed like any device.
    let (_, body) = device(&alice);
    let id = node.ok(node.put(&alice, PATH, body)).await["device_id"].as_str().map_or(id, Into::into);
    node.node.accounts.delete_devices(&alice.id, vec![id]).await.unwrap();
    node.fails(node.get(&alice, PATH), 404, "M_NOT_FOUND").await;
}
