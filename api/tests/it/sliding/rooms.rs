//! What a room's object says, by the user's place in it.

use serde_json::{Value, json};

use super::{all, rooms};
use crate::{
    harness::TestNode,
    room::{bodies, members},
};

fn ask() -> Value {
    let required = json!([["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["m.room.name", ""]]);
    json!({ "lists": { "all": { "ranges": [[0, 99]], "timeline_limit": 3, "required_state": required } } })
}

#[tokio::test]
async fn an_invite_shows_stripped_state_and_joining_makes_it_a_whole_room() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "name": "Pond", "preset": "private_chat" })).await;
    let start = node.slide(&bob, &Value::Null, &ask()).await;
    assert_eq!(rooms(&start), Vec::<String>::new());
    node.invite(&alice, &room, &bob).await;
    let invited = node.slide(&bob, &start["pos"], &ask()).await;
    let told = &invited["rooms"][&room];
    assert_eq!((&told["initial"], &told["membership"]), (&json!(true), &json!("invite")));
    let shown = bodies(&told["invite_state"]);
    assert!(shown.contains(&"m.room.name".to_owned()) && shown.contains(&"m.room.member".to_owned()), "{shown:?}");
    assert!(told["bump_stamp"].is_u64());
    assert!(told.get("timeline").is_none() && told.get("required_state").is_none() && told.get("name").is_none());
    let quiet = node.slide(&bob, &invited["pos"], &ask()).await;
    assert_eq!(rooms(&quiet), Vec::<String>::new());
    node.text(&alice, &room, "not for outsiders").await;
    let quiet = node.slide(&bob, &quiet["pos"], &ask()).await;
    assert_eq!(rooms(&quiet), Vec::<String>::new());
    node.join(&bob, &room).await;
    let joined = node.slide(&bob, &quiet["pos"], &ask()).await;
    let told = &joined["rooms"][&room];
    assert_eq!((&told["initial"], &told["name"], &told["membership"]), (&json!(true), &json!("Pond"), &json!("join")));
    assert!(members(&told["required_state"]).contains(&bob.id.to_string()));
}

#[tokio::test]
async fn an_invite_from_somebody_who_is_ignored_is_not_shown() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", bob.id);
    node.ok(node.put(&bob, path, json!({ "ignored_users": { alice.id.as_str(): {} } }))).await;
    let room = node.room(&alice, json!({ "preset": "private_chat" })).await;
    node.invite(&alice, &room, &bob).await;
    assert_eq!(rooms(&node.slide(&bob, &Value::Null, &ask()).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_room_that_the_user_left_is_told_once_and_one_he_was_put_out_of_stays() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (left, kicked) = (node.public_room(&alice).await, node.public_room(&alice).await);
    for room in [&left, &kicked] {
        node.join(&bob, room).await;
    }
    let start = node.slide(&bob, &Value::Null, &ask()).await;
    assert_eq!(start["lists"]["all"]["count"], 2);
    node.leave(&bob, &left).await;
    let path = crate::room::path(&kicked, "kick");
    node.ok(node.post(&alice, path, json!({ "user_id": bob.id, "reason": "frogs only" }))).await;
    node.text(&alice, &left, "after").await;
    node.text(&alice, &kicked, "after").await;
    let gone = node.slide(&bob, &start["pos"], &ask()).await;
    for room in [&left, &kicked] {
        let told = &gone["rooms"][room];
        assert_eq!(told["membership"], "leave");
        let own: Vec<_> = told["required_state"].as_array().unwrap().iter().collect();
        assert_eq!(own.last().unwrap()["content"]["membership"], "leave", "{told}");
        assert_eq!(bodies(&told["timeline"]), ["m.room.member"], "{told}");
    }
    let after = node.slide(&bob, &gone["pos"], &ask()).await;
    assert_eq!(rooms(&after), Vec::<String>::new());
    assert_eq!(after["lists"]["all"]["count"], 1);
    // Another device learns of the one he was put out of.
    let other = node.device(&bob).await;
    assert_eq!(rooms(&node.slide(&other, &Value::Null, &ask()).await), [kicked.as_str()]);
    // Coming back, everything is told again.
    node.join(&bob, &left).await;
    let back = node.slide(&bob, &after["pos"], &ask()).await;
    assert_eq!((&back["rooms"][&left]["initial"], &back["rooms"][&left]["membership"]), (&json!(true), &json!("join")));
}

#[tokio::test]
async fn rooms_of_others_are_not_shown_to_who_subscribes() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let ask = json!({ "room_subscriptions": {
        &room: { "timeline_limit": 5, "required_state": [["*", "*"]] },
        "!nowhere:here.example": { "timeline_limit": 5, "required_state": [] },
    } });
    assert_eq!(rooms(&node.slide(&bob, &Value::Null, &ask).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_nameless_room_has_heroes_with_their_names() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.id);
    node.ok(node.put(&bob, path, json!({ "displayname": "Bob" }))).await;
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let first = node.slide(&alice, &Value::Null, &json!({ "lists": all(9, 1) })).await;
    assert_eq!(first["rooms"][&room]["heroes"], json!([{ "user_id": bob.id, "displayname": "Bob" }]));
    node.state(&alice, &room, "m.room.name", "", json!({ "name": "Pond" })).await;
    let second = node.slide(&alice, &first["pos"], &json!({ "lists": all(9, 1) })).await;
    assert!(second["rooms"][&room].get("heroes").is_none());
    assert_eq!(second["rooms"][&room]["name"], "Pond");
}

#[tokio::test]
async fn unread_counts_change_with_messages_and_with_receipts() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let first = node.slide(&alice, &Value::Null, &ask()).await;
    assert_eq!(first["rooms"][&room]["notification_count"], 0);
    let mention = json!({ "msgtype": "m.text", "body": "hello", "m.mentions": { "user_ids": [alice.id] } });
    let event = node.message(&bob, &room, mention).await;
    let second = node.slide(&alice, &first["pos"], &ask()).await;
    let told = &second["rooms"][&room];
    assert_eq!((&told["notification_count"], &told["highlight_count"]), (&json!(1), &json!(1)));
    for kind in ["m.read.private", "m.read"] {
        let before = node.slide(&alice, &second["pos"], &ask()).await;
        let path = crate::room::path(&room, &format!("receipt/{kind}/{}", crate::room::escape(&event)));
        node.ok(node.post(&alice, path, json!({}))).await;
        let read = node.slide(&alice, &before["pos"], &ask()).await;
        let told = &read["rooms"][&room];
        assert_eq!((&told["notification_count"], told.get("timeline")), (&json!(0), None), "{kind} {read}");
    }
}

#[tokio::test]
async fn a_direct_chat_says_so_and_when_it_is_none_any_more() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (room, other) = (node.public_room(&alice).await, node.public_room(&alice).await);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.direct", alice.id);
    let first = node.slide(&alice, &Value::Null, &ask()).await;
    assert!(first["rooms"][&room].get("is_dm").is_none());
    node.ok(node.put(&alice, &path, json!({ "@bob:here": [&room] }))).await;
    let second = node.slide(&alice, &first["pos"], &ask()).await;
    assert_eq!(second["rooms"][&room]["is_dm"], true);
    assert!(second["rooms"].get(&other).is_none());
    node.ok(node.put(&alice, &path, json!({}))).await;
    let third = node.slide(&alice, &second["pos"], &ask()).await;
    assert_eq!(third["rooms"][&room]["is_dm"], false);
}

#[tokio::test]
async fn history_that_is_not_for_the_reader_is_not_sent() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.state(&alice, &room, "m.room.history_visibility", "", json!({ "history_visibility": "joined" })).await;
    node.text(&alice, &room, "before").await;
    node.join(&bob, &room).await;
    node.text(&alice, &room, "after").await;
    let answer = node.slide(&bob, &Value::Null, &json!({ "lists": all(9, 20) })).await;
    let shown = bodies(&answer["rooms"][&room]["timeline"]);
    assert!(shown.contains(&"after".to_owned()) && !shown.contains(&"before".to_owned()), "{shown:?}");
}
