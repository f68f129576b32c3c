//! `/search`: words, order, pages, context, groups, filters, and what is hidden.

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{bodies, path},
};

const SEARCH: &str = "/_matrix/client/v3/search";

fn body(criteria: Value) -> Value {
    json!({ "search_categories": { "room_events": criteria } })
}

async fn search(node: &TestNode, who: &TestUser, criteria: Value) -> Value {
    let answer = node.ok(node.post(who, SEARCH, body(criteria))).await;
    answer["search_categories"]["room_events"].clone()
}

/// The bodies of the results, in their order.
fn found(answer: &Value) -> Vec<String> {
    let events = answer["results"].as_array().unwrap().iter().map(|result| result["result"].clone()).collect();
    bodies(&Value::Array(events))
}

async fn texts(node: &TestNode, who: &TestUser, term: &str) -> Vec<String> {
    found(&search(node, who, json!({ "search_term": term, "order_by": "recent" })).await)
}

#[tokio::test]
async fn an_event_is_found_by_all_its_words_in_any_case_or_by_their_beginnings() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    for text in
        ["The kingfisher dives", "A Kingfisher waits", "KINGFISHERS, two of them", "nothing at all", "Caf\u{e9}"]
    {
        node.text(&alice, &room, text).await;
    }
    let three = ["KINGFISHERS, two of them", "A Kingfisher waits", "The kingfisher dives"];
    assert_eq!(texts(&node, &alice, "kingfisher").await, three);
    assert_eq!(texts(&node, &alice, "waits KINGFISHER").await, ["A Kingfisher waits"]);
    assert_eq!(texts(&node, &alice, "kingfisher nothing").await, [""; 0]);
    assert_eq!(texts(&node, &alice, "cafe").await, ["Caf\u{e9}"]);
    assert_eq!(texts(&node, &alice, "fisher").await, [""; 0]);
    let answer = search(&node, &alice, json!({ "search_term": "kingfish?" })).await;
    assert_eq!((answer["count"].as_u64(), &answer["highlights"]), (Some(3), &json!(["kingfisher", "kingfishers"])));
    assert!(answer["results"][0].get("context").is_none(), "nobody asked for it");
    assert_eq!(texts(&node, &alice, "?!").await, [""; 0]);
}

#[tokio::test]
async fn names_and_topics_are_found_where_they_are_asked_for() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.state(&alice, &room, "m.room.name", "", json!({ "name": "Lake" })).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "about the lake" })).await;
    node.text(&alice, &room, "to the lake").await;
    let kinds = async |keys: Value| {
        let answer = search(&node, &alice, json!({ "search_term": "lake", "order_by": "recent", "keys": keys })).await;
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|result| result["result"]["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(Value::Null).await, ["m.room.message", "m.room.topic", "m.room.name"]);
    assert_eq!(kinds(json!(["content.name"])).await, ["m.room.name"]);
    assert_eq!(kinds(json!(["content.topic", "content.body"])).await, ["m.room.message", "m.room.topic"]);
    let wrong = json!({ "search_term": "lake", "keys": ["content.msgtype"] });
    node.fails(node.post(&alice, SEARCH, body(wrong)), 400, "M_INVALID_PARAM").await;
    node.fails(node.post("", SEARCH, body(json!({ "search_term": "lake" }))), 401, "M_MISSING_TOKEN").await;
    node.fails(node.post(&alice, SEARCH, body(json!({}))), 400, "M_MISSING_PARAM").await;
    node.fails(node.post(&alice, SEARCH, json!({})), 400, "M_MISSING_PARAM").await;
}

#[tokio::test]
async fn by_rank_the_closest_comes_first_and_pages_lead_on_in_either_order() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    for text in ["grebe grebe grebe", "one grebe", "grebes", "again a grebe"] {
        node.text(&alice, &room, text).await;
    }
    let ranked = search(&node, &alice, json!({ "search_term": "grebe" })).await;
    assert_eq!(found(&ranked), ["grebe grebe grebe", "again a grebe", "one grebe", "grebes"]);
    let ranks: Vec<_> = ranked["results"].as_array().unwrap().iter().map(|r| r["rank"].as_f64().unwrap()).collect();
    assert!(ranks.is_sorted_by(|a, b| a >= b) && ranks[0] > ranks[3], "{ranks:?}");
    for order in ["rank", "recent"] {
        let criteria = json!({ "search_term": "grebe", "order_by": order });
        let whole = found(&search(&node, &alice, criteria.clone()).await);
        let (mut pages, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut criteria = criteria.clone();
            criteria["filter"] = json!({ "limit": 3 });
            let at = next.map_or(SEARCH.to_owned(), |token| format!("{SEARCH}?next_batch={token}"));
            let answer =
                node.ok(node.post(&alice, at, body(criteria))).await["search_categories"]["room_events"].clone();
            assert_eq!(answer["count"], 4);
            pages.push(found(&answer));
            match answer["next_batch"].as_str() {
                Some(token) => next = Some(token.to_owned()),
                None => break,
            }
        }
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(pages.concat(), whole);
    }
    let token = format!("{SEARCH}?next_batch=elsewhere");
    node.fails(node.post(&alice, token, body(json!({ "search_term": "grebe" }))), 400, "M_INVALID_PARAM").await;
    let order = json!({ "search_term": "grebe", "order_by": "length" });
    node.fails(node.post(&alice, SEARCH, body(order)), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn context_has_what_was_around_a_result_and_what_its_senders_were_called_then() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", alice.id);
    node.ok(node.put(&alice, &name, json!({ "displayname": "Then" }))).await;
    for text in ["m0", "m1", "the heron", "m3", "m4"] {
        node.text(&alice, &room, text).await;
    }
    node.ok(node.put(&alice, &name, json!({ "displayname": "Now" }))).await;
    let around = json!({ "before_limit": 1, "after_limit": 2, "include_profile": true });
    let criteria = json!({ "search_term": "heron", "event_context": around, "include_state": true });
    let answer = search(&node, &alice, criteria).await;
    let context = &answer["results"][0]["context"];
    assert_eq!(bodies(&context["events_before"]), ["m1"]);
    assert_eq!(bodies(&context["events_after"]), ["m3", "m4"]);
    assert_eq!(context["profile_info"][alice.id.as_str()]["displayname"], "Then");
    let before = path(&room, &format!("messages?dir=b&limit=1&from={}", context["start"].as_str().unwrap()));
    assert_eq!(bodies(&node.ok(node.get(&alice, &before)).await["chunk"]), ["m0"]);
    let state = answer["state"][&room].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.create"));
    assert!(state.iter().any(|event| event["content"]["displayname"] == "Now"));
    let default = json!({ "search_term": "heron", "event_context": {} });
    let answer = search(&node, &alice, default).await;
    assert_eq!(answer["results"][0]["context"]["events_before"].as_array().unwrap().len(), 5);
    assert!(answer["results"][0]["context"].get("profile_info").is_none() && answer.get("state").is_none());
}

#[tokio::test]
async fn results_are_grouped_and_each_group_goes_on_by_itself() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (pond, lake) = (node.public_room(&alice).await, node.public_room(&alice).await);
    node.join(&bob, &pond).await;
    let mut ids = Vec::new();
    for (who, room) in [(&bob, &pond), (&alice, &pond), (&alice, &lake), (&alice, &pond)] {
        ids.push(node.text(who, room, "a stork").await);
    }
    let groups = json!({ "group_by": [{ "key": "room_id" }, { "key": "sender" }] });
    let criteria =
        json!({ "search_term": "stork", "order_by": "recent", "groupings": groups, "filter": { "limit": 3 } });
    let answer = search(&node, &alice, criteria.clone()).await;
    let rooms = &answer["groups"]["room_id"];
    assert_eq!(rooms[&pond]["results"], json!([ids[3], ids[1]]));
    assert_eq!(rooms[&lake]["results"], json!([ids[2]]));
    assert_eq!((&rooms[&pond]["order"], &rooms[&lake]["order"]), (&json!(1), &json!(2)));
    assert_eq!(answer["groups"]["sender"][alice.id.as_str()]["results"], json!([ids[3], ids[2], ids[1]]));
    let next = |room: &str| format!("{SEARCH}?next_batch={}", rooms[room]["next_batch"].as_str().unwrap());
    for (room, rest) in [(&pond, vec![&ids[0]]), (&lake, vec![])] {
        let answer = node.ok(node.post(&alice, next(room), body(criteria.clone()))).await;
        let results = answer["search_categories"]["room_events"]["results"].as_array().unwrap();
        let found: Vec<_> = results.iter().map(|result| result["result"]["event_id"].as_str().unwrap()).collect();
        assert_eq!(found, rest);
    }
}

#[tokio::test]
async fn filters_take_rooms_senders_types_and_urls() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let (pond, lake) = (node.public_room(&alice).await, node.public_room(&alice).await);
    node.join(&bob, &pond).await;
    node.text(&alice, &pond, "owl one").await;
    node.text(&bob, &pond, "owl two").await;
    node.text(&alice, &lake, "owl three").await;
    let image = json!({ "msgtype": "m.image", "body": "owl picture", "url": "mxc://a/b" });
    node.ok(node.put(&alice, path(&lake, "send/m.room.message/i"), image)).await;
    let taken = async |filter: Value| {
        let criteria = json!({ "search_term": "owl", "order_by": "recent", "filter": filter });
        let answer = search(&node, &alice, criteria).await;
        assert_eq!(answer["count"].as_u64().unwrap() as usize, found(&answer).len());
        found(&answer)
    };
    assert_eq!(taken(json!({ "rooms": [pond] })).await, ["owl two", "owl one"]);
    assert_eq!(taken(json!({ "not_rooms": [pond] })).await, ["owl picture", "owl three"]);
    assert_eq!(taken(json!({ "senders": [bob.id] })).await, ["owl two"]);
    assert_eq!(taken(json!({ "not_senders": [alice.id] })).await, ["owl two"]);
    assert_eq!(taken(json!({ "contains_url": true })).await, ["owl picture"]);
    assert_eq!(taken(json!({ "contains_url": false })).await, ["owl three", "owl two", "owl one"]);
    assert_eq!(taken(json!({ "types": ["m.room.name"] })).await, [""; 0]);
    assert_eq!(taken(json!({ "not_types": ["m.room.*"] })).await, [""; 0]);
}

#[tokio::test]
async fn what_is_hidden_is_neither_found_nor_counted() {
    let node = TestNode::new();
    let (alice, bob, eve) = (node.user("alice").await, node.user("bob").await, node.user("eve").await);
    let room = node.public_room(&alice).await;
    let joined = json!({ "history_visibility": "joined" });
    node.state(&alice, &room, "m.room.history_visibility", "", joined).await;
    node.text(&alice, &room, "teal before").await;
    node.join(&bob, &room).await;
    node.text(&alice, &room, "teal during").await;
    node.leave(&bob, &room).await;
    node.text(&alice, &room, "teal after").await;
    for (who, seen) in
        [(&alice, vec!["teal after", "teal during", "teal before"]), (&bob, vec!["teal during"]), (&eve, vec![])]
    {
        let answer = search(&node, who, json!({ "search_term": "teal", "order_by": "recent" })).await;
        assert_eq!(found(&answer), seen);
        assert_eq!(answer["count"].as_u64().unwrap() as usize, seen.len(), "a count tells what was said as well");
    }
    let named = search(&node, &eve, json!({ "search_term": "teal", "filter": { "rooms": [room] } })).await;
    assert_eq!((found(&named).len(), named["count"].as_u64()), (0, Some(0)));
    let ignored = json!({ "ignored_users": { alice.id.as_str(): {} } });
    let data = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", bob.id);
    node.ok(node.put(&bob, data, ignored)).await;
    assert_eq!(texts(&node, &bob, "teal").await, [""; 0]);
    node.ok(node.post(&bob, path(&room, "forget"), json!({}))).await;
    assert_eq!(texts(&node, &bob, "teal").await, [""; 0]);
}

#[tokio::test]
async fn what_is_redacted_or_encrypted_is_not_found() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    let event = node.text(&alice, &room, "a wigeon").await;
    let sealed = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "wigeon", "session_id": "s" });
    node.ok(node.put(&alice, path(&room, "send/m.room.encrypted/e"), sealed)).await;
    assert_eq!(texts(&node, &alice, "wigeon").await, ["a wigeon"]);
    let redact = path(&room, &format!("redact/{}/1", crate::room::escape(&event)));
    node.ok(node.put(&alice, redact, json!({}))).await;
    let answer = search(&node, &alice, json!({ "search_term": "wigeon" })).await;
    assert_eq!((found(&answer).len(), answer["count"].as_u64()), (0, Some(0)));
}
