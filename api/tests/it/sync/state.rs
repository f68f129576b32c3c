//! State changes in `/sync`.

use serde_json::{Value, json};

use crate::{
    harness::TestNode,
    room::{bodies, members},
};

fn topics(events: &Value) -> Vec<Value> {
    let events = events.as_array().into_iter().flatten();
    events.filter(|event| event["type"] == "m.room.topic").map(|event| event["content"]["topic"].clone()).collect()
}

#[tokio::test]
async fn state_that_changed_in_a_gap_is_told_as_it_was_at_the_start_of_the_timeline() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "old" })).await;
    let token = node.token(&alice).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "in the gap" })).await;
    node.state(&alice, &room, "m.room.name", "", json!({ "name": "in the gap" })).await;
    for n in 0..3 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "shown" })).await;
    let filter = json!({ "room": { "timeline": { "limit": 2 } } }).to_string();
    let since = token.as_str().unwrap();
    let synced = node.sync(&alice, &[("since", since), ("filter", &filter)]).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(bodies(&joined["timeline"]["events"]), ["m2", "m.room.topic"]);
    assert_eq!(topics(&joined["state"]["events"]), ["in the gap"]);
    assert_eq!(bodies(&joined["state"]["events"]).len(), 2, "and the name, once");
    let after = node.sync(&alice, &[("since", since), ("filter", &filter), ("use_state_after", "true")]).await;
    let joined = &after["rooms"]["join"][&room];
    assert!(joined.get("state").is_none());
    assert_eq!(topics(&joined["state_after"]["events"]), ["shown"]);
}

#[tokio::test]
async fn a_replaced_state_event_is_shown_with_what_it_replaced() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let first = node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "one" })).await;
    let token = node.token(&alice).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "two" })).await;
    let synced = node.sync_since(&alice, &token).await;
    let event = &synced["rooms"]["join"][&room]["timeline"]["events"][0];
    assert_eq!(event["unsigned"]["prev_content"], json!({ "topic": "one" }));
    assert_eq!(event["unsigned"]["replaces_state"], json!(first));
    assert_eq!(event["unsigned"]["membership"], "join");
}

#[tokio::test]
async fn a_new_room_comes_with_its_whole_state_and_what_the_reader_may_see_of_its_history() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let secret = json!({ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } });
    let closed = node.room(&alice, json!({ "preset": "public_chat", "initial_state": [secret] })).await;
    let open = node.public_room(&alice).await;
    for room in [&closed, &open] {
        node.state(&alice, room, "m.room.topic", "", json!({ "topic": "T" })).await;
        node.text(&alice, room, "before").await;
    }
    let token = node.token(&bob).await;
    for room in [&closed, &open] {
        node.join(&bob, room).await;
        node.text(&alice, room, "after").await;
    }
    let synced = node.sync_since(&bob, &token).await;
    let joined = &synced["rooms"]["join"];
    let seen = bodies(&joined[&closed]["timeline"]["events"]);
    assert!(seen.contains(&"after".to_owned()) && !seen.contains(&"before".to_owned()), "{seen:?}");
    assert_eq!(topics(&joined[&closed]["state"]["events"]), ["T"], "the topic was set before");
    let timeline = members(&joined[&closed]["timeline"]["events"]);
    assert_eq!(timeline, [alice.id.as_str(), bob.id.as_str()], "what came before the visibility is shared");
    let seen = bodies(&joined[&open]["timeline"]["events"]);
    assert!(seen.ends_with(&["before".to_owned(), "m.room.member".to_owned(), "after".to_owned()]), "{seen:?}");
    assert_eq!(joined[&open]["summary"]["m.joined_member_count"], 2);
    assert_eq!(joined[&open]["summary"]["m.heroes"], json!([alice.id]));
}

#[tokio::test]
async fn a_change_of_members_changes_the_summary() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let token = node.token(&alice).await;
    node.invite(&alice, &room, &bob).await;
    let synced = node.sync_since(&alice, &token).await;
    let summary = &synced["rooms"]["join"][&room]["summary"];
    assert_eq!((&summary["m.joined_member_count"], &summary["m.invited_member_count"]), (&json!(1), &json!(1)));
    assert_eq!(summary["m.heroes"], json!([bob.id]));
}

#[tokio::test]
async fn a_change_that_no_event_of_the_timeline_made_is_told_as_state() {
    use millpond_store::{Topic, job, rows::StateChange, tables};
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "one" })).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "two" })).await;
    let token = node.token(&alice).await;
    // What a state resolution does when a branch wins that was seen before.
    let id = ruma::RoomId::parse(&room).unwrap();
    let resolve = job(
        move |view| {
            let room = view.get(tables::ROOM_IDS, &*id)?.unwrap();
            let now = view.get(tables::ROOM_STATE, (room, "m.room.topic", ""))?.unwrap();
            let before = view.get(tables::EVENTS, now)?.unwrap().meta.replaces.unwrap();
            let key = view.get(tables::STATE_KEYS, ("m.room.topic", ""))?.unwrap();
            Ok::<_, millpond_node::Error>((room, key, now, before))
        },
        |(room, key, now, before), txn| {
            let position = txn.next_position().0;
            txn.put(tables::ROOM_STATE, (room, "m.room.topic", ""), &before)?;
            let change = StateChange { event: Some(before), replaces: Some(now) };
            txn.put(tables::ROOM_STATE_LOG, (room, position, key), &change)?;
            txn.touch(Topic::Room(room));
            Ok(())
        },
    );
    node.node.core.write(resolve).await.unwrap();
    let synced = node.sync_since(&alice, &token).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(topics(&joined["state"]["events"]), ["one"]);
    assert!(joined.get("timeline").is_none());
}
