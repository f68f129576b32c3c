//! A linked node that floods: events after events that nobody has, and no answer when it is asked for them.

use http::{Method, StatusCode};
use millpond_matrix::build::{self, EventDraft, Parents, Signer};
use millpond_node::{
    inbox::{MAX_PARKED, MAX_STAGED},
    rooms::{reader::StoredRoom, rows},
};
use millpond_store::{check::check, tables};
use ruma::RoomId;
use serde_json::{Value, json};

use super::rooms::{Together, together};
use crate::{
    harness::TestUser,
    nodes::{Net, Running, link, until},
};

/// Messages of a user, well signed, each after an event that does not exist.
fn gaps(node: &Running, user: &TestUser, room: &str, numbers: std::ops::Range<u32>) -> Vec<Value> {
    let room_id = RoomId::parse(room).unwrap();
    let snapshot = node.node.core.snapshot().unwrap();
    let (short, row) = rows::room(snapshot.view(), &room_id).unwrap().unwrap();
    let rules = millpond_matrix::rules::rules(&row.version).unwrap();
    let identity = node.node.core.identity();
    let signer = Signer { server: identity.server_name(), key: identity.signing_key() };
    let draft = |n: u32| {
        let content = build::content(json!({ "msgtype": "m.text", "body": format!("gap {n}") }).to_string().as_bytes());
        EventDraft::new("m.room.message".into(), content.unwrap(), user.id.clone(), node.node.core.clock().now())
    };
    let reader = StoredRoom::new(snapshot.view(), short, &row);
    let good = build::next(&reader, rules, &room_id, draft(0), &signer).unwrap();
    let gap = |n: u32| {
        let missing =
            millpond_matrix::event_id::of_hash(&[n.to_be_bytes(), [7; 4]].concat().repeat(4).try_into().unwrap());
        let parents =
            Parents { prev_events: vec![missing], depth: good.depth(), auth_events: good.auth_events().to_vec() };
        let pdu = build::sign(rules, Some(&*room_id), draft(n), parents, &signer).unwrap();
        serde_json::from_str(pdu.json()).unwrap()
    };
    numbers.map(gap).collect()
}

/// Sends PDUs in transactions of fifty; gives the statuses.
async fn flood(from: &Running, to: &Running, txn: &str, pdus: &[Value]) -> Vec<StatusCode> {
    let mut statuses = Vec::new();
    for (n, pdus) in pdus.chunks(50).enumerate() {
        let body = json!({ "origin": from.server(), "origin_server_ts": 1, "pdus": pdus, "edus": [] });
        let path = format!("/_matrix/federation/v1/send/{txn}{n}");
        statuses.push(from.ask(to, Method::PUT, &path, body.to_string()).await.0);
    }
    statuses
}

fn parked(node: &Running) -> usize {
    node.node.core.snapshot().unwrap().view().scan(tables::PARKED, ()).unwrap().count()
}

fn staged(node: &Running) -> usize {
    node.node.core.snapshot().unwrap().view().scan(tables::INBOX, ()).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_gaps_takes_a_thousand_places_its_own_oldest_go_and_others_are_heard() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    let all = gaps(&b, &bob, &room, 0..1_200);
    assert!(flood(&b, &a, "f", &all).await.iter().all(|status| *status == StatusCode::OK));
    until("the flood is judged", async || staged(&a) == 0).await;
    assert_eq!(parked(&a), MAX_PARKED);
    let last = RoomId::parse(&room).unwrap();
    let kept = |pdu: &Value| {
        let rules = millpond_matrix::rules::rules(&ruma::RoomVersionId::V12).unwrap();
        let id = millpond_matrix::check::RawPdu::parse(&pdu.to_string()).unwrap().event_id(rules).unwrap();
        let snapshot = a.node.core.snapshot().unwrap();
        snapshot.view().contains(tables::PARKED, (&*last, &*id)).unwrap()
    };
    assert!(kept(&all[1_199]) && !kept(&all[0]), "the oldest gave way to the newest");
    // No more rows than one for each parked PDU, and nothing left over of those that went.
    let snapshot = a.node.core.snapshot().unwrap();
    assert_eq!(snapshot.view().scan(tables::PARKED_ON, ()).unwrap().count(), MAX_PARKED);
    assert_eq!(check(snapshot.view()).unwrap().findings, [""; 0]);
    drop(snapshot);
    b.say(&bob, &room, "an honest word").await;
    a.until_read(&alice, &room, "an honest word").await;
    a.say(&alice, &room, "an answer").await;
    b.until_read(&bob, &room, "an answer").await;
    assert_eq!(a.texts(&alice, &room).await, ["an answer", "an honest word"], "nothing of the flood is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_makes_gaps_and_answers_nothing_is_asked_little_and_holds_nobody_up() {
    let net = Net::default();
    let Together { a, b, alice, bob, room } = together(&net).await;
    let c = net.node().await;
    link(&a, &c).await;
    let carol = c.user("carol").await;
    let other = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &other, &carol).await;
    c.accept(&carol, &other).await;
    b.silence.set(true);
    let all = gaps(&b, &bob, &room, 0..200);
    assert!(flood(&b, &a, "f", &all).await.iter().all(|status| *status == StatusCode::OK));
    until("the flood is judged", async || staged(&a) == 0 && parked(&a) == 200).await;
    until("the flooder is asked", async || b.silence.unanswered() > 0).await;
    for n in 0..20 {
        c.say(&carol, &other, &format!("word {n}")).await;
        a.until_read(&alice, &other, &format!("word {n}")).await;
    }
    // One question about the gaps is open. The outbox may wait for an answer of its own.
    assert!(b.silence.unanswered() <= 2, "{} questions", b.silence.unanswered());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_stages_so_much_and_is_then_told_to_come_again() {
    let Together { a, b, alice, bob, room } = together(&Net::default()).await;
    // What waits for a room that is being joined is not judged.
    let held = a.node.inbox.hold(&RoomId::parse(&room).unwrap());
    let pdu = gaps(&b, &bob, &room, 0..1).pop().unwrap();
    let statuses = flood(&b, &a, "f", &vec![pdu; usize::try_from(MAX_STAGED).unwrap() + 100]).await;
    let taken = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!((taken as u64 * 50, statuses.len() - taken), (MAX_STAGED, 2));
    assert!(statuses[taken..].iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(staged(&a) as u64, MAX_STAGED);
    drop(held);
    until("what was staged is judged", async || staged(&a) == 0).await;
    b.say(&bob, &room, "still here").await;
    a.until_read(&alice, &room, "still here").await;
    let snapshot = a.node.core.snapshot().unwrap();
    assert_eq!(check(snapshot.view()).unwrap().findings, [""; 0]);
}
