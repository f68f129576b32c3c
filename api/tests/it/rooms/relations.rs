//! Relations: bundled with events, and page by page.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{bodies, escape, path},
};

async fn relate(node: &TestNode, who: &TestUser, room: &str, rel_type: &str, to: &str, body: &str) -> String {
    let relates_to = json!({ "rel_type": rel_type, "event_id": to });
    let new = json!({ "msgtype": "m.text", "body": body });
    let content = json!({ "msgtype": "m.text", "body": body, "m.relates_to": relates_to, "m.new_content": new });
    node.message(who, room, content).await
}

async fn bundled(node: &TestNode, who: &TestUser, room: &str, event: &str) -> Value {
    let event = node.ok(node.get(who, &path(room, &format!("event/{}", escape(event))))).await;
    event["unsigned"]["m.relations"].clone()
}

async fn relations(node: &TestNode, who: &TestUser, room: &str, rest: &str) -> Value {
    node.ok(node.get(who, &format!("/_matrix/client/v1/rooms/{}/relations/{rest}", escape(room)))).await
}

#[tokio::test]
async fn the_latest_edit_by_the_sender_is_bundled_and_nobody_elses() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let event = node.text(&alice, &room, "tpyo").await;
    assert_eq!(bundled(&node, &bob, &room, &event).await, Value::Null);
    relate(&node, &alice, &room, "m.replace", &event, "typo").await;
    node.pass(std::time::Duration::from_secs(1));
    let last = relate(&node, &alice, &room, "m.replace", &event, "typo!").await;
    node.pass(std::time::Duration::from_secs(1));
    relate(&node, &bob, &room, "m.replace", &event, "evil").await;
    let relations = bundled(&node, &bob, &room, &event).await;
    assert_eq!(relations["m.replace"]["event_id"], json!(last));
    assert_eq!(relations["m.replace"]["content"]["m.new_content"]["body"], "typo!");
    let redact = path(&room, &format!("redact/{}/9", escape(&last)));
    node.ok(node.put(&alice, &redact, json!({}))).await;
    assert_eq!(bundled(&node, &bob, &room, &event).await["m.replace"]["content"]["m.new_content"]["body"], "typo");
}

#[tokio::test]
async fn a_thread_is_summed_up_on_its_root_in_sync() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let root = node.text(&alice, &room, "root").await;
    relate(&node, &alice, &room, "m.thread", &root, "one").await;
    let last = relate(&node, &alice, &room, "m.thread", &root, "two").await;
    // A chain of threads in threads must not be followed.
    relate(&node, &alice, &room, "m.thread", &last, "deeper").await;
    for (who, participated) in [(&alice, true), (&bob, false)] {
        let synced = node.sync(who, &[]).await;
        let events = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().clone();
        let event = events.into_iter().find(|event| event["event_id"] == json!(root)).unwrap();
        let thread = &event["unsigned"]["m.relations"]["m.thread"];
        assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(2), &json!(last)));
        assert_eq!(thread["current_user_participated"], participated);
        assert!(thread["latest_event"]["unsigned"].get("m.relations").is_none());
    }
}

#[tokio::test]
async fn relations_are_listed_by_kind_in_pages_and_recursively() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let root = node.text(&alice, &room, "root").await;
    let first = relate(&node, &alice, &room, "m.thread", &root, "t0").await;
    for n in 1..4 {
        relate(&node, &alice, &room, "m.thread", &root, &format!("t{n}")).await;
    }
    relate(&node, &alice, &room, "m.reference", &root, "ref").await;
    relate(&node, &alice, &room, "m.reference", &first, "deep").await;
    let id = escape(&root);
    assert_eq!(bodies(&relations(&node, &alice, &room, &id).await["chunk"]), ["ref", "t3", "t2", "t1", "t0"]);
    let page = relations(&node, &alice, &room, &format!("{id}/m.thread?limit=2")).await;
    assert_eq!(bodies(&page["chunk"]), ["t3", "t2"]);
    let next = page["next_batch"].as_str().unwrap();
    let page = relations(&node, &alice, &room, &format!("{id}/m.thread?limit=2&from={next}")).await;
    assert_eq!(bodies(&page["chunk"]), ["t1", "t0"]);
    assert!(page.get("next_batch").is_none());
    let forward = relations(&node, &alice, &room, &format!("{id}/m.thread/m.room.message?dir=f&limit=1")).await;
    assert_eq!(bodies(&forward["chunk"]), ["t0"]);
    let deep = relations(&node, &alice, &room, &format!("{id}/m.reference?recurse=true")).await;
    assert_eq!(bodies(&deep["chunk"]), ["deep", "ref"]);
    let other = node.public_room(&alice).await;
    let path = format!("/_matrix/client/v1/rooms/{}/relations/{id}", escape(&other));
    node.fails(node.get(&alice, &path), 404, "M_NOT_FOUND").await;
    // An event of another room that names this one is not among its relations.
    relate(&node, &alice, &other, "m.thread", &root, "foreign").await;
    assert!(!relations(&node, &alice, &room, &id).await.to_string().contains("foreign"));
    assert_eq!(bundled(&node, &alice, &room, &root).await["m.thread"]["count"], 4);
}

#[tokio::test]
async fn threads_are_listed_by_their_newest_reply_in_pages() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let mut roots = Vec::new();
    for n in 0..3 {
        roots.push(node.text(&alice, &room, &format!("root{n}")).await);
    }
    for (who, n) in [(&alice, 0), (&bob, 1), (&alice, 2), (&bob, 0)] {
        relate(&node, who, &room, "m.thread", &roots[n], "reply").await;
    }
    let path = format!("/_matrix/client/v1/rooms/{}/threads", escape(&room));
    let all = node.ok(node.get(&alice, &path)).await;
    assert_eq!(bodies(&all["chunk"]), ["root0", "root2", "root1"]);
    assert_eq!(all["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 2);
    let first = node.ok(node.get(&alice, &format!("{path}?limit=2"))).await;
    assert_eq!(bodies(&first["chunk"]), ["root0", "root2"]);
    let next = first["next_batch"].as_str().unwrap();
    let second = node.ok(node.get(&alice, &format!("{path}?limit=2&from={next}"))).await;
    assert_eq!(bodies(&second["chunk"]), ["root1"]);
    assert!(second.get("next_batch").is_none());
    let own = node.ok(node.get(&bob, &format!("{path}?include=participated"))).await;
    assert_eq!(bodies(&own["chunk"]), ["root0", "root1"]);
}

#[tokio::test]
async fn a_reaction_is_taken_once_until_it_is_redacted() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let event = node.text(&alice, &room, "ducks").await;
    let react = |who: &TestUser, key: &str, txn: &str| {
        let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } });
        let (who, at) = (who.clone(), path(&room, &format!("send/m.reaction/{txn}")));
        let node = &node;
        async move { node.put(&who, at, content).await }
    };
    let first = node.ok(react(&bob, "quack", "1")).await;
    assert_eq!(node.ok(react(&bob, "quack", "1")).await, first, "the same request again");
    node.fails(react(&bob, "quack", "2"), 400, "M_DUPLICATE_ANNOTATION").await;
    node.ok(react(&bob, "honk", "3")).await;
    node.ok(react(&alice, "quack", "4")).await;
    let reaction = escape(first["event_id"].as_str().unwrap());
    node.ok(node.put(&bob, path(&room, &format!("redact/{reaction}/5")), json!({}))).await;
    node.ok(react(&bob, "quack", "6")).await;
}

#[tokio::test]
async fn a_redaction_is_sent_like_any_event_in_rooms_of_all_versions() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    for version in ["6", "10", "11", "12"] {
        let room = node.room(&alice, json!({ "room_version": version })).await;
        let event = node.text(&alice, &room, "a mistake").await;
        node.ok(node.put(&alice, path(&room, "send/m.room.redaction/r"), json!({ "redacts": event }))).await;
        let shown = node.ok(node.get(&alice, path(&room, &format!("event/{}", escape(&event))))).await;
        assert_eq!(shown["content"], json!({}), "version {version}");
    }
}
