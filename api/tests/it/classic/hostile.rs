//! A member server that sends what it should not: each is answered as the specification says, and nothing is stored that
//! should not be.

use http::{Method, StatusCode};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, room_version_rules::RedactionRules, server_name};
use serde_json::{Value, json};

use super::{Stranger, refused};
use crate::{
    harness::{NOW_MS, TestNode, TestUser},
    nodes::encoded,
};

const V1: &str = "/_matrix/federation/v1";

/// A classic room on a node, and a server with a member in it.
pub(super) struct Shared {
    pub(super) node: TestNode,
    pub(super) alice: TestUser,
    pub(super) room: String,
    /// Its name leads to a port where nobody listens, so that what is asked of it fails at once.
    pub(super) mallory: Stranger,
}

impl Shared {
    pub(super) async fn new() -> Self {
        let node = TestNode::with(|config| {
            config.classic = Some(millpond_node::config::Classic::new(server_name!("pond.example").to_owned()));
            config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let alice = node.user("alice").await;
        let made =
            node.ok(node.post(&alice, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" }))).await;
        let room = made["room_id"].as_str().unwrap().to_owned();
        let mallory = Stranger::known_to(&node, "127.0.0.1:1").await;
        let shared = Self { node, alice, room, mallory };
        shared.join().await;
        shared
    }

    async fn join(&self) {
        let answer = self.mallory.enter(&self.node, &self.room).await;
        assert!(answer["state"].as_array().unwrap().len() >= 6, "{answer}");
    }

    /// A message of the server's user after the room's newest events.
    pub(super) fn message(&self, text: &str) -> Value {
        self.mallory.message(&self.node, &self.room, text)
    }

    pub(super) async fn send(&self, txn: &str, pdus: Vec<Value>) {
        let body = json!({ "origin": self.mallory.name, "origin_server_ts": NOW_MS, "pdus": pdus, "edus": [] });
        let (status, answer) = self.mallory.ask(&self.node, Method::PUT, &format!("{V1}/send/{txn}"), body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        while self.node.node.inbox.work_once().await.unwrap() {}
    }

    pub(super) async fn texts(&self) -> Vec<String> {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", encoded(&self.room));
        let page = self.node.ok(self.node.get(&self.alice, path)).await;
        let events = page["chunk"].as_array().unwrap().iter();
        events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }
}

impl Stranger {
    /// Its user joins a room of a node; gives the answer.
    pub(super) async fn enter(&self, node: &TestNode, room: &str) -> Value {
        let (room, user) = (encoded(room), encoded(&self.user("m")));
        let (status, made) = self.get(node, &format!("{V1}/make_join/{room}/{user}?ver=12")).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let (id, join) = self.sign(made["event"].clone());
        let path = format!("/_matrix/federation/v2/send_join/{room}/{}", encoded(&id));
        let (status, answer) = self.ask(node, Method::PUT, &path, join).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// A message of its user after the newest events of a room.
    pub(super) fn message(&self, node: &TestNode, room: &str, text: &str) -> Value {
        let snapshot = node.node.core.snapshot().unwrap();
        let view = snapshot.view();
        let id = ruma::RoomId::parse(room).unwrap();
        let short = millpond_node::rooms::rows::room_short(view, &id).unwrap().unwrap();
        let mut prev = Vec::new();
        for row in view.scan(millpond_store::tables::EXTREMITIES, (short,)).unwrap() {
            prev.push(millpond_node::rooms::rows::event_id(view, row.unwrap().0.1).unwrap().to_string());
        }
        let entry = |kind: &str, key: &str| {
            let row = millpond_node::rooms::current::entry_row(view, short, kind, key).unwrap();
            row.map(|row| row.header.event_id.to_string())
        };
        let user = self.user("m");
        let auth: Vec<_> =
            [entry("m.room.power_levels", ""), entry("m.room.member", &user)].into_iter().flatten().collect();
        json!({ "type": "m.room.message", "room_id": room, "sender": user, "origin_server_ts": NOW_MS, "depth": 50,
            "content": { "msgtype": "m.text", "body": text }, "prev_events": prev, "auth_events": auth })
    }

    /// Signs an event; gives its id as well.
    pub(super) fn sign(&self, event: Value) -> (String, Value) {
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let rules = RedactionRules::V11;
        ruma::signatures::hash_and_sign_event(self.name.as_str(), &self.key, &mut object, &rules).unwrap();
        let rules = ruma::RoomVersionId::V12.rules().unwrap();
        let id = ruma::signatures::reference_hash(&object, &rules).unwrap();
        (format!("${id}"), serde_json::to_value(CanonicalJsonValue::Object(object)).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_gets_in_and_junk_beside_it_does_not() {
    let shared = Shared::new().await;
    let good = shared.mallory.sign(shared.message("good")).1;
    let mut junk = vec![json!({}), json!(7), json!({ "room_id": shared.room }), json!({ "room_id": 1, "type": "x" })];
    junk.resize(49, json!({ "type": "m.room.message", "room_id": shared.room, "content": { "body": "junk" } }));
    junk.push(good);
    shared.send("1", junk).await;
    assert_eq!(shared.texts().await, ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_the_name_of_another_servers_user_is_dropped() {
    let shared = Shared::new().await;
    let mut forged = shared.message("forged");
    forged["sender"] = json!(shared.alice.id);
    let mut unsigned = shared.message("unsigned");
    unsigned["hashes"] = json!({ "sha256": "AAAA" });
    shared.send("1", vec![shared.mallory.sign(forged).1, unsigned]).await;
    assert!(shared.texts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_changed_after_signing_is_not_shown() {
    let shared = Shared::new().await;
    let (_, mut changed) = shared.mallory.sign(shared.message("as signed"));
    changed["content"]["body"] = json!("changed");
    shared.send("1", vec![changed]).await;
    assert!(shared.texts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_circular_prev_events_are_not_believed_and_harm_nobody() {
    let shared = Shared::new().await;
    let unknown = |letter: &str| format!("${}", letter.repeat(43));
    let mut events = Vec::new();
    for (text, prev) in [("one", unknown("A")), ("two", unknown("B"))] {
        let mut event = shared.message(text);
        event["prev_events"] = json!([prev]);
        events.push(shared.mallory.sign(event));
    }
    // Each names the other one as what came before: nobody can have made both in truth.
    let mut circle = shared.message("circle");
    circle["prev_events"] = json!([events[0].0, events[1].0, unknown("C")]);
    circle["depth"] = json!(9_007_199_254_740_991_u64);
    let circle = shared.mallory.sign(circle);
    let all = vec![events[0].1.clone(), events[1].1.clone(), circle.1, shared.mallory.sign(shared.message("after")).1];
    shared.send("1", all).await;
    assert_eq!(shared.texts().await, ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_room_that_the_server_is_not_in_does_not_get_in() {
    let shared = Shared::new().await;
    let made = shared.node.ok(shared.node.post(&shared.alice, "/_matrix/client/v3/createRoom", json!({}))).await;
    let mut event = shared.message("intruder");
    event["room_id"] = made["room_id"].clone();
    shared.send("1", vec![shared.mallory.sign(event).1]).await;
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b", encoded(made["room_id"].as_str().unwrap()));
    let page = shared.node.ok(shared.node.get(&shared.alice, path)).await;
    assert!(!page["chunk"].to_string().contains("intruder"), "{page}");
    let state = format!("{V1}/state_ids/{}?event_id=$x", encoded(made["room_id"].as_str().unwrap()));
    refused(shared.mallory.get(&shared.node, &state).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_is_not_what_was_asked_for_is_refused() {
    let shared = Shared::new().await;
    let (room, user) = (encoded(&shared.room), encoded(&shared.mallory.user("n")));
    let (_, made) = shared.mallory.get(&shared.node, &format!("{V1}/make_join/{room}/{user}?ver=12")).await;
    let put = async |event: Value| {
        let (id, event) = shared.mallory.sign(event);
        let path = format!("/_matrix/federation/v2/send_join/{room}/{}", encoded(&id));
        shared.mallory.ask(&shared.node, Method::PUT, &path, event).await
    };
    let mut other = made["event"].clone();
    other["sender"] = json!(shared.alice.id);
    other["state_key"] = json!(shared.alice.id);
    refused(put(other).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    let mut knock = made["event"].clone();
    knock["content"]["membership"] = json!("knock");
    refused(put(knock).await, StatusCode::BAD_REQUEST, "M_INVALID_PARAM");
    let (_, event) = shared.mallory.sign(made["event"].clone());
    let wrong = format!("/_matrix/federation/v2/send_join/{room}/{}", encoded(&format!("${}", "A".repeat(43))));
    let answer = shared.mallory.ask(&shared.node, Method::PUT, &wrong, event).await;
    refused(answer, StatusCode::BAD_REQUEST, "M_INVALID_PARAM");
    let v2_only = format!("{V1}/make_join/{room}/{user}?ver=2");
    refused(shared.mallory.get(&shared.node, &v2_only).await, StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_server_gets_nothing_more() {
    let shared = Shared::new().await;
    let acl = json!({ "allow": ["*"], "deny": [shared.mallory.name.host()], "allow_ip_literals": true });
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.server_acl/", encoded(&shared.room));
    shared.node.ok(shared.node.put(&shared.alice, path, acl)).await;
    shared.send("1", vec![shared.mallory.sign(shared.message("shut out")).1]).await;
    assert!(shared.texts().await.is_empty());
    let room = encoded(&shared.room);
    for path in [format!("{V1}/state/{room}?event_id=$x"), format!("{V1}/backfill/{room}?v=$x&limit=1")] {
        refused(shared.mallory.get(&shared.node, &path).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    }
    let user = encoded(&shared.mallory.user("n"));
    let make = format!("{V1}/make_join/{room}/{user}?ver=12");
    refused(shared.mallory.get(&shared.node, &make).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_that_were_altered_or_are_of_others_are_refused() {
    let shared = Shared::new().await;
    let create = json!({ "type": "m.room.create", "state_key": "", "sender": shared.mallory.user("m"), "depth": 1,
        "origin_server_ts": NOW_MS, "content": { "room_version": "12" }, "prev_events": [], "auth_events": [] });
    let (id, create) = shared.mallory.sign(create);
    let room = format!("!{}", &id[1..]);
    let invite = |sender: &str| {
        json!({ "type": "m.room.member", "state_key": shared.alice.id, "sender": sender, "room_id": room,
        "origin_server_ts": NOW_MS, "content": { "membership": "invite" }, "prev_events": [id], "auth_events": [], "depth": 2 })
    };
    let put = async |id: &str, event: Value, shown: Value| {
        let path = format!("/_matrix/federation/v2/invite/{}/{}", encoded(&room), encoded(id));
        let body = json!({ "room_version": "12", "event": event, "invite_room_state": shown });
        shared.mallory.ask(&shared.node, Method::PUT, &path, body).await
    };
    let (good_id, good) = shared.mallory.sign(invite(&shared.mallory.user("m")));
    let mut altered = good.clone();
    altered["content"]["displayname"] = json!("somebody else");
    let answer = put(&good_id, altered.clone(), json!([create])).await;
    assert!(answer.0 == StatusCode::OK || answer.0.is_client_error(), "{answer:?}");
    if answer.0 == StatusCode::OK {
        assert!(answer.1["event"]["content"].get("displayname").is_none(), "{answer:?}");
    }
    let (other_id, other) = shared.mallory.sign(invite("@x:third.example"));
    refused(put(&other_id, other, json!([create])).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    refused(put(&good_id, good.clone(), json!([])).await, StatusCode::BAD_REQUEST, "M_MISSING_PARAM");
    let (_, another) = shared.mallory.sign(json!({ "type": "m.room.create", "state_key": "", "sender": shared.mallory.user("m"),
        "depth": 1, "origin_server_ts": 1, "content": { "room_version": "12" }, "prev_events": [], "auth_events": [] }));
    refused(put(&good_id, good.clone(), json!([another])).await, StatusCode::BAD_REQUEST, "M_MISSING_PARAM");
    let (status, answer) = put(&good_id, good, json!([create])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let sync = shared.node.ok(shared.node.get(&shared.alice, "/_matrix/client/v3/sync")).await;
    assert!(sync["rooms"]["invite"].get(&room).is_some(), "{sync}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_user_who_joins_behind_the_ban_stays_out() {
    let shared = Shared::new().await;
    let (room, user) = (encoded(&shared.room), shared.mallory.user("m"));
    // What she prepares while she is in: a leave, and a join after it, neither of which knows of the ban to come.
    let before = shared.message("before");
    let member = |membership: &str, prev: Value, auth: Value, depth: u64| {
        json!({ "type": "m.room.member", "state_key": user, "sender": user, "room_id": shared.room, "origin_server_ts": NOW_MS,
            "content": { "membership": membership }, "prev_events": prev, "auth_events": auth, "depth": depth })
    };
    let (leave_id, leave) =
        shared.mallory.sign(member("leave", before["prev_events"].clone(), before["auth_events"].clone(), 50));
    let rules = {
        let snapshot = shared.node.node.core.snapshot().unwrap();
        let view = snapshot.view();
        let id = ruma::RoomId::parse(&shared.room).unwrap();
        let short = millpond_node::rooms::rows::room_short(view, &id).unwrap().unwrap();
        let row = millpond_node::rooms::current::entry_row(view, short, "m.room.join_rules", "").unwrap().unwrap();
        row.header.event_id.to_string()
    };
    let auth = json!([before["auth_events"][0], leave_id, rules]);
    let (join_id, join) = shared.mallory.sign(member("join", json!([leave_id]), auth, 51));
    let mut said = shared.message("I am back");
    said["prev_events"] = json!([join_id]);
    said["auth_events"] = json!([before["auth_events"][0], join_id]);
    let (_, said) = shared.mallory.sign(said);

    let ban = format!("/_matrix/client/v3/rooms/{room}/ban");
    shared.node.ok(shared.node.post(&shared.alice, ban, json!({ "user_id": user }))).await;
    shared.send("1", vec![leave, join, said]).await;
    assert!(shared.texts().await.is_empty());
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", encoded(&user));
    let shown = shared.node.ok(shared.node.get(&shared.alice, path)).await;
    assert_eq!(shown["membership"], "ban", "{shown}");
    let make = format!("{V1}/make_join/{room}/{}?ver=12", encoded(&user));
    refused(shared.mallory.get(&shared.node, &make).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
}
