//! Upgrades: what goes over to the new room, and what becomes of the old one.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

async fn upgrade(node: &TestNode, who: &TestUser, room: &str, body: Value) -> String {
    node.pass(std::time::Duration::from_millis(1));
    let json = node.ok(node.post(who, path(room, "upgrade"), body)).await;
    json["replacement_room"].as_str().unwrap().to_owned()
}

async fn content(node: &TestNode, who: &TestUser, room: &str, kind: &str, key: &str) -> Value {
    node.ok(node.get(who, path(room, &format!("state/{kind}/{}", escape(key))))).await
}

/// A room with everything that an upgrade carries over; Alice's, with Bob in it and Mallory banned.
async fn furnished(node: &TestNode, version: &str) -> (TestUser, TestUser, TestUser, String) {
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| node.user(name));
    let (alice, bob, mallory) = (alice.await, bob.await, mallory.await);
    let room = json!({
        "preset": "public_chat", "room_version": version, "name": "Pond", "topic": "ducks", "room_alias_name": "pond",
        "visibility": "public",
        "initial_state": [
            { "type": "m.room.avatar", "content": { "url": "mxc://here/duck" } },
            { "type": "m.room.server_acl", "content": { "allow": ["*"], "deny": ["evil.example"] } },
            { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
            { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
            { "type": "org.example.odd", "content": { "a": 1 } },
        ],
        "power_level_content_override": { "users": if version == "12" { json!({}) } else { json!({ alice.id.as_str(): 100 }) },
            "users_default": 5 },
    });
    let room = node.room(&alice, room).await;
    node.join(&bob, &room).await;
    let levels = content(node, &alice, &room, "m.room.power_levels", "").await;
    let mut levels = levels;
    levels["users"][bob.id.as_str()] = json!(50);
    node.state(&alice, &room, "m.room.power_levels", "", levels).await;
    node.ok(node.post(&alice, path(&room, "ban"), json!({ "user_id": mallory.id, "reason": "rude" }))).await;
    (alice, bob, mallory, room)
}

#[tokio::test]
async fn what_makes_a_room_goes_over_to_its_replacement() {
    for (from, to) in [("10", "12"), ("12", "12"), ("11", "11"), ("12", "11")] {
        let node = TestNode::new();
        let (alice, bob, mallory, old) = furnished(&node, from).await;
        let last = node.text(&alice, &old, "the last word").await;
        let new = upgrade(&node, &alice, &old, json!({ "new_version": to })).await;
        let create = content(&node, &alice, &new, "m.room.create", "").await;
        assert_eq!(create["room_version"], to);
        assert_eq!(create["predecessor"], json!({ "room_id": old, "event_id": last }), "{from} to {to}");
        for kind in
            ["name", "topic", "avatar", "server_acl", "encryption", "history_visibility", "join_rules", "guest_access"]
        {
            let kind = format!("m.room.{kind}");
            let (before, after) =
                (content(&node, &alice, &old, &kind, "").await, content(&node, &alice, &new, &kind, "").await);
            assert_eq!(before, after, "{kind} from {from} to {to}");
        }
        let levels = content(&node, &alice, &new, "m.room.power_levels", "").await;
        assert_eq!((&levels["users"][bob.id.as_str()], &levels["users_default"]), (&json!(50), &json!(5)));
        let own = &levels["users"][alice.id.as_str()];
        assert_eq!(own, &if to == "12" { Value::Null } else { json!(100) }, "creators of version 12 are not named");
        assert!(to != "12" || levels["events"]["m.room.tombstone"].as_i64().unwrap() >= 150);
        let ban = content(&node, &alice, &new, "m.room.member", mallory.id.as_str()).await;
        assert_eq!((&ban["membership"], &ban["reason"]), (&json!("ban"), &json!("rude")));
        node.fails(node.post(&mallory, path(&new, "join"), json!({})), 403, "M_FORBIDDEN").await;
        node.fails(node.get(&alice, path(&new, "state/org.example.odd/")), 404, "M_NOT_FOUND").await;
        node.fails(node.get(&bob, path(&new, "state")), 403, "M_FORBIDDEN").await;
        node.join(&bob, &new).await;
    }
}

#[tokio::test]
async fn the_old_room_is_closed_and_its_names_lead_to_the_new_one() {
    let node = TestNode::new();
    let (alice, bob, _, old) = furnished(&node, "12").await;
    let carol = node.user("carol").await;
    node.join(&carol, &old).await;
    let new = upgrade(&node, &alice, &old, json!({ "new_version": "12" })).await;
    let tombstone = content(&node, &bob, &old, "m.room.tombstone", "").await;
    assert_eq!(tombstone["replacement_room"], json!(new));
    assert!(tombstone["body"].is_string());
    let levels = content(&node, &bob, &old, "m.room.power_levels", "").await;
    assert_eq!((&levels["events_default"], &levels["invite"]), (&json!(50), &json!(50)));
    let send = node.put(&carol, path(&old, "send/m.room.message/1"), json!({ "msgtype": "m.text", "body": "?" }));
    node.fails(send, 403, "M_FORBIDDEN").await;

    let alias = format!("#pond:{}", node.server());
    let found = node.ok(node.get("", format!("/_matrix/client/v3/directory/room/{}", escape(&alias)))).await;
    assert_eq!(found["room_id"], json!(new));
    assert_eq!(node.ok(node.get(&alice, path(&new, "aliases"))).await["aliases"], json!([alias]));
    assert_eq!(node.ok(node.get(&alice, path(&old, "aliases"))).await["aliases"], json!([]));
    assert_eq!(content(&node, &alice, &new, "m.room.canonical_alias", "").await["alias"], json!(alias));
    assert_eq!(content(&node, &alice, &old, "m.room.canonical_alias", "").await, json!({}));
    let listed = node.ok(node.get("", "/_matrix/client/v3/publicRooms")).await;
    assert_eq!((&listed["chunk"][0]["room_id"], listed["chunk"].as_array().unwrap().len()), (&json!(new), 1));
}

#[tokio::test]
async fn who_may_not_end_the_room_may_not_upgrade_it() {
    let node = TestNode::new();
    let (alice, bob, mallory, old) = furnished(&node, "12").await;
    let to = |version: &str| json!({ "new_version": version });
    node.fails(node.post(&bob, path(&old, "upgrade"), to("12")), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&mallory, path(&old, "upgrade"), to("12")), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&alice, path("!nowhere", "upgrade"), to("12")), 403, "M_FORBIDDEN").await;
    node.fails(node.post(&alice, path(&old, "upgrade"), to("3")), 400, "M_UNSUPPORTED_ROOM_VERSION").await;
    node.fails(node.post(&alice, path(&old, "upgrade"), json!({})), 400, "M_MISSING_PARAM").await;
    node.fails(node.get(&alice, path(&old, "state/m.room.tombstone/")), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn additional_creators_of_the_new_room_are_those_that_are_named() {
    let node = TestNode::new();
    let (alice, bob, _, old) = furnished(&node, "11").await;
    let body = json!({ "new_version": "12", "additional_creators": [bob.id] });
    let new = upgrade(&node, &alice, &old, body).await;
    let create = content(&node, &alice, &new, "m.room.create", "").await;
    assert_eq!(create["additional_creators"], json!([bob.id]));
    let levels = content(&node, &alice, &new, "m.room.power_levels", "").await;
    assert_eq!(levels["users"].get(bob.id.as_str()), None);
    node.join(&bob, &new).await;
    let newer = upgrade(&node, &bob, &new, json!({ "new_version": "12" })).await;
    let create = content(&node, &bob, &newer, "m.room.create", "").await;
    assert_eq!(create.get("additional_creators"), None, "they are not taken over by themselves");
}

#[tokio::test]
async fn a_moderator_with_less_power_than_the_new_room_needs_keeps_no_more_than_he_had() {
    let node = TestNode::new();
    let (alice, bob, _, old) = furnished(&node, "11").await;
    let mut levels = content(&node, &alice, &old, "m.room.power_levels", "").await;
    levels["events"]["m.room.tombstone"] = json!(50);
    node.state(&alice, &old, "m.room.power_levels", "", levels).await;
    let new = upgrade(&node, &bob, &old, json!({ "new_version": "11" })).await;
    let levels = content(&node, &bob, &new, "m.room.power_levels", "").await;
    assert_eq!(levels["users"], json!({ alice.id.as_str(): 100, bob.id.as_str(): 50 }));
}

#[tokio::test]
async fn a_space_keeps_its_children_and_its_place_in_its_parent() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let space = json!({ "creation_content": { "type": "m.space" }, "preset": "public_chat" });
    let (parent, old) = (node.room(&alice, space.clone()).await, node.room(&alice, space).await);
    let child = node.public_room(&alice).await;
    let via = json!({ "via": [node.server()], "order": "a" });
    node.state(&alice, &parent, "m.space.child", &old, via.clone()).await;
    node.state(&alice, &old, "m.space.parent", &parent, via.clone()).await;
    node.state(&alice, &old, "m.space.child", &child, via.clone()).await;
    let new = upgrade(&node, &alice, &old, json!({ "new_version": "12" })).await;
    assert_eq!(content(&node, &alice, &new, "m.room.create", "").await["type"], "m.space");
    assert_eq!(content(&node, &alice, &new, "m.space.child", &child).await, via);
    assert_eq!(content(&node, &alice, &new, "m.space.parent", &parent).await, via);
    assert_eq!(content(&node, &alice, &parent, "m.space.child", &new).await, via);
    assert_eq!(content(&node, &alice, &parent, "m.space.child", &old).await, json!({}));
}

#[tokio::test]
async fn tags_direct_chats_and_push_rules_follow_each_user_at_his_join() {
    let node = TestNode::new();
    let (alice, bob, _, old) = furnished(&node, "12").await;
    let user = |rest: &str| format!("/_matrix/client/v3/user/{}/{rest}", escape(bob.id.as_str()));
    let tags = |room: &str| user(&format!("rooms/{}/tags", escape(room)));
    node.ok(node.put(&bob, format!("{}/m.favourite", tags(&old)), json!({ "order": 0.5 }))).await;
    node.ok(node.put(&bob, user("account_data/m.direct"), json!({ alice.id.as_str(): [old] }))).await;
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", escape(&old));
    node.ok(node.put(&bob, rule, json!({ "actions": [] }))).await;
    let new = upgrade(&node, &alice, &old, json!({ "new_version": "12" })).await;
    assert_eq!(node.ok(node.get(&bob, tags(&new))).await["tags"], json!({}));
    node.join(&bob, &new).await;
    assert_eq!(node.ok(node.get(&bob, tags(&new))).await["tags"], json!({ "m.favourite": { "order": 0.5 } }));
    let direct = node.ok(node.get(&bob, user("account_data/m.direct"))).await;
    assert_eq!(direct, json!({ alice.id.as_str(): [old, new] }));
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", escape(&new));
    assert_eq!(node.ok(node.get(&bob, &rule)).await["actions"], json!([]));

    // A room that only claims to replace the old one gets nothing, and a new name does not bring back what was taken off.
    let claim =
        json!({ "preset": "public_chat", "creation_content": { "predecessor": { "room_id": old, "event_id": "$x" } } });
    let thief = node.room(&alice, claim).await;
    node.join(&bob, &thief).await;
    assert_eq!(node.ok(node.get(&bob, tags(&thief))).await["tags"], json!({}));
    node.ok(node.delete(&bob, format!("{}/m.favourite", tags(&new)), json!({}))).await;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", escape(bob.id.as_str()));
    node.ok(node.put(&bob, name, json!({ "displayname": "Bob" }))).await;
    assert_eq!(node.ok(node.get(&bob, tags(&new))).await["tags"], json!({}));
}
