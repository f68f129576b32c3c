//! Where calls meet: TURN with time-limited credentials, and the transports of group calls (MSC4143).

use millpond_node::config::Turn;
use serde_json::{Value, json};

use crate::harness::TestNode;

const TURN: &str = "/_matrix/client/v3/voip/turnServer";
const TRANSPORTS: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";

#[tokio::test]
async fn turn_credentials_are_of_the_user_and_end() {
    let node = TestNode::with(|config| {
        let uris = vec!["turn:turn.example:3478?transport=udp".to_owned()];
        config.turn = Some(Turn { uris, secret: "north".to_owned(), ttl_secs: 600 });
    });
    let alice = node.user("alice").await;
    let found = node.ok(node.get(&alice, TURN)).await;
    assert_eq!(found["username"], json!(format!("1700000600:{}", alice.id)));
    assert_eq!((&found["ttl"], &found["uris"]), (&json!(600), &json!(["turn:turn.example:3478?transport=udp"])));
    assert!(found["password"].as_str().is_some_and(|password| password.len() == 28), "{found}");
    node.fails(node.get("", TURN), 401, "M_MISSING_TOKEN").await;
    let none = TestNode::new();
    let alice = none.user("alice").await;
    assert_eq!(none.ok(none.get(&alice, TURN)).await, json!({}));
}

#[tokio::test]
async fn group_calls_meet_where_the_owner_says() {
    let url = "https://livekit.example/service";
    let node = TestNode::with(|config| config.livekit = vec![url.to_owned()]);
    let alice = node.user("alice").await;
    let transport = json!([{ "type": "livekit", "livekit_service_url": url }]);
    assert_eq!(node.ok(node.get(&alice, TRANSPORTS)).await, json!({ "rtc_transports": transport }));
    node.fails(node.get("", TRANSPORTS), 401, "M_MISSING_TOKEN").await;
    let known = node.ok(node.get("", "/.well-known/matrix/client")).await;
    assert_eq!(known["org.matrix.msc4143.rtc_foci"], transport);
    let none = TestNode::new();
    let alice = none.user("alice").await;
    assert_eq!(none.ok(none.get(&alice, TRANSPORTS)).await, json!({ "rtc_transports": [] }));
    let known = none.ok(none.get("", "/.well-known/matrix/client")).await;
    assert_eq!(known.get("org.matrix.msc4143.rtc_foci"), None::<&Value>);
}
