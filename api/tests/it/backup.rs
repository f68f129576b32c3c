//! Key backups.

use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";

fn info() -> Value {
    json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "abcdefg", "signatures": {}, "org.example.extra": 1 },
    })
}

fn session(first: u32, forwarded: u32, verified: bool) -> Value {
    json!({
        "first_message_index": first, "forwarded_count": forwarded, "is_verified": verified,
        "session_data": { "ephemeral": "AA", "ciphertext": format!("{first}"), "mac": "AA" },
    })
}

async fn with_backup() -> (TestNode, TestUser) {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    assert_eq!(node.ok(node.post(&alice, VERSION, info())).await, json!({ "version": "1" }));
    (node, alice)
}

#[tokio::test]
async fn versions_are_made_shown_changed_and_deleted() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    node.fails(node.get(&alice, VERSION), 404, "M_NOT_FOUND").await;
    node.ok(node.post(&alice, VERSION, info())).await;
    let mut shown = info();
    shown["version"] = json!("1");
    shown["count"] = json!(0);
    shown["etag"] = json!("0");
    assert_eq!(node.ok(node.get(&alice, VERSION)).await, shown);
    assert_eq!(node.ok(node.get(&alice, &format!("{VERSION}/1"))).await, shown);

    let mut changed = info();
    changed["auth_data"]["public_key"] = json!("other");
    node.ok(node.put(&alice, &format!("{VERSION}/1"), changed.clone())).await;
    assert_eq!(node.ok(node.get(&alice, VERSION)).await["auth_data"], changed["auth_data"]);
    changed["version"] = json!("2");
    node.fails(node.put(&alice, &format!("{VERSION}/1"), changed), 400, "M_INVALID_PARAM").await;
    let other = json!({ "algorithm": "org.example", "auth_data": {} });
    node.fails(node.put(&alice, &format!("{VERSION}/1"), other), 400, "M_INVALID_PARAM").await;
    node.fails(node.put(&alice, &format!("{VERSION}/7"), info()), 404, "M_NOT_FOUND").await;

    assert_eq!(node.ok(node.post(&alice, VERSION, info())).await["version"], "2");
    node.ok(node.delete(&alice, &format!("{VERSION}/2"), json!({}))).await;
    assert_eq!(node.ok(node.get(&alice, VERSION)).await["version"], "1");
    node.fails(node.get(&alice, &format!("{VERSION}/2")), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&alice, &format!("{VERSION}/01")), 404, "M_NOT_FOUND").await;
    assert_eq!(node.ok(node.post(&alice, VERSION, info())).await["version"], "3", "a number is not given twice");
    node.fails(node.post(&alice, VERSION, json!({ "algorithm": "x" })), 400, "M_BAD_JSON").await;
}

#[tokio::test]
async fn sessions_are_put_shown_and_deleted_at_each_level() {
    let (node, alice) = with_backup().await;
    let all = json!({ "rooms": { "!a:b": { "sessions": { "s1": session(0, 0, true) } } } });
    let told = node.ok(node.put(&alice, &format!("{KEYS}?version=1"), all)).await;
    assert_eq!(told, json!({ "count": 1, "etag": "1" }));
    let room = json!({ "sessions": { "s2": session(0, 0, true), "s3": session(0, 0, true) } });
    node.ok(node.put(&alice, &format!("{KEYS}/!a:b?version=1"), room)).await;
    let told = node.ok(node.put(&alice, &format!("{KEYS}/!c:d/s%2F4?version=1"), session(0, 0, false))).await;
    assert_eq!(told["count"], 4);
    assert_eq!(node.ok(node.get(&alice, VERSION)).await["count"], 4);

    let all = node.ok(node.get(&alice, &format!("{KEYS}?version=1"))).await;
    assert_eq!(all["rooms"]["!a:b"]["sessions"].as_object().unwrap().len(), 3);
    assert_eq!(all["rooms"]["!c:d"]["sessions"]["s/4"], session(0, 0, false));
    let room = node.ok(node.get(&alice, &format!("{KEYS}/!a:b?version=1"))).await;
    assert_eq!(room["sessions"]["s2"], session(0, 0, true));
    assert_eq!(node.ok(node.get(&alice, &format!("{KEYS}/!a:b/s2?version=1"))).await, session(0, 0, true));
    assert_eq!(node.ok(node.get(&alice, &format!("{KEYS}/!x:y?version=1"))).await, json!({ "sessions": {} }));
    node.fails(node.get(&alice, &format!("{KEYS}/!a:b/none?version=1")), 404, "M_NOT_FOUND").await;

    let delete = |path: &str| {
        let (path, alice, node) = (format!("{KEYS}{path}?version=1"), alice.clone(), &node);
        async move { node.delete(&alice, &path, json!({})).await }
    };
    assert_eq!(node.ok(delete("/!a:b/s1")).await["count"], 3);
    assert_eq!(node.ok(delete("/!a:b")).await["count"], 1);
    let before = node.ok(node.get(&alice, VERSION)).await["etag"].clone();
    assert_eq!(node.ok(delete("/!a:b")).await, json!({ "count": 1, "etag": before }));
    assert_eq!(node.ok(delete("")).await["count"], 0);
    assert_eq!(node.ok(node.get(&alice, &format!("{KEYS}?version=1"))).await, json!({ "rooms": {} }));
}

#[tokio::test]
async fn a_session_is_replaced_by_a_better_one_only() {
    let (node, alice) = with_backup().await;
    let path = format!("{KEYS}/!a:b/s?version=1");
    let mut etag = 0;
    for (candidate, is_better) in [
        (session(5, 5, false), true),
        (session(6, 0, false), false),
        (session(5, 6, false), false),
        (session(5, 5, false), false),
        (session(5, 4, false), true),
        (session(4, 9, false), true),
        (session(9, 9, true), true),
        (session(0, 0, false), false),
        (session(8, 9, true), true),
    ] {
        let before = node.get(&alice, &path).await.1;
        let told = node.ok(node.put(&alice, &path, candidate.clone())).await;
        etag += u32::from(is_better);
        assert_eq!(told, json!({ "count": 1, "etag": etag.to_string() }), "{candidate}");
        let stored = node.ok(node.get(&alice, &path)).await;
        assert_eq!(stored, if is_better { candidate } else { before });
    }
}

#[tokio::test]
async fn only_the_current_version_is_written_to() {
    let (node, alice) = with_backup().await;
    let put = |version: &str| {
        let (path, alice, node) = (format!("{KEYS}/!a:b/s?version={version}"), alice.clone(), &node);
        async move { node.put(&alice, &path, session(0, 0, true)).await }
    };
    node.ok(put("1")).await;
    node.ok(node.post(&alice, VERSION, info())).await;
    let wrong = node.fails(put("1"), 403, "M_WRONG_ROOM_KEYS_VERSION").await;
    assert_eq!(wrong["current_version"], "2");
    assert_eq!(node.ok(node.get(&alice, &format!("{KEYS}/!a:b/s?version=1"))).await, session(0, 0, true));
    let bob = node.user("bob").await;
    let path = format!("{KEYS}/!a:b/s?version=1");
    node.fails(node.put(&bob, &path, session(0, 0, true)), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&bob, &path), 404, "M_NOT_FOUND").await;
    node.fails(node.delete(&bob, &path, json!({})), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn malformed_sessions_are_refused() {
    let (node, alice) = with_backup().await;
    let path = format!("{KEYS}/!a:b/s?version=1");
    for field in ["first_message_index", "forwarded_count", "is_verified", "session_data"] {
        let mut bad = session(0, 0, true);
        bad.as_object_mut().unwrap().remove(field);
        node.fails(node.put(&alice, &path, bad), 400, "M_BAD_JSON").await;
    }
    let mut bad = session(0, 0, true);
    bad["first_message_index"] = json!(-1);
    node.fails(node.put(&alice, &path, bad), 400, "M_BAD_JSON").await;
    let mut large = session(0, 0, true);
    large["session_data"]["ciphertext"] = json!("x".repeat(70_000));
    node.fails(node.put(&alice, &path, large), 413, "M_TOO_LARGE").await;
    assert_eq!(node.ok(node.get(&alice, VERSION)).await["count"], 0);
}
