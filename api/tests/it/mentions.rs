//! Mentions (client-server API, "User and room mentions"): who is meant is highlighted, and nobody by a name alone.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::escape,
};

async fn highlights(node: &TestNode, user: &TestUser, room: &str) -> Value {
    let sync = node.sync(user, &[]).await;
    sync["rooms"]["join"][room]["unread_notifications"]["highlight_count"].clone()
}

#[tokio::test]
async fn users_are_highlighted_by_their_id_and_the_room_by_who_may() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let say = async |who: &TestUser, mentions: Value| {
        node.message(who, &room, json!({ "msgtype": "m.text", "body": "bob, @room", "m.mentions": mentions })).await
    };
    node.text(&alice, &room, "bob, @room: a name in a text mentions nobody").await;
    say(&alice, json!({})).await;
    say(&alice, json!({ "user_ids": [alice.id] })).await;
    assert_eq!(highlights(&node, &bob, &room).await, json!(0));
    say(&alice, json!({ "user_ids": [bob.id] })).await;
    let last = say(&alice, json!({ "room": true })).await;
    assert_eq!(highlights(&node, &bob, &room).await, json!(2));
    // Who may not notify the room highlights nobody by it.
    say(&bob, json!({ "room": true })).await;
    assert_eq!(highlights(&node, &alice, &room).await, json!(0));
    // An edit mentions nobody anew.
    let edit = json!({
        "msgtype": "m.text", "body": "* bob", "m.mentions": {},
        "m.new_content": { "msgtype": "m.text", "body": "bob", "m.mentions": { "user_ids": [bob.id] } },
        "m.relates_to": { "rel_type": "m.replace", "event_id": last },
    });
    node.message(&alice, &room, edit).await;
    let page = node.ok(node.get(&bob, "/_matrix/client/v3/notifications?only=highlight")).await;
    assert_eq!(page["notifications"].as_array().unwrap().len(), 2);
    let receipt = crate::room::path(&room, &format!("receipt/m.read/{}", escape(&last)));
    node.ok(node.post(&bob, receipt, json!({}))).await;
    assert_eq!(highlights(&node, &bob, &room).await, json!(0));
}
