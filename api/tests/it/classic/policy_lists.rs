//! Moderation policy lists: whom a followed list bans is kept out, and is not when the rule is taken back.

use http::{Method, StatusCode};
use ruma::{RoomId, server_name};
use serde_json::json;

use super::{Stranger, refused};
use crate::{
    harness::{TestNode, TestUser},
    nodes::encoded,
};

const V1: &str = "/_matrix/federation/v1";

/// A node that follows a list. Its id is known once it is made, so the node starts again with it in its settings.
struct Followed {
    node: TestNode,
    alice: TestUser,
    list: String,
}

impl Followed {
    async fn new() -> Self {
        let first = TestNode::named(server_name!("pond.example"));
        let alice = first.user("alice").await;
        let made = first.ok(first.post(&alice, "/_matrix/client/v3/createRoom", json!({}))).await;
        let list = made["room_id"].as_str().unwrap().to_owned();
        let node = first.with_config(|config| config.policy_lists = vec![RoomId::parse(&list).unwrap()]);
        // No two rooms are made at one moment.
        node.pass(std::time::Duration::from_secs(1));
        Self { node, alice, list }
    }

    async fn rule(&self, kind: &str, key: &str, content: serde_json::Value) {
        let path = format!("/_matrix/client/v3/rooms/{}/state/m.policy.rule.{kind}/{key}", encoded(&self.list));
        self.node.ok(self.node.put(&self.alice, path, content)).await;
    }

    async fn ban(&self, kind: &str, entity: &str) {
        self.rule(kind, "1", json!({ "entity": entity, "recommendation": "m.ban", "reason": "spam of frogs" })).await;
    }
}

#[tokio::test]
async fn servers_users_and_rooms_of_a_followed_list_are_kept_out() {
    let followed = Followed::new().await;
    let Followed { node, alice, .. } = &followed;
    let made = node.ok(node.post(alice, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" }))).await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    let other = Stranger::known_to(node, "sub.other.example").await;
    let make = format!("{V1}/make_join/{}/{}?ver=12", encoded(&room), encoded(&other.user("spam-1")));
    let (status, answer) = other.get(node, &make).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    followed.ban("user", "@spam-*:*.example").await;
    let (status, answer) = other.get(node, &make).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(answer["error"].as_str().unwrap().contains("spam of frogs"), "{answer}");
    let good = format!("{V1}/make_join/{}/{}?ver=12", encoded(&room), encoded(&other.user("frog")));
    assert_eq!(other.get(node, &good).await.0, StatusCode::OK);

    followed.ban("server", "*.other.example").await;
    refused(other.get(node, &format!("{V1}/publicRooms")).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    refused(other.get(node, &good).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");

    // What is taken back, or recommends something else, is no ban.
    followed.rule("server", "1", json!({})).await;
    followed.rule("user", "1", json!({ "entity": "*", "recommendation": "m.wave", "reason": "" })).await;
    assert_eq!(other.get(node, &make).await.0, StatusCode::OK);

    followed.ban("room", &room).await;
    let bob = node.user("bob").await;
    node.fails(node.post(&bob, format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({})), 403, "M_FORBIDDEN")
        .await;
    let invite = format!("/_matrix/federation/v2/invite/{}/%24x", encoded(&room));
    let body = json!({ "room_version": "12", "invite_room_state": [], "event": { "type": "m.room.member", "room_id": room,
        "sender": other.user("frog"), "state_key": bob.id, "content": { "membership": "invite" } } });
    let answer = other.ask(node, Method::PUT, &invite, body).await;
    assert!(answer.1["error"].as_str().unwrap().contains("kept out"), "{answer:?}");
    refused(answer, StatusCode::FORBIDDEN, "M_FORBIDDEN");
}
