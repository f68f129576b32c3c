//! `/state`, `/members`, `/joined_members`, `/joined_rooms`.

use serde_json::json;

use crate::{
    harness::TestNode,
    room::{members, path},
};

#[tokio::test]
async fn state_is_read_whole_by_key_and_as_an_event() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let event_id = node.state(&alice, &room, "org.example.thing", "a/b", json!({ "n": 1 })).await;
    let all = node.ok(node.get(&alice, &path(&room, "state"))).await;
    assert!(all.as_array().unwrap().iter().any(|event| event["event_id"] == json!(event_id)));
    let content = node.ok(node.get(&alice, &path(&room, "state/org.example.thing/a%2Fb"))).await;
    assert_eq!(content, json!({ "n": 1 }));
    let whole = node.ok(node.get(&alice, &path(&room, "state/org.example.thing/a%2Fb?format=event"))).await;
    assert_eq!((&whole["event_id"], &whole["room_id"]), (&json!(event_id), &json!(room)));
    for rest in ["state/m.room.create", "state/m.room.create/"] {
        assert!(node.ok(node.get(&alice, &path(&room, rest))).await.is_object());
    }
    node.fails(node.get(&alice, &path(&room, "state/m.room.topic/")), 404, "M_NOT_FOUND").await;
    node.ok(node.put(&alice, &path(&room, "state/m.room.topic"), json!({ "topic": "T" }))).await;
    assert_eq!(node.ok(node.get(&alice, &path(&room, "state/m.room.topic"))).await, json!({ "topic": "T" }));
}

#[tokio::test]
async fn who_left_sees_the_state_as_it_was_then() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "then" })).await;
    node.leave(&bob, &room).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "now" })).await;
    node.state(&alice, &room, "m.room.name", "", json!({ "name": "new" })).await;
    let topic = node.ok(node.get(&bob, &path(&room, "state/m.room.topic"))).await;
    assert_eq!(topic, json!({ "topic": "then" }));
    node.fails(node.get(&bob, &path(&room, "state/m.room.name")), 404, "M_NOT_FOUND").await;
    let all = node.ok(node.get(&bob, &path(&room, "state"))).await;
    assert!(!all.to_string().contains("now"));
}

#[tokio::test]
async fn members_are_listed_by_membership_and_as_they_were_at_a_point() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let then = node.token(&alice).await;
    node.leave(&bob, &room).await;
    node.join(&carol, &room).await;
    let (a, b, c) = (alice.id.as_str(), bob.id.as_str(), carol.id.as_str());
    let list = async |query: &str| {
        members(&node.ok(node.get(&alice, &path(&room, &format!("members{query}")))).await["chunk"])
    };
    assert_eq!(list("").await, [a, b, c]);
    assert_eq!(list("?membership=join").await, [a, c]);
    assert_eq!(list("?not_membership=join").await, [b]);
    assert_eq!(list(&format!("?membership=join&at={}", then.as_str().unwrap())).await, [a, b]);
    let joined = node.ok(node.get(&alice, &path(&room, "joined_members"))).await;
    assert_eq!(joined["joined"].as_object().unwrap().keys().collect::<Vec<_>>(), [a, c]);
    let rooms = node.ok(node.get(&carol, "/_matrix/client/v3/joined_rooms")).await;
    assert_eq!(rooms, json!({ "joined_rooms": [room] }));
}
