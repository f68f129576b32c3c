//! Account data, tags, filters, profiles, push rules.

use http::Method;
use serde_json::json;

use crate::harness::TestNode;

#[tokio::test]
async fn account_data_is_kept_per_user_and_room() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let global = format!("/_matrix/client/v3/user/{}/account_data/org.example.x", alice.id);
    let room = format!("/_matrix/client/r0/user/{}/rooms/!r:here/account_data/org.example.x", alice.id);
    node.fails(node.get(&alice, &global), 404, "M_NOT_FOUND").await;
    node.ok(node.put(&alice, &global, json!({ "n": 1 }))).await;
    node.ok(node.put(&alice, &room, json!({ "n": 2 }))).await;
    assert_eq!(node.ok(node.get(&alice, &global)).await, json!({ "n": 1 }));
    assert_eq!(node.ok(node.get(&alice, &room)).await, json!({ "n": 2 }));
    node.fails(node.get(&bob, &global), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&bob, &room, json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.raw(Method::PUT, &alice, &global, "[]"), 400, "M_BAD_JSON").await;
    let fully_read = room.replace("org.example.x", "m.fully_read");
    node.fails(node.put(&alice, &fully_read, json!({})), 405, "M_BAD_JSON").await;
    let push_rules = global.replace("org.example.x", "m.push_rules");
    node.fails(node.put(&alice, &push_rules, json!({})), 405, "M_BAD_JSON").await;
    assert!(node.ok(node.get(&alice, &push_rules)).await["global"]["override"].is_array());
}

#[tokio::test]
async fn tags_are_set_listed_and_removed() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let tags = format!("/_matrix/client/v3/user/{}/rooms/!r:here/tags", alice.id);
    assert_eq!(node.ok(node.get(&alice, &tags)).await, json!({ "tags": {} }));
    node.ok(node.put(&alice, &format!("{tags}/m.favourite"), json!({ "order": 0.5 }))).await;
    assert_eq!(node.ok(node.get(&alice, &tags)).await, json!({ "tags": { "m.favourite": { "order": 0.5 } } }));
    let (status, _) = node.delete(&alice, &format!("{tags}/m.favourite"), json!({})).await;
    assert!(status.is_success());
    assert_eq!(node.ok(node.get(&alice, &tags)).await, json!({ "tags": {} }));
}

#[tokio::test]
async fn a_filter_is_downloaded_as_it_was_uploaded() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.id);
    let filter = json!({ "room": { "timeline": { "limit": 7, "types": ["m.room.message"] } } });
    let id = node.ok(node.post(&alice, &path, filter.clone())).await["filter_id"].as_str().unwrap().to_owned();
    assert!(!id.starts_with('{'));
    assert_eq!(node.ok(node.get(&alice, &format!("{path}/{id}"))).await, filter);
    node.fails(node.get(&alice, &format!("{path}/nothing")), 404, "M_NOT_FOUND").await;
    let bad = [json!({ "room": { "timeline": { "limit": 0 } } }), json!({ "room": { "timeline": { "limit": -1 } } })];
    for filter in bad.into_iter().chain([json!({ "presence": { "senders": ["nobody"] } })]) {
        node.fails(node.post(&alice, &path, filter), 400, "M_BAD_JSON").await;
    }
}

#[tokio::test]
async fn a_profile_is_set_by_its_user_and_read_by_all() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let profile = format!("/_matrix/client/v3/profile/{}", alice.id);
    node.ok(node.put(&alice, &format!("{profile}/displayname"), json!({ "displayname": "Alice" }))).await;
    node.ok(node.put(&alice, &format!("{profile}/avatar_url"), json!({ "avatar_url": "mxc://here/cat" }))).await;
    node.ok(node.put(&alice, &format!("{profile}/m.tz"), json!({ "m.tz": "Europe/Paris" }))).await;
    let whole = json!({ "displayname": "Alice", "avatar_url": "mxc://here/cat", "m.tz": "Europe/Paris" });
    assert_eq!(node.ok(node.get("", &profile)).await, whole);
    assert_eq!(node.ok(node.get(&bob, &format!("{profile}/m.tz"))).await, json!({ "m.tz": "Europe/Paris" }));
    node.ok(node.delete(&alice, &format!("{profile}/m.tz"), json!({}))).await;
    node.fails(node.get("", &format!("{profile}/m.tz")), 404, "M_NOT_FOUND").await;
    let name = format!("{profile}/displayname");
    node.fails(node.put(&bob, &name, json!({ "displayname": "Bob" })), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&alice, &name, json!({ "displayname": 1 })), 400, "M_BAD_JSON").await;
    let avatar = format!("{profile}/avatar_url");
    node.fails(node.put(&alice, &avatar, json!({ "avatar_url": "http://x" })), 400, "M_INVALID_PARAM").await;
    node.fails(node.get("", "/_matrix/client/v3/profile/@nobody:there"), 404, "M_NOT_FOUND").await;
    let nobody = format!("/_matrix/client/v3/profile/{}", node.user_id("nobody"));
    node.fails(node.get("", &nobody), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn push_rules_are_changed_one_by_one() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let rules = "/_matrix/client/v3/pushrules/global/";
    let all = node.ok(node.get(&alice, "/_matrix/client/v3/pushrules/")).await;
    assert_eq!(all["global"]["override"][0]["rule_id"], ".m.rule.master");
    assert_eq!(node.ok(node.get(&alice, rules)).await, all["global"]);
    let tea = format!("{rules}content/tea");
    node.ok(node.put(&alice, &tea, json!({ "pattern": "tea", "actions": ["notify"] }))).await;
    let rule = json!({ "pattern": "tea", "actions": ["notify"], "default": false, "enabled": true, "rule_id": "tea" });
    assert_eq!(node.ok(node.get(&alice, &tea)).await, rule);
    let milk = format!("{rules}content/milk?after=tea");
    node.ok(node.put(&alice, &milk, json!({ "pattern": "milk", "actions": [] }))).await;
    let content = node.ok(node.get(&alice, rules)).await["content"].clone();
    assert_eq!((&content[0]["rule_id"], &content[1]["rule_id"]), (&json!("tea"), &json!("milk")));
    node.ok(node.put(&alice, &format!("{tea}/enabled"), json!({ "enabled": false }))).await;
    assert_eq!(node.ok(node.get(&alice, &format!("{tea}/enabled"))).await, json!({ "enabled": false }));
    node.ok(node.put(&alice, &format!("{tea}/actions"), json!({ "actions": [] }))).await;
    assert_eq!(node.ok(node.get(&alice, &format!("{tea}/actions"))).await, json!({ "actions": [] }));
    node.ok(node.delete(&alice, &tea, json!({}))).await;
    node.fails(node.get(&alice, &tea), 404, "M_NOT_FOUND").await;
    let master = format!("{rules}override/.m.rule.master");
    node.fails(node.delete(&alice, &master, json!({})), 400, "M_INVALID_PARAM").await;
    let own = format!("{rules}override/.mine");
    node.fails(node.put(&alice, &own, json!({ "conditions": [], "actions": [] })), 400, "M_INVALID_PARAM").await;
}
