//! A linked node that asks for what is not for it, or sends what is not its own.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::nodes::{Net, Running, encoded, link};

async fn send(from: &Running, to: &Running, txn: &str, body: Value) -> (StatusCode, Value) {
    from.ask(to, Method::PUT, &format!("/_matrix/federation/v1/send/{txn}"), body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_another_origin_is_refused() {
    let Together { a, b, .. } = together(&Net::default()).await;
    let body = |origin: &str| json!({ "origin": origin, "origin_server_ts": 1, "pdus": [], "edus": [] });
    let (status, json) = send(&b, &a, "t1", body("other.example")).await;
    assert_eq!((status.as_u16(), json["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
    let (status, json) = send(&b, &a, "t1", body(b.server().as_str())).await;
    assert_eq!((status, json), (StatusCode::OK, json!({ "pdus": {} })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_transaction_does_nothing_and_too_many_pdus_are_refused() {
    let Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let content = json!({ "sender": bob.id, "type": "m.test", "message_id": "same",
        "messages": { alice.id.as_str(): { "*": { "n": 1 } } } });
    let edu = json!({ "edu_type": "m.direct_to_device", "content": content });
    let forged = json!({ "edu_type": "m.direct_to_device", "content": { "sender": alice.id, "type": "m.test",
        "message_id": "forged", "messages": { alice.id.as_str(): { "*": { "n": 2 } } } } });
    let body = json!({ "origin": b.server(), "origin_server_ts": 1, "pdus": [],
        "edus": [edu, forged, { "edu_type": "m.direct_to_device", "content": 7 }, { "edu_type": "m.unknown", "content": {} }, 7] });
    for txn in ["one", "one", "two"] {
        let (status, json) = send(&b, &a, txn, body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{json}");
    }
    let sync = a.ok(a.get(&alice, "/_matrix/client/v3/sync")).await;
    let events = sync["to_device"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    let body = json!({ "origin": b.server(), "origin_server_ts": 1, "pdus": vec![json!({}); 51] });
    let (status, json) = send(&b, &a, "three", body).await;
    assert_eq!((status.as_u16(), json["errcode"].as_str()), (400, Some("M_BAD_JSON")));
    let (status, json) = b.ask(&a, Method::PUT, "/_matrix/federation/v1/send/x", "{\"pdus\": [").await;
    assert_eq!((status.as_u16(), json["errcode"].as_str()), (400, Some("M_NOT_JSON")));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_other_rooms_are_not_served() {
    let Together { a, b, alice, room, .. } = together(&Net::default()).await;
    let secret = a.room(&alice, json!({ "preset": "private_chat" })).await;
    let event = encoded(&a.say(&alice, &secret, "secret").await);
    let (room, secret) = (encoded(&room), encoded(&secret));
    let base = "/_matrix/federation/v1";
    b.refused_by(&a, &format!("{base}/event/{event}"), 404, "M_NOT_FOUND").await;
    for family in ["state", "state_ids"] {
        b.refused_by(&a, &format!("{base}/{family}/{room}?event_id={event}"), 404, "M_NOT_FOUND").await;
        b.refused_by(&a, &format!("{base}/{family}/{secret}?event_id={event}"), 403, "M_FORBIDDEN").await;
    }
    b.refused_by(&a, &format!("{base}/event_auth/{room}/{event}"), 404, "M_NOT_FOUND").await;
    b.refused_by(&a, &format!("{base}/event_auth/{secret}/{event}"), 403, "M_FORBIDDEN").await;
    b.refused_by(&a, &format!("{base}/backfill/{room}?v={event}&limit=10"), 404, "M_NOT_FOUND").await;
    b.refused_by(&a, &format!("{base}/backfill/{secret}?v={event}&limit=10"), 403, "M_FORBIDDEN").await;
    b.refused_by(&a, &format!("{base}/backfill/!nothing?v={event}&limit=10"), 403, "M_FORBIDDEN").await;
    let many = format!("v={event}&").repeat(21);
    b.refused_by(&a, &format!("{base}/backfill/{room}?{many}limit=10"), 400, "M_INVALID_PARAM").await;
    let asked = json!({ "earliest_events": [], "latest_events": [event.replace("%24", "$")], "limit": 1000 });
    let path = format!("{base}/get_missing_events/{room}");
    let (status, found) = b.ask(&a, Method::POST, &path, asked.to_string()).await;
    assert_eq!((status, &found["events"]), (StatusCode::OK, &json!([])));
    let path = format!("{base}/get_missing_events/{secret}");
    assert_eq!(b.ask(&a, Method::POST, &path, asked.to_string()).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_sees_no_more_of_the_room() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let before = encoded(&a.say(&alice, &room, "before").await);
    b.until_read(&bob, &room, "before").await;
    let path = format!("/_matrix/client/v3/rooms/{}/leave", encoded(&room));
    b.ok(b.post(&bob, &path, json!({}))).await;
    a.until_membership(&bob, &room, "leave").await;
    let after = encoded(&a.say(&alice, &room, "after").await);
    b.get_from(&a, &format!("/_matrix/federation/v1/event/{before}")).await;
    b.refused_by(&a, &format!("/_matrix/federation/v1/event/{after}"), 404, "M_NOT_FOUND").await;
    let path = format!("/_matrix/federation/v1/backfill/{}?v={after}&limit=1", encoded(&room));
    let shown = b.get_from(&a, &path).await;
    assert_eq!(shown["pdus"][0]["content"], json!({}), "only the place in the DAG");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_for_own_users_and_known_versions_only() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let base = format!("/_matrix/federation/v1/make_join/{}", encoded(&room));
    let alice_path = encoded(alice.id.as_str());
    b.refused_by(&a, &format!("{base}/{alice_path}?ver=12"), 403, "M_FORBIDDEN").await;
    let bob_path = encoded(bob.id.as_str());
    b.refused_by(&a, &format!("{base}/{bob_path}?ver=9"), 400, "M_INCOMPATIBLE_ROOM_VERSION").await;
    let carol = encoded(b.user("carol").await.id.as_str());
    b.refused_by(&a, &format!("{base}/{carol}?ver=12"), 403, "M_FORBIDDEN").await;
    let nowhere = format!("/_matrix/federation/v1/make_join/!nothing/{bob_path}?ver=12");
    b.refused_by(&a, &nowhere, 404, "M_NOT_FOUND").await;
    // A join that is another event than the path says, or about somebody else.
    let made = b.get_from(&a, &format!("{base}/{bob_path}?ver=12")).await;
    let mut event = made["event"].clone();
    let path = format!("/_matrix/federation/v2/send_join/{}/%24nothing", encoded(&room));
    let (status, _) = b.ask(&a, Method::PUT, &path, event.to_string()).await;
    assert!(status.is_client_error());
    event["sender"] = json!(alice.id);
    event["state_key"] = json!(alice.id);
    let (status, json) = b.ask(&a, Method::PUT, &path, event.to_string()).await;
    assert_eq!((status.as_u16(), json["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_peers_have_doors_of_their_own() {
    let Together { a, b, alice, .. } = together(&Net::default()).await;
    for path in ["/_matrix/client/versions", "/_matrix/client/v3/sync", "/_millpond/v1/status", "/"] {
        b.refused_by(&a, path, 404, "M_UNRECOGNIZED").await;
    }
    a.fails(a.get(&alice, "/_matrix/federation/v1/query/profile?user_id=@a:b"), 404, "M_UNRECOGNIZED").await;
    a.fails(a.get(&alice, "/_matrix/key/v2/query/example.org"), 404, "M_UNRECOGNIZED").await;
    let (status, document) = a.get("", "/_matrix/key/v2/server").await;
    assert_eq!((status, document["server_name"].as_str()), (StatusCode::OK, Some(a.server().as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_documents_of_others_go_to_those_who_share_a_room_only() {
    let net = Net::default();
    let Together { a, b, .. } = together(&net).await;
    let c = net.node().await;
    link(&a, &c).await;
    let path = |node: &Running| format!("/_matrix/key/v2/query/{}", node.server());
    let own = c.get_from(&a, &path(&a)).await;
    assert_eq!(own["server_keys"][0]["server_name"], a.server().as_str());
    assert_eq!(c.get_from(&a, &path(&b)).await["server_keys"], json!([]));
    assert_eq!(b.get_from(&a, &path(&a)).await["server_keys"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_that_are_not_what_they_say_are_refused() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let bob = b.user("bob").await;
    let alice = format!("@alice:{}", a.server());
    let invite = |sender: &str, target: &str| {
        json!({
            "room_version": "12", "invite_room_state": [],
            "event": { "type": "m.room.member", "room_id": "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
                "sender": sender, "state_key": target, "content": { "membership": "invite" }, "depth": 1,
                "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": { "sha256": "x" }, "signatures": {} },
        })
    };
    let path = "/_matrix/federation/v2/invite/%2131hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM/%24nothing";
    for (body, status, code) in [
        (invite("@eve:other.example", bob.id.as_str()), 403, "M_FORBIDDEN"),
        (invite(&alice, bob.id.as_str()), 400, "M_INVALID_PARAM"),
        (json!({ "room_version": "99", "invite_room_state": [], "event": {} }), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (json!({ "room_version": "12" }), 400, "M_MISSING_PARAM"),
    ] {
        let (found, json) = a.ask(&b, Method::PUT, path, body.to_string()).await;
        assert_eq!((found.as_u16(), json["errcode"].as_str()), (status, Some(code)), "{json}");
    }
    assert_eq!(b.membership(&bob, "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_too_large_or_not_signed_change_nothing_and_the_node_goes_on() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let pdu = |body: &str| {
        json!({ "type": "m.room.message", "room_id": room, "sender": bob.id, "content": { "body": body }, "depth": 20,
            "origin_server_ts": 1, "prev_events": ["$31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"], "auth_events": [],
            "hashes": { "sha256": "x" }, "signatures": { b.server().as_str(): { "ed25519:1": "x" } } })
    };
    let mut of_alice = pdu("forged");
    of_alice["sender"] = json!(alice.id);
    let pdus =
        [pdu(&"x".repeat(70_000)), pdu(&"x".repeat(500_000)), pdu("not signed"), of_alice, json!({}), json!([1])];
    let body = json!({ "origin": b.server(), "origin_server_ts": 1, "pdus": pdus, "edus": [] });
    assert_eq!(send(&b, &a, "large", body).await.0, StatusCode::OK);
    let huge = format!("{{\"origin\": \"{}\", \"x\": \"{}\"}}", b.server(), "x".repeat(33 << 20));
    let (status, json) = b.ask(&a, Method::PUT, "/_matrix/federation/v1/send/huge", huge).await;
    assert_eq!((status.as_u16(), json["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
    b.say(&bob, &room, "still here").await;
    a.until_read(&alice, &room, "still here").await;
    assert_eq!(a.texts(&alice, &room).await, ["still here"]);
    let snapshot = a.node.core.snapshot().unwrap();
    assert!(!snapshot.view().any(millpond_store::tables::INBOX, ()).unwrap());
    assert!(!snapshot.view().any(millpond_store::tables::PARKED, ()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_user_invites_in_vain_and_does_not_learn_it() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encoded(bob.id.as_str()));
    b.ok(b.put(&bob, &path, json!({ "ignored_users": { alice.id.as_str(): {} } }))).await;
    let (ignored, carol) = (a.room(&alice, json!({ "preset": "private_chat" })).await, b.user("carol").await);
    a.invite(&alice, &ignored, &bob).await;
    // Invites leave in order: when the second one is here, the first one was answered.
    a.invite(&alice, &ignored, &carol).await;
    b.until_membership(&carol, &ignored, "invite").await;
    assert_eq!(b.membership(&bob, &ignored), None);
}
