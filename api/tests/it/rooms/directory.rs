//! Aliases and the public list.

use serde_json::{Value, json};

use crate::{
    harness::TestNode,
    room::{escape, path},
};

fn alias_path(alias: &str) -> String {
    format!("/_matrix/client/v3/directory/room/{}", escape(alias))
}

#[tokio::test]
async fn an_alias_is_made_resolved_joined_by_and_deleted() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let alias = &format!("#pond:{}", node.server());
    let here = json!({ "room_id": room });
    node.fails(node.get("", &alias_path(alias)), 404, "M_NOT_FOUND").await;
    node.fails(node.put(&bob, &alias_path(alias), here.clone()), 403, "M_FORBIDDEN").await;
    node.ok(node.put(&alice, &alias_path(alias), here.clone())).await;
    node.fails(node.put(&alice, &alias_path(alias), here.clone()), 409, "M_UNKNOWN").await;
    node.fails(node.put(&alice, &alias_path("#pond:elsewhere"), here), 400, "M_INVALID_PARAM").await;
    let found = node.ok(node.get("", &alias_path(alias))).await;
    assert_eq!(found, json!({ "room_id": room, "servers": [node.server()] }));
    let joined = node.ok(node.post(&bob, &format!("/_matrix/client/v3/join/{}", escape(alias)), json!({}))).await;
    assert_eq!(joined["room_id"], json!(room));
    let aliases = node.ok(node.get(&bob, &path(&room, "aliases"))).await;
    assert_eq!(aliases, json!({ "aliases": [alias] }));
    node.fails(node.delete(&bob, &alias_path(alias), json!({})), 403, "M_FORBIDDEN").await;
    node.ok(node.delete(&alice, &alias_path(alias), json!({}))).await;
    node.fails(node.get("", &alias_path(alias)), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn the_public_list_is_filtered_and_paged_and_moderators_choose_what_is_in_it() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let public = |name: &str| json!({ "visibility": "public", "name": name, "topic": format!("about {name}") });
    let small = node.room(&alice, public("Puddle")).await;
    let large = node.room(&alice, public("Ocean")).await;
    let hidden = node.public_room(&alice).await;
    node.join(&bob, &large).await;
    let list = "/_matrix/client/v3/publicRooms";
    let ids = |json: &Value| -> Vec<String> {
        json["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = node.ok(node.get("", list)).await;
    assert_eq!(ids(&all), [large.clone(), small.clone()]);
    assert_eq!((&all["chunk"][0]["num_joined_members"], &all["total_room_count_estimate"]), (&json!(2), &json!(2)));
    let page = node.ok(node.get("", &format!("{list}?limit=1"))).await;
    assert_eq!(ids(&page), std::slice::from_ref(&large));
    let next = page["next_batch"].as_str().unwrap();
    let page = node.ok(node.get("", &format!("{list}?limit=1&since={next}"))).await;
    assert_eq!(ids(&page), std::slice::from_ref(&small));
    assert!(page.get("next_batch").is_none());
    let found = node.ok(node.post(&bob, list, json!({ "filter": { "generic_search_term": "PUDD" } }))).await;
    assert_eq!(ids(&found), std::slice::from_ref(&small));
    node.fails(node.get("", &format!("{list}?since=zz")), 400, "M_INVALID_PARAM").await;
    let listed = |room: &str| format!("/_matrix/client/v3/directory/list/room/{}", escape(room));
    node.fails(node.put(&bob, &listed(&large), json!({ "visibility": "private" })), 403, "M_FORBIDDEN").await;
    node.ok(node.put(&alice, &listed(&large), json!({ "visibility": "private" }))).await;
    node.ok(node.put(&alice, &listed(&hidden), json!({ "visibility": "public" }))).await;
    assert_eq!(node.ok(node.get("", &listed(&hidden))).await["visibility"], "public");
    assert_eq!(
        ids(&node.ok(node.get("", list)).await),
        [hidden, small].into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    node.fails(node.get("", &listed("!none:x")), 404, "M_NOT_FOUND").await;
}
