//! Three nodes, B and C know only A: what A soft-fails of a member goes on to C, what it soft-fails of somebody who was banned does not.

use http::{Method, StatusCode};
use millpond_matrix::{
    CheckedPdu,
    build::{self, EventDraft, Parents, Signer},
};
use millpond_node::rooms::{reader::StoredRoom, rows};
use millpond_store::{check::check, tables};
use ruma::{EventId, OwnedEventId, RoomId};
use serde_json::{Value, json};

use crate::{
    harness::TestUser,
    nodes::{Net, Running, encoded, link, until},
};

/// A room in which users of all three are, and B may set its topic.
struct Three {
    a: Running,
    b: Running,
    c: Running,
    alice: TestUser,
    bob: TestUser,
    carol: TestUser,
    room: String,
}

async fn three() -> Three {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let c = net.node().await;
    link(&a, &c).await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let room = a.room(&alice, json!({ "preset": "private_chat", "topic": "before" })).await;
    for (node, user) in [(&b, &bob), (&c, &carol)] {
        a.invite(&alice, &room, user).await;
        node.accept(user, &room).await;
        a.until_membership(user, &room, "join").await;
    }
    b.until_membership(&carol, &room, "join").await;
    let three = Three { a, b, c, alice, bob, carol, room };
    three.levels(json!({ "users": { three.bob.id.as_str(): 50 } })).await;
    three
}

impl Three {
    /// Sets the power levels, and waits until B and C know them.
    async fn levels(&self, levels: Value) {
        self.a.state(&self.alice, &self.room, "m.room.power_levels", "", levels.clone()).await;
        let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.power_levels", encoded(&self.room));
        for (node, user) in [(&self.b, &self.bob), (&self.c, &self.carol)] {
            until("the levels are known", async || node.get(user, &path).await.1 == levels).await;
        }
    }

    /// An event of Bob's on the room as B has it now, or after another one of his. B does not keep it.
    fn of_bob(&self, kind: &str, state_key: Option<&str>, content: &Value, after: Option<&CheckedPdu>) -> CheckedPdu {
        let room_id = RoomId::parse(&self.room).unwrap();
        let snapshot = self.b.node.core.snapshot().unwrap();
        let (short, row) = rows::room(snapshot.view(), &room_id).unwrap().unwrap();
        let rules = millpond_matrix::rules::rules(&row.version).unwrap();
        let identity = self.b.node.core.identity();
        let signer = Signer { server: identity.server_name(), key: identity.signing_key() };
        let content = build::content(content.to_string().as_bytes()).unwrap();
        let draft = || {
            let now = self.b.node.core.clock().now();
            let mut draft = EventDraft::new(kind.into(), content.clone(), self.bob.id.clone(), now);
            draft.state_key = state_key.map(str::to_owned);
            draft
        };
        let reader = StoredRoom::new(snapshot.view(), short, &row);
        let next = build::next(&reader, rules, &room_id, draft(), &signer).unwrap();
        let Some(after) = after else { return next };
        let parents = Parents {
            prev_events: vec![after.owned_event_id()],
            depth: after.depth() + ruma::uint!(1),
            auth_events: next.auth_events().to_vec(),
        };
        build::sign(rules, Some(&*room_id), draft(), parents, &signer).unwrap()
    }

    /// B sends events to A, as if it served A only, and they are judged.
    async fn send(&self, txn: &str, pdus: &[CheckedPdu]) {
        for (n, pdus) in pdus.chunks(50).enumerate() {
            let pdus: Vec<Value> = pdus.iter().map(|pdu| serde_json::from_str(pdu.json()).unwrap()).collect();
            let via = vec![[self.a.server(), self.b.server()]; pdus.len()];
            let body = json!({ "origin": self.b.server(), "origin_server_ts": 1, "pdus": pdus, "edus": [],
                "org.millpond.via": via });
            let path = format!("/_matrix/federation/v1/send/{txn}{n}");
            let (status, json) = self.b.ask(&self.a, Method::PUT, &path, body.to_string()).await;
            assert_eq!(status, StatusCode::OK, "{json}");
        }
        until("all is judged", async || {
            let snapshot = self.a.node.core.snapshot().unwrap();
            !snapshot.view().any(tables::INBOX, ()).unwrap() && pdus.iter().all(|pdu| has(&self.a, pdu.event_id()))
        })
        .await;
    }

    /// What Alice says comes to C after everything that A owed it before.
    async fn say_to_c(&self, text: &str) {
        self.a.say(&self.alice, &self.room, text).await;
        self.c.until_read(&self.carol, &self.room, text).await;
    }
}

fn has(node: &Running, id: &EventId) -> bool {
    let snapshot = node.node.core.snapshot().unwrap();
    rows::event_by_id(snapshot.view(), id).unwrap().is_some_and(|(_, row)| row.meta.state_after.is_some())
}

fn is_soft_failed(node: &Running, id: &EventId) -> bool {
    let snapshot = node.node.core.snapshot().unwrap();
    let (_, row) = rows::event_by_id(snapshot.view(), id).unwrap().unwrap();
    row.header.flags.soft_failed && row.meta.position.is_none()
}

fn ends(node: &Running) -> Vec<OwnedEventId> {
    let snapshot = node.node.core.snapshot().unwrap();
    let ends = snapshot.view().scan(tables::EXTREMITIES, ()).unwrap();
    ends.map(|row| rows::event_id(snapshot.view(), row.unwrap().0.1).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_soft_failed_of_a_member_goes_on_to_those_who_have_no_link_with_him() {
    let three = three().await;
    let late = three.of_bob("m.room.topic", Some(""), &json!({ "topic": "late" }), None);
    let id = late.event_id();
    three.levels(json!({ "users": {} })).await;
    three.send("late", std::slice::from_ref(&late)).await;
    assert!(is_soft_failed(&three.a, id));
    until("C has it", async || has(&three.c, id)).await;
    assert!(is_soft_failed(&three.c, id));
    for (node, user) in [(&three.a, &three.alice), (&three.c, &three.carol)] {
        let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", encoded(&three.room));
        assert_eq!(node.ok(node.get(user, &path)).await["topic"], "before");
        assert!(!ends(node).contains(&late.owned_event_id()), "none of ours follows it");
    }
    // Who lacks what is before it can ask for the state there as for that of any other event.
    let path = format!("/_matrix/federation/v1/state/{}?event_id={}", encoded(&three.room), encoded(id.as_str()));
    let state = three.c.get_from(&three.a, &path).await;
    let topics = state["pdus"].as_array().unwrap().iter().filter(|pdu| pdu["type"] == "m.room.topic");
    assert_eq!(topics.map(|pdu| &pdu["content"]["topic"]).collect::<Vec<_>>(), ["before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_soft_failed_of_somebody_who_was_banned_goes_no_further() {
    let three = three().await;
    let mut spam = vec![three.of_bob("m.room.message", None, &json!({ "body": "spam 0" }), None)];
    for n in 1..5 {
        spam.push(three.of_bob("m.room.message", None, &json!({ "body": format!("spam {n}") }), spam.last()));
    }
    let path = format!("/_matrix/client/v3/rooms/{}/ban", encoded(&three.room));
    three.a.ok(three.a.post(&three.alice, &path, json!({ "user_id": three.bob.id }))).await;
    three.c.until_membership(&three.bob, &three.room, "ban").await;
    three.send("spam", &spam).await;
    assert!(spam.iter().all(|pdu| is_soft_failed(&three.a, pdu.event_id())));
    three.say_to_c("after the ban").await;
    let snapshot = three.c.node.core.snapshot().unwrap();
    assert!(spam.iter().all(|pdu| !has(&three.c, pdu.event_id())));
    assert!(!snapshot.view().any(tables::INBOX, ()).unwrap() && !snapshot.view().any(tables::PARKED, ()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_soft_failed_events_are_passed_on_and_the_rest_comes_with_what_follows_it() {
    let three = three().await;
    let mut said: Vec<CheckedPdu> = Vec::new();
    for n in 0..MOST_A_DAY + 30 {
        let content = json!({ "msgtype": "m.text", "body": format!("unheard {n}") });
        said.push(three.of_bob("m.room.message", None, &content, said.last()));
    }
    let member = json!({ "membership": "join", "displayname": "Bob" });
    let named = three.of_bob("m.room.member", Some(three.bob.id.as_str()), &member, said.last());
    three.levels(json!({ "events_default": 50, "users": {} })).await;
    three.send("said", &said).await;
    three.say_to_c("in between").await;
    let (passed, kept) = said.split_at(MOST_A_DAY);
    assert!(passed.iter().all(|pdu| has(&three.c, pdu.event_id())));
    assert!(kept.iter().all(|pdu| !has(&three.c, pdu.event_id())));
    three.send("named", &[named]).await;
    until("C has what came before", async || said.iter().all(|pdu| has(&three.c, pdu.event_id()))).await;
    assert_eq!(three.c.texts(&three.carol, &three.room).await, ["in between"]);
    for node in [&three.a, &three.c] {
        assert_eq!(check(node.node.core.snapshot().unwrap().view()).unwrap().findings, [""; 0]);
    }
}

/// Soft-failed events of one server that are passed on in one room and day.
const MOST_A_DAY: usize = 256;
