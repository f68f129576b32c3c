//! Simplified sliding sync (MSC4186).

mod changes;
mod extensions;
mod filters;
mod rooms;
mod state;
mod wake;

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{bodies, escape},
};

const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

impl TestNode {
    /// Slides without waiting.
    async fn slide(&self, who: &TestUser, pos: &Value, body: &Value) -> Value {
        self.ok(self.post(who, path(pos, 0), body.clone())).await
    }
}

fn path(pos: &Value, timeout_ms: u64) -> String {
    match pos.as_str() {
        Some(pos) => format!("{PATH}?timeout={timeout_ms}&pos={}", escape(pos)),
        None => format!("{PATH}?timeout={timeout_ms}"),
    }
}

/// A list of the newest rooms up to an index.
fn all(last: u64, timeline_limit: u64) -> Value {
    let required = json!([["m.room.create", ""], ["m.room.name", ""], ["m.room.member", "$LAZY"]]);
    json!({ "all": { "ranges": [[0, last]], "timeline_limit": timeline_limit, "required_state": required } })
}

fn rooms(answer: &Value) -> Vec<String> {
    answer["rooms"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
}

#[tokio::test]
async fn it_is_advertised() {
    let node = TestNode::new();
    let versions = node.ok(node.get("", "/_matrix/client/versions")).await;
    assert_eq!(versions["unstable_features"]["org.matrix.simplified_msc3575"], true);
}

#[tokio::test]
async fn a_list_grows_by_the_rooms_that_were_not_sent_and_in_the_order_of_activity() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(node.room(&alice, json!({ "name": format!("room {n}") })).await);
    }
    // The oldest becomes the newest.
    node.text(&alice, &made[0], "up").await;
    let first = node.slide(&alice, &Value::Null, &json!({ "lists": all(1, 1) })).await;
    assert_eq!(first["lists"]["all"]["count"], 5);
    let mut expected = vec![made[0].clone(), made[4].clone()];
    expected.sort();
    assert_eq!(rooms(&first), expected);
    let room = &first["rooms"][&made[0]];
    assert_eq!(bodies(&room["timeline"]), ["up"]);
    assert_eq!((&room["initial"], &room["limited"], &room["name"]), (&json!(true), &json!(true), &json!("room 0")));
    assert_eq!(room["lists"], json!(["all"]));
    assert_eq!(room["membership"], "join");
    let second = node.slide(&alice, &first["pos"], &json!({ "lists": all(9, 1) })).await;
    let mut expected = made[1..4].to_vec();
    expected.sort();
    assert_eq!(rooms(&second), expected);
    let third = node.slide(&alice, &second["pos"], &json!({ "lists": all(9, 1) })).await;
    assert_eq!(rooms(&third), Vec::<String>::new());
    node.text(&alice, &made[2], "news").await;
    let fourth = node.slide(&alice, &third["pos"], &json!({ "lists": all(9, 1) })).await;
    assert_eq!(rooms(&fourth), [made[2].clone()]);
    let room = &fourth["rooms"][&made[2]];
    assert_eq!(bodies(&room["timeline"]), ["news"]);
    assert_eq!((room.get("initial"), room.get("name"), &room["num_live"]), (None, None, &json!(1)));
    assert_eq!(room["limited"], false);
    let newest = fourth["rooms"][&made[2]]["bump_stamp"].as_u64();
    assert!(newest > first["rooms"][&made[0]]["bump_stamp"].as_u64());
}

#[tokio::test]
async fn a_room_that_leaves_the_window_is_owed_what_happens_meanwhile() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (old, new) = (node.public_room(&alice).await, node.public_room(&alice).await);
    let window = json!({ "lists": all(0, 5) });
    let only_new = node.slide(&alice, &Value::Null, &window).await;
    assert_eq!(rooms(&only_new), [new.as_str()]);
    let sub = |room: &str| json!({ "room_subscriptions": { room: { "timeline_limit": 5, "required_state": [] } } });
    let both = node.slide(&alice, &only_new["pos"], &sub(&old)).await;
    assert_eq!(rooms(&both), [old.as_str()]);
    for n in 0..3 {
        node.text(&alice, &new, &format!("n{n}")).await;
    }
    let meanwhile = node.slide(&alice, &both["pos"], &sub(&old)).await;
    assert_eq!(rooms(&meanwhile), Vec::<String>::new());
    let again = node.slide(&alice, &meanwhile["pos"], &sub(&new)).await;
    let room = &again["rooms"][&new];
    assert_eq!(bodies(&room["timeline"]), ["n0", "n1", "n2"]);
    assert_eq!((room.get("initial"), &room["num_live"]), (None, &json!(0)), "they came before the last answer");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_what_it_told_does_not_count() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let other = node.public_room(&alice).await;
    let ask = json!({ "conn_id": "a", "lists": all(0, 1) });
    let wide = json!({ "conn_id": "a", "lists": all(9, 1) });
    let first = node.slide(&alice, &Value::Null, &ask).await;
    assert_eq!(rooms(&first), [other.as_str()]);
    let lost = node.slide(&alice, &first["pos"], &wide).await;
    assert_eq!(rooms(&lost), [room.as_str()]);
    let again = node.slide(&alice, &first["pos"], &wide).await;
    assert_eq!(again["rooms"][&room]["initial"], true);
    // Going on from the one that was replaced is no more possible.
    let refused = node.fails(node.post(&alice, path(&lost["pos"], 0), wide.clone()), 400, "M_UNKNOWN_POS").await;
    assert!(refused["error"].as_str().unwrap().contains("anew"));
    assert_eq!(rooms(&node.slide(&alice, &again["pos"], &wide).await), Vec::<String>::new());
}

#[tokio::test]
async fn connections_are_told_apart_and_unknown_ones_start_anew() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let ask = |conn: &str| json!({ "conn_id": conn, "lists": all(9, 1) });
    let one = node.slide(&alice, &Value::Null, &ask("one")).await;
    let two = node.slide(&alice, &Value::Null, &ask("two")).await;
    assert_eq!((rooms(&one), rooms(&two)), (vec![room.clone()], vec![room.clone()]));
    node.fails(node.post(&alice, path(&one["pos"], 0), ask("two")), 400, "M_UNKNOWN_POS").await;
    node.fails(node.post(&alice, path(&json!("s1_2_3"), 0), ask("one")), 400, "M_UNKNOWN_POS").await;
    node.fails(node.post(&alice, path(&json!("s999999_1_1_1"), 0), ask("one")), 400, "M_UNKNOWN_POS").await;
    let other = node.device(&alice).await;
    node.fails(node.post(&other, path(&one["pos"], 0), ask("one")), 400, "M_UNKNOWN_POS").await;
    // A connection that starts again replaces the one of its name.
    let anew = node.slide(&alice, &Value::Null, &ask("one")).await;
    assert_eq!(rooms(&anew), [room]);
    node.fails(node.post(&alice, path(&one["pos"], 0), ask("one")), 400, "M_UNKNOWN_POS").await;
    node.slide(&alice, &two["pos"], &ask("two")).await;
    // A pos goes where a token of /sync goes.
    let messages = crate::room::path(&anew["rooms"].as_object().unwrap().keys().next().unwrap().clone(), "messages");
    node.ok(node.get(&alice, format!("{messages}?dir=b&from={}", anew["pos"].as_str().unwrap()))).await;
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    node.fails(node.post("", PATH, json!({})), 401, "M_MISSING_TOKEN").await;
    node.fails(node.raw(http::Method::POST, &alice, PATH, "{"), 400, "M_NOT_JSON").await;
    node.fails(node.post(&alice, PATH, json!({ "lists": 3 })), 400, "M_BAD_JSON").await;
    node.fails(node.post(&alice, format!("{PATH}?timeout=x"), json!({})), 400, "M_INVALID_PARAM").await;
    node.fails(node.post(&alice, PATH, json!({ "conn_id": "x".repeat(300) })), 400, "M_INVALID_PARAM").await;
    let since = json!({ "extensions": { "to_device": { "enabled": true, "since": "x" } } });
    node.fails(node.post(&alice, PATH, since), 400, "M_INVALID_PARAM").await;
    let required = vec![json!(["m.room.name", ""]); 201];
    let many = json!({ "lists": { "a": { "ranges": [[0, 1]], "timeline_limit": 1, "required_state": required } } });
    node.fails(node.post(&alice, PATH, many), 400, "M_INVALID_PARAM").await;
    let answer = node.ok(node.post(&alice, PATH, json!({ "txn_id": "t" }))).await;
    assert_eq!(answer["txn_id"], "t");
}

#[tokio::test]
async fn the_spelling_of_the_proposal_is_understood_as_well() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond" })).await;
    let required = json!({ "include": [{}], "exclude": [{ "type": "m.room.create" }], "lazy_members": true });
    let list = json!({ "range": [0, 9], "timeline_limit": 1, "required_state": required });
    let answer = node.ok(node.post(&alice, PATH, json!({ "lists": { "a": list }, "timeout": 0 }))).await;
    let state = bodies(&answer["rooms"][&room]["required_state"]);
    assert!(
        state.contains(&"m.room.name".to_owned()) && state.contains(&"m.room.power_levels".to_owned()),
        "{state:?}"
    );
    assert!(!state.contains(&"m.room.create".to_owned()));
    node.text(&alice, &room, "in the body").await;
    let more = json!({ "lists": { "a": list }, "pos": answer["pos"], "timeout": 0 });
    let answer = node.ok(node.post(&alice, PATH, more)).await;
    assert_eq!(bodies(&answer["rooms"][&room]["timeline"]), ["in the body"]);
}
