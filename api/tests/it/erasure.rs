//! Accounts that ended with the wish to be forgotten.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    nodes::{Net, encoded},
    room::{escape, path},
};

async fn seen(node: &TestNode, who: &TestUser, room: &str, event: &str) -> Value {
    node.ok(node.get(who, path(room, &format!("event/{}", escape(event))))).await["content"].clone()
}

#[tokio::test]
async fn what_an_erased_user_said_is_shown_to_those_only_who_were_there() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let event = node.text(&bob, &room, "remember me not").await;
    let kept = node.text(&alice, &room, "mine stays").await;
    node.ok(node.put(
        &bob,
        format!("/_matrix/client/v3/profile/{}/displayname", escape(bob.id.as_str())),
        json!({ "displayname": "Bob" }),
    ))
    .await;
    node.node.accounts.deactivate(&bob.id, true).await.unwrap();
    node.join(&carol, &room).await;
    assert_eq!(seen(&node, &alice, &room, &event).await["body"], "remember me not");
    assert_eq!(seen(&node, &carol, &room, &event).await, json!({}));
    assert_eq!(seen(&node, &carol, &room, &kept).await["body"], "mine stays");
    let page = node.ok(node.get(&carol, path(&room, "messages?dir=b&limit=100"))).await;
    assert!(!page.to_string().contains("remember me not"));
    assert!(page.to_string().contains("mine stays"));
    let profile = format!("/_matrix/client/v3/profile/{}", escape(bob.id.as_str()));
    node.fails(node.get(&alice, profile), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn without_the_wish_everything_stays() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let event = node.text(&bob, &room, "hello").await;
    node.node.accounts.deactivate(&bob.id, false).await.unwrap();
    node.join(&carol, &room).await;
    assert_eq!(seen(&node, &carol, &room, &event).await["body"], "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_come_later_get_it_redacted() {
    let (a, b) = Net::default().pair().await;
    let (alice, eve, bob) = (a.user("alice").await, a.user("eve").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "public_chat" })).await;
    a.it.join(&eve, &room).await;
    let event = a.say(&eve, &room, "remember me not").await;
    a.node.accounts.deactivate(&eve.id, true).await.unwrap();
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    let path = format!("/_matrix/federation/v1/backfill/{}?v={}&limit=1", encoded(&room), encoded(&event));
    let told = b.get_from(&a, &path).await;
    assert_eq!(told["pdus"][0]["content"], json!({}), "{told}");
}

#[tokio::test]
async fn a_deactivated_user_is_out_of_rooms_that_only_awaited_him() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let invited = node.room(&alice, json!({ "invite": [bob.id] })).await;
    node.node.accounts.deactivate(&bob.id, false).await.unwrap();
    let member = path(&invited, &format!("state/m.room.member/{}", escape(bob.id.as_str())));
    assert_eq!(node.ok(node.get(&alice, member)).await["membership"], "leave");
}
