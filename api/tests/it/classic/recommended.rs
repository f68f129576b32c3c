//! Events of others in a room with a policy server: what it has signed or signs when it is asked is shown, the rest is not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Method, StatusCode};
use millpond_matrix::signing::Ed25519KeyPair;
use ruma::{CanonicalJsonObject, room_version_rules::RedactionRules, serde::Base64};
use serde_json::{Value, json};

use super::{
    Stranger,
    evil_server::{Server, ok, plain},
    named::named,
    tls::Authority,
};
use crate::nodes::{Net, Running, encoded, until};

fn endorsed(name: &str, key: &Ed25519KeyPair, event: &Value) -> Value {
    let mut event: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
    ruma::signatures::sign_event(name, key, &mut event, &RedactionRules::V11).unwrap();
    serde_json::to_value(event).unwrap()
}

fn policy_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "policy_server".to_owned()).unwrap()
}

async fn send(from: &Stranger, node: &Running, txn: &str, pdu: Value) {
    let body = json!({ "origin": from.name, "origin_server_ts": 1, "pdus": [pdu], "edus": [] });
    let path = format!("/_matrix/federation/v1/send/{txn}");
    let (status, answer) = from.ask(node, Method::PUT, &path, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_server_does_not_recommend_is_not_shown() {
    let (key, asked) = (Arc::new(policy_key()), Arc::new(AtomicUsize::new(0)));
    let public: Base64 = Base64::new(key.public_key().to_vec());
    let authority = Authority::new();
    let (signer, counted) = (key.clone(), asked.clone());
    let server = Server::start(&authority, move |server, path, body| match path {
        "/_matrix/policy/v1/sign" => {
            counted.fetch_add(1, Ordering::Relaxed);
            if body["content"]["body"].as_str().is_some_and(|text| text.contains("spam")) {
                let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "it looks like spam" });
                return Some(plain(StatusCode::BAD_REQUEST, refusal.to_string()));
            }
            let name = server.stranger.name.as_str();
            Some(ok(&json!({ name: endorsed(name, &signer, body)["signatures"][name].clone() })))
        }
        path if path.contains("/send/") => Some(ok(&json!({ "pdus": {} }))),
        _ => None,
    })
    .await;
    let place = authority.place().await;
    let name = place.name.clone();
    let node = Net::default().node_with(|config| authority.named(config, &name), vec![place.door()]).await;
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "preset": "public_chat" })).await;
    let mallory = Stranger::new("127.0.0.1:1");
    mallory.introduce(&node, u64::MAX / 4).await;
    mallory.enter(&node, &room).await;
    server.stranger.introduce(&node, u64::MAX / 4).await;
    server.enter(&node, &room).await;
    let policy = json!({ "via": server.stranger.name, "public_keys": { "ed25519": public } });
    let state = format!("/_matrix/client/v3/rooms/{}/state/m.room.policy/", encoded(&room));
    node.ok(node.put(&alice, &state, policy)).await;

    let message = |text: &str| mallory.sign(mallory.message(&node, &room, text));
    let policy_name = server.stranger.name.as_str();
    // Signed before: nobody is asked.
    let before = asked.load(Ordering::Relaxed);
    let (_, pdu) = message("signed");
    send(&mallory, &node, "1", endorsed(policy_name, &key, &pdu)).await;
    node.until_read(&alice, &room, "signed").await;
    assert_eq!(asked.load(Ordering::Relaxed), before);
    // Not signed: it is asked, and what it signs is kept with its signature.
    let (id, pdu) = message("not signed");
    send(&mallory, &node, "2", pdu).await;
    node.until_read(&alice, &room, "not signed").await;
    let kept = {
        let snapshot = node.node.core.snapshot().unwrap();
        let id = ruma::EventId::parse(id).unwrap();
        millpond_node::rooms::rows::event_by_id(snapshot.view(), &id).unwrap().unwrap().1.json.to_string()
    };
    assert!(kept.contains("ed25519:policy_server"), "{kept}");
    // Refused, and signed by somebody else: neither is shown. The next one stands on both.
    send(&mallory, &node, "3", message("spam").1).await;
    let (_, pdu) = message("forged spam");
    send(&mallory, &node, "4", endorsed(policy_name, &policy_key(), &pdu)).await;
    let judged = async || !node.node.core.snapshot().unwrap().view().any(millpond_store::tables::INBOX, ()).unwrap();
    until("all are judged", judged).await;
    node.say(&alice, &room, "last").await;
    assert_eq!(node.texts(&alice, &room).await, ["last", "not signed", "signed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_a_policy_server_signs_what_nobody_says_who_is_kept_out() {
    let (net, authority) = (Net::default(), Authority::new());
    let place = authority.place().await;
    let name = place.name.clone();
    let eve = "@eve:*".parse().unwrap();
    let configure = |config: &mut millpond_node::config::Config| {
        authority.named(config, &name);
        config.policy_server = true;
        config.blocked = std::iter::once(eve).collect();
    };
    let judge = net.node_with(configure, vec![place.door()]).await;
    let here = named(&net, &authority).await;
    let (mod_, alice, eve) = (judge.user("mod").await, here.user("alice").await, here.user("eve").await);
    let room = here.room(&alice, json!({ "preset": "public_chat" })).await;
    let join = format!("/_matrix/client/v3/join/{}?via={}", encoded(&room), encoded(here.server().as_str()));
    here.ok(here.post(&eve, &join, json!({}))).await;
    judge.ok(judge.post(&mod_, &join, json!({}))).await;
    here.until_membership(&mod_, &room, "join").await;

    here.fails(here.get("", "/.well-known/matrix/policy_server"), 404, "M_NOT_FOUND").await;
    let shown = judge.ok(judge.get("", "/.well-known/matrix/policy_server")).await;
    let policy = json!({ "via": judge.server(), "public_keys": shown["public_keys"] });
    let state = format!("/_matrix/client/v3/rooms/{}/state/m.room.policy/", encoded(&room));
    here.ok(here.put(&alice, &state, policy)).await;
    until("the room names it", async || judge.get(&mod_, &state).await.0 == StatusCode::OK).await;

    here.say(&alice, &room, "hello").await;
    judge.until_read(&mod_, &room, "hello").await;
    judge.say(&mod_, &room, "and back").await;
    here.until_read(&alice, &room, "and back").await;
    let say = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", encoded(&room));
    let refusal =
        here.fails(here.put(&eve, say, json!({ "msgtype": "m.text", "body": "psst" })), 403, "M_FORBIDDEN").await;
    assert!(refusal["error"].as_str().unwrap().contains("policy server"), "{refusal}");
}
