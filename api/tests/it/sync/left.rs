//! Invites, knocks and rooms that were left.

use serde_json::json;

use crate::{
    harness::TestNode,
    room::{bodies, path},
};

#[tokio::test]
async fn an_invite_shows_stripped_state_until_it_is_answered() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "name": "Pond", "invite": [bob.id] })).await;
    let synced = node.sync(&bob, &[]).await;
    let events = &synced["rooms"]["invite"][&room]["invite_state"]["events"];
    let kinds = bodies(events);
    for kind in ["m.room.name", "m.room.create", "m.room.join_rules", "m.room.member"] {
        assert!(kinds.iter().any(|other| other == kind), "{kind} {kinds:?}");
    }
    assert!(events.as_array().unwrap().iter().all(|event| event.get("event_id").is_none()));
    let token = &synced["next_batch"];
    assert!(node.sync_since(&bob, token).await.get("rooms").is_none(), "told once");
    node.leave(&bob, &room).await;
    let refused = node.sync_since(&bob, token).await;
    let left = &refused["rooms"]["leave"][&room];
    assert_eq!(bodies(&left["timeline"]["events"]), ["m.room.member"]);
    assert!(left.get("state").is_none(), "who never was in the room sees nothing of it");
    assert!(node.sync(&bob, &[]).await.get("rooms").is_none());
}

#[tokio::test]
async fn a_left_room_is_told_once_up_to_the_leaving() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    node.text(&alice, &room, "before").await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "before" })).await;
    node.ok(node.post(&alice, &path(&room, "kick"), json!({ "user_id": bob.id, "reason": "out" }))).await;
    node.text(&alice, &room, "after").await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "after" })).await;
    let synced = node.sync_since(&bob, &token).await;
    let left = &synced["rooms"]["leave"][&room];
    assert_eq!(bodies(&left["timeline"]["events"]), ["before", "m.room.topic", "m.room.member"]);
    assert!(!synced.to_string().contains("after"));
    assert!(synced["rooms"].get("join").is_none());
    assert!(node.sync_since(&bob, &synced["next_batch"]).await.get("rooms").is_none());
    let filter = json!({ "room": { "include_leave": true, "timeline": { "limit": 1 } } }).to_string();
    let all = node.sync(&bob, &[("filter", &filter)]).await;
    let left = &all["rooms"]["leave"][&room];
    assert_eq!(bodies(&left["timeline"]["events"]), ["m.room.member"]);
    let state = left["state"]["events"].as_array().unwrap();
    assert!(state.iter().any(|event| event["content"]["topic"] == "before"));
    assert!(!all.to_string().contains("after"));
    node.ok(node.post(&bob, &path(&room, "forget"), json!({}))).await;
    assert!(node.sync(&bob, &[("filter", &filter)]).await.get("rooms").is_none());
}

#[tokio::test]
async fn a_room_joined_again_comes_whole_and_limited() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&bob).await;
    node.leave(&bob, &room).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "meanwhile" })).await;
    node.join(&bob, &room).await;
    let filter = json!({ "room": { "timeline": { "limit": 1 } } }).to_string();
    let synced = node.sync(&bob, &[("since", token.as_str().unwrap()), ("filter", &filter)]).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true);
    let state = bodies(&joined["state"]["events"]);
    assert!(state.contains(&"m.room.topic".to_owned()) && state.contains(&"m.room.create".to_owned()));
    assert!(synced["rooms"].get("leave").is_none());
}

#[tokio::test]
async fn a_knock_shows_the_rooms_stripped_state() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let knock = json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } });
    let room = node.room(&alice, json!({ "name": "Pond", "initial_state": [knock] })).await;
    let path = format!("/_matrix/client/v3/knock/{}", crate::room::escape(&room));
    node.ok(node.post(&bob, &path, json!({ "reason": "hello" }))).await;
    let synced = node.sync(&bob, &[]).await;
    let kinds = bodies(&synced["rooms"]["knock"][&room]["knock_state"]["events"]);
    assert!(kinds.contains(&"m.room.name".to_owned()), "{kinds:?}");
}
