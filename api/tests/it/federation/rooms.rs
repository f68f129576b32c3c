//! Memberships and messages across nodes.

use serde_json::json;

use crate::nodes::{Net, encoded};

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_of_another_node_joins_and_both_read_each_other() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat", "name": "Pond" })).await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
    a.say(&alice, &room, "hello bob").await;
    b.until_read(&bob, &room, "hello bob").await;
    b.say(&bob, &room, "hello alice").await;
    a.until_read(&alice, &room, "hello alice").await;
    let name = b.ok(b.get(&bob, &format!("/_matrix/client/v3/rooms/{}/state/m.room.name/", encoded(&room)))).await;
    assert_eq!(name["name"], "Pond");
}
