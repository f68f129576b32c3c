//! Devices, keys, to-device messages, profiles, media, receipts and typing across nodes.

use http::{Method, StatusCode};
use serde_json::json;

use super::rooms::{Together, together};
use crate::{
    encryption::{device_keys, key_pair, signed},
    nodes::{Net, encoded, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_other_node_are_queried_and_claimed() {
    let Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let device = bob.device_id.as_str();
    let pair = key_pair(device);
    let one_time = signed(&json!({ "key": "zKbLg+NrIjpnagy+pIY6uPL4ZwEG2v+8F9lmgsnlZzs" }), &bob, &pair);
    let keys = json!({
        "device_keys": device_keys(&bob, &pair),
        "one_time_keys": { "signed_curve25519:AAAA": one_time },
    });
    b.ok(b.post(&bob, "/_matrix/client/v3/keys/upload", keys)).await;
    until("the device is known on the other node", async || {
        let query = json!({ "device_keys": { bob.id.as_str(): [] } });
        let found = a.ok(a.post(&alice, "/_matrix/client/v3/keys/query", query)).await;
        found["device_keys"][bob.id.as_str()][device]["algorithms"].is_array()
    })
    .await;
    let claim = json!({ "one_time_keys": { bob.id.as_str(): { device: "signed_curve25519" } } });
    let claimed = a.ok(a.post(&alice, "/_matrix/client/v3/keys/claim", claim)).await;
    assert!(claimed["one_time_keys"][bob.id.as_str()][device]["signed_curve25519:AAAA"].is_object(), "{claimed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_to_device_message_comes_once() {
    let Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let body = json!({ "messages": { bob.id.as_str(): { "*": { "hello": "device" } } } });
    a.ok(a.put(&alice, "/_matrix/client/v3/sendToDevice/m.test/1", body)).await;
    until("the message is in sync", async || {
        let sync = b.ok(b.get(&bob, "/_matrix/client/v3/sync")).await;
        let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
        events.len() == 1 && events[0]["content"]["hello"] == "device" && events[0]["sender"] == alice.id.as_str()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_asked_for_across_nodes() {
    let Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", encoded(bob.id.as_str()));
    b.ok(b.put(&bob, &path, json!({ "displayname": "Bob of B" }))).await;
    let profile = a.ok(a.get(&alice, &format!("/_matrix/client/v3/profile/{}", encoded(bob.id.as_str())))).await;
    assert_eq!(profile["displayname"], "Bob of B");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_the_other_node_are_fetched() {
    let Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let content: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let uploaded = b.raw(Method::POST, &bob, "/_matrix/media/v3/upload?filename=x.bin", content.clone()).await;
    assert_eq!(uploaded.0, StatusCode::OK, "{}", uploaded.1);
    let mxc = uploaded.1["content_uri"].as_str().unwrap().replace("mxc://", "");
    let request = http::Request::builder()
        .uri(format!("/_matrix/client/v1/media/download/{mxc}"))
        .header("authorization", format!("Bearer {}", alice.token))
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = a.answer(request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, content);
    let missing = format!("/_matrix/client/v1/media/download/{}/nothing", b.server());
    a.fails(a.get(&alice, &missing), 404, "M_NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_typing_reach_the_other_node() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let event = a.say(&alice, &room, "read me").await;
    b.until_read(&bob, &room, "read me").await;
    let path = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{}", encoded(&room), encoded(&event));
    b.ok(b.post(&bob, &path, json!({}))).await;
    let path = format!("/_matrix/client/v3/rooms/{}/typing/{}", encoded(&room), encoded(bob.id.as_str()));
    b.ok(b.put(&bob, &path, json!({ "typing": true, "timeout": 30_000 }))).await;
    until("receipt and typing are in sync", async || {
        let sync = a.ok(a.get(&alice, "/_matrix/client/v3/sync")).await;
        let events = sync["rooms"]["join"][&room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
        let read = events.iter().any(|e| e["content"][&event]["m.read"][bob.id.as_str()].is_object());
        read && events.iter().any(|e| e["content"]["user_ids"] == json!([bob.id]))
    })
    .await;
}
