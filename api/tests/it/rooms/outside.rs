//! Rooms from outside: summaries, the tree of a space, rooms in common.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

fn hierarchy(room: &str, query: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/hierarchy?{query}", escape(room))
}

fn ids(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

async fn space(node: &TestNode, who: &TestUser) -> String {
    node.room(who, json!({ "creation_content": { "type": "m.space" }, "preset": "public_chat" })).await
}

async fn put_in(node: &TestNode, who: &TestUser, space: &str, child: &str, content: Value) {
    let mut content = content;
    content["via"] = json!([node.server()]);
    node.state(who, space, "m.space.child", child, content).await;
}

#[tokio::test]
async fn the_tree_is_walked_depth_first_in_the_order_of_the_children() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (top, inner) = (space(&node, &alice).await, space(&node, &alice).await);
    let [one, two, three] =
        [json!({ "name": "one" }), json!({ "name": "two" }), json!({ "name": "three" })].map(|mut body| {
            body["preset"] = json!("public_chat");
            body
        });
    let (one, two) = (node.room(&alice, one).await, node.room(&alice, two).await);
    let three = node.room(&alice, three).await;
    put_in(&node, &alice, &top, &two, json!({ "suggested": true })).await;
    node.pass(std::time::Duration::from_millis(5));
    put_in(&node, &alice, &top, &inner, json!({ "order": "b" })).await;
    put_in(&node, &alice, &top, &one, json!({ "order": "a" })).await;
    put_in(&node, &alice, &inner, &three, json!({ "suggested": true })).await;
    // A loop, a child without `via` and one that was taken out again.
    put_in(&node, &alice, &inner, &top, json!({})).await;
    node.state(&alice, &top, "m.space.child", "!gone:x", json!({})).await;
    let whole = node.ok(node.get(&bob, hierarchy(&top, ""))).await;
    assert_eq!(ids(&whole), [&*top, &*one, &*inner, &*three, &*two]);
    assert_eq!(whole.get("next_batch"), None);
    let rooms = whole["rooms"].as_array().unwrap();
    assert_eq!(
        (&rooms[0]["room_type"], &rooms[1]["name"], &rooms[1]["num_joined_members"]),
        (&json!("m.space"), &json!("one"), &json!(1))
    );
    let child = &rooms[0]["children_state"][0];
    assert_eq!(
        (&child["state_key"], &child["content"]["order"], &child["sender"]),
        (&json!(one), &json!("a"), &json!(alice.id))
    );
    assert!(child["origin_server_ts"].is_u64() && child.get("event_id").is_none());
    assert_eq!(rooms[1]["children_state"], json!([]));
    assert_eq!(ids(&node.ok(node.get(&bob, hierarchy(&top, "max_depth=1"))).await), [&*top, &*one, &*inner, &*two]);
    assert_eq!(ids(&node.ok(node.get(&bob, hierarchy(&top, "max_depth=0"))).await), [&*top]);
    assert_eq!(ids(&node.ok(node.get(&bob, hierarchy(&top, "suggested_only=true"))).await), [&*top, &*two]);

    let mut paged = Vec::new();
    let mut from = String::new();
    loop {
        let page = node.ok(node.get(&bob, hierarchy(&top, &format!("limit=2{from}")))).await;
        paged.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(paged, [&*top, &*one, &*inner, &*three, &*two]);
    let other = node.get(&bob, hierarchy(&top, &format!("limit=2&max_depth=1{from}")));
    node.fails(other, 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&bob, hierarchy(&top, "limit=0")), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn only_rooms_that_one_may_know_of_are_shown() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let top = space(&node, &alice).await;
    let rule = |rule: Value| json!({ "initial_state": [{ "type": "m.room.join_rules", "content": rule }] });
    let invited = node.room(&alice, json!({ "preset": "private_chat" })).await;
    let knock = node.room(&alice, rule(json!({ "join_rule": "knock" }))).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": top }]);
    let restricted = node.room(&alice, rule(json!({ "join_rule": "restricted", "allow": allow }))).await;
    let world = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let world = node.room(&alice, json!({ "preset": "private_chat", "initial_state": world })).await;
    for (order, child) in [&invited, &knock, &restricted, &world].into_iter().enumerate() {
        put_in(&node, &alice, &top, child, json!({ "order": order.to_string() })).await;
    }
    let shown = async || node.ok(node.get(&bob, hierarchy(&top, ""))).await;
    assert_eq!(ids(&shown().await), [&*top, &*knock, &*world]);
    node.join(&bob, &top).await;
    let page = shown().await;
    assert_eq!(ids(&page), [&*top, &*knock, &*restricted, &*world]);
    assert_eq!(page["rooms"][2]["allowed_room_ids"], json!([top]));
    node.invite(&alice, &invited, &bob).await;
    assert_eq!(ids(&shown().await), [&*top, &*invited, &*knock, &*restricted, &*world]);
    let hidden = node.room(&alice, json!({ "preset": "private_chat" })).await;
    node.fails(node.get(&bob, hierarchy(&hidden, "")), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&bob, hierarchy("!nowhere", "")), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn a_summary_is_for_who_may_enter_knock_or_read() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = json!({ "preset": "public_chat", "name": "Pond", "topic": "ducks", "room_alias_name": "pond" });
    let (room, hidden) = (node.room(&alice, room).await, node.room(&alice, json!({ "preset": "private_chat" })).await);
    let summary = |room: &str| format!("/_matrix/client/v1/room_summary/{}", escape(room));
    let shown = node.ok(node.get(&bob, summary(&room))).await;
    let alias = format!("#pond:{}", node.server());
    assert_eq!(
        shown,
        json!({
            // Without a join rule it is public.
            "room_id": room, "name": "Pond", "topic": "ducks", "canonical_alias": alias, "num_joined_members": 1, "world_readable": false, "guest_can_join": false, "room_version": "12",
        })
    );
    assert_eq!(node.ok(node.get(&bob, summary(&alias))).await, shown);
    assert_eq!(node.ok(node.get(&alice, summary(&room))).await["membership"], "join");
    node.fails(node.get("", summary(&room)), 401, "M_MISSING_TOKEN").await;
    node.fails(node.get(&bob, summary(&hidden)), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&bob, summary("!nowhere")), 404, "M_NOT_FOUND").await;
    node.invite(&alice, &hidden, &bob).await;
    let shown = node.ok(node.get(&bob, summary(&hidden))).await;
    assert_eq!((&shown["membership"], &shown["join_rule"]), (&json!("invite"), &json!("invite")));
}

#[tokio::test]
async fn rooms_in_common_are_those_that_both_are_in_now() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let mutual = |with: &str| format!("/_matrix/client/v1/mutual_rooms?user_id={}", escape(with));
    let (one, two) = (node.public_room(&alice).await, node.public_room(&alice).await);
    node.join(&bob, &one).await;
    node.join(&bob, &two).await;
    node.public_room(&alice).await;
    let shared = node.ok(node.get(&alice, mutual(bob.id.as_str()))).await;
    assert_eq!((&shared["count"], shared["joined"].as_array().unwrap().len()), (&json!(2), 2));
    node.leave(&bob, &one).await;
    let shared = node.ok(node.get(&alice, mutual(bob.id.as_str()))).await;
    assert_eq!(shared, json!({ "joined": [two], "count": 1 }));
    assert_eq!(node.ok(node.get(&alice, mutual("@nobody:there"))).await, json!({ "joined": [], "count": 0 }));
    node.fails(node.get(&alice, mutual(alice.id.as_str())), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&alice, mutual("nobody")), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&alice, "/_matrix/client/v1/mutual_rooms"), 400, "M_INVALID_PARAM").await;
    let from = format!("{}&from=x", mutual(bob.id.as_str()));
    node.fails(node.get(&alice, from), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn the_event_of_a_time_is_the_nearest_that_one_sees() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node
        .room(
            &alice,
            json!({ "preset": "public_chat", "initial_state": [
        { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
    ] }),
        )
        .await;
    let mut said = Vec::new();
    for number in 0..40 {
        node.pass(std::time::Duration::from_secs(10));
        if number == 30 {
            node.join(&bob, &room).await;
            node.pass(std::time::Duration::from_secs(5));
        }
        let event = node.text(&alice, &room, &number.to_string()).await;
        let whole = node.ok(node.get(&alice, path(&room, &format!("event/{}", escape(&event))))).await;
        said.push((event, whole["origin_server_ts"].as_u64().unwrap()));
    }
    let ask =
        |ts: u64, dir: &str| format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={ts}&dir={dir}", escape(&room));
    for (at, (event, ts)) in said.iter().enumerate() {
        let found = json!({ "event_id": event, "origin_server_ts": ts });
        assert_eq!(node.ok(node.get(&alice, ask(ts - 4_000, "f"))).await, found, "{at}");
        assert_eq!(node.ok(node.get(&alice, ask(ts + 4_000, "b"))).await["event_id"], json!(event), "{at}");
    }
    node.fails(node.get(&alice, ask(said[39].1 + 1, "f")), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&alice, ask(0, "b")), 404, "M_NOT_FOUND").await;
    let seen = node.ok(node.get(&bob, ask(said[0].1, "f"))).await;
    assert!(seen["origin_server_ts"].as_u64().unwrap() >= said[29].1 + 10_000, "nothing from before his join");
    let stranger = node.user("stranger").await;
    node.fails(node.get(&stranger, ask(0, "f")), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&alice, ask(0, "sideways")), 400, "M_INVALID_PARAM").await;
}
