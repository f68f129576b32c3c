//! Rate limits: where the specification marks an endpoint, and how they are told.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use crate::harness::TestNode;

#[tokio::test]
async fn a_device_that_asks_too_often_is_told_how_long_to_wait() {
    let node = TestNode::with(|config| config.rate_limits = true);
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let whoami = "/_matrix/client/v3/account/whoami";
    for _ in 0..200 {
        node.ok(node.get(&alice, whoami)).await;
    }
    let request = Request::get(whoami).header("authorization", format!("Bearer {}", alice.token));
    let refused = node.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let told = node.fails(node.get(&alice, whoami), 429, "M_LIMIT_EXCEEDED").await;
    assert_eq!(told["retry_after_ms"], 50);
    node.ok(node.get(&bob, whoami)).await;
    // Not marked by the specification.
    for _ in 0..10 {
        node.ok(node.get(&alice, "/_matrix/client/v3/joined_rooms")).await;
    }
    node.pass(Duration::from_millis(50));
    node.ok(node.get(&alice, whoami)).await;
    node.fails(node.get(&alice, whoami), 429, "M_LIMIT_EXCEEDED").await;
}

#[tokio::test]
async fn switched_off_nobody_waits() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    for _ in 0..300 {
        node.ok(node.get(&alice, "/_matrix/client/v3/account/whoami")).await;
    }
    let empty = json!({ "search_categories": {} });
    node.ok(node.post(&alice, "/_matrix/client/v3/search", empty)).await;
}
