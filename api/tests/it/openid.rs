//! OpenID tokens: for oneself, good for nothing but to learn whose they are, and not for long.

use std::time::Duration;

use serde_json::json;

use crate::{harness::TestNode, room::escape};

#[tokio::test]
async fn a_token_says_whose_it_is_until_it_ends() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let ask = format!("/_matrix/client/v3/user/{}/openid/request_token", escape(alice.id.as_str()));
    let issued = node.ok(node.post(&alice, &ask, json!({}))).await;
    let token = issued["access_token"].as_str().unwrap();
    assert_eq!((&issued["token_type"], &issued["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(issued["matrix_server_name"], json!(node.server()));
    let who = |token: &str| format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
    assert_eq!(node.ok(node.get("", who(token))).await, json!({ "sub": alice.id }));
    node.fails(node.post(&bob, &ask, json!({})), 403, "M_FORBIDDEN").await;
    // It is no access token, and an access token is none of these.
    node.fails(node.get(token, "/_matrix/client/v3/account/whoami"), 401, "M_UNKNOWN_TOKEN").await;
    node.fails(node.get("", who(&alice.token)), 401, "M_UNKNOWN_TOKEN").await;
    node.pass(Duration::from_secs(3600));
    node.fails(node.get("", who(token)), 401, "M_UNKNOWN_TOKEN").await;
}
