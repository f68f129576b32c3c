//! Delayed events (MSC4140): scheduled, restarted, cancelled, sent at once or at their time, over a restart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    nodes::until,
    room::{escape, path},
};

const ALL: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

fn message(text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

/// Schedules a message as clients of today do.
async fn schedule(node: &TestNode, user: &TestUser, room: &str, txn: &str, delay_ms: u64) -> String {
    let at = path(room, &format!("send/m.room.message/{txn}?org.matrix.msc4140.delay={delay_ms}"));
    node.ok(node.put(user, at, message(txn))).await["delay_id"].as_str().unwrap().to_owned()
}

async fn act(node: &TestNode, id: &str, action: &str) {
    assert_eq!(node.ok(node.post("", format!("{ALL}/{id}/{action}"), json!({}))).await, json!({}));
}

async fn texts(node: &TestNode, user: &TestUser, room: &str) -> Vec<String> {
    let page = node.ok(node.get(user, path(room, "messages?dir=f&limit=100"))).await;
    let text = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    page["chunk"].as_array().unwrap().iter().filter_map(text).collect()
}

#[tokio::test]
async fn an_event_is_sent_at_its_time_and_not_before_and_survives_a_restart() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({})).await;
    let running = node.node.start().await.unwrap();
    let id = schedule(&node, &alice, &room, "later", 60_000).await;
    assert_eq!(schedule(&node, &alice, &room, "later", 60_000).await, id, "the same transaction");
    let sooner = schedule(&node, &alice, &room, "sooner", 50_000).await;
    node.pass(Duration::from_millis(49_999));
    assert_eq!(texts(&node, &alice, &room).await, [""; 0]);
    running.stop().await;
    node.pass(Duration::from_millis(1));
    let node = node.again(millpond_node::links::Links::new);
    let _running = node.node.start().await.unwrap();
    until("the first is sent", async || texts(&node, &alice, &room).await == ["sooner"]).await;
    let one = node.ok(node.get(&alice, format!("{ALL}/{sooner}"))).await;
    let event =
        node.ok(node.get(&alice, path(&room, &format!("event/{}", escape(one["event_id"].as_str().unwrap()))))).await;
    assert_eq!(event["unsigned"]["org.matrix.msc4140.delay_id"], json!(sooner));
    node.pass(Duration::from_secs(10));
    schedule(&node, &alice, &room, "wakes", 1000).await;
    until("the second is sent", async || texts(&node, &alice, &room).await == ["sooner", "later"]).await;
}

#[tokio::test]
async fn whoever_knows_the_id_restarts_sends_or_cancels() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let [one, two, three] = ["one", "two", "three"].map(|txn| schedule(&node, &alice, &room, txn, 10_000));
    let (one, two, three) = (one.await, two.await, three.await);
    node.pass(Duration::from_secs(9));
    act(&node, &one, "restart").await;
    act(&node, &two, "cancel").await;
    act(&node, &two, "cancel").await;
    act(&node, &three, "send").await;
    act(&node, &three, "send").await;
    assert_eq!(texts(&node, &alice, &room).await, ["three"]);
    // The form that Synapse has.
    node.ok(node.post(&bob, format!("{ALL}/{one}"), json!({ "action": "restart" }))).await;
    let waiting = node.ok(node.get(&alice, format!("{ALL}?status=scheduled"))).await;
    let listed = &waiting["delayed_events"];
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["delay_id"]), (1, &json!(one)));
    let now_ms = crate::harness::NOW_MS + 9000 + 1;
    let (delay, since, content) = (&listed[0]["delay"], &listed[0]["running_since"], &listed[0]["content"]);
    assert_eq!((delay, since, content), (&json!(10_000), &json!(now_ms), &message("one")));
    let ended = node.ok(node.get(&alice, format!("{ALL}?status=finalised&since_ts=0"))).await;
    assert_eq!(ended["delayed_events"].as_array().unwrap().len(), 2);
    let sent = node.ok(node.get(&alice, format!("{ALL}?outcome=send&since_ts=0&room_id={}", escape(&room)))).await;
    assert_eq!(sent["delayed_events"][0]["delay_id"], json!(three));
    for (id, action) in [(&two, "send"), (&two, "restart"), (&three, "cancel"), (&three, "restart")] {
        node.fails(node.post("", format!("{ALL}/{id}/{action}"), json!({})), 409, "M_UNKNOWN").await;
    }
    node.fails(node.post("", format!("{ALL}/guess/send"), json!({})), 404, "M_NOT_FOUND").await;
    node.fails(node.post("", format!("{ALL}/{one}/explode"), json!({})), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&bob, format!("{ALL}/{one}")), 404, "M_NOT_FOUND").await;
    assert_eq!(node.ok(node.get(&bob, ALL)).await, json!({ "delayed_events": [] }));
    node.fails(node.get("", ALL), 401, "M_MISSING_TOKEN").await;
    node.fails(node.get(&alice, format!("{ALL}?status=pending")), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn a_state_event_is_judged_when_its_time_comes() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.public_room(&alice).await;
    node.join(&bob, &room).await;
    let member = path(&room, &format!("state/org.matrix.msc3401.call.member/{}", escape(bob.id.as_str())));
    let ask = |delay: u64| format!("{member}?org.matrix.msc4140.delay={delay}");
    // A member may not set such state here: it is scheduled all the same, and fails at its time.
    let refused = node.ok(node.put(&bob, ask(1000), json!({}))).await["delay_id"].as_str().unwrap().to_owned();
    node.fails(node.post("", format!("{ALL}/{refused}/send"), json!({})), 403, "M_FORBIDDEN").await;
    let levels = path(&room, "state/m.room.power_levels/");
    let mut content = node.ok(node.get(&alice, &levels)).await;
    let _running = node.node.start().await.unwrap();
    node.pass(Duration::from_secs(1));
    // The clock of tests is not the one that the loop sleeps by: a new event wakes it.
    schedule(&node, &bob, &room, "wakes", 1_000_000).await;
    let one = async || node.ok(node.get(&bob, format!("{ALL}/{refused}"))).await;
    until("the attempt has failed", async || one().await["error"]["errcode"] == "M_FORBIDDEN").await;
    content["events"]["org.matrix.msc3401.call.member"] = json!(0);
    node.ok(node.put(&alice, &levels, content)).await;
    let stable = "/_matrix/client/unstable/org.matrix.msc4140/rooms";
    let kind = format!("{stable}/{}/delayed_event/org.matrix.msc3401.call.member/t", escape(&room));
    let body = json!({ "delay": 5000, "state_key": bob.id, "content": { "left": true } });
    let allowed = node.ok(node.put(&bob, kind, body)).await["delay_id"].as_str().unwrap().to_owned();
    act(&node, &allowed, "send").await;
    assert_eq!(node.ok(node.get(&bob, &member)).await, json!({ "left": true }));
}

#[tokio::test]
async fn a_redaction_waits_too_and_a_deactivated_account_sends_nothing_more() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({})).await;
    let event = node.text(&alice, &room, "for a while").await;
    let kind =
        format!("/_matrix/client/unstable/org.matrix.msc4140/rooms/{}/delayed_event/m.room.redaction/t", escape(&room));
    let body = json!({ "delay": 5000, "content": { "redacts": event } });
    let id = node.ok(node.put(&alice, kind, body)).await["delay_id"].as_str().unwrap().to_owned();
    act(&node, &id, "send").await;
    assert_eq!(
        node.ok(node.get(&alice, path(&room, &format!("event/{}", escape(&event))))).await["content"],
        json!({})
    );
    let bob = node.user_with_password("bob", "secret").await;
    let room = node.room(&bob, json!({})).await;
    let id = schedule(&node, &bob, &room, "never", 5000).await;
    let auth = json!({ "type": "m.login.password", "password": "secret", "identifier": { "type": "m.id.user", "user": bob.id } });
    node.ok(node.post(&bob, "/_matrix/client/v3/account/deactivate", json!({ "auth": auth }))).await;
    node.fails(node.post("", format!("{ALL}/{id}/send"), json!({})), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn delays_and_their_number_are_bounded() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let room = node.room(&alice, json!({})).await;
    let ask =
        |delay: &str, txn: u32| path(&room, &format!("send/m.room.message/{txn}?org.matrix.msc4140.delay={delay}"));
    for wrong in ["0", "-1", "soon", "1.5"] {
        node.fails(node.put(&alice, ask(wrong, 0), message("x")), 400, "M_INVALID_PARAM").await;
    }
    let too_long = node.fails(node.put(&alice, ask("604800001", 0), message("x")), 400, "M_UNKNOWN").await;
    assert_eq!(too_long["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
    assert_eq!(too_long["org.matrix.msc4140.max_delay"], json!(604_800_000));
    let unstable =
        format!("/_matrix/client/unstable/org.matrix.msc4140/rooms/{}/delayed_event/m.room.message/t", escape(&room));
    let body = json!({ "delay": 604_800_001, "content": message("x") });
    let code = "ORG.MATRIX.MSC4140_MAX_DELAY_EXCEEDED";
    let too_long = node.fails(node.put(&alice, unstable, body), 400, code).await;
    assert_eq!(too_long["org.matrix.msc4140.max_delay"], json!(604_800_000));
    for txn in 1..=100 {
        node.ok(node.put(&alice, ask("20000", txn), message("x"))).await;
    }
    let full = node.fails(node.put(&alice, ask("20000", 101), message("x")), 429, "M_LIMIT_EXCEEDED").await;
    assert_eq!(full["retry_after_ms"], json!(20_000));
    // Pages of the list.
    let mut page = node.ok(node.get(&alice, ALL)).await;
    assert_eq!(page["delayed_events"].as_array().unwrap().len(), 50);
    let next = page["next_batch"].as_str().unwrap().to_owned();
    page = node.ok(node.get(&alice, format!("{ALL}?from={next}"))).await;
    assert_eq!((page["delayed_events"].as_array().unwrap().len(), page.get("next_batch")), (50, None));
}
