//! A resident server that lies, over real TLS: in its key document, in templates, in the rooms that it describes, and in HTTP
//! itself. The user gets an error in bounded time, and nothing is stored that should not be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use ruma::{CanonicalJsonObject, serde::Base64};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    Stranger,
    evil_server::{Evil, Room, Server, ok, plain, resident, room},
    tls::Authority,
};
use crate::{
    harness::NOW_MS,
    nodes::{Net, encoded, until},
};

/// A room whose id names no server.
const NOWHERE: &str = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_joined() {
    let (evil, room) = resident(|_, _, _, json| json).await;
    let (status, json, _) = evil.join(&room).await;
    assert_eq!(status, StatusCode::OK, "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_lie_are_not_signed() {
    let others: [(&str, Value); 6] = [
        ("/event/sender", json!("@somebody:else.example")),
        ("/event/state_key", json!("@somebody:else.example")),
        ("/event/room_id", json!("!another")),
        ("/event/type", json!("m.room.power_levels")),
        ("/event/content/membership", json!("ban")),
        ("/room_version", json!("99")),
    ];
    for (pointer, value) in others {
        let (evil, room) = resident(move |_, _, path, mut json| {
            if path.contains("/make_join/") {
                *json.pointer_mut(pointer).unwrap() = value.clone();
            }
            json
        })
        .await;
        evil.is_refused(&room).await;
        assert!(!evil.server.was_asked("/send_join/"), "a template with another {pointer} was signed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_do_not_hold_are_not_entered() {
    type Change = fn(&Server, &Room, Value) -> Value;
    let changes: [(&str, Change); 6] = [
        ("without its create event", |_, _, mut json| {
            json["state"].as_array_mut().unwrap().remove(0);
            json["auth_chain"].as_array_mut().unwrap().remove(0);
            json
        }),
        ("of another room", |server, _, mut json| {
            let other = room(&Stranger { name: server.stranger.name.clone(), key: another_key() });
            json["state"] = other.events.iter().map(|(_, event)| event.clone()).collect();
            json["auth_chain"] = json["state"].clone();
            json
        }),
        ("with changed join rules", |_, _, mut json| {
            json["state"][3]["content"]["join_rule"] = json!("invite");
            json
        }),
        ("that bans her", |server, room, mut json| {
            let ban = json!({ "type": "m.room.member", "state_key": "@alice:nowhere.example", "sender": server.stranger.user("m"),
                "room_id": room.id, "origin_server_ts": NOW_MS, "content": { "membership": "ban" }, "depth": 5,
                "prev_events": [room.events[3].0], "auth_events": [room.events[1].0, room.events[2].0] });
            // The same entry twice is no state.
            let (_, one) = server.stranger.sign(ban.clone());
            let mut ban = ban;
            ban["depth"] = json!(6);
            let (_, two) = server.stranger.sign(ban);
            json["state"].as_array_mut().unwrap().extend([one, two]);
            json
        }),
        ("with nothing in it", |_, _, _| json!({ "state": [], "auth_chain": [], "origin": "x" })),
        ("of other types", |_, _, _| json!({ "state": 7, "auth_chain": "x" })),
    ];
    for (what, change) in changes {
        let (evil, room) = resident(move |server, room, path, json| match path.contains("/send_join/") {
            true => change(server, room, json),
            false => json,
        })
        .await;
        let answer = evil.is_refused(&room).await;
        assert!(evil.server.was_asked("/send_join/"), "{what}: {answer}");
    }
}

fn another_key() -> millpond_matrix::signing::Ed25519KeyPair {
    use millpond_matrix::signing::Ed25519KeyPair;
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_auth_chain_is_over_in_bounded_time_and_what_does_not_belong_is_left_out() {
    let (evil, room) = resident(|server, room, path, mut json| {
        if path.contains("/send_join/") {
            let chain = json["auth_chain"].as_array_mut().unwrap();
            // Signed once, repeated often: each has another id by its depth, and no signature of its own.
            let junk = json!({ "type": "m.room.member", "state_key": server.stranger.user("m"), "sender": server.stranger.user("m"),
                "room_id": room.id, "origin_server_ts": NOW_MS, "content": { "membership": "join" }, "depth": 7,
                "prev_events": [room.events[3].0], "auth_events": [room.events[1].0] });
            let (_, signed) = server.stranger.sign(junk);
            for n in 0..60_000 {
                let mut another = signed.clone();
                another["depth"] = json!(n);
                chain.push(another);
            }
        }
        json
    })
    .await;
    let (status, json, took) = evil.join(&room).await;
    assert!(took < Duration::from_secs(60), "{took:?}: {status} {json}");
    if status == StatusCode::OK {
        let path = format!("/_matrix/client/v3/rooms/{}/state", encoded(&room));
        let state = evil.node.ok(evil.node.get(&evil.alice, path)).await;
        assert_eq!(state.as_array().unwrap().len(), 5, "four events of the room, and the join");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_key_documents_verify_nothing() {
    type Change = fn(&mut Value);
    let changes: [Change; 5] = [
        |document| document["server_name"] = json!("another.example"),
        |document| document["valid_until_ts"] = json!(9_000_000_000_000_000_u64),
        |document| document["verify_keys"]["ed25519:1"]["key"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        |document| document["signatures"] = json!({}),
        |document| *document = json!([document.clone()]),
    ];
    for change in changes {
        let (evil, room) = resident(|_, _, _, json| json).await;
        let itself = Arc::downgrade(&evil.server);
        let before =
            std::mem::replace(&mut *evil.server.answer.lock().unwrap(), Box::new(|_, _| plain(StatusCode::OK, "")));
        *evil.server.answer.lock().unwrap() = Box::new(move |path, body| match path {
            "/_matrix/key/v2/server" => ok(&itself.upgrade().unwrap().document(change)),
            _ => before(path, body),
        });
        evil.is_refused(&room).await;
        assert!(evil.server.was_asked("/_matrix/key/v2/server"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_and_bombs_lead_nowhere() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", elsewhere.local_addr().unwrap());
    let redirect = move |_: &Server, path: &str, _: &Value| {
        let answer = Response::builder().status(StatusCode::FOUND).header("location", &target);
        (!path.contains("/key/")).then(|| answer.body(Bytes::new()).unwrap())
    };
    let evil = Evil::new(redirect).await;
    evil.is_refused(NOWHERE).await;
    let followed = tokio::time::timeout(Duration::from_millis(200), elsewhere.accept()).await;
    assert!(followed.is_err(), "a redirect of a federation request was followed");

    // 16 MiB of zeros in a few KiB of gzip: nothing here unpacks, so it is no JSON.
    let evil = Evil::new(|_, path, _| {
        let answer = Response::builder().header("content-encoding", "gzip").header("content-type", "application/json");
        (!path.contains("/key/"))
            .then(|| answer.body(Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])).unwrap())
    })
    .await;
    evil.is_refused(NOWHERE).await;

    // More than a template can have.
    let evil =
        Evil::new(|_, path, _| (!path.contains("/key/")).then(|| plain(StatusCode::OK, vec![b' '; 9 << 20]))).await;
    let answer = evil.is_refused(NOWHERE).await;
    assert!(answer["error"].as_str().unwrap().contains("bytes"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_kept_elsewhere_is_fetched_from_the_public_internet_only() {
    let inside = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let place = format!("https://{}/secret", inside.local_addr().unwrap());
    let evil = Evil::new(move |_, path, _| {
        let body = format!(
            "--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\nLocation: {place}\r\n\r\n\r\n--b--\r\n"
        );
        let answer = Response::builder().header("content-type", "multipart/mixed; boundary=b");
        path.contains("/media/").then(|| answer.body(body.into()).unwrap())
    })
    .await;
    let path = format!("/_matrix/client/v1/media/download/{}/file", encoded(evil.server.stranger.name.as_str()));
    let (status, json) = evil.node.get(&evil.alice, path).await;
    assert!(status.is_server_error() || status.is_client_error(), "{json}");
    assert!(evil.server.was_asked("/media/download/"), "{json}");
    assert!(json["error"].as_str().unwrap().contains("elsewhere"), "{json}");
    let reached = tokio::time::timeout(Duration::from_millis(200), inside.accept()).await;
    assert!(reached.is_err(), "an address inside was connected to");
    let asked =
        evil.server.stranger.ask(&evil.node, Method::GET, "/_matrix/federation/v1/publicRooms", Value::Null).await;
    assert_eq!(asked.0, StatusCode::OK, "it is answered as before: {}", asked.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_keys_are_being_fetched_wait_for_them() {
    let evil = Evil::new(|_, _, _| None).await;
    let path = "/_matrix/federation/v1/publicRooms";
    let asked = (0..8).map(|_| evil.server.stranger.ask(&evil.node, Method::GET, path, Value::Null));
    for (status, answer) in futures::future::join_all(asked).await {
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    let fetched = evil.server.asked.lock().unwrap().iter().filter(|path| path.contains("/key/")).count();
    assert_eq!(fetched, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_is_refused_is_taken_back_with_the_reason() {
    let authority = Authority::new();
    let server = Server::start(&authority, |_, path, _| {
        let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "no frogs here" });
        match path {
            path if path.contains("/invite/") => Some(plain(StatusCode::FORBIDDEN, refusal.to_string())),
            path if path.contains("/send/") => Some(ok(&json!({ "pdus": {} }))),
            _ => None,
        }
    })
    .await;
    let place = authority.place().await;
    let name = place.name.clone();
    let node = Net::default().node_with(|config| authority.named(config, &name), vec![place.door()]).await;
    let (alice, bob) = (node.user("alice").await, server.stranger.user("bob"));
    // An ordinary member may invite and not remove: then another user here who may does it.
    let ann = node.user("ann").await;
    let made = json!({ "preset": "public_chat", "power_level_content_override": { "invite": 0 } });
    let room = node.room(&alice, made).await;
    node.ok(node.post(&ann, format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({}))).await;
    for inviter in [&alice, &ann] {
        let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(&room));
        node.ok(node.post(inviter, path, json!({ "user_id": bob }))).await;
        let member = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encoded(&room), encoded(&bob));
        let taken_back = async || {
            let shown = node.ok(node.get(&alice, &member)).await;
            shown["membership"] == "leave" && shown["reason"].as_str().is_some_and(|why| why.contains("no frogs here"))
        };
        until("the invite is taken back", taken_back).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_room_with_a_policy_server_carry_its_signature_or_are_refused() {
    use millpond_matrix::signing::Ed25519KeyPair;
    let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "policy_server".to_owned()).unwrap();
    let public: Base64 = Base64::new(key.public_key().to_vec());
    let authority = Authority::new();
    let server = Server::start(&authority, move |server, path, body| match path {
        "/_matrix/policy/v1/sign" if body["content"]["body"] == "spam" => {
            let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "it looks like spam" });
            Some(plain(StatusCode::BAD_REQUEST, refusal.to_string()))
        }
        "/_matrix/policy/v1/sign" => {
            let mut event: CanonicalJsonObject = serde_json::from_value(body.clone()).unwrap();
            let rules = ruma::room_version_rules::RedactionRules::V11;
            ruma::signatures::sign_event(server.stranger.name.as_str(), &key, &mut event, &rules).unwrap();
            let event = serde_json::to_value(event).unwrap();
            let name = server.stranger.name.as_str();
            Some(ok(&json!({ name: event["signatures"][name].clone() })))
        }
        path if path.contains("/send/") => Some(ok(&json!({ "pdus": {} }))),
        _ => None,
    })
    .await;
    let place = authority.place().await;
    let name = place.name.clone();
    let node = Net::default().node_with(|config| authority.named(config, &name), vec![place.door()]).await;
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat" })).await;
    let policy = json!({ "via": server.stranger.name, "public_keys": { "ed25519": public } });
    let state = format!("/_matrix/client/v3/rooms/{}/state/m.room.policy/", encoded(&room));
    node.ok(node.put(&alice, &state, policy)).await;
    let say = async |text: &str| {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{text}", encoded(&room));
        node.put(&alice, path, json!({ "msgtype": "m.text", "body": text })).await
    };
    // Who is not in the room is no policy server of it.
    node.ok(say("before")).await;
    assert!(!server.was_asked("/policy/"));
    server.stranger.introduce(&node, u64::MAX / 4).await;
    server.enter(&node, &room).await;

    let sent = node.ok(say("hello")).await;
    assert!(server.was_asked("/_matrix/policy/v1/sign"));
    let id = ruma::EventId::parse(sent["event_id"].as_str().unwrap()).unwrap();
    let kept = {
        let snapshot = node.node.core.snapshot().unwrap();
        millpond_node::rooms::rows::event_by_id(snapshot.view(), &id).unwrap().unwrap().1.json.to_string()
    };
    assert!(kept.contains("ed25519:policy_server"), "{kept}");
    let refusal = node.fails(say("spam"), 403, "M_FORBIDDEN").await;
    assert!(refusal["error"].as_str().unwrap().contains("it looks like spam"), "{refusal}");
    node.ok(node.post(&bob, format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({}))).await;
    assert_eq!(node.texts(&alice, &room).await, ["hello", "before"]);
}
