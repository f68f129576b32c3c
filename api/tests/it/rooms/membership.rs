//! Memberships through the API.

use serde_json::json;

use crate::{
    harness::TestNode,
    room::{escape, path},
};

#[tokio::test]
async fn invite_join_kick_ban_and_unban_change_what_one_may_do() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let send = path(&room, "send/m.room.message/1");
    node.fails(node.post(&bob, &path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&bob, &send, json!({ "body": "x" })), 403, "M_FORBIDDEN").await;
    node.invite(&alice, &room, &bob).await;
    node.join(&bob, &room).await;
    node.ok(node.put(&bob, &send, json!({ "body": "x" }))).await;
    let bobs = json!({ "user_id": bob.id, "reason": "why" });
    node.fails(node.post(&bob, &path(&room, "kick"), json!({ "user_id": alice.id })), 403, "M_FORBIDDEN").await;
    node.ok(node.post(&alice, &path(&room, "ban"), bobs.clone())).await;
    let member = path(&room, &format!("state/m.room.member/{}", escape(bob.id.as_str())));
    let content = node.ok(node.get(&alice, &member)).await;
    assert_eq!((&content["membership"], &content["reason"]), (&json!("ban"), &json!("why")));
    node.fails(node.post(&bob, &path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
    node.ok(node.post(&alice, &path(&room, "unban"), bobs)).await;
    node.invite(&alice, &room, &bob).await;
    node.join(&bob, &room).await;
}

#[tokio::test]
async fn rooms_that_are_not_here_are_not_found() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let alias = format!("#none:{}", node.server());
    for (endpoint, room) in [("join", "!none"), ("knock", "!none:elsewhere"), ("join", &alias)] {
        let path = format!("/_matrix/client/v3/{endpoint}/{}", escape(room));
        node.fails(node.post(&alice, &path, json!({})), 404, "M_NOT_FOUND").await;
    }
}

#[tokio::test]
async fn createroom_refuses_what_it_cannot_make() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let create = |body| {
        node.pass(std::time::Duration::from_millis(1));
        node.post(&alice, "/_matrix/client/v3/createRoom", body)
    };
    node.fails(create(json!({ "room_version": "99" })), 400, "M_UNSUPPORTED_ROOM_VERSION").await;
    node.fails(create(json!({ "name": 7 })), 400, "M_BAD_JSON").await;
    node.ok(create(json!({ "room_alias_name": "pond" }))).await;
    node.fails(create(json!({ "room_alias_name": "pond" })), 400, "M_ROOM_IN_USE").await;
    for version in ["6", "9", "11", "12"] {
        node.ok(create(json!({ "room_version": version }))).await;
    }
}
