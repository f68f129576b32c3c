//! The filters of a list.

use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

async fn listed(node: &TestNode, who: &TestUser, filters: Value) -> Vec<String> {
    let list = json!({ "ranges": [[0, 99]], "timeline_limit": 1, "required_state": [], "filters": filters });
    let answer = node.slide(who, &Value::Null, &json!({ "lists": { "a": list } })).await;
    let found = super::rooms(&answer);
    assert_eq!(answer["lists"]["a"]["count"], found.len());
    found
}

fn sorted(rooms: &[&String]) -> Vec<String> {
    let mut rooms: Vec<_> = rooms.iter().map(|room| (*room).clone()).collect();
    rooms.sort();
    rooms
}

#[tokio::test]
async fn kinds_of_rooms_are_told_apart() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let plain = node.room(&alice, json!({ "name": "Frog Pond" })).await;
    let space = node.room(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let secret = node.room(&alice, json!({})).await;
    node.state(&alice, &secret, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    let invite = json!({ "invite": [alice.id], "creation_content": { "type": "m.space" }, "name": "Their pond" });
    let invited = node.room(&bob, invite).await;

    assert_eq!(listed(&node, &alice, json!({})).await, sorted(&[&plain, &space, &secret, &invited]));
    assert_eq!(listed(&node, &alice, json!({ "is_invite": true })).await, sorted(&[&invited]));
    assert_eq!(listed(&node, &alice, json!({ "is_invited": false })).await, sorted(&[&plain, &space, &secret]));
    assert_eq!(listed(&node, &alice, json!({ "is_encrypted": true })).await, sorted(&[&secret]));
    let open = listed(&node, &alice, json!({ "is_encrypted": false, "is_invite": false })).await;
    assert_eq!(open, sorted(&[&plain, &space]));
    assert_eq!(listed(&node, &alice, json!({ "room_types": ["m.space"] })).await, sorted(&[&space, &invited]));
    assert_eq!(listed(&node, &alice, json!({ "room_types": [null] })).await, sorted(&[&plain, &secret]));
    assert_eq!(listed(&node, &alice, json!({ "not_room_types": ["m.space"] })).await, sorted(&[&plain, &secret]));
    let both = json!({ "room_types": ["m.space", null], "not_room_types": [null] });
    assert_eq!(listed(&node, &alice, both).await, sorted(&[&space, &invited]));
    assert_eq!(listed(&node, &alice, json!({ "room_name_like": "POND" })).await, sorted(&[&plain, &invited]));
    assert_eq!(listed(&node, &alice, json!({ "room_name_like": "frog" })).await, sorted(&[&plain]));
}

#[tokio::test]
async fn direct_chats_tags_and_spaces_are_told_apart() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (one, two) = (node.public_room(&alice).await, node.public_room(&alice).await);
    let space = node.room(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let foreign = node.room(&bob, json!({ "creation_content": { "type": "m.space" } })).await;
    for (in_space, child, content) in [
        (&space, &one, json!({ "via": ["here.example"] })),
        (&space, &two, json!({ "via": ["here.example"] })),
        (&space, &two, json!({})),
    ] {
        node.state(&alice, in_space, "m.space.child", child, content).await;
    }
    node.state(&bob, &foreign, "m.space.child", &two, json!({ "via": ["here.example"] })).await;
    let user = format!("/_matrix/client/v3/user/{}", alice.id);
    node.ok(node.put(&alice, format!("{user}/account_data/m.direct"), json!({ "@bob:here": [two] }))).await;
    for (room, tag) in [(&one, "m.favourite"), (&one, "u.work"), (&two, "u.work")] {
        let path = format!("{user}/rooms/{}/tags/{tag}", crate::room::escape(room));
        node.ok(node.put(&alice, path, json!({}))).await;
    }

    assert_eq!(listed(&node, &alice, json!({ "is_dm": true })).await, sorted(&[&two]));
    assert_eq!(listed(&node, &alice, json!({ "is_dm": false })).await, sorted(&[&one, &space]));
    assert_eq!(listed(&node, &alice, json!({ "tags": ["u.work"] })).await, sorted(&[&one, &two]));
    assert_eq!(
        listed(&node, &alice, json!({ "tags": ["u.work"], "not_tags": ["m.favourite"] })).await,
        sorted(&[&two])
    );
    assert_eq!(listed(&node, &alice, json!({ "not_tags": ["u.work"] })).await, sorted(&[&space]));
    assert_eq!(listed(&node, &alice, json!({ "spaces": [&space] })).await, sorted(&[&one]));
    assert_eq!(listed(&node, &alice, json!({ "spaces": [&foreign, "!no:where"] })).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_filter_follows_what_changes() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "filters": { "is_encrypted": true } });
    let ask = json!({ "lists": { "secret": list } });
    let first = node.slide(&alice, &Value::Null, &ask).await;
    assert_eq!(first["lists"]["secret"]["count"], 0);
    node.state(&alice, &room, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    let second = node.slide(&alice, &first["pos"], &ask).await;
    assert_eq!(second["lists"]["secret"]["count"], 1);
    assert_eq!(second["rooms"][&room]["initial"], true);
}
