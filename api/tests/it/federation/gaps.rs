//! What a node missed: a transaction that never came, and history from before it joined.

use millpond_node::Error;
use millpond_store::{job, rows::Peer, tables};
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::nodes::{Net, Running, encoded, until};

/// Makes a node believe that it has, or has not, a link with another: without one it owes it nothing.
async fn believe(node: &Running, other: &Running, linked: bool) {
    let server = other.server();
    let key = server.clone();
    let write = job(
        move |view| Ok::<_, Error>(view.get(tables::PEERS, &*server)?.unwrap_or_default()),
        move |peer: Peer, txn| txn.put(tables::PEERS, &*key, &Peer { linked, ..peer }),
    );
    node.node.core.write(write).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_events_are_fetched_when_a_later_one_comes() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    a.say(&alice, &room, "first").await;
    b.until_read(&bob, &room, "first").await;
    believe(&a, &b, false).await;
    for n in 0..70 {
        a.say(&alice, &room, &format!("lost {n}")).await;
    }
    believe(&a, &b, true).await;
    a.say(&alice, &room, "last").await;
    b.until_read(&bob, &room, "last").await;
    for n in [0, 35, 69] {
        b.until_read(&bob, &room, &format!("lost {n}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_from_before_the_join_is_fetched_while_scrolling_back() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    for n in 0..150 {
        a.say(&alice, &room, &format!("old {n}")).await;
    }
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    let mut texts = Vec::new();
    let mut from = String::new();
    for _ in 0..20 {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=40{from}", encoded(&room));
        let page = b.ok(b.get(&bob, &path)).await;
        let chunk = page["chunk"].as_array().unwrap().clone();
        texts.extend(chunk.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)));
        match page.get("end").and_then(Value::as_str) {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (0..150).rev().map(|n| format!("old {n}")).collect();
    assert_eq!(texts, wanted);
    until("the state of both is one", async || {
        let path = format!("/_matrix/client/v3/rooms/{}/state", encoded(&room));
        let ids = |state: Value| {
            let mut ids: Vec<_> = state.as_array().unwrap().iter().map(|event| event["event_id"].to_string()).collect();
            ids.sort();
            ids
        };
        ids(a.ok(a.get(&alice, &path)).await) == ids(b.ok(b.get(&bob, &path)).await)
    })
    .await;
}
