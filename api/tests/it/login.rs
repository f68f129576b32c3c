//! Login, logout, and the limits of guessing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::TestNode;

const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn password(user: &str, password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user });
    json!({ "type": "m.login.password", "identifier": identifier, "password": password })
}

#[tokio::test]
async fn a_password_logs_in_by_name_or_id_in_the_new_or_the_old_spelling() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let flows = node.ok(node.get("", LOGIN)).await;
    assert_eq!(flows["flows"][0]["type"], "m.login.password");
    assert_eq!(flows["flows"][1], json!({ "type": "m.login.token", "get_login_token": true }));
    let old = json!({ "type": "m.login.password", "user": "alice", "password": "secret" });
    for body in [password("alice", "secret"), password("Alice", "secret"), password(alice.id.as_str(), "secret"), old] {
        let json = node.ok(node.post("", LOGIN, body)).await;
        assert_eq!(json["user_id"], alice.id.as_str());
        node.ok(node.get(json["access_token"].as_str().unwrap(), WHOAMI)).await;
    }
}

#[tokio::test]
async fn wrong_logins_are_forbidden_and_do_not_tell_who_exists() {
    let node = TestNode::new();
    node.user_with_password("alice", "secret").await;
    let mut told = Vec::new();
    for (user, given) in [("alice", "guess"), ("nobody", "guess"), ("@alice:elsewhere.example", "secret"), ("", "")] {
        told.push(node.fails(node.post("", LOGIN, password(user, given)), 403, "M_FORBIDDEN").await);
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let other = json!({ "type": "org.example.smell" });
    node.fails(node.post("", LOGIN, other), 400, "M_UNKNOWN").await;
    node.fails(node.post("", LOGIN, json!({})), 400, "M_MISSING_PARAM").await;
    let nobody = json!({ "type": "m.login.password", "password": "x" });
    node.fails(node.post("", LOGIN, nobody), 400, "M_MISSING_PARAM").await;
}

#[tokio::test]
async fn a_login_with_a_known_device_id_takes_the_device_over() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let mut body = password("alice", "secret");
    body["device_id"] = json!(alice.device_id);
    node.ok(node.get(&alice, WHOAMI)).await;
    let json = node.ok(node.post("", LOGIN, body)).await;
    assert_eq!(json["device_id"], alice.device_id.as_str());
    node.fails(node.get(&alice, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    assert_eq!(node.node.accounts.devices(&alice.id).unwrap().len(), 1);
}

#[tokio::test]
async fn logout_ends_the_token_and_the_device_and_logout_all_every_one() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (second, third) = (node.device(&alice).await, node.device(&alice).await);
    node.ok(node.get(&alice, WHOAMI)).await;
    node.ok(node.raw(http::Method::POST, &alice, "/_matrix/client/v3/logout", "")).await;
    node.fails(node.get(&alice, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    assert!(node.node.accounts.device(&alice.id, &alice.device_id).is_err());
    node.ok(node.get(&second, WHOAMI)).await;
    node.ok(node.post(&second, "/_matrix/client/v3/logout/all", json!({}))).await;
    for device in [second, third] {
        node.fails(node.get(&device, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    }
}

#[tokio::test]
async fn a_login_token_works_once_and_for_two_minutes() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let get_token = "/_matrix/client/v1/login/get_token";
    let (status, json) = node.post(&alice, get_token, json!({})).await;
    assert_eq!((status.as_u16(), &json["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let mut body = json!({ "auth": password("alice", "secret") });
    body["auth"]["session"] = json["session"].clone();
    let json = node.ok(node.post(&alice, get_token, body)).await;
    assert_eq!(json["expires_in_ms"], 120_000);
    let login = json!({ "type": "m.login.token", "token": json["login_token"] });
    assert_eq!(node.ok(node.post("", LOGIN, login.clone())).await["user_id"], alice.id.as_str());
    node.fails(node.post("", LOGIN, login), 403, "M_FORBIDDEN").await;

    let late = node.node.accounts.login_token(&alice.id);
    node.pass(Duration::from_secs(121));
    node.fails(node.post("", LOGIN, json!({ "type": "m.login.token", "token": late })), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_user_and_only_for_them() {
    let node = TestNode::with(|config| config.rate_limits = true);
    node.user_with_password("alice", "secret").await;
    node.user_with_password("bob", "secret").await;
    for _ in 0..8 {
        node.fails(node.post("", LOGIN, password("alice", "guess")), 403, "M_FORBIDDEN").await;
    }
    let json = node.fails(node.post("", LOGIN, password("alice", "secret")), 429, "M_LIMIT_EXCEEDED").await;
    let wait_ms = json["retry_after_ms"].as_u64().unwrap();
    node.ok(node.post("", LOGIN, password("bob", "secret"))).await;
    node.pass(Duration::from_millis(wait_ms));
    node.ok(node.post("", LOGIN, password("alice", "secret"))).await;
}
