//! Required state: patterns, lazy members, changes, and rules that ask for more or less than before.

use serde_json::{Value, json};

use super::rooms;
use crate::{
    harness::TestNode,
    room::{bodies, members},
};

fn sub(room: &str, timeline_limit: u64, required: &Value) -> Value {
    json!({ "room_subscriptions": { room: { "timeline_limit": timeline_limit, "required_state": required } } })
}

#[tokio::test]
async fn lazy_members_are_those_of_the_timeline_and_are_sent_once() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = node.public_room(&alice).await;
    for user in [&bob, &carol] {
        node.join(user, &room).await;
    }
    node.text(&bob, &room, "hello").await;
    let ask = sub(&room, 1, &json!([["m.room.member", "$LAZY"]]));
    let first = node.slide(&alice, &Value::Null, &ask).await;
    assert_eq!(members(&first["rooms"][&room]["required_state"]), [bob.id.to_string()]);
    assert_eq!(first["rooms"][&room]["joined_count"], 3);
    node.text(&bob, &room, "again").await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    assert!(second["rooms"][&room].get("required_state").is_none(), "{second}");
    node.text(&carol, &room, "me too").await;
    let third = node.slide(&alice, &second["pos"], &ask).await;
    assert_eq!(members(&third["rooms"][&room]["required_state"]), [carol.id.to_string()]);
    // The answer was lost: the member event comes again with it.
    let again = node.slide(&alice, &second["pos"], &ask).await;
    assert_eq!(members(&again["rooms"][&room]["required_state"]), [carol.id.to_string()]);
    // Changes of memberships come without being asked for.
    let dave = node.user("dave").await;
    node.join(&dave, &room).await;
    node.leave(&bob, &room).await;
    node.text(&carol, &room, "bye").await;
    let wide = sub(&room, 10, &json!([["m.room.member", "$LAZY"]]));
    let fourth = node.slide(&alice, &again["pos"], &wide).await;
    let told = members(&fourth["rooms"][&room]["required_state"]);
    assert!(told.contains(&dave.id.to_string()) && told.contains(&bob.id.to_string()), "{told:?}");
    assert_eq!(fourth["rooms"][&room]["joined_count"], 3);
}

#[tokio::test]
async fn me_and_wildcards_are_patterns() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "name": "Pond", "preset": "public_chat" })).await;
    node.join(&bob, &room).await;
    node.state(&alice, &room, "org.example.call", "x", json!({})).await;
    node.state(&alice, &room, "org.example.call", "y", json!({})).await;
    let ask = sub(&room, 0, &json!([["m.room.member", "$ME"], ["org.example.call", "*"]]));
    let answer = node.slide(&alice, &Value::Null, &ask).await;
    let state = &answer["rooms"][&room]["required_state"];
    assert_eq!(members(state), [alice.id.to_string()]);
    assert_eq!(bodies(state).iter().filter(|kind| *kind == "org.example.call").count(), 2);
    assert_eq!(state.as_array().unwrap().len(), 3);
    let everything = node.slide(&bob, &Value::Null, &sub(&room, 0, &json!([["*", "*"]]))).await;
    let state = &everything["rooms"][&room]["required_state"];
    assert_eq!(members(state).len(), 2);
    assert!(bodies(state).contains(&"m.room.power_levels".to_owned()));
}

#[tokio::test]
async fn changes_come_alone_and_a_name_that_is_taken_away_is_null() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond" })).await;
    let ask = sub(&room, 5, &json!([["m.room.name", ""], ["m.room.topic", ""]]));
    let first = node.slide(&alice, &Value::Null, &ask).await;
    assert_eq!(first["rooms"][&room]["name"], "Pond");
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "frogs" })).await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    let told = &second["rooms"][&room];
    assert_eq!(bodies(&told["required_state"]), ["m.room.topic"]);
    assert!(told.get("name").is_none() && told.get("joined_count").is_none());
    node.state(&alice, &room, "m.room.name", "", json!({})).await;
    node.state(&alice, &room, "m.room.avatar", "", json!({ "url": "mxc://here/pic" })).await;
    let third = node.slide(&alice, &second["pos"], &ask).await;
    let told = &third["rooms"][&room];
    assert_eq!((told.get("name"), &told["avatar"]), (Some(&Value::Null), &json!("mxc://here/pic")));
    assert_eq!(bodies(&told["required_state"]), ["m.room.name"]);
}

#[tokio::test]
async fn a_rule_that_asks_for_more_is_answered_at_once_with_the_difference() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond", "topic": "frogs" })).await;
    for n in 0..4 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    let narrow = sub(&room, 1, &json!([["m.room.name", ""]]));
    let first = node.slide(&alice, &Value::Null, &narrow).await;
    let wide = sub(&room, 3, &json!([["m.room.name", ""], ["m.room.topic", ""]]));
    let second = node.slide(&alice, &first["pos"], &wide).await;
    let told = &second["rooms"][&room];
    assert_eq!(bodies(&told["timeline"]), ["m1", "m2", "m3"]);
    assert_eq!(told["unstable_expanded_timeline"], true);
    assert_eq!(told["num_live"], 0);
    assert_eq!(bodies(&told["required_state"]), ["m.room.topic"]);
    assert!(told.get("initial").is_none());
    // Once it was sent it is not sent again, also after the rule asked for less in the meantime.
    let third = node.slide(&alice, &second["pos"], &wide).await;
    assert_eq!(rooms(&third), Vec::<String>::new());
    let fourth = node.slide(&alice, &third["pos"], &narrow).await;
    assert_eq!(rooms(&fourth), Vec::<String>::new());
    let fifth = node.slide(&alice, &fourth["pos"], &sub(&room, 3, &json!([["m.room.name", ""]]))).await;
    assert_eq!(rooms(&fifth), Vec::<String>::new());
    // A gap is a reason to send the newest again.
    for n in 0..4 {
        node.text(&alice, &room, &format!("n{n}")).await;
    }
    let gap = node.slide(&alice, &fifth["pos"], &narrow).await;
    assert_eq!(bodies(&gap["rooms"][&room]["timeline"]), ["n3"]);
    assert_eq!(gap["rooms"][&room]["limited"], true);
    let filled = node.slide(&alice, &gap["pos"], &sub(&room, 3, &json!([["m.room.name", ""]]))).await;
    assert_eq!(bodies(&filled["rooms"][&room]["timeline"]), ["n1", "n2", "n3"]);
}

#[tokio::test]
async fn rules_that_match_the_same_room_are_combined() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond", "topic": "frogs" })).await;
    for n in 0..3 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    let mut ask = sub(&room, 3, &json!([["m.room.topic", ""]]));
    ask["lists"] = json!({
        "a": { "ranges": [[0, 0]], "timeline_limit": 1, "required_state": [["m.room.name", ""]] },
        "b": { "ranges": [[0, 0]], "timeline_limit": 2, "required_state": [["m.room.create", ""]] },
    });
    let answer = node.slide(&alice, &Value::Null, &ask).await;
    let told = &answer["rooms"][&room];
    assert_eq!(told["timeline"].as_array().unwrap().len(), 3);
    assert_eq!(bodies(&told["required_state"]), ["m.room.create", "m.room.name", "m.room.topic"]);
    assert_eq!(told["lists"], json!(["a", "b"]));
}
