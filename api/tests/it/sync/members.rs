//! Lazy loading of members.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::members,
};

fn filter(redundant: bool) -> String {
    let lazy = json!({ "lazy_load_members": true, "include_redundant_members": redundant });
    json!({ "room": { "state": lazy, "timeline": { "limit": 1 } } }).to_string()
}

async fn lazy(
    node: &TestNode,
    who: &TestUser,
    since: Option<&Value>,
    redundant: bool,
    room: &str,
) -> (Vec<String>, Value) {
    let filter = filter(redundant);
    let mut parameters = vec![("filter", filter.as_str())];
    parameters.extend(since.map(|since| ("since", since.as_str().unwrap())));
    let synced = node.sync(who, &parameters).await;
    (members(&synced["rooms"]["join"][room]["state"]["events"]), synced["next_batch"].clone())
}

#[tokio::test]
async fn only_the_members_who_matter_are_sent_and_each_once() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let others = [node.user("bob").await, node.user("carol").await, node.user("dan").await];
    let room = node.room(&alice, json!({ "preset": "public_chat", "name": "Pond" })).await;
    for other in &others {
        node.join(other, &room).await;
    }
    node.text(&others[0], &room, "from bob").await;
    let (first, token) = lazy(&node, &alice, None, false, &room).await;
    assert_eq!(first, [alice.id.as_str(), others[0].id.as_str()]);
    node.text(&others[0], &room, "again").await;
    let (known, token) = lazy(&node, &alice, Some(&token), false, &room).await;
    assert!(known.is_empty(), "{known:?}");
    node.text(&others[1], &room, "from carol").await;
    let (new, token) = lazy(&node, &alice, Some(&token), false, &room).await;
    assert_eq!(new, [others[1].id.as_str()]);
    node.text(&others[1], &room, "again").await;
    let (redundant, _) = lazy(&node, &alice, Some(&token), true, &room).await;
    assert_eq!(redundant, [others[1].id.as_str()]);
}

#[tokio::test]
async fn a_client_that_did_not_get_the_answer_is_sent_the_members_again() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat", "name": "Pond" })).await;
    let (_, token) = lazy(&node, &alice, None, false, &room).await;
    node.join(&bob, &room).await;
    node.text(&bob, &room, "hello").await;
    let (lost, _) = lazy(&node, &alice, Some(&token), false, &room).await;
    let (again, _) = lazy(&node, &alice, Some(&token), false, &room).await;
    assert_eq!(lost, [bob.id.as_str()]);
    assert_eq!(again, lost);
}

#[tokio::test]
async fn members_who_changed_in_a_gap_are_told_and_heroes_come_with_their_events() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({ "preset": "public_chat" })).await;
    let (_, token) = lazy(&node, &alice, None, false, &room).await;
    node.join(&bob, &room).await;
    node.text(&alice, &room, "after").await;
    let (told, _) = lazy(&node, &alice, Some(&token), false, &room).await;
    assert_eq!(told, [bob.id.as_str()]);
    let (fresh, _) = lazy(&node, &alice, None, false, &room).await;
    assert_eq!(fresh, [alice.id.as_str(), bob.id.as_str()]);
}
