//! The room policy: what is in the overlay stays there.

use http::{Method, StatusCode};
use ruma::server_name;
use serde_json::{Value, json};

use super::{Stranger, refused};
use crate::{
    harness::{TestNode, TestUser},
    nodes::encoded,
};

async fn room(node: &TestNode, user: &TestUser, body: Value) -> String {
    let made = node.ok(node.post(user, "/_matrix/client/v3/createRoom", body)).await;
    made["room_id"].as_str().unwrap().to_owned()
}

async fn create_content(node: &TestNode, user: &TestUser, room: &str) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.create/", encoded(room));
    node.ok(node.get(user, &path)).await
}

#[tokio::test]
async fn rooms_of_a_named_node_are_classic_unless_somebody_says_otherwise() {
    let node = TestNode::named(server_name!("pond.example"));
    let alice = node.user("alice").await;
    let policy = async |body| {
        let room = room(&node, &alice, body).await;
        create_content(&node, &alice, &room).await.get("org.millpond.federation").cloned()
    };
    assert_eq!(policy(json!({})).await, None);
    let content = |policy: &str| json!({ "creation_content": { "org.millpond.federation": policy } });
    assert_eq!(policy(content("overlay")).await, Some(json!("overlay")));
    assert_eq!(policy(content("classic")).await, None);
    let old = json!({ "room_version": "11", "creation_content": { "org.millpond.federation": "overlay" } });
    node.fails(node.post(&alice, "/_matrix/client/v3/createRoom", old), 400, "M_INVALID_PARAM").await;
    let wrong = content("anything");
    node.fails(node.post(&alice, "/_matrix/client/v3/createRoom", wrong), 400, "M_BAD_JSON").await;
}

#[tokio::test]
async fn the_settings_of_a_named_node_may_keep_its_rooms_in_the_overlay() {
    let node = TestNode::with(|config| {
        let mut classic = millpond_node::config::Classic::new(server_name!("pond.example").to_owned());
        classic.overlay_by_default = true;
        config.classic = Some(classic);
    });
    let alice = node.user("alice").await;
    let made = room(&node, &alice, json!({})).await;
    assert_eq!(create_content(&node, &alice, &made).await["org.millpond.federation"], "overlay");
    let made = room(&node, &alice, json!({ "room_version": "11" })).await;
    assert_eq!(create_content(&node, &alice, &made).await.get("org.millpond.federation"), None);
}

#[tokio::test]
async fn a_node_named_by_its_key_is_told_why_it_has_no_classic_rooms() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let body = json!({ "creation_content": { "org.millpond.federation": "classic" } });
    let answer = node.fails(node.post(&alice, "/_matrix/client/v3/createRoom", body), 403, "M_FORBIDDEN").await;
    assert!(answer["error"].as_str().unwrap().contains("named by its key"), "{answer}");
}

#[tokio::test]
async fn a_user_of_a_key_named_node_is_not_invited_into_a_classic_room() {
    let (node, by_key) = (TestNode::named(server_name!("pond.example")), TestNode::new());
    let alice = node.user("alice").await;
    let room = room(&node, &alice, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(&room));
    let target = json!({ "user_id": by_key.user_id("bob") });
    let answer = node.fails(node.post(&alice, &path, target), 403, "M_FORBIDDEN").await;
    assert!(answer["error"].as_str().unwrap().contains("named by its key"), "{answer}");
}

#[tokio::test]
async fn overlay_rooms_do_not_exist_behind_the_classic_door() {
    let node = TestNode::named(server_name!("pond.example"));
    let alice = node.user("alice").await;
    let other = Stranger::known_to(&node, "other.example").await;
    let hidden = json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "hidden",
        "creation_content": { "org.millpond.federation": "overlay" } });
    let hidden = room(&node, &alice, hidden).await;
    let shown = json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "shown" });
    let shown = room(&node, &alice, shown).await;
    let said = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", encoded(&hidden));
    let sent = node.ok(node.put(&alice, &said, json!({ "msgtype": "m.text", "body": "secret" }))).await;
    let (event, hidden, shown) = (encoded(sent["event_id"].as_str().unwrap()), encoded(&hidden), encoded(&shown));
    let bob = encoded(&other.user("bob"));
    let v1 = "/_matrix/federation/v1";

    let (status, template) = other.get(&node, &format!("{v1}/make_join/{shown}/{bob}?ver=12")).await;
    assert_eq!(status, StatusCode::OK, "{template}");
    for way in ["make_join", "make_knock"] {
        let path = format!("{v1}/{way}/{hidden}/{bob}?ver=12");
        refused(other.get(&node, &path).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
        let unknown = format!("{v1}/{way}/!nothing/{bob}?ver=12");
        assert_eq!(other.get(&node, &path).await, other.get(&node, &unknown).await);
    }
    for path in [
        format!("{v1}/state/{hidden}?event_id={event}"),
        format!("{v1}/state_ids/{hidden}?event_id={event}"),
        format!("{v1}/event_auth/{hidden}/{event}"),
        format!("{v1}/backfill/{hidden}?v={event}&limit=10"),
    ] {
        refused(other.get(&node, &path).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    }
    refused(other.get(&node, &format!("{v1}/event/{event}")).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
    let path = format!("{v1}/get_missing_events/{hidden}");
    let asked = json!({ "earliest_events": [], "latest_events": [event.replace("%24", "$")] });
    refused(other.ask(&node, Method::POST, &path, asked).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");

    let (_, listed) = other.get(&node, &format!("{v1}/publicRooms")).await;
    let listed: Vec<_> = listed["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].clone()).collect();
    assert_eq!(listed, [json!(shown.replace("%21", "!"))]);
    let alias = |name: &str| format!("{v1}/query/directory?room_alias=%23{name}%3Apond.example");
    assert_eq!(other.get(&node, &alias("shown")).await.0, StatusCode::OK);
    refused(other.get(&node, &alias("hidden")).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_classic_server_is_told_nothing_of_users_it_shares_no_room_with() {
    let node = TestNode::named(server_name!("pond.example"));
    let alice = node.user("alice").await;
    let other = Stranger::known_to(&node, "other.example").await;
    let user = encoded(alice.id.as_str());
    let v1 = "/_matrix/federation/v1";
    refused(other.get(&node, &format!("{v1}/user/devices/{user}")).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
    let profile = format!("{v1}/query/profile?user_id={user}");
    refused(other.get(&node, &profile).await, StatusCode::NOT_FOUND, "M_NOT_FOUND");
    let asked = json!({ "device_keys": { alice.id.as_str(): [] } });
    let (status, keys) = other.ask(&node, Method::POST, &format!("{v1}/user/keys/query"), asked).await;
    assert_eq!((status, keys["device_keys"].as_object().map(serde_json::Map::len)), (StatusCode::OK, Some(0)));
}
