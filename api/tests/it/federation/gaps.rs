//! What a node missed: a transaction that never came, and history from before it joined.

use millpond_node::Error;
use millpond_store::{job, rows::Peer, tables};
use ruma::OwnedServerName;
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::{
    harness::TestUser,
    nodes::{Net, Running, encoded, until},
};

/// Makes a node believe that it has, or has not, a link with another: without one it owes it nothing.
pub async fn believe(node: &Running, server: &OwnedServerName, linked: bool) {
    let (server, key) = (server.clone(), server.clone());
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
    believe(&a, &b.server(), false).await;
    for n in 0..70 {
        a.say(&alice, &room, &format!("lost {n}")).await;
    }
    believe(&a, &b.server(), true).await;
    a.say(&alice, &room, "last").await;
    b.until_read(&bob, &room, "last").await;
    for n in [0, 35, 69] {
        b.until_read(&bob, &room, &format!("lost {n}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_in_the_middle_is_fetched_into_its_place() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    a.say(&alice, &room, "before 0").await;
    a.say(&alice, &room, "before 1").await;
    b.until_read(&bob, &room, "before 1").await;
    let known = b.ok(b.get(&bob, "/_matrix/client/v3/sync")).await;
    believe(&a, &b.server(), false).await;
    for n in 0..160 {
        a.say(&alice, &room, &format!("missed {n}")).await;
    }
    believe(&a, &b.server(), true).await;
    a.say(&alice, &room, "after 0").await;

    // The client is told that something is missing before what is new, and where to look for it.
    let since = known["next_batch"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/sync?since={since}&timeout=0");
    let timeline = std::sync::Mutex::new(Value::Null);
    until("the newest message is synced", async || {
        let now = b.ok(b.get(&bob, &path)).await;
        *timeline.lock().unwrap() = now["rooms"]["join"][&room]["timeline"].clone();
        timeline.lock().unwrap().to_string().contains("after 0")
    })
    .await;
    let timeline = timeline.into_inner().unwrap();
    assert_eq!(timeline["limited"], true, "{timeline}");
    let synced: Vec<String> = bodies(&timeline["events"]).collect();
    assert!(!synced.iter().any(|text| text.starts_with("before")), "{synced:?}");

    let mut texts = scroll(&b, &bob, &room, timeline["prev_batch"].as_str()).await;
    let missed = (0..160).map(|n| format!("missed {n}"));
    let wanted: Vec<String> = ["before 0", "before 1"].map(str::to_owned).into_iter().chain(missed).collect();
    texts.reverse();
    texts.extend(synced);
    assert_eq!(texts, wanted.into_iter().chain(["after 0".to_owned()]).collect::<Vec<_>>());
    assert_eq!(scroll(&b, &bob, &room, None).await.len(), 163, "and so it stays");
    let snapshot = b.node.core.snapshot().unwrap();
    assert_eq!(millpond_store::check::check(snapshot.view()).unwrap().findings, Vec::<String>::new());
    assert!(!snapshot.view().any(tables::GAPS, ()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_while_away_from_a_room_comes_before_the_return() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "public_chat" })).await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.say(&alice, &room, "with bob").await;
    b.until_read(&bob, &room, "with bob").await;
    b.ok(b.post(&bob, &format!("/_matrix/client/v3/rooms/{}/leave", encoded(&room)), json!({}))).await;
    a.until_membership(&bob, &room, "leave").await;
    a.say(&alice, &room, "without bob").await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.say(&alice, &room, "with bob again").await;
    b.until_read(&bob, &room, "with bob again").await;
    let texts = scroll(&b, &bob, &room, None).await;
    assert_eq!(texts, ["with bob again", "without bob", "with bob"]);
}

pub fn bodies(events: &Value) -> impl Iterator<Item = String> {
    events.as_array().unwrap().iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned))
}

/// Every message from a point back to the beginning, the newest first.
pub async fn scroll(node: &Running, user: &TestUser, room: &str, from: Option<&str>) -> Vec<String> {
    let mut texts = Vec::new();
    let mut from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    for _ in 0..20 {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=40{from}", encoded(room));
        let page = node.ok(node.get(user, &path)).await;
        texts.extend(bodies(&page["chunk"]));
        match page.get("end").and_then(Value::as_str) {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    texts
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
    let texts = scroll(&b, &bob, &room, None).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_was_said_and_nothing_from_before_the_join() {
    let net = Net::default();
    let Together { a, b, alice, bob, room } = together(&net).await;
    b.say(&bob, &room, "here").await;
    a.until_read(&alice, &room, "here").await;
    let since = b.ok(b.get(&bob, "/_matrix/client/v3/sync")).await["next_batch"].as_str().unwrap().to_owned();
    // What the other end of the room is shows when the nodes meet; nothing else is sent.
    believe(&a, &b.server(), false).await;
    let asleep = b.sleep().await;
    for n in 0..5 {
        a.say(&alice, &room, &format!("meanwhile {n}")).await;
    }
    let b = net.wake(asleep).await;
    let path = format!("/_matrix/client/v3/sync?since={since}&timeout=0");
    until("all of it is synced", async || b.ok(b.get(&bob, &path)).await.to_string().contains("meanwhile 4")).await;
    // What was parked with it would come a little later.
    until("nothing waits", async || {
        let snapshot = b.node.core.snapshot().unwrap();
        !snapshot.view().any(tables::PARKED, ()).unwrap()
    })
    .await;
    let timeline = b.ok(b.get(&bob, &path)).await["rooms"]["join"][&room]["timeline"].clone();
    let came: Vec<_> =
        timeline["events"].as_array().unwrap().iter().map(|event| event["content"].to_string()).collect();
    assert_eq!(timeline["limited"], false, "{timeline:#}");
    assert_eq!(came.len(), 5, "{came:?}");
}
