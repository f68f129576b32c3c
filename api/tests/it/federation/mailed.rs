//! Two nodes that are never on together ask each other over mailboxes: files, history, profiles; and one that was restored is found again.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use millpond_node::backup_file;
use millpond_store::tables;
use serde_json::json;

use super::asleep::upload_keys;
use crate::{
    harness::TestUser,
    nodes::{Asleep, Net, Running, encoded, roomy, until},
};

/// A node wakes, does what has come, and sleeps again when everything of it is at hosts.
pub async fn turn(net: &Net, asleep: Asleep, other: &ruma::ServerName) -> Asleep {
    let node = net.wake(asleep).await;
    settle(&node).await;
    node.post_and_sleep(other).await
}

/// Until nothing out of mailboxes waits to be worked off. What lies at hosts is fetched at the start.
async fn settle(node: &Running) {
    let calm = std::cell::Cell::new(0);
    until("mail is worked off", async || {
        let snapshot = node.node.core.snapshot().unwrap();
        let view = snapshot.view();
        let waiting = view.any(tables::MAIL_IN, ()).unwrap() || view.any(tables::INBOX, ()).unwrap();
        calm.set(if waiting { 0 } else { calm.get() + 1 });
        // What is parked is asked for over mailboxes after two seconds.
        let enough = if view.any(tables::PARKED, ()).unwrap() { 300 } else { 20 };
        calm.get() > enough
    })
    .await;
}

async fn download(node: &Running, user: &TestUser, uri: &str) -> (StatusCode, Vec<u8>) {
    let path = format!("/_matrix/client/v1/media/download/{}", uri.strip_prefix("mxc://").unwrap());
    let request = Request::get(path).header("authorization", format!("Bearer {}", user.token)).body(Body::empty());
    let answer = node.answer(request.unwrap()).await;
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// Alice's room with a text and a file from before Bob was invited; Bob is in, both sleep.
struct Pond {
    net: Net,
    a: Asleep,
    b: Asleep,
    alice: TestUser,
    bob: TestUser,
    room: String,
    file: String,
    content: Vec<u8>,
}

async fn pond() -> Pond {
    let net = Net::with_hosts(2).await;
    let (a, b) = net.mailed_pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let (at_a, at_b) = (a.server(), b.server());
    let b = b.sleep().await;
    let room = a.room(&alice, json!({ "preset": "private_chat", "name": "Pond" })).await;
    a.say(&alice, &room, "before the invite").await;
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251 * (n % 241)) as u8).collect();
    let uploaded = a.ok(a.raw(Method::POST, &alice, "/_matrix/media/v3/upload", content.clone())).await;
    let file = uploaded["content_uri"].as_str().unwrap().to_owned();
    a.invite(&alice, &room, &bob).await;
    let a = a.post_and_sleep(&at_b).await;
    let b = net.wake(b).await;
    b.accept(&bob, &room).await;
    let b = b.post_and_sleep(&at_a).await;
    Pond { net, a, b, alice, bob, room, file, content }
}

#[test]
fn a_file_of_a_node_that_is_never_there_comes_over_mailboxes_and_nobody_waits_for_it() {
    roomy(async || {
        let Pond { net, a, b, bob, file, content, .. } = pond().await;
        let (at_a, at_b) = (server(&a), server(&b));
        let b = net.wake(b).await;
        let asked = Instant::now();
        let (status, _) = download(&b, &bob, &file).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "not there yet");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let b = b.post_and_sleep(&at_a).await;
        let _a = turn(&net, a, &at_b).await;
        let b = net.wake(b).await;
        until("the file is here", async || download(&b, &bob, &file).await.0 == StatusCode::OK).await;
        assert_eq!(download(&b, &bob, &file).await.1, content);
        let wanted = async || b.node.core.snapshot().unwrap().view().any(tables::MEDIA_WANTED, ()).unwrap();
        until("nothing is waited for any more", async || !wanted().await).await;
    });
}

#[test]
fn history_of_a_node_that_is_never_there_comes_over_mailboxes() {
    roomy(async || {
        let Pond { net, a, b, bob, room, .. } = pond().await;
        let (at_a, at_b) = (server(&a), server(&b));
        let (mut a, mut b) = (a, b);
        for turns in 0.. {
            assert!(turns < 5, "the history has not come");
            let up = net.wake(b).await;
            settle(&up).await;
            let there = up.texts(&bob, &room).await.iter().any(|text| text == "before the invite");
            b = up.post_and_sleep(&at_a).await;
            if there {
                assert!(turns > 0, "it was asked for");
                break;
            }
            a = turn(&net, a, &at_b).await;
        }
    });
}

#[test]
fn a_profile_is_asked_for_over_mailboxes_and_what_the_room_shows_is_told_meanwhile() {
    roomy(async || {
        let Pond { net, a, b, alice, bob, .. } = pond().await;
        let (at_a, at_b) = (server(&a), server(&b));
        let path = format!("/_matrix/client/v3/profile/{}", encoded(alice.id.as_str()));
        let field = format!("{path}/displayname");
        a.ok(a.put(&alice, &field, json!({ "displayname": "Alice of the pond" }))).await;
        let b = net.wake(b).await;
        b.get(&bob, &path).await;
        let b = b.post_and_sleep(&at_a).await;
        let _a = turn(&net, a, &at_b).await;
        let b = net.wake(b).await;
        until("the profile is told", async || {
            let (_, json) = b.get(&bob, &path).await;
            json["displayname"] == "Alice of the pond"
        })
        .await;
    });
}

#[test]
fn after_the_restore_of_an_old_backup_the_link_comes_back_by_itself() {
    roomy(async || {
        let net = Net::with_hosts(2).await;
        let (a, b) = net.mailed_pair().await;
        let (alice, bob) = (a.user("alice").await, b.user("bob").await);
        let (at_a, at_b) = (a.server(), b.server());
        let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
        a.invite(&alice, &room, &bob).await;
        b.accept(&bob, &room).await;
        a.until_membership(&bob, &room, "join").await;
        // 1. A backup of Alice's node; then both go on, by mail too, so that the backup is old.
        let dir = tempfile::tempdir().unwrap();
        let (file, phrase) = (dir.path().join("backup"), zeroize::Zeroizing::new("a phrase".to_owned()));
        a.node.back_up(file.clone(), phrase.to_string(), true).await.unwrap();
        let b = b.sleep().await;
        for n in 0..3 {
            a.say(&alice, &room, &format!("after the backup {n}")).await;
        }
        let number = a.number();
        let a = a.post_and_sleep(&at_b).await;
        let b = net.wake(b).await;
        b.until_read(&bob, &room, "after the backup 2").await;
        b.say(&bob, &room, "on its way to who is gone").await;
        let b = b.post_and_sleep(&at_a).await;
        // 2. Alice's device is lost. The restored node knows its contact, and says HELLO.
        drop(a);
        let restore = move || {
            let restored = tempfile::tempdir().unwrap();
            backup_file::restore(&file, &phrase, restored.path()).unwrap();
            restored
        };
        let restored = tokio::task::spawn_blocking(restore).await.unwrap();
        let a = net.in_dir(restored, number).await;
        assert!(a.node.peers.is_linked(&at_b).unwrap());
        let saved = a.node.links.mail_of(&at_b).expect("the link is carried by mailboxes");
        assert_eq!((saved.stamps, saved.unacknowledged), (0, 0), "no stamps come out of a backup");
        until("HELLO is at a host", async || {
            a.node.links.mail_of(&at_b).is_some_and(|mail| mail.unacknowledged > 0 && !mail.busy)
        })
        .await;
        let a = a.sleep().await;
        // 3. Bob's node takes it for what it is, and sends again what was under way. That follows what Alice said after the backup, which her node
        //    has forgotten and asks for.
        let (mut a, mut b) = (a, b);
        let mut turns = 0;
        let a = loop {
            assert!(turns < 5, "what was under way has not come");
            turns += 1;
            b = turn(&net, b, &at_a).await;
            let up = net.wake(a).await;
            settle(&up).await;
            if up.texts(&alice, &room).await.iter().any(|text| text == "on its way to who is gone") {
                break up;
            }
            a = up.post_and_sleep(&at_b).await;
        };
        a.say(&alice, &room, "here I am again").await;
        let a = a.post_and_sleep(&at_b).await;
        let b = net.wake(b).await;
        b.until_read(&bob, &room, "here I am again").await;
        for text in ["after the backup 0", "after the backup 2"] {
            assert_eq!(b.texts(&bob, &room).await.iter().filter(|found| *found == text).count(), 1, "{text}");
        }
        drop((a, b));
    });
}

#[test]
fn a_device_list_of_a_node_that_is_never_there_comes_over_mailboxes() {
    roomy(async || {
        let net = Net::with_hosts(2).await;
        let (a, b) = net.mailed_pair().await;
        let (alice, bob) = (a.user("alice").await, b.user("bob").await);
        let (at_a, at_b) = (a.server(), b.server());
        upload_keys(&a, &alice, 5).await;
        let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
        a.invite(&alice, &room, &bob).await;
        b.accept(&bob, &room).await;
        a.until_membership(&bob, &room, "join").await;
        let query = json!({ "device_keys": { alice.id.as_str(): [] } });
        let knows = async |b: &Asleep| {
            let found = b.ok(b.post(&bob, "/_matrix/client/v3/keys/query", query.clone())).await;
            found["device_keys"][alice.id.as_str()][alice.device_id.as_str()].is_object()
        };
        let packed = (at_a.clone(), alice.id.clone());
        until("the pack has come", async || {
            let snapshot = b.node.core.snapshot().unwrap();
            snapshot.view().contains(tables::KEY_PACK_VERSIONS, (&*packed.0, &*packed.1)).unwrap()
        })
        .await;
        // 1. Both sleep, and Bob's node has nothing of Alice any more, neither list nor pack; hers does not know.
        let (a, b) = (a.sleep().await, b.sleep().await);
        let (server, user, device) = (at_a.clone(), alice.id.clone(), alice.device_id.clone());
        let forget = millpond_store::job(
            |_| Ok::<_, millpond_node::Error>(()),
            move |(), txn: &mut millpond_store::WriteTxn<'_>| {
                txn.remove(tables::KEY_PACK_VERSIONS, (&*server, &*user))?;
                txn.remove(tables::KEY_PACKS, (&*server, &*user, &*device))?;
                txn.remove(tables::REMOTE_DEVICES, (&*user, &*device))?;
                txn.remove(tables::REMOTE_LISTS, (&*server, &*user)).map(drop)
            },
        );
        b.node.core.write(forget).await.unwrap();
        assert!(!knows(&b).await);
        // 2. He asks; the question goes by mail, and nobody waits for the answer.
        let b = net.wake(b).await;
        let asked = Instant::now();
        b.ok(b.post(&bob, "/_matrix/client/v3/keys/query", query.clone())).await;
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let questions = |b: &Running, answered: bool| {
            let snapshot = b.node.core.snapshot().unwrap();
            let rows = snapshot.view().scan(tables::MAIL_ASKED, (&*at_a,)).unwrap();
            let of_lists = rows.map(|row| row.unwrap().1).filter(|asked| asked.target.contains("/user/devices/"));
            of_lists.filter(|asked| asked.answer.is_some() == answered).count()
        };
        assert_eq!(questions(&b, false), 1, "the question stands");
        let b = b.post_and_sleep(&at_a).await;
        let _a = turn(&net, a, &at_b).await;
        // 3. The answer is there when he asks again.
        let b = net.wake(b).await;
        until("it is answered", async || questions(&b, true) == 1).await;
        let found = b.ok(b.post(&bob, "/_matrix/client/v3/keys/query", query.clone())).await;
        assert!(found["device_keys"][alice.id.as_str()][alice.device_id.as_str()].is_object(), "{found}");
    });
}

fn server(asleep: &Asleep) -> ruma::OwnedServerName {
    asleep.node.core.identity().server_name().to_owned()
}

#[test]
fn an_invite_that_is_refused_over_a_mailbox_is_taken_back_with_the_reason() {
    roomy(async || {
        let net = Net::with_hosts(2).await;
        let (a, b) = net.mailed_pair().await;
        let alice = a.user("alice").await;
        let (at_a, at_b) = (a.server(), b.server());
        let b = b.sleep().await;
        let room = a.room(&alice, json!({ "preset": "private_chat" })).await;
        let nobody = format!("@nobody:{at_b}");
        let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(&room));
        a.ok(a.post(&alice, path, json!({ "user_id": nobody }))).await;
        let a = a.post_and_sleep(&at_b).await;
        let _b = turn(&net, b, &at_a).await;
        let a = net.wake(a).await;
        let member = format!("/_matrix/client/v3/rooms/{}/state/m.room.member/{}", encoded(&room), encoded(&nobody));
        until("the invite is taken back", async || {
            let (_, shown) = a.get(&alice, &member).await;
            let why = shown["reason"].as_str().unwrap_or_default();
            shown["membership"] == "leave" && why.contains("refused the invite") && why.contains("not a user")
        })
        .await;
        let waits = async || a.node.core.snapshot().unwrap().view().any(tables::MAIL_INVITES, ()).unwrap();
        until("nothing of it waits", async || !waits().await).await;
    });
}
