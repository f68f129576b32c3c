//! Access tokens that end, and the refresh tokens that new ones are got with.

use std::time::Duration;

use millpond_node::accounts::ACCESS_TOKEN_LIFETIME;
use serde_json::{Value, json};

use crate::harness::TestNode;

const LOGIN: &str = "/_matrix/client/v3/login";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

async fn log_in(node: &TestNode) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    let body =
        json!({ "type": "m.login.password", "identifier": identifier, "password": "secret", "refresh_token": true });
    node.ok(node.post("", LOGIN, body)).await
}

async fn refresh(node: &TestNode, session: &Value) -> Value {
    let refreshed = node.ok(node.post("", REFRESH, json!({ "refresh_token": session["refresh_token"] }))).await;
    assert_eq!(refreshed["expires_in_ms"], u64::try_from(ACCESS_TOKEN_LIFETIME.as_millis()).unwrap());
    assert_ne!(refreshed["access_token"], session["access_token"]);
    assert_ne!(refreshed["refresh_token"], session["refresh_token"]);
    refreshed
}

async fn works(node: &TestNode, session: &Value) {
    node.ok(node.get(session["access_token"].as_str().unwrap(), WHOAMI)).await;
}

async fn has_ended(node: &TestNode, session: &Value) {
    let token = session["access_token"].as_str().unwrap();
    let json = node.fails(node.get(token, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    assert_eq!(json["soft_logout"], true);
}

async fn refreshes_no_more(node: &TestNode, session: &Value) {
    let body = json!({ "refresh_token": session["refresh_token"] });
    let json = node.fails(node.post("", REFRESH, body), 401, "M_UNKNOWN_TOKEN").await;
    assert_ne!(json["soft_logout"], true);
}

#[tokio::test]
async fn only_clients_that_can_refresh_get_tokens_that_end() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let session = log_in(&node).await;
    assert_eq!(session["expires_in_ms"], 3_600_000);
    works(&node, &session).await;
    node.pass(ACCESS_TOKEN_LIFETIME - Duration::from_millis(1));
    works(&node, &session).await;
    node.pass(Duration::from_millis(1));
    has_ended(&node, &session).await;
    node.ok(node.get(&alice, WHOAMI)).await;
    let refreshed = refresh(&node, &session).await;
    works(&node, &refreshed).await;
    let whoami = node.ok(node.get(refreshed["access_token"].as_str().unwrap(), WHOAMI)).await;
    assert_eq!(whoami["device_id"], session["device_id"]);
}

#[tokio::test]
async fn registration_gives_a_refresh_token_as_well() {
    let node = TestNode::with(|config| config.registration = millpond_node::config::Registration::Open);
    let body =
        json!({ "username": "bob", "password": "secret", "refresh_token": true, "auth": { "type": "m.login.dummy" } });
    let session = node.ok(node.post("", "/_matrix/client/v3/register", body)).await;
    works(&node, &refresh(&node, &session).await).await;
}

#[tokio::test]
async fn the_old_pair_holds_until_one_of_the_new_tokens_is_used() {
    let node = TestNode::new();
    node.user_with_password("alice", "secret").await;
    let first = log_in(&node).await;
    // The answer to the first refresh was lost.
    let lost = refresh(&node, &first).await;
    works(&node, &first).await;
    let second = refresh(&node, &first).await;
    works(&node, &first).await;
    let token = lost["access_token"].as_str().unwrap();
    node.fails(node.get(token, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    refreshes_no_more(&node, &lost).await;
    // Used as an access token.
    works(&node, &second).await;
    has_ended(&node, &first).await;
    refreshes_no_more(&node, &first).await;
    // Used as a refresh token.
    let third = refresh(&node, &second).await;
    let fourth = refresh(&node, &third).await;
    has_ended(&node, &second).await;
    refreshes_no_more(&node, &second).await;
    works(&node, &third).await;
    works(&node, &fourth).await;
    has_ended(&node, &third).await;
    let found = millpond_store::check::check(node.node.core.snapshot().unwrap().view()).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
}

#[tokio::test]
async fn tokens_of_a_device_that_is_gone_or_taken_over_end_for_good() {
    let node = TestNode::new();
    node.user_with_password("alice", "secret").await;
    let session = log_in(&node).await;
    let offered = refresh(&node, &session).await;
    let identifier = json!({ "type": "m.id.user", "user": "alice" });
    let again = json!({
        "type": "m.login.password", "identifier": identifier, "password": "secret", "refresh_token": true,
        "device_id": session["device_id"],
    });
    let taken = node.ok(node.post("", LOGIN, again)).await;
    for gone in [&session, &offered] {
        refreshes_no_more(&node, gone).await;
        let json = node.fails(node.get(gone["access_token"].as_str().unwrap(), WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
        assert_ne!(json["soft_logout"], true);
    }
    let token = taken["access_token"].as_str().unwrap();
    node.ok(node.post(token, "/_matrix/client/v3/logout", json!({}))).await;
    refreshes_no_more(&node, &taken).await;
    node.fails(node.post("", REFRESH, json!({ "refresh_token": "" })), 401, "M_UNKNOWN_TOKEN").await;
    node.fails(node.post("", REFRESH, json!({})), 400, "M_MISSING_PARAM").await;
}
