//! Three nodes: B and C know only A.

use serde_json::json;

use crate::nodes::{Net, link, until};

#[tokio::test(flavor = "multi_thread")]
async fn members_without_a_link_hear_each_other_and_get_one() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let c = net.node().await;
    link(&a, &c).await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    for (node, user) in [(&b, &bob), (&c, &carol)] {
        a.invite(&alice, &room, user).await;
        node.accept(user, &room).await;
        a.until_membership(user, &room, "join").await;
    }
    b.until_membership(&carol, &room, "join").await;
    b.say(&bob, &room, "bob to all").await;
    c.until_read(&carol, &room, "bob to all").await;
    c.say(&carol, &room, "carol to all").await;
    b.until_read(&bob, &room, "carol to all").await;
    until("B and C are introduced", async || {
        b.node.peers.is_linked(&c.server()).unwrap() && c.node.peers.is_linked(&b.server()).unwrap()
    })
    .await;
    b.say(&bob, &room, "straight").await;
    c.until_read(&carol, &room, "straight").await;
    a.until_read(&alice, &room, "straight").await;
    let texts = c.texts(&carol, &room).await;
    assert_eq!(texts.iter().filter(|text| *text == "straight").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_introduced_node_may_not_invite() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let c = net.node().await;
    link(&a, &c).await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    for (node, user) in [(&b, &bob), (&c, &carol)] {
        a.invite(&alice, &room, user).await;
        node.accept(user, &room).await;
    }
    until("B and C are introduced", async || b.node.peers.is_linked(&c.server()).unwrap()).await;
    let other = b.room(&bob, json!({ "preset": "private_chat" })).await;
    b.invite(&bob, &other, &carol).await;
    // What B sends afterwards has come: so the invite has come before it, and was refused.
    b.say(&bob, &room, "after the invite").await;
    c.until_read(&carol, &room, "after the invite").await;
    assert_eq!(c.membership(&carol, &other), None);
}
