//! What belongs to a room.

use http::Method;
use serde_json::json;

use super::V3;
use crate::{
    harness::TestNode,
    room::{escape, path},
};

#[tokio::test]
async fn rooms_that_cannot_be_are_not_created() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let create = format!("{V3}/createRoom");
    node.fails(node.raw(Method::POST, &alice, &create, "{"), 400, "M_NOT_JSON").await;
    // Nobody may send what the room is made of.
    let levels = json!({ "events": { "m.room.name": 200 }, "users": { alice.id.as_str(): 0 } });
    let body = json!({ "room_version": "11", "name": "Pond", "power_level_content_override": levels });
    node.fails(node.post(&alice, create, body), 400, "M_INVALID_ROOM_STATE").await;
}

#[tokio::test]
async fn who_has_no_power_bans_nobody_and_sets_nothing() {
    let node = TestNode::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| node.user(name));
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let them = |user: &crate::harness::TestUser| json!({ "user_id": user.id });
    node.fails(node.post(&bob, path(&room, "ban"), them(&carol)), 403, "M_FORBIDDEN").await;
    node.ok(node.post(&alice, path(&room, "ban"), them(&carol))).await;
    node.fails(node.post(&bob, path(&room, "unban"), them(&carol)), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&carol, path(&room, "ban"), them(&bob)), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&bob, path(&room, "state/m.room.name/"), json!({ "name": "x" })), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&carol, path(&room, "state/org.a/k"), json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&bob, path(&room, "state/org.a/k"), json!({})), 403, "M_FORBIDDEN").await;
    let key = format!("state/org.a/{}", escape("@other:here"));
    node.fails(node.put(&bob, path(&room, &key), json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&carol, path(&room, "state/m.room.name/x")), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&bob, path(&room, "forget"), json!({})), 400, "M_UNKNOWN").await;
}

#[tokio::test]
async fn aliases_are_ids_that_lead_somewhere() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let directory = |alias: &str| format!("{V3}/directory/room/{}", escape(alias));
    let none = format!("#none:{}", node.server());
    node.fails(node.get(&alice, directory("no alias")), 400, "M_INVALID_PARAM").await;
    node.fails(node.delete(&alice, directory(&none), json!({})), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&bob, path(&room, "aliases")), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&alice, format!("{V3}/rooms/no-room/aliases")), 400, "M_INVALID_PARAM").await;
    let list = format!("{V3}/directory/list/room/!none:here");
    node.fails(node.put(&alice, list, json!({ "visibility": "public" })), 404, "M_NOT_FOUND").await;
    let canonical = path(&room, "state/m.room.canonical_alias/");
    node.fails(node.put(&alice, &canonical, json!({ "alias": none })), 400, "M_BAD_ALIAS").await;
    node.fails(node.put(&alice, canonical, json!({ "alias": "none" })), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn relations_and_threads_are_for_who_is_there() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let event = node.text(&alice, &room, "root").await;
    let below = |rest: &str| format!("/_matrix/client/v1/rooms/{}/{rest}", escape(&room));
    for rest in ["m.thread", "m.thread/m.room.message"] {
        let of = |event: &str| below(&format!("relations/{}/{rest}", escape(event)));
        node.fails(node.get(&alice, of("$none")), 404, "M_NOT_FOUND").await;
        node.fails(node.get(&bob, of(&event)), 404, "M_NOT_FOUND").await;
    }
    node.fails(node.get(&alice, below("threads?from=nowhere")), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&bob, below("threads")), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn a_stream_begins_where_it_can() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({})).await;
    let peek = format!("{V3}/events?room_id={}&from=nowhere", escape(&room));
    node.fails(node.get(&alice, peek), 400, "M_INVALID_PARAM").await;
}
