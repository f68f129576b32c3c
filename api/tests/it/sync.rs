//! `/sync`.

mod devices;
mod ephemeral;
mod left;
mod members;
mod restart;
mod state;
mod wake;

use serde_json::json;

use crate::{harness::TestNode, room::bodies};

#[tokio::test]
async fn the_first_sync_gives_rooms_with_state_before_the_timeline_and_a_token() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond", "preset": "private_chat" })).await;
    for n in 0..3 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    let filter = json!({ "room": { "timeline": { "limit": 2 } } }).to_string();
    let synced = node.sync(&alice, &[("filter", &filter)]).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(bodies(&joined["timeline"]["events"]), ["m1", "m2"]);
    assert_eq!(joined["timeline"]["limited"], true);
    let state = bodies(&joined["state"]["events"]);
    for kind in ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.name", "m.room.history_visibility"] {
        assert!(state.iter().any(|other| other == kind), "{kind} {state:?}");
    }
    assert_eq!(joined["summary"]["m.joined_member_count"], 1);
    let event = &joined["timeline"]["events"][0];
    assert!(event["event_id"].is_string() && event["unsigned"]["age"].is_u64());
    assert!(event.get("room_id").is_none(), "the room is named once");
    assert!(event.get("hashes").is_none() && event.get("auth_events").is_none());
}

#[tokio::test]
async fn an_event_is_in_the_timeline_or_in_the_state_and_not_in_both() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({ "name": "Pond" })).await;
    let filter = json!({ "room": { "timeline": { "limit": 100 } } }).to_string();
    let synced = node.sync(&alice, &[("filter", &filter)]).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], false);
    assert_eq!(joined["timeline"]["events"][0]["type"], "m.room.create");
    assert!(joined.get("state").is_none(), "{}", joined["state"]);
}

#[tokio::test]
async fn a_sync_from_a_token_gives_what_is_new_once() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (room, other) = (node.public_room(&alice).await, node.public_room(&alice).await);
    let token = node.token(&alice).await;
    node.text(&alice, &room, "new").await;
    let synced = node.sync_since(&alice, &token).await;
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(bodies(&joined["timeline"]["events"]), ["new"]);
    assert_eq!(joined["timeline"]["limited"], false);
    assert!(joined.get("state").is_none() && joined.get("summary").is_none());
    assert!(synced["rooms"]["join"].get(&other).is_none());
    let again = node.sync_since(&alice, &synced["next_batch"]).await;
    assert!(again.get("rooms").is_none(), "{again}");
    assert_eq!(node.sync_since(&alice, &token).await["rooms"]["join"][&room]["timeline"], joined["timeline"]);
}

#[tokio::test]
async fn a_gap_is_limited_and_its_prev_batch_leads_into_it() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.public_room(&alice).await;
    node.text(&alice, &room, "seen").await;
    let token = node.token(&alice).await;
    for n in 0..15 {
        node.text(&alice, &room, &format!("m{n}")).await;
    }
    let synced = node.sync_since(&alice, &token).await;
    let timeline = &synced["rooms"]["join"][&room]["timeline"];
    assert_eq!(bodies(&timeline["events"]).first().unwrap(), "m5");
    assert_eq!(timeline["limited"], true);
    let from = timeline["prev_batch"].as_str().unwrap();
    let to = token.as_str().unwrap();
    let page = format!("messages?dir=b&from={from}&to={to}&limit=50");
    let page = node.ok(node.get(&alice, &crate::room::path(&room, &page))).await;
    assert_eq!(bodies(&page["chunk"]), ["m4", "m3", "m2", "m1", "m0"]);
    assert!(page.get("end").is_none(), "the gap is closed");
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    for token in ["x", "s1", "s999999999_0_0", "-1", "s_", "s1_2_3_4"] {
        let path = crate::room::sync_path(&[("since", token)]);
        node.fails(node.get(&alice, &path), 400, "M_INVALID_PARAM").await;
    }
    node.fails(node.get("", "/_matrix/client/v3/sync"), 401, "M_MISSING_TOKEN").await;
    let path = crate::room::sync_path(&[("filter", "{\"room\":3}")]);
    node.fails(node.get(&alice, &path), 400, "M_BAD_JSON").await;
}

#[tokio::test]
async fn filters_choose_types_senders_rooms_and_urls() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    let other = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let token = node.token(&alice).await;
    node.text(&alice, &room, "from alice").await;
    node.text(&bob, &room, "from bob").await;
    node.message(&bob, &room, json!({ "msgtype": "m.file", "body": "file", "url": "mxc://a/b" })).await;
    node.state(&alice, &room, "m.room.topic", "", json!({ "topic": "T" })).await;
    node.text(&alice, &other, "elsewhere").await;
    let synced = async |timeline: serde_json::Value| {
        let filter = json!({ "room": { "timeline": timeline } }).to_string();
        node.sync(&alice, &[("since", token.as_str().unwrap()), ("filter", &filter)]).await
    };
    let seen = async |timeline| bodies(&synced(timeline).await["rooms"]["join"][&room]["timeline"]["events"]);
    assert_eq!(seen(json!({ "types": ["m.room.t*"] })).await, ["m.room.topic"]);
    assert_eq!(seen(json!({ "not_types": ["m.room.topic"] })).await, ["from alice", "from bob", "file"]);
    assert_eq!(seen(json!({ "senders": [bob.id] })).await, ["from bob", "file"]);
    assert_eq!(seen(json!({ "not_senders": [bob.id] })).await, ["from alice", "m.room.topic"]);
    assert_eq!(seen(json!({ "contains_url": true })).await, ["file"]);
    assert_eq!(seen(json!({ "limit": 1 })).await, ["m.room.topic"]);
    let synced = synced(json!({ "not_rooms": [room] })).await;
    assert!(
        synced["rooms"]["join"][&room].get("timeline").is_none_or(|timeline| bodies(&timeline["events"]).is_empty())
    );
    assert_eq!(bodies(&synced["rooms"]["join"][&other]["timeline"]["events"]), ["elsewhere"]);
    let filter = json!({ "room": { "rooms": [other] } }).to_string();
    let synced = node.sync(&alice, &[("since", token.as_str().unwrap()), ("filter", &filter)]).await;
    assert!(synced["rooms"]["join"].get(&room).is_none());
}

#[tokio::test]
async fn the_transaction_id_is_told_to_the_device_that_sent_and_to_no_other() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let phone = node.device(&alice).await;
    let room = node.public_room(&alice).await;
    let send = crate::room::path(&room, "send/m.room.message/my-txn");
    let sent = node.ok(node.put(&alice, &send, json!({ "body": "x", "msgtype": "m.text" }))).await;
    let again = node.ok(node.put(&alice, &send, json!({ "body": "x", "msgtype": "m.text" }))).await;
    assert_eq!(sent["event_id"], again["event_id"]);
    for (device, expected) in [(&alice, json!("my-txn")), (&phone, json!(null))] {
        let synced = node.sync(device, &[]).await;
        let events = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().clone();
        let event = events.iter().find(|event| event["event_id"] == sent["event_id"]).unwrap();
        assert_eq!(event["unsigned"]["transaction_id"], expected);
    }
}

#[tokio::test]
async fn ignored_users_messages_and_invites_are_not_shown_but_their_state_is() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let list = json!({ "ignored_users": { bob.id.as_str(): {} } }).to_string();
    let user = alice.id.clone();
    let write = millpond_store::job(
        |_| Ok::<_, millpond_node::Error>(()),
        move |(), txn| {
            let position = txn.next_position().0;
            let row = millpond_store::rows::AccountData { position, content: list.clone() };
            txn.put(millpond_store::tables::ACCOUNT_DATA, (&*user, "", "m.ignored_user_list"), &row)
        },
    );
    node.node.core.write(write).await.unwrap();
    let token = node.token(&alice).await;
    node.text(&bob, &room, "hidden").await;
    node.text(&alice, &room, "shown").await;
    node.leave(&bob, &room).await;
    let theirs = node.room(&bob, json!({ "invite": [alice.id] })).await;
    let synced = node.sync_since(&alice, &token).await;
    let timeline = &synced["rooms"]["join"][&room]["timeline"];
    assert_eq!(bodies(&timeline["events"]), ["shown", "m.room.member"]);
    assert!(synced["rooms"]["invite"].get(&theirs).is_none());
}
