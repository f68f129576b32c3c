//! Memberships and messages across nodes.

use serde_json::{Value, json};

use crate::{
    harness::TestUser,
    nodes::{Net, Running, encoded, link},
};

/// Two nodes with a room that a user of each is in.
pub struct Together {
    pub a: Running,
    pub b: Running,
    pub alice: TestUser,
    pub bob: TestUser,
    pub room: String,
}

/// Alice on A has made a room and Bob on B has joined it.
pub async fn together(net: &Net) -> Together {
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat", "name": "Pond" })).await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
    Together { a, b, alice, bob, room }
}

async fn act(node: &Running, user: &TestUser, room: &str, what: &str, body: Value) {
    let path = format!("/_matrix/client/v3/rooms/{}/{what}", encoded(room));
    node.ok(node.post(user, &path, body)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_of_another_node_joins_and_both_read_each_other() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    a.say(&alice, &room, "hello bob").await;
    b.until_read(&bob, &room, "hello bob").await;
    b.say(&bob, &room, "hello alice").await;
    a.until_read(&alice, &room, "hello alice").await;
    let name = b.ok(b.get(&bob, &format!("/_matrix/client/v3/rooms/{}/state/m.room.name/", encoded(&room)))).await;
    assert_eq!(name["name"], "Pond");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_is_sent_as_a_state_event_reaches_the_other_node() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encoded(&room), encoded(bob.id.as_str()));
    a.ok(a.put(&alice, &path, json!({ "membership": "invite" }))).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_and_is_invited_again_reads_on() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    act(&b, &bob, &room, "leave", json!({})).await;
    a.until_membership(&bob, &room, "leave").await;
    a.say(&alice, &room, "in between").await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
    a.say(&alice, &room, "welcome back").await;
    b.until_read(&bob, &room, "welcome back").await;
    b.say(&bob, &room, "thanks").await;
    a.until_read(&alice, &room, "thanks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_taken_back_and_refused_across_nodes() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &room, &bob).await;
    b.until_membership(&bob, &room, "invite").await;
    act(&b, &bob, &room, "leave", json!({})).await;
    a.until_membership(&bob, &room, "leave").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kick_and_a_ban_reach_the_other_node() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    act(&a, &alice, &room, "kick", json!({ "user_id": bob.id })).await;
    b.until_membership(&bob, &room, "leave").await;
    act(&a, &alice, &room, "ban", json!({ "user_id": bob.id })).await;
    let path = format!("/_matrix/client/v3/join/{}?server_name={}", encoded(&room), a.server());
    b.fails(b.post(&bob, &path, json!({})), 403, "M_FORBIDDEN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_room_is_found_by_its_alias_and_joined() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let body = json!({ "preset": "public_chat", "room_alias_name": "pond" });
    let room = a.room(&alice, body).await;
    let alias = encoded(&format!("#pond:{}", a.server()));
    let joined = b.ok(b.post(&bob, &format!("/_matrix/client/v3/join/{alias}"), json!({}))).await;
    assert_eq!(joined["room_id"], room.as_str());
    a.until_membership(&bob, &room, "join").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knock_is_answered_with_an_invite() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
    let room = a.room(&alice, json!({ "preset": "private_chat", "initial_state": [rule] })).await;
    let path = format!("/_matrix/client/v3/knock/{}?via={}", encoded(&room), a.server());
    b.ok(b.post(&bob, &path, json!({}))).await;
    a.until_membership(&bob, &room, "knock").await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_an_allowed_room_joins_a_restricted_one() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": room }]);
    let content = json!({ "join_rule": "restricted", "allow": allow });
    let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": content });
    let second = a.room(&alice, json!({ "preset": "private_chat", "initial_state": [rule] })).await;
    let join = async |user: &TestUser| {
        let path = format!("/_matrix/client/v3/join/{}?server_name={}", encoded(&second), a.server());
        b.post(user, &path, json!({})).await
    };
    let carol = b.user("carol").await;
    b.fails(join(&carol), 403, "M_FORBIDDEN").await;
    b.ok(join(&bob)).await;
    a.until_membership(&bob, &second, "join").await;
    a.say(&alice, &second, "welcome").await;
    b.until_read(&bob, &second, "welcome").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_while_a_node_had_no_link_comes_with_the_link() {
    let net = Net::default();
    let Together { a, b, alice, bob, room } = together(&net).await;
    a.node.peers.remove(b.server().as_str()).await.unwrap();
    b.node.peers.remove(a.server().as_str()).await.unwrap();
    crate::nodes::until("the link is gone", async || !a.node.peers.is_linked(&b.server()).unwrap()).await;
    a.say(&alice, &room, "unheard").await;
    link(&a, &b).await;
    a.say(&alice, &room, "heard").await;
    b.until_read(&bob, &room, "heard").await;
    b.until_read(&bob, &room, "unheard").await;
}
