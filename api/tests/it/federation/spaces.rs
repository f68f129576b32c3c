//! Spaces, summaries and times across nodes.

use http::Method;
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::nodes::{Net, Running, encoded};

fn ids(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

async fn state(node: &Running, user: &crate::harness::TestUser, room: &str, kind: &str, key: &str, content: Value) {
    let path = format!("/_matrix/client/v3/rooms/{}/state/{kind}/{}", encoded(room), encoded(key));
    node.ok(node.put(user, &path, content)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_goes_on_where_another_node_has_the_space() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let space = json!({ "creation_content": { "type": "m.space" }, "preset": "public_chat", "name": "Far" });
    let far = a.room(&alice, space.clone()).await;
    let open = a.room(&alice, json!({ "preset": "public_chat", "name": "Open" })).await;
    let hidden = a.room(&alice, json!({ "preset": "private_chat", "name": "Hidden" })).await;
    let via_a = json!({ "via": [a.server()] });
    state(&a, &alice, &far, "m.space.child", &open, via_a.clone()).await;
    state(&a, &alice, &far, "m.space.child", &hidden, via_a.clone()).await;
    let near = b.room(&bob, space).await;
    state(&b, &bob, &near, "m.space.child", &far, via_a).await;
    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", encoded(&near));
    let page = b.ok(b.get(&bob, &path)).await;
    assert_eq!(ids(&page), [&*near, &*far, &*open]);
    assert_eq!((&page["rooms"][1]["name"], &page["rooms"][2]["name"]), (&json!("Far"), &json!("Open")));
    let children = page["rooms"][1]["children_state"].as_array().unwrap();
    assert_eq!(children.len(), 2, "that there is a hidden child is no secret, what it is stays one");
    assert!(!page.to_string().contains("Hidden"));

    let summary = |room: &str| format!("/_matrix/client/v1/room_summary/{}?via={}", encoded(room), a.server());
    assert_eq!(b.ok(b.get(&bob, summary(&open))).await["name"], "Open");
    b.fails(b.get(&bob, summary(&hidden)), 404, "M_NOT_FOUND").await;
    let asked = format!("/_matrix/federation/v1/hierarchy/{}", encoded(&far));
    let told = b.get_from(&a, &asked).await;
    assert_eq!((&told["children"][0]["room_id"], &told["inaccessible_children"]), (&json!(open), &json!([hidden])));
    b.refused_by(&a, &format!("/_matrix/federation/v1/hierarchy/{}", encoded(&hidden)), 404, "M_NOT_FOUND").await;
    b.refused_by(&a, "/_matrix/federation/v1/hierarchy/!nowhere", 404, "M_NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_user_of_a_node_may_know_of_another_is_not_told() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, b.user("carol").await);
    let club = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &club, &carol).await;
    b.accept(&carol, &club).await;
    a.until_membership(&carol, &club, "join").await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
    let rule = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let inner = |extra: Value| {
        let mut content = json!({ "initial_state": rule });
        content.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        content
    };
    let bar = a.room(&alice, inner(json!({ "name": "Bar" }))).await;
    let cellar = a.room(&alice, inner(json!({ "name": "Cellar", "creation_content": { "type": "m.space" } }))).await;
    let space = json!({ "creation_content": { "type": "m.space" }, "preset": "public_chat", "name": "Far" });
    let far = a.room(&alice, space).await;
    for child in [&bar, &cellar] {
        state(&a, &alice, &far, "m.space.child", child, json!({ "via": [a.server()] })).await;
    }
    let summary = format!("/_matrix/client/v1/room_summary/{}?via={}", encoded(&bar), a.server());
    assert_eq!(b.ok(b.get(&carol, &summary)).await["name"], "Bar");
    b.fails(b.get(&bob, &summary), 404, "M_NOT_FOUND").await;
    // The space is reached by the user's own, which says where it is.
    for (user, seen) in [(&carol, 4), (&bob, 2)] {
        let near = json!({ "creation_content": { "type": "m.space" } });
        let near = b.room(user, near).await;
        state(&b, user, &near, "m.space.child", &far, json!({ "via": [a.server()] })).await;
        let page = b.ok(b.get(user, format!("/_matrix/client/v1/rooms/{}/hierarchy", encoded(&near)))).await;
        assert_eq!(ids(&page).len(), seen, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_of_a_time_from_before_the_join_is_fetched() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "public_chat" })).await;
    let early = a.say(&alice, &room, "early").await;
    let event =
        a.ok(a.get(&alice, format!("/_matrix/client/v3/rooms/{}/event/{}", encoded(&room), encoded(&early)))).await;
    let ts = event["origin_server_ts"].as_u64().unwrap();
    for number in 0..30 {
        a.say(&alice, &room, &number.to_string()).await;
    }
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    let ask = |ts: u64| format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={ts}&dir=b", encoded(&room));
    let found = b.ok(b.get(&bob, ask(ts))).await;
    assert_eq!(found["origin_server_ts"], json!(ts));
    let context =
        format!("/_matrix/client/v3/rooms/{}/context/{}", encoded(&room), encoded(found["event_id"].as_str().unwrap()));
    b.ok(b.get(&bob, context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_in_the_room_is_told_of_no_time() {
    let Together { a, b, bob, room, .. } = together(&Net::default()).await;
    let path = format!("/_matrix/federation/v1/timestamp_to_event/{}?ts=0&dir=f", encoded(&room));
    let told = b.get_from(&a, &path).await;
    assert!(told["event_id"].is_string() && told["origin_server_ts"].is_u64(), "{told}");
    let other = b.room(&bob, json!({ "preset": "public_chat" })).await;
    let path = format!("/_matrix/federation/v1/timestamp_to_event/{}?ts=0&dir=f", encoded(&other));
    let (status, json) = a.ask(&b, Method::GET, &path, "").await;
    assert_eq!((status.as_u16(), &json["errcode"]), (403, &json!("M_FORBIDDEN")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_list_of_a_contact_is_read_and_searched() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let public = |name: &str| json!({ "visibility": "public", "name": name });
    let (pond, _lake) = (a.room(&alice, public("Pond")).await, a.room(&alice, public("Lake")).await);
    let list = format!("/_matrix/client/v3/publicRooms?server={}", a.server());
    let all = b.ok(b.get(&bob, &list)).await;
    assert_eq!((all["chunk"].as_array().unwrap().len(), &all["total_room_count_estimate"]), (2, &json!(2)));
    let search = json!({ "filter": { "generic_search_term": "pon" }, "limit": 1 });
    let found = b.ok(b.post(&bob, &list, search)).await;
    assert_eq!((&found["chunk"][0]["room_id"], found["chunk"].as_array().unwrap().len()), (&json!(pond), 1));
    let page = b.ok(b.get(&bob, format!("{list}&limit=1"))).await;
    let next = page["next_batch"].as_str().unwrap();
    let rest = b.ok(b.get(&bob, format!("{list}&limit=1&since={next}"))).await;
    assert_ne!(rest["chunk"][0]["room_id"], page["chunk"][0]["room_id"]);
    b.fails(b.get(&bob, "/_matrix/client/v3/publicRooms?server=nobody.example"), 404, "M_NOT_FOUND").await;
    b.fails(b.get("", &list), 401, "M_MISSING_TOKEN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_invites_is_not_invited_over_a_link() {
    let (a, b) = Net::default().pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let config =
        format!("/_matrix/client/v3/user/{}/account_data/m.invite_permission_config", encoded(bob.id.as_str()));
    b.ok(b.put(&bob, &config, json!({ "default_action": "block" }))).await;
    let refused = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &refused, &bob).await;
    // The outbox is in order: when the second one is there, the first was refused.
    crate::nodes::until("the first invite is dealt with", async || a.node.counts().unwrap().1.is_empty()).await;
    b.ok(b.put(&bob, &config, json!({}))).await;
    let taken = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &taken, &bob).await;
    b.until_membership(&bob, &taken, "invite").await;
    assert_eq!(b.membership(&bob, &refused), None);
}
