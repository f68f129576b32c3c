//! Who may enter: every join rule, and users who take no invites.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

async fn ruled(node: &TestNode, who: &TestUser, rule: Value) -> String {
    let state = json!([{ "type": "m.room.join_rules", "content": rule }]);
    node.room(who, json!({ "preset": "private_chat", "initial_state": state })).await
}

fn knock(room: &str) -> String {
    format!("/_matrix/client/v3/knock/{}", escape(room))
}

#[tokio::test]
async fn invite_private_and_unknown_rules_let_in_who_is_invited() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    for rule in ["invite", "private"] {
        let room = ruled(&node, &alice, json!({ "join_rule": rule })).await;
        node.fails(node.post(&bob, path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
        node.fails(node.post(&bob, knock(&room), json!({})), 403, "M_FORBIDDEN").await;
        if rule == "invite" {
            node.invite(&alice, &room, &bob).await;
            node.join(&bob, &room).await;
        }
    }
}

#[tokio::test]
async fn who_knocks_is_let_in_by_an_invite_or_turned_away() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let room = ruled(&node, &alice, json!({ "join_rule": "knock" })).await;
    node.fails(node.post(&bob, path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
    let knocked = node.ok(node.post(&bob, knock(&room), json!({ "reason": "cold out here" }))).await;
    assert_eq!(knocked, json!({ "room_id": room }));
    let shown = node.sync(&bob, &[]).await;
    let events = shown["rooms"]["knock"][&room]["knock_state"]["events"].as_array().unwrap().clone();
    assert!(events.iter().any(|event| event["content"]["reason"] == "cold out here"));
    let timeline = node.sync(&alice, &[]).await["rooms"]["join"][&room]["timeline"]["events"].clone();
    assert_eq!(timeline.as_array().unwrap().last().unwrap()["content"]["membership"], "knock");
    node.invite(&alice, &room, &bob).await;
    node.join(&bob, &room).await;
    node.ok(node.post(&carol, knock(&room), json!({}))).await;
    node.ok(node.post(&alice, path(&room, "kick"), json!({ "user_id": carol.id }))).await;
    node.fails(node.post(&carol, path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
    node.ok(node.post(&alice, path(&room, "ban"), json!({ "user_id": carol.id }))).await;
    node.fails(node.post(&carol, knock(&room), json!({})), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn members_of_an_allowed_room_enter_a_restricted_one() {
    let node = TestNode::new();
    let (alice, bob, carol) = (node.user("alice").await, node.user("bob").await, node.user("carol").await);
    let club = node.public_room(&alice).await;
    node.join(&bob, &club).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }, { "type": "org.example.other" }]);
    for rule in ["restricted", "knock_restricted"] {
        let room = ruled(&node, &alice, json!({ "join_rule": rule, "allow": allow })).await;
        node.fails(node.post(&carol, path(&room, "join"), json!({})), 403, "M_FORBIDDEN").await;
        node.join(&bob, &room).await;
        let member =
            node.ok(node.get(&alice, path(&room, &format!("state/m.room.member/{}", escape(bob.id.as_str()))))).await;
        assert_eq!(member["join_authorised_via_users_server"], json!(alice.id));
        let (status, _) = node.post(&carol, knock(&room), json!({})).await;
        assert_eq!(status == 200, rule == "knock_restricted", "{rule}");
    }
}

#[tokio::test]
async fn who_takes_no_invites_gets_none() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let config = format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", escape(bob.id.as_str()));
    node.ok(node.put(&bob, &config, json!({ "default_action": "block" }))).await;
    let room = node.public_room(&alice).await;
    let invite = async || node.post(&alice, path(&room, "invite"), json!({ "user_id": bob.id })).await;
    node.fails(invite(), 403, "M_INVITE_BLOCKED").await;
    let as_state = path(&room, &format!("state/m.room.member/{}", escape(bob.id.as_str())));
    node.fails(node.put(&alice, as_state, json!({ "membership": "invite" })), 403, "M_INVITE_BLOCKED").await;
    let create = node.post(&alice, "/_matrix/client/v3/createRoom", json!({ "invite": [bob.id] }));
    node.fails(create, 403, "M_INVITE_BLOCKED").await;
    node.join(&bob, &room).await;
    node.leave(&bob, &room).await;
    node.ok(node.put(&bob, &config, json!({ "default_action": "org.example.maybe" }))).await;
    node.ok(invite()).await;
}
