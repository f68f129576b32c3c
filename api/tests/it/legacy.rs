//! The ways of before `/sync`, and the spellings of the first public API.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::TestNode,
    room::{bodies, escape, path},
};

#[tokio::test]
async fn all_rooms_are_shown_with_state_and_last_messages() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat", "name": "Pond", "visibility": "public" })).await;
    let invited = node.room(&bob, json!({ "invite": [alice.id] })).await;
    for text in ["one", "two", "three"] {
        node.text(&alice, &room, text).await;
    }
    let all = node.ok(node.get(&alice, "/_matrix/client/v3/initialSync?limit=2")).await;
    let rooms = all["rooms"].as_array().unwrap();
    assert_eq!((rooms.len(), &rooms[0]["room_id"], &rooms[0]["membership"]), (2, &json!(room), &json!("join")));
    assert_eq!(bodies(&rooms[0]["messages"]["chunk"]), ["two", "three"]);
    assert_eq!((&rooms[0]["messages"]["end"], &rooms[0]["visibility"]), (&all["end"], &json!("public")));
    let named = |event: &Value| event["type"] == "m.room.name" && event["room_id"] == json!(room);
    assert!(rooms[0]["state"].as_array().unwrap().iter().any(named));
    assert_eq!((&rooms[1]["room_id"], &rooms[1]["membership"]), (&json!(invited), &json!("invite")));
    assert_eq!(rooms[1]["invite"]["state_key"], json!(alice.id));

    let one = node.ok(node.get(&alice, path(&room, "initialSync?limit=2"))).await;
    assert_eq!(bodies(&one["messages"]["chunk"]), ["two", "three"]);
    assert_eq!((&one["membership"], &one["room_id"]), (&json!("join"), &json!(room)));
    let start = one["messages"]["start"].as_str().unwrap();
    let earlier = node.ok(node.get(&alice, path(&room, &format!("messages?dir=b&limit=1&from={start}")))).await;
    assert_eq!(bodies(&earlier["chunk"]), ["one"]);
    node.fails(node.get(&bob, path(&room, "initialSync")), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn events_stream_from_a_token_and_wait_for_what_comes() {
    let node = std::sync::Arc::new(TestNode::new());
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let all = node.ok(node.get(&alice, "/_matrix/client/v3/initialSync")).await;
    let events = |from: &Value, timeout: u64| {
        format!("/_matrix/client/v3/events?from={}&timeout={timeout}", from.as_str().unwrap())
    };
    let none = node.ok(node.get(&alice, events(&all["end"], 0))).await;
    assert_eq!(none["chunk"], json!([]));
    node.text(&bob, &room, "hello").await;
    let some = node.ok(node.get(&alice, events(&all["end"], 0))).await;
    assert_eq!((bodies(&some["chunk"]), &some["chunk"][0]["room_id"]), (vec!["hello".to_owned()], &json!(room)));
    let waiting = {
        let (node, alice, path) = (node.clone(), alice.clone(), events(&some["end"], 30_000));
        tokio::spawn(async move { node.ok(node.get(&alice, path)).await })
    };
    tokio::task::yield_now().await;
    node.text(&bob, &room, "again").await;
    let woken = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert_eq!(bodies(&woken["chunk"]), ["again"]);
    let invite = node.room(&bob, json!({ "invite": [alice.id] })).await;
    let invited = node.ok(node.get(&alice, events(&woken["end"], 0))).await;
    assert_eq!(
        (&invited["chunk"][0]["room_id"], &invited["chunk"][0]["content"]["membership"]),
        (&json!(invite), &json!("invite"))
    );
    node.fails(node.get(&alice, "/_matrix/client/v3/events?from=x"), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn world_readable_rooms_are_looked_into_without_entering() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let world = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let open = node.room(&alice, json!({ "initial_state": world })).await;
    let closed = node.public_room(&alice).await;
    let peek = |room: &str, from: &str| format!("/_matrix/client/v3/events?room_id={}&timeout=0{from}", escape(room));
    let first = node.ok(node.get(&bob, peek(&open, ""))).await;
    assert_eq!(first["chunk"], json!([]));
    let event = node.text(&alice, &open, "hello").await;
    let from = format!("&from={}", first["end"].as_str().unwrap());
    assert_eq!(bodies(&node.ok(node.get(&bob, peek(&open, &from))).await["chunk"]), ["hello"]);
    node.fails(node.get(&bob, peek(&closed, "")), 403, "M_FORBIDDEN").await;
    let one = |event: &str| format!("/_matrix/client/v3/events/{}", escape(event));
    assert_eq!(node.ok(node.get(&bob, one(&event))).await["content"]["body"], "hello");
    let hidden = node.text(&alice, &closed, "psst").await;
    node.fails(node.get(&bob, one(&hidden)), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&bob, one("$nothing")), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn scripts_of_the_first_public_api_still_work() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let login = node.get("", "/_matrix/client/api/v1/login").await;
    assert_eq!(login.0, 200);
    let made =
        node.post("", format!("/_matrix/client/api/v1/createRoom?access_token={}", alice.token), json!({})).await;
    let room = made.1["room_id"].as_str().unwrap().to_owned();
    let base = format!("/_matrix/client/api/v1/rooms/{}", escape(&room));
    let mut sent = Vec::new();
    for (kind, content) in [
        ("m.room.message", json!({ "msgtype": "m.text", "body": "hello" })),
        ("m.room.message", json!({ "msgtype": "m.text", "body": "hello" })),
        (
            "m.call.invite",
            json!({ "call_id": "1", "version": 0, "lifetime": 1, "offer": { "type": "offer", "sdp": "" } }),
        ),
        ("org.example.midi", json!({ "note": 60 })),
    ] {
        let path = format!("{base}/send/{kind}?access_token={}", alice.token);
        let answer = node.ok(node.post("", path, content)).await;
        sent.push((kind, answer["event_id"].as_str().unwrap().to_owned()));
    }
    assert_ne!(sent[0].1, sent[1].1, "without a transaction id each request is an event");
    for (kind, event) in &sent {
        let shown = node.ok(node.get(&alice, path(&room, &format!("event/{}", escape(event))))).await;
        assert_eq!(shown["type"], *kind);
    }
    for version in ["r0", "v3"] {
        let path = format!("/_matrix/client/{version}/rooms/{}/send/org.example.data", escape(&room));
        node.ok(node.post(&alice, &path, json!({ "t": 21 }))).await;
        node.fails(node.post("", &path, json!({})), 401, "M_MISSING_TOKEN").await;
        node.fails(node.raw(Method::POST, &alice, &path, "{"), 400, "M_NOT_JSON").await;
    }
    let messages = format!("{base}/messages?dir=b&limit=1&access_token={}", alice.token);
    assert_eq!(node.ok(node.get("", messages)).await["chunk"][0]["content"]["t"], 21);
}
