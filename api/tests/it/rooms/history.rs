//! `/messages`, `/context`, `/event`, redactions.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{bodies, members, path},
};

async fn page(node: &TestNode, who: &TestUser, room: &str, query: &str) -> Value {
    node.ok(node.get(who, &path(room, &format!("messages?{query}")))).await
}

#[tokio::test]
async fn pages_lead_from_the_end_to_the_start_and_back() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    for n in 0..7 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    let first = page(&node, &alice, &room, "dir=b&limit=3").await;
    assert_eq!(bodies(&first["chunk"]), ["m6", "m5", "m4"]);
    assert_eq!(first["chunk"][0]["room_id"], json!(room));
    let end = first["end"].as_str().unwrap();
    let second = page(&node, &alice, &room, &format!("dir=b&limit=3&from={end}")).await;
    assert_eq!(bodies(&second["chunk"]), ["m3", "m2", "m1"]);
    assert_eq!(second["start"], first["end"]);
    let last = page(&node, &alice, &room, &format!("dir=b&limit=100&from={}", second["end"].as_str().unwrap())).await;
    assert_eq!(bodies(&last["chunk"]).last().unwrap(), "m.room.create");
    assert!(last.get("end").is_none(), "there is no more");
    let back = page(&node, &alice, &room, &format!("dir=f&limit=100&from={end}")).await;
    assert_eq!(bodies(&back["chunk"]), ["m4", "m5", "m6"]);
    let from_start = page(&node, &alice, &room, "dir=f&limit=1").await;
    assert_eq!(bodies(&from_start["chunk"]), ["m.room.create"]);
    let token = node.token(&alice).await;
    let synced = page(&node, &alice, &room, &format!("dir=b&limit=1&from={}", token.as_str().unwrap())).await;
    assert_eq!(bodies(&synced["chunk"]), ["m6"]);
    node.fails(node.get(&alice, &path(&room, "messages?dir=b&from=zzz")), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn a_lazy_page_brings_the_members_who_speak_in_it() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    node.text(&bob, &room, "hello").await;
    let filter = crate::room::escape(&json!({ "lazy_load_members": true }).to_string());
    let lazy = page(&node, &alice, &room, &format!("dir=b&limit=1&filter={filter}")).await;
    assert_eq!(members(&lazy["state"]), [bob.id.as_str()]);
    let filter = crate::room::escape(&json!({ "types": ["m.room.create"] }).to_string());
    let filtered = page(&node, &alice, &room, &format!("dir=b&filter={filter}")).await;
    assert_eq!(bodies(&filtered["chunk"]), ["m.room.create"]);
    assert!(filtered.get("state").is_none());
}

#[tokio::test]
async fn strangers_see_nothing_and_who_left_sees_what_was_before() {
    let node = TestNode::new();
    let (alice, bob, eve) = (node.user("alice").await, node.user("bob").await, node.user("eve").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let before = node.text(&alice, &room, "before").await;
    node.leave(&bob, &room).await;
    let after = node.text(&alice, &room, "after").await;
    let seen = bodies(&page(&node, &bob, &room, "dir=b&limit=100").await["chunk"]);
    assert!(seen.contains(&"before".to_owned()) && !seen.contains(&"after".to_owned()), "{seen:?}");
    node.ok(node.get(&bob, &path(&room, &format!("event/{}", crate::room::escape(&before))))).await;
    let hidden = format!("event/{}", crate::room::escape(&after));
    node.fails(node.get(&bob, &path(&room, &hidden)), 404, "M_NOT_FOUND").await;
    for rest in ["messages?dir=b", &hidden, "state", "members", "joined_members", "state/m.room.create"] {
        node.fails(node.get(&eve, &path(&room, rest)), 403, "M_FORBIDDEN").await;
        node.fails(node.get(&eve, &path("!nowhere:test.example", rest)), 403, "M_FORBIDDEN").await;
    }
    let other = node.public_room(&eve).await;
    let foreign = format!("event/{}", crate::room::escape(&before));
    node.fails(node.get(&eve, &path(&other, &foreign)), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn world_readable_history_is_read_by_everybody_from_when_it_was() {
    let node = TestNode::new();
    let (alice, eve) = (node.user("alice").await, node.user("eve").await);
    let room = node.room(&alice, json!({})).await;
    node.text(&alice, &room, "secret").await;
    let open = json!({ "history_visibility": "world_readable" });
    node.state(&alice, &room, "m.room.history_visibility", "", open).await;
    node.text(&alice, &room, "open").await;
    let seen = bodies(&page(&node, &eve, &room, "dir=b&limit=100").await["chunk"]);
    assert_eq!(seen, ["open", "m.room.history_visibility"]);
    node.ok(node.get(&eve, &path(&room, "state"))).await;
}

#[tokio::test]
async fn context_is_around_the_event_with_the_state_there_and_tokens_on_both_sides() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "then" })).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(node.text(&alice, &room, &format!("m{n}")).await);
    }
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "now" })).await;
    let event = crate::room::escape(&ids[3]);
    let context = node.ok(node.get(&alice, &path(&room, &format!("context/{event}?limit=4")))).await;
    assert_eq!(context["event"]["event_id"], json!(ids[3]));
    assert_eq!(bodies(&context["events_before"]), ["m2", "m1"]);
    assert_eq!(bodies(&context["events_after"]), ["m4", "m5"]);
    let topic = context["state"].as_array().unwrap().iter().find(|event| event["type"] == "m.room.topic").unwrap();
    assert_eq!(topic["content"]["topic"], "then");
    let before =
        page(&node, &alice, &room, &format!("dir=b&limit=1&from={}", context["start"].as_str().unwrap())).await;
    assert_eq!(bodies(&before["chunk"]), ["m0"]);
    let after = page(&node, &alice, &room, &format!("dir=f&limit=1&from={}", context["end"].as_str().unwrap())).await;
    assert_eq!(bodies(&after["chunk"]), ["m6"]);
}

#[tokio::test]
async fn a_redacted_event_is_empty_and_says_why() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let event = crate::room::escape(&node.text(&alice, &room, "regret").await);
    let redact = path(&room, &format!("redact/{event}/1"));
    let redaction = node.ok(node.put(&alice, &redact, json!({ "reason": "typo" }))).await;
    let shown = node.ok(node.get(&alice, &path(&room, &format!("event/{event}")))).await;
    assert_eq!(shown["content"], json!({}));
    let because = &shown["unsigned"]["redacted_because"];
    assert_eq!(because["event_id"], redaction["event_id"]);
    assert_eq!(because["content"]["reason"], "typo");
}

struct Asked(std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

impl millpond_node::timeline::Backfill for Asked {
    fn backfill<'a>(
        &'a self,
        _: &'a ruma::RoomId,
        _: Option<i64>,
        limit: usize,
    ) -> futures::future::BoxFuture<'a, Result<(), millpond_node::Error>> {
        self.0.lock().unwrap().push(limit);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test]
async fn where_history_ends_here_and_goes_on_elsewhere_others_are_asked() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let asked = std::sync::Arc::default();
    node.node.timeline.connect(std::sync::Arc::new(Asked(std::sync::Arc::clone(&asked))));
    assert!(page(&node, &alice, &room, "dir=b&limit=50").await.get("end").is_none());
    assert!(asked.lock().unwrap().is_empty(), "the whole room is here");
    let id = ruma::RoomId::parse(&room).unwrap();
    let write = millpond_store::job(
        move |view| Ok::<_, millpond_node::Error>(view.get(millpond_store::tables::ROOM_IDS, &*id)?.unwrap()),
        |short, txn| txn.put(millpond_store::tables::BACKWARD, (short, ruma::event_id!("$missing")), &1),
    );
    node.node.core.write(write).await.unwrap();
    assert!(page(&node, &alice, &room, "dir=b&limit=2").await["end"].is_string());
    assert!(asked.lock().unwrap().is_empty(), "the page is full");
    assert!(page(&node, &alice, &room, "dir=b&limit=50").await["end"].is_string());
    assert_eq!(*asked.lock().unwrap(), [50]);
}
