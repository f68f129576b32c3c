//! A server that refuses what it is sent, for ever: one event that it does not take holds up nothing else, and of nothing is it
//! forgotten that it is owed.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    evil_server::{Server, ok, plain},
    tls::Authority,
};
use crate::{
    harness::TestUser,
    nodes::{Net, Running, until},
};

/// What the server has taken, and whether it takes anything.
#[derive(Clone, Default)]
struct Taken {
    texts: Arc<Mutex<Vec<String>>>,
    refuses_all: Arc<AtomicBool>,
}

impl Taken {
    fn has(&self, text: &str) -> bool {
        self.texts.lock().unwrap().iter().any(|taken| taken == text)
    }

    fn texts_of(body: &Value) -> Vec<String> {
        let pdus = body["pdus"].as_array().into_iter().flatten();
        pdus.filter_map(|pdu| pdu["content"]["body"].as_str().map(str::to_owned)).collect()
    }
}

/// A node with a room in which a server is that refuses whatever holds a poisonous event.
async fn with_refuser(authority: &Authority, taken: &Taken) -> (Running, TestUser, String, Arc<Server>) {
    let kept = taken.clone();
    let server = Server::start(authority, move |_, path, body| {
        if !path.contains("/send/") {
            return None;
        }
        let texts = Taken::texts_of(body);
        if kept.refuses_all.load(Ordering::Relaxed) || texts.iter().any(|text| text.contains("poison")) {
            let refusal = json!({ "errcode": "M_BAD_JSON", "error": "not such events" });
            return Some(plain(StatusCode::BAD_REQUEST, refusal.to_string()));
        }
        kept.texts.lock().unwrap().extend(texts);
        Some(ok(&json!({ "pdus": {} })))
    })
    .await;
    let place = authority.place().await;
    let name = place.name.clone();
    let node = Net::default().node_with(|config| authority.named(config, &name), vec![place.door()]).await;
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "preset": "public_chat" })).await;
    server.stranger.introduce(&node, u64::MAX / 4).await;
    server.enter(&node, &room).await;
    (node, alice, room, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_that_is_refused_for_ever_is_set_aside_and_the_rest_arrives() {
    let (authority, taken) = (Authority::new(), Taken::default());
    let (node, alice, room, server) = with_refuser(&authority, &taken).await;
    node.say(&alice, &room, "before").await;
    node.say(&alice, &room, "poison").await;
    for n in 0..8 {
        let text = format!("after {n}");
        node.say(&alice, &room, &text).await;
        until("what comes after it is taken", async || taken.has(&text)).await;
    }
    assert!(taken.has("before"));
    let name = &server.stranger.name;
    let aside = async || node.node.outbox.set_aside().unwrap().contains_key(name);
    until("it is set aside", aside).await;
    let (count, status, said) = node.node.outbox.set_aside().unwrap().remove(name).unwrap();
    assert_eq!((count, status, &*said), (1, 400, "not such events"));
    let report = millpond_store::check::check(node.node.core.snapshot().unwrap().view()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);

    // At the next start it is owed again.
    let asleep = node.sleep().await;
    let net = Net::default();
    let awake = net.wake(asleep).await;
    let owed = async || {
        let (_, waiting) = awake.node.counts().unwrap();
        awake.node.outbox.set_aside().unwrap().is_empty() && waiting.contains_key(name.as_str())
    };
    until("it is owed again", owed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_everything_is_owed_everything() {
    let (authority, taken) = (Authority::new(), Taken::default());
    let (node, alice, room, _server) = with_refuser(&authority, &taken).await;
    taken.refuses_all.store(true, Ordering::Relaxed);
    let texts: Vec<_> = (0..12).map(|n| format!("line {n}")).collect();
    for text in &texts {
        node.say(&alice, &room, text).await;
    }
    // Two attempts, each of which ends in a wait.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(node.node.outbox.set_aside().unwrap().is_empty());
    taken.refuses_all.store(false, Ordering::Relaxed);
    until("everything arrives", async || texts.iter().all(|text| taken.has(text))).await;
    let order = taken.texts.lock().unwrap().clone();
    assert_eq!(order, texts);
}
