//! What a node answers about a peer that sleeps, and what the peer finds when it is back.

use http::StatusCode;
use millpond_node::rows::InviteSnapshot;
use serde_json::{Value, json};

use super::rooms::together;
use crate::{
    harness::TestUser,
    nodes::{Net, Running, encoded, link, until},
};

/// Uploads keys of a user's device: unsigned by itself, which the specification allows.
pub async fn upload_keys(node: &Running, user: &TestUser, one_time: usize) {
    let device = &user.device_id;
    let keys = json!({
        "user_id": user.id, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): "e", format!("curve25519:{device}"): "c" }, "signatures": {},
    });
    let key = |n: usize| (format!("signed_curve25519:K{n:02}"), json!({ "key": n.to_string(), "signatures": {} }));
    let one_time: serde_json::Map<String, Value> = (0..one_time).map(key).collect();
    let fallback = json!({ "signed_curve25519:F": { "key": "f", "fallback": true, "signatures": {} } });
    let body = json!({ "device_keys": keys, "one_time_keys": one_time, "fallback_keys": fallback });
    node.ok(node.post(user, "/_matrix/client/v3/keys/upload", body)).await;
}

async fn claim(node: &Running, user: &TestUser, of: &TestUser) -> Value {
    let claims = json!({ "one_time_keys": { of.id.as_str(): { of.device_id.as_str(): "signed_curve25519" } } });
    node.ok(node.post(user, "/_matrix/client/v3/keys/claim", claims)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_users_of_a_sleeping_node_are_answered_at_once() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    upload_keys(&b, &bob, 40).await;
    let server = b.server();
    until("the pack has come", async || {
        let snapshot = a.node.core.snapshot().unwrap();
        let key = (&*server, &*bob.id, &*bob.device_id);
        snapshot
            .view()
            .get(millpond_store::tables::KEY_PACKS, key)
            .unwrap()
            .is_some_and(|pack| pack.one_time.len() == 5)
    })
    .await;
    let b = b.sleep().await;
    until("A has noticed", async || !a.node.links.is_connected(&server)).await;
    let asked = std::time::Instant::now();
    let query = json!({ "device_keys": { bob.id.as_str(): [] } });
    let found = a.ok(a.post(&alice, "/_matrix/client/v3/keys/query", query)).await;
    assert!(found["device_keys"][bob.id.as_str()][bob.device_id.as_str()].is_object(), "{found}");
    assert!(found["failures"].as_object().is_none_or(|failures| failures.is_empty()), "{found}");
    let mut ids = Vec::new();
    for _ in 0..7 {
        let claimed = claim(&a, &alice, &bob).await;
        assert!(claimed["failures"].as_object().is_none_or(|failures| failures.is_empty()), "{claimed}");
        let keys = claimed["one_time_keys"][bob.id.as_str()][bob.device_id.as_str()].as_object().unwrap();
        ids.extend(keys.keys().cloned());
    }
    let id = |name: &str| format!("signed_curve25519:{name}");
    assert_eq!(ids, ["K00", "K01", "K02", "K03", "K04", "F", "F"].map(id));
    assert!(asked.elapsed() < std::time::Duration::from_secs(5), "nobody is waited for");
    // Back, it hears which keys are used and gives new ones.
    let b = net.wake(b).await;
    until("new keys have come", async || {
        let snapshot = a.node.core.snapshot().unwrap();
        let key = (&*server, &*bob.id, &*bob.device_id);
        snapshot
            .view()
            .get(millpond_store::tables::KEY_PACKS, key)
            .unwrap()
            .is_some_and(|pack| pack.one_time.len() == 5)
    })
    .await;
    let sync = b.ok(b.get(&bob, "/_matrix/client/v3/sync")).await;
    assert_eq!(sync["device_unused_fallback_key_types"], json!([]), "the client makes a new fallback key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_joins_while_everybody_else_sleeps_and_hears_what_was_said_meanwhile() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat", "name": "Pond" })).await;
    a.say(&alice, &room, "before the invite").await;
    a.invite(&alice, &room, &bob).await;
    b.until_membership(&bob, &room, "invite").await;
    let a = a.sleep().await;
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/t", encoded(&room));
    a.ok(a.put(&alice, &path, json!({ "msgtype": "m.text", "body": "after the invite" }))).await;
    b.accept(&bob, &room).await;
    assert_eq!(b.membership(&bob, &room).as_deref(), Some("join"));
    let name = b.ok(b.get(&bob, &format!("/_matrix/client/v3/rooms/{}/state/m.room.name/", encoded(&room)))).await;
    assert_eq!(name["name"], "Pond");
    b.say(&bob, &room, "is anybody here").await;
    let a = net.wake(a).await;
    a.until_membership(&bob, &room, "join").await;
    a.until_read(&alice, &room, "is anybody here").await;
    b.until_read(&bob, &room, "after the invite").await;
    a.say(&alice, &room, "now I am").await;
    b.until_read(&bob, &room, "now I am").await;
    let state = async |node: &Running, user: &TestUser| {
        let path = format!("/_matrix/client/v3/rooms/{}/state", encoded(&room));
        let state = node.ok(node.get(user, &path)).await;
        let mut ids: Vec<_> = state.as_array().unwrap().iter().map(|event| event["event_id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(state(&a, &alice).await, state(&b, &bob).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_the_invited_user_has_not_heard_of_wins() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
    a.invite(&alice, &room, &bob).await;
    b.until_membership(&bob, &room, "invite").await;
    let a = a.sleep().await;
    let path = format!("/_matrix/client/v3/rooms/{}/ban", encoded(&room));
    a.ok(a.post(&alice, &path, json!({ "user_id": bob.id }))).await;
    b.accept(&bob, &room).await;
    b.say(&bob, &room, "let me in").await;
    let a = net.wake(a).await;
    b.until_membership(&bob, &room, "ban").await;
    a.until_membership(&bob, &room, "ban").await;
    assert!(!a.texts(&alice, &room).await.contains(&"let me in".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_a_sleeping_node_is_not_there_yet_and_comes_when_it_wakes() {
    let super::rooms::Together { a, b, alice, bob, .. } = together(&Net::default()).await;
    let uploaded = b.raw(http::Method::POST, &bob, "/_matrix/media/v3/upload?filename=a.txt", "some bytes").await;
    assert_eq!(uploaded.0, StatusCode::OK, "{}", uploaded.1);
    let mxc = uploaded.1["content_uri"].as_str().unwrap().replace("mxc://", "");
    let path = format!("/_matrix/client/v1/media/download/{mxc}");
    let (server, net) = (b.server(), b.net());
    let b = b.sleep().await;
    until("A has noticed", async || !a.node.links.is_connected(&server)).await;
    let asked = std::time::Instant::now();
    a.fails(a.get(&alice, &path), 504, "M_NOT_YET_UPLOADED").await;
    assert!(asked.elapsed() < std::time::Duration::from_secs(6));
    let _b = net.wake(b).await;
    let media_id = mxc.split('/').nth(1).unwrap().to_owned();
    until("the file has come by itself", async || {
        let snapshot = a.node.core.snapshot().unwrap();
        let row = snapshot.view().get(millpond_store::tables::MEDIA, (&*server, &*media_id)).unwrap();
        row.is_some_and(|row| row.content.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_left_out_comes_from_a_second_member() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let c = net.node().await;
    link(&a, &c).await;
    link(&b, &c).await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let room = a.room(&alice, json!({ "preset": "private_chat", "name": "Pond" })).await;
    a.invite(&alice, &room, &carol).await;
    c.accept(&carol, &room).await;
    a.until_membership(&carol, &room, "join").await;
    a.invite(&alice, &room, &bob).await;
    b.until_membership(&bob, &room, "invite").await;
    c.until_membership(&bob, &room, "invite").await;
    let _a = a.sleep().await;
    // The inviter did not tell the name of the room.
    edit_snapshot(&b, &bob, &room, |snapshot| {
        snapshot.state.retain(|event| !event.contains(r#""type":"m.room.name""#))
    })
    .await;
    b.ok(b.post(&bob, &format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({}))).await;
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.name/", encoded(&room));
    until("the name is there", async || b.get(&bob, &path).await.1["name"] == "Pond").await;
    c.until_membership(&bob, &room, "join").await;
    b.say(&bob, &room, "hello carol").await;
    c.until_read(&carol, &room, "hello carol").await;
    let snapshot = b.node.core.snapshot().unwrap();
    assert!(!snapshot.view().any(millpond_store::tables::UNCONFIRMED, ()).unwrap(), "confirmed");
    let report = millpond_store::check::check(snapshot.view()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_does_not_hold_is_not_entered() {
    let net = Net::default();
    let (a, b) = net.pair().await;
    let (alice, bob, ann) = (a.user("alice").await, b.user("bob").await, a.user("ann").await);
    let levels = json!({ "events": { "m.room.topic": 0 } });
    let content = json!({ "preset": "private_chat", "name": "Pond", "power_level_content_override": levels });
    let room = a.room(&alice, content).await;
    a.invite(&alice, &room, &ann).await;
    a.accept(&ann, &room).await;
    let topic = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", encoded(&room));
    a.ok(a.put(&ann, topic, json!({ "topic": "tea" }))).await;
    a.invite(&alice, &room, &bob).await;
    b.until_membership(&bob, &room, "invite").await;
    let _a = a.sleep().await;
    let join = async || {
        let path = format!("/_matrix/client/v3/join/{}", encoded(&room));
        b.fails(b.post(&bob, &path, json!({})), 504, "M_UNKNOWN").await
    };
    let whole = edit_snapshot(&b, &bob, &room, |_| {}).await;
    let rewrite = async |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        edit_snapshot(&b, &bob, &room, move |snapshot| {
            for event in &mut snapshot.state {
                *event = event.replace(&from, &to);
            }
        })
        .await;
    };
    // Another content under the same signature.
    rewrite("\"Pond\"", "\"Lake\"").await;
    join().await;
    let restore = async || {
        let whole = whole.clone();
        edit_snapshot(&b, &bob, &room, move |snapshot| *snapshot = whole.clone()).await;
    };
    restore().await;
    // Without the event that the room id is the hash of.
    edit_snapshot(&b, &bob, &room, |snapshot| {
        snapshot.state.retain(|event| !event.contains(r#""type":"m.room.create""#));
        snapshot.auth_chain.clear();
    })
    .await;
    join().await;
    restore().await;
    // With an event that the one who is said to have made it has not signed.
    edit_snapshot(&b, &bob, &room, |snapshot| {
        for event in snapshot.state.iter_mut().filter(|event| event.contains(r#""type":"m.room.name""#)) {
            let (head, signature) = event.rsplit_once(r#""ed25519:"#).unwrap();
            let (key, rest) = signature.split_once(r#"":""#).unwrap();
            let other = if rest.starts_with('A') { "B" } else { "A" };
            *event = format!(r#"{head}"ed25519:{key}":"{other}{}"#, &rest[1..]);
        }
    })
    .await;
    join().await;
    restore().await;
    // Without the membership that let Ann set the topic: nothing else needs it.
    let hers = format!(r#""state_key":"{}""#, ann.id);
    let ann_is_in = move |event: &String| event.contains(r#""type":"m.room.member""#) && event.contains(&hers);
    edit_snapshot(&b, &bob, &room, move |snapshot| {
        snapshot.state.retain(|event| !ann_is_in(event));
        snapshot.auth_chain.retain(|event| !ann_is_in(event));
    })
    .await;
    join().await;
    restore().await;
    // An old state: every event of it holds, but the inviter is not in the room.
    let his = format!(r#""state_key":"{}""#, alice.id);
    edit_snapshot(&b, &bob, &room, move |snapshot| {
        let (member, rest) = std::mem::take(&mut snapshot.state)
            .into_iter()
            .partition::<Vec<_>, _>(|event| event.contains(r#""type":"m.room.member""#) && event.contains(&his));
        assert_eq!(member.len(), 1);
        snapshot.state = rest;
        snapshot.auth_chain.extend(member);
    })
    .await;
    join().await;
    restore().await;
    // Without all members, the inviter among them.
    edit_snapshot(&b, &bob, &room, |snapshot| {
        snapshot.state.retain(|event| !event.contains(r#""type":"m.room.member""#))
    })
    .await;
    join().await;
    assert_eq!(b.membership(&bob, &room).as_deref(), Some("invite"));
    restore().await;
    b.ok(b.post(&bob, &format!("/_matrix/client/v3/join/{}", encoded(&room)), json!({}))).await;
}

/// Changes what came with an invite, as a lying inviter would; gives what came.
async fn edit_snapshot(
    node: &Running,
    user: &TestUser,
    room: &str,
    edit: impl Fn(&mut InviteSnapshot) + Send + 'static,
) -> InviteSnapshot {
    let key = (user.id.clone(), ruma::RoomId::parse(room).unwrap());
    let view_key = key.clone();
    let write = millpond_store::job(
        move |view| {
            Ok::<_, millpond_node::Error>(view.get(millpond_store::tables::INVITE_SNAPSHOTS, &view_key)?.unwrap())
        },
        move |snapshot: InviteSnapshot, txn| {
            let mut edited = snapshot.clone();
            edit(&mut edited);
            txn.put(millpond_store::tables::INVITE_SNAPSHOTS, &key, &edited)?;
            Ok(snapshot)
        },
    );
    node.node.core.write(write).await.unwrap().0
}
