//! Receipts, read markers, typing.

use millpond_node::rooms::ClientTxn;
use ruma::{OwnedEventId, OwnedRoomId, api::client::room::create_room, events::TimelineEventType};
use serde_json::json;

use crate::harness::{TestNode, TestUser};

async fn room(node: &TestNode, user: &TestUser) -> OwnedRoomId {
    node.node.rooms.create(&user.id, create_room::v3::Request::new()).await.unwrap()
}

async fn say(node: &TestNode, user: &TestUser, room_id: &OwnedRoomId, text: &str) -> OwnedEventId {
    let txn = ClientTxn { device_id: &user.device_id, txn_id: text.into() };
    let content = json!({ "msgtype": "m.text", "body": text }).to_string();
    let sent = node.node.rooms.send(&user.id, txn, room_id, TimelineEventType::RoomMessage, &content).await;
    sent.unwrap().event_id
}

#[tokio::test]
async fn receipts_and_markers_are_set_in_rooms_of_the_user() {
    let node = TestNode::new();
    let (alice, eve) = (node.user("alice").await, node.user("eve").await);
    let room_id = room(&node, &alice).await;
    let event = say(&node, &alice, &room_id, "one").await;
    let receipt = |kind: &str| format!("/_matrix/client/v3/rooms/{room_id}/receipt/{kind}/{event}");
    for kind in ["m.read", "m.read.private", "m.fully_read"] {
        node.ok(node.post(&alice, &receipt(kind), json!({}))).await;
    }
    node.ok(node.post(&alice, &receipt("m.read"), json!({ "thread_id": "main" }))).await;
    let marker = format!("/_matrix/client/v3/user/{}/rooms/{room_id}/account_data/m.fully_read", alice.id);
    assert_eq!(node.ok(node.get(&alice, &marker)).await, json!({ "event_id": event }));
    for thread in ["", "nothing", "$other"] {
        let body = json!({ "thread_id": thread });
        node.fails(node.post(&alice, &receipt("m.read"), body), 400, "M_INVALID_PARAM").await;
    }
    let threaded = json!({ "thread_id": "main" });
    node.fails(node.post(&alice, &receipt("m.fully_read"), threaded), 400, "M_INVALID_PARAM").await;
    node.fails(node.post(&alice, &receipt("m.other"), json!({})), 400, "M_INVALID_PARAM").await;
    node.fails(node.post(&eve, &receipt("m.read"), json!({})), 403, "M_FORBIDDEN").await;
    let next = say(&node, &alice, &room_id, "two").await;
    let markers = format!("/_matrix/client/v3/rooms/{room_id}/read_markers");
    node.ok(node.post(&alice, &markers, json!({ "m.fully_read": next, "m.read": next }))).await;
    assert_eq!(node.ok(node.get(&alice, &marker)).await, json!({ "event_id": next }));
    node.fails(node.post(&alice, &markers, json!({ "m.read": "$nowhere" })), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn a_user_types_in_own_name_in_own_rooms() {
    let node = TestNode::new();
    let (alice, eve) = (node.user("alice").await, node.user("eve").await);
    let room_id = room(&node, &alice).await;
    let path = |user: &TestUser| format!("/_matrix/client/v3/rooms/{room_id}/typing/{}", user.id);
    let before = node.node.typing.serial();
    let typing = json!({ "typing": true, "timeout": 10_000 });
    node.ok(node.put(&alice, &path(&alice), typing.clone())).await;
    assert!(node.node.typing.serial() > before);
    node.ok(node.put(&alice, &path(&alice), json!({ "typing": false }))).await;
    node.fails(node.put(&eve, &path(&alice), typing.clone()), 403, "M_FORBIDDEN").await;
    node.fails(node.put(&eve, &path(&eve), typing), 403, "M_FORBIDDEN").await;
}
