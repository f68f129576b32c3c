//! What comes out of mailboxes late: clients that follow a room have gone on by then, and are told.

use millpond_store::tables;
use serde_json::{Value, json};

use super::{
    gaps::{believe, bodies, scroll},
    mailed::turn,
};
use crate::{
    harness::TestUser,
    nodes::{Net, Running, roomy, until},
};

/// Two linked nodes, and a room that both users have read up to "before".
struct Pond {
    net: Net,
    a: Running,
    b: Running,
    alice: TestUser,
    bob: TestUser,
    room: String,
}

async fn pond() -> Pond {
    let net = Net::with_hosts(2).await;
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &room, &bob).await;
    b.accept(&bob, &room).await;
    a.until_membership(&bob, &room, "join").await;
    a.say(&alice, &room, "before").await;
    b.until_read(&bob, &room, "before").await;
    Pond { net, a, b, alice, bob, room }
}

/// One /sync of a client that follows the room: the room's timeline in the answer, and the next token.
async fn follow(node: &Running, user: &TestUser, room: &str, since: &str) -> (Value, String) {
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:50%7D%7D%7D";
    let path = format!("/_matrix/client/v3/sync?timeout=0&filter={filter}&since={since}");
    let answer = node.ok(node.get(user, &path)).await;
    (answer["rooms"]["join"][room]["timeline"].clone(), answer["next_batch"].as_str().unwrap().to_owned())
}

async fn token(node: &Running, user: &TestUser) -> String {
    node.ok(node.get(user, "/_matrix/client/v3/sync")).await["next_batch"].as_str().unwrap().to_owned()
}

async fn slide(node: &Running, user: &TestUser, pos: &Value) -> Value {
    let pos = pos.as_str().map(|pos| format!("&pos={pos}")).unwrap_or_default();
    let path = format!("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0{pos}");
    let list = json!({ "ranges": [[0, 9]], "timeline_limit": 1, "required_state": [] });
    node.ok(node.post(user, path, json!({ "lists": { "all": list } }))).await
}

fn has_gaps(node: &Running) -> bool {
    node.node.core.snapshot().unwrap().view().any(tables::GAPS, ()).unwrap()
}

#[test]
fn a_gap_that_is_filled_after_clients_went_past_it_is_shown_to_them_again() {
    roomy(async || {
        let Pond { net, a, b, alice, bob, room } = pond().await;
        let (at_a, at_b) = (a.server(), b.server());
        // 1. More is missing than is walked: a gap, with Alice's node there.
        let since = token(&b, &bob).await;
        believe(&a, &at_b, false).await;
        for n in 0..70 {
            a.say(&alice, &room, &format!("missed {n}")).await;
        }
        believe(&a, &at_b, true).await;
        a.say(&alice, &room, "after").await;
        // Not by `until_read`: who scrolls there has it fetched.
        until("it has come", async || follow(&b, &bob, &room, &since).await.0.to_string().contains("after")).await;
        assert!(has_gaps(&b));
        net.mail_between(&a, &b).await;
        let a = a.sleep().await;
        // 2. Nobody is there whom it could be fetched from: Bob's client reads past the gap.
        let (timeline, since) = follow(&b, &bob, &room, &since).await;
        assert_eq!(timeline["limited"], true, "{timeline}");
        let seen = scroll(&b, &bob, &room, timeline["prev_batch"].as_str()).await;
        assert!(seen.iter().any(|text| text == "before") && !seen.iter().any(|text| text == "missed 0"), "{seen:?}");
        let pos = slide(&b, &bob, &Value::Null).await["pos"].clone();
        // 3. The answer comes when Alice's node has been there.
        let b = b.post_and_sleep(&at_a).await;
        let _a = turn(&net, a, &at_b).await;
        let b = net.wake(b).await;
        until("the gap is filled", async || !has_gaps(&b)).await;
        let (timeline, next) = follow(&b, &bob, &room, &since).await;
        assert_eq!(timeline["limited"], true, "{timeline}");
        assert_eq!(bodies(&timeline["events"]).count(), 0, "what is old is not said as if it were new");
        let seen = scroll(&b, &bob, &room, timeline["prev_batch"].as_str()).await;
        let missed = (0..70).rev().map(|n| format!("missed {n}"));
        let wanted: Vec<String> = ["after".to_owned()].into_iter().chain(missed).chain(["before".to_owned()]).collect();
        assert_eq!(seen, wanted);
        let slid = slide(&b, &bob, &pos).await;
        assert_eq!(slid["rooms"][&room]["limited"], true, "{slid}");
        // 4. Once.
        let (timeline, _) = follow(&b, &bob, &room, &next).await;
        assert_eq!(timeline, Value::Null);
        let slid = slide(&b, &bob, &slid["pos"]).await;
        assert_eq!(slid["rooms"].get(&room), None, "{slid}");
    });
}

#[test]
fn much_that_waits_for_one_event_is_not_shown_before_it_while_it_may_come_by_itself() {
    roomy(async || {
        let Pond { net, a, b, alice, bob, room } = pond().await;
        let (at_a, at_b) = (a.server(), b.server());
        net.mail_between(&a, &b).await;
        let since = token(&b, &bob).await;
        let b = b.sleep().await;
        believe(&a, &at_b, false).await;
        a.say(&alice, &room, "the first of them").await;
        believe(&a, &at_b, true).await;
        for n in 0..30 {
            a.say(&alice, &room, &format!("then {n}")).await;
        }
        let a = a.post_and_sleep(&at_b).await;
        // Bob's node asks for it; what waits is more than is walked in person.
        let b = turn(&net, b, &at_a).await;
        let waiting = b.node.core.snapshot().unwrap().view().scan(tables::PARKED, ()).unwrap().count();
        assert_eq!(waiting, 30);
        let _a = turn(&net, a, &at_b).await;
        let b = net.wake(b).await;
        b.until_read(&bob, &room, "then 29").await;
        let (timeline, _) = follow(&b, &bob, &room, &since).await;
        assert_eq!(timeline["limited"], false, "{timeline}");
        let then = (0..30).map(|n| format!("then {n}"));
        let wanted: Vec<String> = ["the first of them".to_owned()].into_iter().chain(then).collect();
        assert_eq!(bodies(&timeline["events"]).collect::<Vec<_>>(), wanted);
    });
}
