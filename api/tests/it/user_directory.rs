//! Finding users by their names.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::escape,
};

const SEARCH: &str = "/_matrix/client/v3/user_directory/search";

async fn named(node: &TestNode, localpart: &str, name: &str) -> TestUser {
    let user = node.user(localpart).await;
    call(node, &user, name).await;
    user
}

async fn call(node: &TestNode, user: &TestUser, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", escape(user.id.as_str()));
    node.ok(node.put(user, path, json!({ "displayname": name }))).await;
}

async fn search(node: &TestNode, who: &TestUser, term: &str) -> Value {
    node.ok(node.post(who, SEARCH, json!({ "search_term": term }))).await
}

fn found(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|user| user["user_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn users_of_shared_and_of_public_rooms_are_found_by_the_words_of_their_names() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let bob = named(&node, "robert", "Bob O'Hara").await;
    let carol = named(&node, "carol", "Carol Bobbin").await;
    let hidden = named(&node, "hidden", "Bob Hidden").await;
    let room = node.room(&alice, json!({ "preset": "private_chat", "invite": [bob.id] })).await;
    node.join(&bob, &room).await;
    node.public_room(&carol).await;
    node.room(&hidden, json!({ "preset": "private_chat" })).await;
    let both = search(&node, &alice, "bob").await;
    assert_eq!((found(&both), &both["limited"]), (vec![bob.id.as_str(), carol.id.as_str()], &json!(false)));
    assert_eq!(both["results"][0]["display_name"], "Bob O'Hara");
    assert_eq!(found(&search(&node, &alice, "BOB").await).len(), 2);
    for term in ["o'hara", "bob har", "robert", "@robert:", bob.id.as_str()] {
        assert_eq!(found(&search(&node, &alice, term).await), [bob.id.as_str()], "{term}");
    }
    for term in ["ob", "", "bob nothing", "alice", "hidden"] {
        assert!(found(&search(&node, &alice, term).await).is_empty(), "{term}");
    }
    let one = node.ok(node.post(&alice, SEARCH, json!({ "search_term": "bob", "limit": 1 }))).await;
    assert_eq!((found(&one).len(), &one["limited"]), (1, &json!(true)));
    node.fails(node.post(&alice, SEARCH, json!({})), 400, "M_MISSING_PARAM").await;
}

#[tokio::test]
async fn a_new_name_replaces_the_old_one_and_who_left_or_is_ignored_is_not_found() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let bob = named(&node, "bob", "Robert").await;
    let room = node.room(&alice, json!({ "preset": "private_chat", "invite": [bob.id] })).await;
    node.join(&bob, &room).await;
    assert_eq!(found(&search(&node, &alice, "robert").await).len(), 1);
    call(&node, &bob, "Bertie").await;
    assert!(found(&search(&node, &alice, "robert").await).is_empty());
    assert_eq!(found(&search(&node, &alice, "bert").await).len(), 1);
    let list = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", escape(alice.id.as_str()));
    node.ok(node.put(&alice, &list, json!({ "ignored_users": { bob.id.as_str(): {} } }))).await;
    assert!(found(&search(&node, &alice, "bert").await).is_empty());
    node.ok(node.put(&alice, &list, json!({ "ignored_users": {} }))).await;
    node.leave(&bob, &room).await;
    assert!(found(&search(&node, &alice, "bert").await).is_empty());
}

#[tokio::test]
async fn a_database_from_before_the_index_is_taken_in() {
    use millpond_store::{job, tables};
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let bob = named(&node, "bob", "Robert").await;
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let forget = job(
        |_| Ok::<_, millpond_node::Error>(()),
        |(), txn| {
            txn.remove_all(tables::DIRECTORY_WORDS, ())?;
            txn.remove_all(tables::DIRECTORY_NAMES, ()).map(drop)
        },
    );
    node.node.core.write(forget).await.unwrap();
    assert!(found(&search(&node, &alice, "robert").await).is_empty());
    node.node.user_directory.build().await.unwrap();
    assert_eq!(found(&search(&node, &alice, "robert").await), [bob.id.as_str()]);
}
