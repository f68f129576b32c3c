//! Presence: set, shown to those who share a room, over `/sync`, and to and from classic servers for classic rooms only.

use std::time::Duration;

use http::{Method, StatusCode};
use millpond_store::{
    job,
    rows::{Membership, RoomShort},
    tables,
};
use ruma::{OwnedUserId, RoomId, events::room::member::MembershipState, server_name};
use serde_json::{Value, json};

use crate::{
    classic::Stranger,
    harness::{TestNode, TestUser},
    room::{escape, path},
};

fn of(user: &str) -> String {
    format!("/_matrix/client/v3/presence/{}/status", escape(user))
}

/// What a sync says: (user, presence).
fn events(sync: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = sync["presence"]["events"].as_array().into_iter().flatten();
    events.map(|event| (text(&event["sender"]), text(&event["content"]["presence"]))).collect()
}

async fn state(node: &TestNode, asker: &TestUser, user: &TestUser) -> Value {
    node.ok(node.get(asker, of(user.id.as_str()))).await["presence"].take()
}

#[tokio::test]
async fn presence_is_set_by_oneself_and_shown_to_those_in_the_same_room() {
    let node = TestNode::new();
    let (alice, bob, eve) = (node.user("alice").await, node.user("bob").await, node.user("eve").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    assert_eq!(state(&node, &bob, &alice).await, "offline");
    let said = json!({ "presence": "unavailable", "status_msg": "at lunch" });
    node.ok(node.put(&alice, of(alice.id.as_str()), said.clone())).await;
    let shown = node.ok(node.get(&bob, of(alice.id.as_str()))).await;
    assert_eq!((&shown["presence"], &shown["status_msg"]), (&json!("unavailable"), &json!("at lunch")));
    node.ok(node.put(&alice, of(alice.id.as_str()), json!({ "presence": "online" }))).await;
    node.pass(Duration::from_secs(10));
    let shown = node.ok(node.get(&bob, of(alice.id.as_str()))).await;
    assert_eq!(shown, json!({ "presence": "online", "last_active_ago": 10_000, "currently_active": true }));
    node.fails(node.get(&eve, of(alice.id.as_str())), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&eve, of(alice.id.as_str()), said), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&alice, of(alice.id.as_str()), json!({ "presence": "asleep" })), 400, "M_INVALID_PARAM").await;
    node.fails(node.put(&alice, of(alice.id.as_str()), json!({})), 400, "M_MISSING_PARAM").await;
    let long = json!({ "presence": "online", "status_msg": "x".repeat(2001) });
    node.fails(node.put(&alice, of(alice.id.as_str()), long), 413, "M_TOO_LARGE").await;
}

#[tokio::test]
async fn a_sync_makes_present_and_tells_others_once() {
    let node = TestNode::new();
    let (alice, bob, eve) = (node.user("alice").await, node.user("bob").await, node.user("eve").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let hidden = [("set_presence", "offline")];
    let before = node.sync(&bob, &hidden).await;
    assert_eq!(events(&before), []);
    let online = (alice.id.to_string(), "online".to_owned());
    assert_eq!(events(&node.sync(&alice, &[]).await), std::slice::from_ref(&online));
    let since = before["next_batch"].as_str().unwrap();
    let news = node.sync(&bob, &[("since", since), ("set_presence", "offline")]).await;
    assert_eq!(events(&news), std::slice::from_ref(&online));
    let since = news["next_batch"].as_str().unwrap();
    assert_eq!(events(&node.sync(&bob, &[("since", since), ("set_presence", "offline")]).await), []);
    // One who comes into the room is told of those who are there.
    let before = node.sync(&eve, &hidden).await;
    assert_eq!(events(&before), []);
    node.join(&eve, &room).await;
    let since = before["next_batch"].as_str().unwrap();
    assert_eq!(events(&node.sync(&eve, &[("since", since), ("set_presence", "offline")]).await), [online]);
    let filter = json!({ "presence": { "not_types": ["m.presence"] } }).to_string();
    assert_eq!(events(&node.sync(&eve, &[("filter", &filter), ("set_presence", "offline")]).await), []);
}

#[tokio::test]
async fn who_stops_syncing_goes_and_who_does_nothing_is_idle() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let poll = node.node.presence.poll(&alice.id, &alice.device_id, "online".into()).unwrap();
    node.pass(Duration::from_secs(301));
    node.sync(&alice, &[]).await;
    assert_eq!(state(&node, &bob, &alice).await, "unavailable");
    node.text(&alice, &room, "back").await;
    assert_eq!(state(&node, &bob, &alice).await, "online");
    drop(poll);
    let _running = node.node.start().await.unwrap();
    node.pass(Duration::from_secs(31));
    // Another user's news make the node look again at once.
    node.sync(&bob, &[]).await;
    crate::nodes::until("she is away", async || state(&node, &bob, &alice).await == "offline").await;
}

#[tokio::test]
async fn a_status_message_outlives_a_restart_and_goes_with_the_account() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let said = json!({ "presence": "online", "status_msg": "on holiday" });
    node.ok(node.put(&alice, of(alice.id.as_str()), said)).await;
    let node = node.again(millpond_node::links::Links::new);
    let shown = node.ok(node.get(&alice, of(alice.id.as_str()))).await;
    assert_eq!(shown, json!({ "presence": "offline", "status_msg": "on holiday" }));
}

/// A user of another server is in a room.
pub async fn seat(node: &TestNode, room: &str, user: &str) {
    let room = RoomId::parse(room).unwrap();
    let view = node.node.core.snapshot().unwrap();
    let room: RoomShort = millpond_node::rooms::rows::room_short(view.view(), &room).unwrap().unwrap();
    let user = OwnedUserId::try_from(user).unwrap();
    let row = Membership { membership: MembershipState::Join, event: None, position: 1, forgotten: false };
    let write = job(
        |_| Ok::<_, millpond_node::Error>(()),
        move |(), txn| {
            txn.put(tables::ROOM_SERVERS, (room, user.server_name()), &1)?;
            txn.put(tables::MEMBERSHIPS, (&*user, room), &row)
        },
    );
    node.node.core.write(write).await.unwrap();
}

#[tokio::test]
async fn presence_of_classic_servers_is_taken_for_classic_rooms_only() {
    let node = TestNode::named(server_name!("pond.example"));
    let alice = node.user("alice").await;
    let other = Stranger::known_to(&node, "other.example").await;
    let (carol, dave) = (other.user("carol"), other.user("dave"));
    let classic = node.public_room(&alice).await;
    let content = json!({ "preset": "public_chat", "creation_content": { "org.millpond.federation": "overlay" } });
    let overlay = node.room(&alice, content).await;
    seat(&node, &classic, &carol).await;
    seat(&node, &overlay, &dave).await;
    let before = node.sync(&alice, &[("set_presence", "offline")]).await;
    let update =
        |user: &str| json!({ "user_id": user, "presence": "online", "last_active_ago": 5, "status_msg": "here" });
    let push = json!([update(&carol), update(&dave), update("@eve:third.example"), update(alice.id.as_str())]);
    let transaction = json!({
        "origin": "other.example", "origin_server_ts": 1, "pdus": [],
        "edus": [{ "edu_type": "m.presence", "content": { "push": push } }],
    });
    let (status, json) = other.ask(&node, Method::PUT, "/_matrix/federation/v1/send/1", transaction).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    let since = before["next_batch"].as_str().unwrap();
    let news = node.sync(&alice, &[("since", since), ("set_presence", "offline")]).await;
    assert_eq!(events(&news), [(carol.clone(), "online".to_owned())]);
    assert_eq!(node.ok(node.get(&alice, of(&carol))).await["status_msg"], "here");
    node.fails(node.get(&alice, of(&dave)), 404, "M_NOT_FOUND").await;
    // Whatever a server has said lasts half an hour.
    node.pass(Duration::from_secs(1801));
    let _running = node.node.start().await.unwrap();
    let away = async || node.ok(node.get(&alice, of(&carol))).await["presence"] == "offline";
    crate::nodes::until("her server's word has ended", away).await;
    node.ok(node.post(&alice, path(&classic, "leave"), json!({}))).await;
    node.fails(node.get(&alice, of(&carol)), 403, "M_FORBIDDEN").await;
}
