//! Passwords, deactivation, third-party identifiers, and what the node says of itself.

use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

const PASSWORD: &str = "/_matrix/client/v3/account/password";
const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";
const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn auth(user: &TestUser, password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user.id });
    json!({ "type": "m.login.password", "identifier": identifier, "password": password })
}

#[tokio::test]
async fn a_new_password_logs_the_other_devices_out_unless_told_otherwise() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "old").await;
    let second = node.device(&alice).await;
    let body = json!({ "new_password": "newer", "logout_devices": false, "auth": auth(&alice, "old") });
    node.ok(node.post(&alice, PASSWORD, body)).await;
    node.ok(node.get(&second, WHOAMI)).await;
    let body = json!({ "new_password": "newest", "auth": auth(&alice, "newer") });
    node.ok(node.post(&alice, PASSWORD, body)).await;
    node.ok(node.get(&alice, WHOAMI)).await;
    node.fails(node.get(&second, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    node.fails(node.post("", LOGIN, auth(&alice, "newer")), 403, "M_FORBIDDEN").await;
    node.ok(node.post("", LOGIN, auth(&alice, "newest"))).await;
}

#[tokio::test]
async fn without_a_token_the_password_says_whose_it_is() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "old").await;
    let body = json!({ "new_password": "new", "auth": auth(&alice, "old") });
    node.ok(node.post("", PASSWORD, body)).await;
    node.fails(node.get(&alice, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    node.ok(node.post("", LOGIN, auth(&alice, "new"))).await;
}

#[tokio::test]
async fn a_deactivated_account_is_gone_and_its_name_stays_taken() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    node.node.rooms.create(&alice.id, ruma::api::client::room::create_room::v3::Request::new()).await.unwrap();
    node.fails(node.post(&alice, DEACTIVATE, json!({ "auth": auth(&alice, "guess") })), 401, "M_FORBIDDEN").await;
    let json = node.ok(node.post(&alice, DEACTIVATE, json!({ "auth": auth(&alice, "secret") }))).await;
    assert_eq!(json["id_server_unbind_result"], "success");
    node.fails(node.get(&alice, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    node.fails(node.post("", LOGIN, auth(&alice, "secret")), 403, "M_USER_DEACTIVATED").await;
    node.fails(node.get("", "/_matrix/client/v3/register/available?username=alice"), 400, "M_USER_IN_USE").await;
    assert!(node.node.accounts.list().unwrap()[0].deactivated);
    assert!(node.node.rooms.joined(&alice.id).unwrap().is_empty());
}

#[tokio::test]
async fn there_are_no_third_party_identifiers() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let path = "/_matrix/client/v3/account/3pid";
    assert_eq!(node.ok(node.get(&alice, path)).await, json!({ "threepids": [] }));
    let add = node.post(&alice, "/_matrix/client/v3/account/3pid/add", json!({ "client_secret": "s", "sid": "1" }));
    node.fails(add, 403, "M_THREEPID_DENIED").await;
    let ask = json!({ "client_secret": "s", "email": "a@b.c", "send_attempt": 1 });
    let ask = node.post("", "/_matrix/client/v3/account/3pid/email/requestToken", ask);
    node.fails(ask, 403, "M_THREEPID_DENIED").await;
}

#[tokio::test]
async fn the_node_says_what_it_can() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let versions = node.ok(node.get("", "/_matrix/client/versions")).await;
    assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.19")));
    let json = node.ok(node.get(&alice, "/_matrix/client/v3/capabilities")).await;
    assert_eq!(json["capabilities"]["m.room_versions"]["default"], "12");
    assert_eq!(json["capabilities"]["m.room_versions"]["available"]["6"], "stable");
    assert_eq!(json["capabilities"]["m.get_login_token"]["enabled"], true);
    assert_eq!(json["capabilities"]["m.3pid_changes"]["enabled"], false);
    let json = node.ok(node.get("", "/.well-known/matrix/client")).await;
    assert_eq!(json, json!({ "m.homeserver": { "base_url": "http://127.0.0.1:8008" } }));
}
