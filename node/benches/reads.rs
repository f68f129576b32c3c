//! What people wait for when they look back: a search over much history, the state of a large room. One process over a
//! database file under the temporary folder; `TMPDIR` chooses another one.

use std::{sync::atomic::AtomicU64, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::{StreamExt as _, stream};
use millpond_node::{
    NodeHandle,
    accounts::{NewAccount, NewDevice},
    config::Config,
    rooms::{Action, ClientTxn},
    search::{Order, Request},
    start,
    timeline::MembersRequest,
};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, UserId,
    api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset},
    events::TimelineEventType,
};
use serde_json::json;
use tokio::runtime::Runtime;

/// Messages that are searched.
const MESSAGES: usize = 100_000;
/// Members of the large room.
const MEMBERS: usize = 10_000;
/// Requests under way while the data is made: they share commits.
const AT_ONCE: usize = 256;
/// Words of the messages, the first ones the commonest.
const WORDS: usize = 20_000;

fn open(dir: &std::path::Path) -> NodeHandle {
    start::open(Config { rate_limits: false, ..Config::new(dir.to_owned()) }).expect("a node")
}

async fn account(node: &NodeHandle, name: &str) -> OwnedUserId {
    let account = NewAccount { name: name.to_owned(), password: None, admin: false };
    let device = NewDevice { device_id: Some("D".into()), ..NewDevice::default() };
    node.accounts.create(account, Some(device)).await.expect("an account").0
}

async fn room(node: &NodeHandle, creator: &UserId) -> OwnedRoomId {
    let mut request = CreateRoom::new();
    request.preset = Some(RoomPreset::PublicChat);
    node.rooms.create(creator, request).await.expect("a room")
}

/// A text of ten words, spread as words of a language are; every other one says "water".
fn text(n: usize) -> String {
    let mut seed = n as u64 + 1;
    let mut words: Vec<String> = (0..10)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let even = (seed >> 33) as f64 / f64::from(1_u32 << 31);
            format!("word{}", (even.powi(4) * WORDS as f64) as usize)
        })
        .collect();
    if n.is_multiple_of(2) {
        words.push("water".to_owned());
    }
    words.join(" ")
}

async fn say(node: &NodeHandle, user: &UserId, room: &OwnedRoomId, n: usize) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let txn_id = format!("t{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let txn = ClientTxn { device_id: "D".into(), txn_id: txn_id.as_str().into() };
    let content = json!({ "msgtype": "m.text", "body": text(n) }).to_string();
    node.rooms.send(user, txn, room, TimelineEventType::RoomMessage, &content).await.expect("sent");
}

fn search(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = open(dir.path());
    let ask = |term: &str, order| Request { term: term.to_owned(), order, ..Request::default() };
    let alice = runtime.block_on(async {
        let alice = account(&node, "alice").await;
        let mut rooms = Vec::new();
        for _ in 0..50 {
            rooms.push(room(&node, &alice).await);
        }
        let start = Instant::now();
        let sent = stream::iter(0..MESSAGES).map(|n| say(&node, &alice, &rooms[n % rooms.len()], n));
        sent.buffer_unordered(AT_ONCE).collect::<()>().await;
        eprintln!("{MESSAGES} messages sent in {:?}", start.elapsed());
        let start = Instant::now();
        loop {
            let answer = node.search.answer(alice.clone(), "D".into(), ask("water", Order::Recent)).await;
            let answer: serde_json::Value = serde_json::from_slice(&answer.expect("found")).expect("JSON");
            if answer["search_categories"]["room_events"]["count"] == MESSAGES / 2 {
                break;
            }
        }
        eprintln!("indexed in {:?}", start.elapsed());
        alice
    });
    let mut group = c.benchmark_group("search over 100,000 messages");
    group.sample_size(20);
    for (name, term, order) in [
        ("a word of every other message, recent", "water", Order::Recent),
        ("a word of every other message, by rank", "water", Order::Rank),
        ("two common words", "water word1", Order::Rank),
        ("a rare word", "word19876", Order::Recent),
        ("the beginning of every word", "wor", Order::Rank),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(node.search.answer(alice.clone(), "D".into(), ask(term, order))).expect("found")
            });
        });
    }
    group.finish();
}

fn state(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = open(dir.path());
    let (alice, room) = runtime.block_on(async {
        let alice = account(&node, "alice").await;
        let room = room(&node, &alice).await;
        let server = node.core.identity().server_name();
        let joins = stream::iter(1..MEMBERS).map(|n| {
            let user = OwnedUserId::try_from(format!("@member{n}:{server}")).expect("a user id");
            let (node, room) = (&node, &room);
            async move {
                let join = node.rooms.change_membership(&user, room, &user, Action::Join, CanonicalJsonObject::new());
                join.await.expect("joined");
            }
        });
        joins.buffer_unordered(AT_ONCE).collect::<()>().await;
        (alice, room)
    });
    let mut group = c.benchmark_group("a room of 10,000 members");
    group.sample_size(20);
    let asker = (&*alice, "D".into());
    group.bench_function("GET /state", |b| b.iter(|| node.timeline.state(asker, &room).expect("the state")));
    let members = MembersRequest { room_id: room.clone(), at: None, membership: None, not_membership: None };
    group.bench_function("GET /members", |b| b.iter(|| node.timeline.members(asker, &members).expect("the members")));
    group.finish();
}

criterion_group!(benches, search, state);
criterion_main!(benches);
