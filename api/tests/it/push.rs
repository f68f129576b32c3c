//! Pushers, what a push gateway is told, and the list of notifications.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::StatusCode;
use millpond_store::tables;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    harness::{TestNode, TestUser},
    nodes::until,
    room::{escape, path},
};

/// A push gateway: what it was told, and how it answers.
#[derive(Clone, Default)]
struct Gateway {
    told: Arc<Mutex<Vec<Value>>>,
    rejects: Arc<Mutex<Vec<String>>>,
    /// It answers 502 so many times.
    fails: Arc<Mutex<u32>>,
    url: String,
}

async fn notify(State(gateway): State<Gateway>, body: Bytes) -> (StatusCode, String) {
    let mut fails = gateway.fails.lock().unwrap();
    if *fails > 0 {
        *fails -= 1;
        return (StatusCode::BAD_GATEWAY, "{}".to_owned());
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    gateway.told.lock().unwrap().push(body["notification"].clone());
    (StatusCode::OK, json!({ "rejected": *gateway.rejects.lock().unwrap() }).to_string())
}

impl Gateway {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr().unwrap());
        let gateway = Self { url, ..Self::default() };
        let routes = Router::new().route("/_matrix/push/v1/notify", post(notify)).with_state(gateway.clone());
        tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
        gateway
    }

    fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    async fn until_told(&self, number: usize) -> Value {
        until(&format!("the gateway is told {number} times"), async || self.told().len() >= number).await;
        self.told()[number - 1].clone()
    }

    fn pusher(&self, key: &str) -> Value {
        pusher(key, &self.url)
    }
}

fn pusher(key: &str, url: &str) -> Value {
    json!({
        "kind": "http", "app_id": "org.example.app", "pushkey": key, "app_display_name": "App", "device_display_name": "Phone",
        "lang": "en", "profile_tag": "tag", "data": { "url": url, "colour": "green" },
    })
}

fn live() -> TestNode {
    TestNode::live(|config| config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()])
}

const SET: &str = "/_matrix/client/v3/pushers/set";
const ALL: &str = "/_matrix/client/v3/pushers";
const GOOD: &str = "https://push.example.org/_matrix/push/v1/notify";

async fn keys(node: &TestNode, user: &TestUser) -> Vec<String> {
    let all = node.ok(node.get(user, ALL)).await;
    all["pushers"].as_array().unwrap().iter().map(|one| one["pushkey"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pushers_are_set_changed_listed_and_removed() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    node.ok(node.post(&alice, SET, pusher("k", GOOD))).await;
    let mut changed = pusher("k", GOOD);
    changed["lang"] = json!("fr");
    changed["data"]["format"] = json!("event_id_only");
    node.ok(node.post(&alice, SET, changed.clone())).await;
    assert_eq!(node.ok(node.get(&alice, ALL)).await, json!({ "pushers": [changed] }));
    // The same phone in other hands: with `append` beside, else in place of the first.
    let mut beside = pusher("k", GOOD);
    beside["append"] = json!(true);
    node.ok(node.post(&bob, SET, beside)).await;
    assert_eq!((keys(&node, &alice).await.len(), keys(&node, &bob).await.len()), (1, 1));
    node.ok(node.post(&bob, SET, pusher("k", GOOD))).await;
    assert_eq!((keys(&node, &alice).await.len(), keys(&node, &bob).await.len()), (0, 1));
    let gone = json!({ "kind": null, "app_id": "org.example.app", "pushkey": "k" });
    node.ok(node.post(&bob, SET, gone.clone())).await;
    node.ok(node.post(&bob, SET, gone)).await;
    assert_eq!(keys(&node, &bob).await, [""; 0]);
}

#[tokio::test]
async fn pushers_that_cannot_be_are_refused_and_those_of_a_device_go_with_it() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let wrong = [
        ("kind", json!("email")),
        ("kind", json!("pigeon")),
        ("pushkey", json!("k".repeat(513))),
        ("app_id", json!("a".repeat(65))),
        ("data", json!({ "url": "http://push.example.org/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "http://127.0.0.1/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "https://127.0.0.1/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "https://[::1]/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "https://10.1.2.3/_matrix/push/v1/notify" })),
        ("data", json!({ "url": "https://push.example.org/elsewhere" })),
        ("data", json!({ "url": "push" })),
    ];
    for (field, value) in wrong {
        let mut asked = pusher("k", GOOD);
        asked[field] = value;
        node.fails(node.post(&alice, SET, asked), 400, "M_INVALID_PARAM").await;
    }
    for field in ["lang", "app_display_name", "device_display_name", "data", "pushkey", "app_id"] {
        let mut asked = pusher("k", GOOD);
        asked.as_object_mut().unwrap().remove(field);
        let (status, json) = node.post(&alice, SET, asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "without {field}: {json}");
    }
    let other = node.device(&alice).await;
    node.ok(node.post(&alice, SET, pusher("first", GOOD))).await;
    node.ok(node.post(&other, SET, pusher("second", GOOD))).await;
    node.ok(node.post(&other, "/_matrix/client/v3/logout", json!({}))).await;
    assert_eq!(keys(&node, &alice).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_of_what_notifies_and_of_nothing_else() {
    let (node, gateway) = (live(), Gateway::new().await);
    let _running = node.node.start().await.unwrap();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat", "name": "Pond" })).await;
    node.join(&bob, &room).await;
    node.text(&alice, &room, "before the pusher").await;
    node.ok(node.post(&bob, SET, gateway.pusher("k"))).await;
    let said = node.text(&alice, &room, "hello").await;
    let told = gateway.until_told(1).await;
    let expected = [
        ("/event_id", json!(said)),
        ("/room_id", json!(room)),
        ("/type", json!("m.room.message")),
        ("/sender", json!(alice.id)),
        ("/room_name", json!("Pond")),
        ("/content/body", json!("hello")),
        ("/counts/unread", json!(2)),
        ("/devices/0/pushkey", json!("k")),
        ("/devices/0/data", json!({ "colour": "green" })),
    ];
    for (at, value) in expected {
        assert_eq!(told.pointer(at), Some(&value), "{at} of {told}");
    }
    // What he says himself, a notice and a reaction tell him nothing; a mention is highlighted.
    node.text(&bob, &room, "mine").await;
    let send = |what: Value, txn: &str| node.put(&alice, path(&room, &format!("send/m.room.message/{txn}")), what);
    node.ok(send(json!({ "msgtype": "m.notice", "body": "beep" }), "n")).await;
    let mention = json!({ "msgtype": "m.text", "body": "you", "m.mentions": { "user_ids": [bob.id] } });
    node.ok(send(mention, "m")).await;
    let told = gateway.until_told(2).await;
    assert_eq!((&told["content"]["body"], &told["prio"]), (&json!("you"), &json!("high")));
    assert_eq!(told["devices"][0]["tweaks"]["highlight"], json!(true));
    // What is read on another device takes the badge away.
    let last = node.text(&alice, &room, "last").await;
    gateway.until_told(3).await;
    node.ok(node.post(&bob, path(&room, &format!("receipt/m.read/{}", escape(&last))), json!({}))).await;
    let told = gateway.until_told(4).await;
    assert_eq!((&told["counts"]["unread"], &told["event_id"]), (&json!(0), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_pushed_and_a_reduced_format_has_ids_only() {
    let (node, gateway) = (live(), Gateway::new().await);
    let _running = node.node.start().await.unwrap();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let mut reduced = gateway.pusher("k");
    reduced["data"]["format"] = json!("event_id_only");
    node.ok(node.post(&bob, SET, reduced)).await;
    let room = node.room(&alice, json!({ "invite": [bob.id] })).await;
    let told = gateway.until_told(1).await;
    assert_eq!(told["room_id"], json!(room));
    assert!(told["event_id"].is_string(), "{told}");
    let mut fields: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["counts", "devices", "event_id", "room_id"]);
    assert_eq!(told["devices"][0]["data"], json!({ "format": "event_id_only", "colour": "green" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_fails_is_asked_again_and_one_that_rejects_the_key_is_not() {
    let (node, gateway) = (live(), Gateway::new().await);
    let running = node.node.start().await.unwrap();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    *gateway.fails.lock().unwrap() = 1;
    node.ok(node.post(&bob, SET, gateway.pusher("k"))).await;
    let noted = || {
        let snapshot = node.node.core.snapshot().unwrap();
        let mut rows = snapshot.view().scan(tables::PUSHERS, ()).unwrap();
        rows.next().unwrap().unwrap().1.told
    };
    let before = noted();
    let said = node.text(&alice, &room, "again").await;
    assert_eq!(gateway.until_told(1).await["event_id"], json!(said));
    until("that it was told is on the disk", async || noted() > before).await;
    // What comes while nothing runs is told after the next start, and what was told is not told again.
    running.stop().await;
    let said = node.text(&alice, &room, "while away").await;
    gateway.rejects.lock().unwrap().push("k".to_owned());
    let node = node.again(millpond_node::links::Links::new);
    let _running = node.node.start().await.unwrap();
    assert_eq!(gateway.until_told(2).await["event_id"], json!(said));
    until("the rejected pusher is gone", async || keys(&node, &bob).await.is_empty()).await;
    assert_eq!(gateway.told().len(), 2);
}

#[tokio::test]
async fn notifications_are_listed_newest_first_page_by_page() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (one, other) = (node.public_room(&alice).await, node.public_room(&alice).await);
    node.text(&alice, &one, "before he came").await;
    for room in [&one, &other] {
        node.join(&bob, room).await;
    }
    let first = node.text(&alice, &one, "first").await;
    node.text(&bob, &other, "his own").await;
    let mention = json!({ "msgtype": "m.text", "body": "second", "m.mentions": { "user_ids": [bob.id] } });
    node.message(&alice, &other, mention).await;
    node.text(&alice, &one, "third").await;
    node.ok(node.post(&bob, path(&one, &format!("receipt/m.read/{}", escape(&first))), json!({}))).await;
    let all = "/_matrix/client/v3/notifications";
    let texts = |page: &Value| {
        let of = |one: &Value| one["event"]["content"]["body"].as_str().unwrap().to_owned();
        page["notifications"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let page = node.ok(node.get(&bob, all)).await;
    assert_eq!(texts(&page), ["third", "second", "first"]);
    let third = &page["notifications"][0];
    assert_eq!((&third["read"], &third["room_id"]), (&json!(false), &json!(one)));
    assert!(third["actions"].as_array().unwrap().contains(&json!("notify")), "{third}");
    assert_eq!((&page["notifications"][2]["read"], page.get("next_token")), (&json!(true), None));
    let page = node.ok(node.get(&bob, format!("{all}?limit=2"))).await;
    assert_eq!(texts(&page), ["third", "second"]);
    let next = page["next_token"].as_str().unwrap();
    assert_eq!(texts(&node.ok(node.get(&bob, format!("{all}?limit=2&from={next}"))).await), ["first"]);
    let highlights = node.ok(node.get(&bob, format!("{all}?only=highlight"))).await;
    assert_eq!(texts(&highlights), ["second"]);
    assert_eq!(texts(&node.ok(node.get(&alice, all)).await), ["his own"]);
    for wrong in ["from=x", "from=-1", "only=loud", "limit=x"] {
        node.fails(node.get(&bob, format!("{all}?{wrong}")), 400, "M_INVALID_PARAM").await;
    }
}
