//! What users and peers wait for, in one process over a database file: sending a message, judging a peer's PDUs, the first
//! sync. The figures are those of the disk under the temporary folder; `TMPDIR` chooses another one.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millpond_node::{
    NodeHandle,
    accounts::{NewAccount, NewDevice},
    config::Config,
    identity::Identity,
    rooms::{Action, ClientTxn, rows},
    start,
};
use millpond_store::{job, rows::Peer, tables};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, UserId,
    api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset},
    events::TimelineEventType,
};
use serde_json::{json, value::RawValue};
use tokio::runtime::Runtime;

/// PDUs that a peer sends in one go.
const PDUS: usize = 1000;
/// Rooms of the user who syncs, and messages in each.
const ROOMS: usize = 30;
const MESSAGES: usize = 30;

fn open(dir: &Path) -> NodeHandle {
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

async fn send(node: &NodeHandle, user: &UserId, room: &OwnedRoomId) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let content = json!({ "msgtype": "m.text", "body": format!("message {n} of a bench") }).to_string();
    let txn_id = format!("t{n}");
    let txn = ClientTxn { device_id: "D".into(), txn_id: txn_id.as_str().into() };
    let kind = TimelineEventType::RoomMessage;
    node.rooms.send(user, txn, room, kind, &content).await.expect("sent");
}

fn sending(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = open(dir.path());
    let (alice, room) = runtime.block_on(async {
        let alice = account(&node, "alice").await;
        let room = room(&node, &alice).await;
        (alice, room)
    });
    let mut group = c.benchmark_group("node");
    group.sample_size(30);
    group.bench_function("send a message", |b| {
        b.iter(|| runtime.block_on(send(&node, &alice, &room)));
    });
    group.finish();
}

fn first_sync(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = open(dir.path());
    let alice = runtime.block_on(async {
        let alice = account(&node, "alice").await;
        for _ in 0..ROOMS {
            let room = room(&node, &alice).await;
            for _ in 0..MESSAGES {
                send(&node, &alice, &room).await;
            }
        }
        alice
    });
    let mut group = c.benchmark_group("node");
    group.sample_size(20);
    group.bench_function(format!("first sync of {ROOMS} rooms"), |b| {
        b.iter(|| {
            let request = millpond_node::sync::Request::default();
            runtime.block_on(node.sync.answer(&alice, "D".into(), request)).expect("a sync")
        });
    });
    group.finish();
}

/// A room on a node, and what a member from elsewhere sends into it: a join and many messages, signed there.
struct Inbound {
    here: tempfile::TempDir,
    origin: Identity,
    room: OwnedRoomId,
    pdus: Vec<Box<RawValue>>,
}

impl Inbound {
    async fn new() -> Self {
        let here = tempfile::tempdir().expect("a temporary folder");
        let there = tempfile::tempdir().expect("a temporary folder");
        let origin = Identity::load_or_create(there.path()).expect("keys");
        let (name, document) = (origin.server_name().to_owned(), origin.key_document().as_bytes().to_vec());
        let node = open(here.path());
        let alice = account(&node, "alice").await;
        let room = room(&node, &alice).await;
        let link = job(
            |_| Ok::<_, millpond_node::Error>(()),
            move |(), txn| {
                txn.put(tables::PEERS, &*name, &Peer { linked: true, ..Peer::default() })?;
                txn.put(tables::KEY_DOCUMENTS, &*name, &document)
            },
        );
        node.core.write(link).await.expect("linked");
        drop(node);
        // The other node has the same room: it starts from a copy, with its own keys.
        copy(here.path(), there.path());
        let other = open(there.path());
        let carol = OwnedUserId::try_from(format!("@carol:{}", origin.server_name())).expect("a user id");
        let before = events(&other, &room);
        let join = other.rooms.change_membership(&carol, &room, &carol, Action::Join, CanonicalJsonObject::new());
        join.await.expect("joined");
        for _ in 1..PDUS {
            send(&other, &carol, &room).await;
        }
        let pdus = events(&other, &room).split_off(before.len());
        assert_eq!(pdus.len(), PDUS);
        Self { here, origin, room, pdus }
    }

    /// From the transaction's arrival to the last PDU stored.
    async fn judge(&self) -> Duration {
        let dir = tempfile::tempdir().expect("a temporary folder");
        copy_all(self.here.path(), dir.path());
        let node = open(dir.path());
        let before = events(&node, &self.room).len();
        let start = Instant::now();
        node.inbox.stage(self.origin.server_name(), &self.pdus).await.expect("staged");
        while node.inbox.work_once().await.expect("judged") {}
        let took = start.elapsed();
        assert_eq!(events(&node, &self.room).len() - before, PDUS, "every PDU is in the timeline");
        took
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from.join("millpond.redb"), to.join("millpond.redb")).expect("copied");
}

/// A data directory with its keys.
fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("a folder");
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The PDUs of a room's timeline.
fn events(node: &NodeHandle, room: &OwnedRoomId) -> Vec<Box<RawValue>> {
    let snapshot = node.core.snapshot().expect("a snapshot");
    let view = snapshot.view();
    let short = rows::room_short(view, room).expect("read").expect("the room");
    let timeline = view.scan(tables::TIMELINE, (short,)).expect("read");
    let json = |row: Result<_, _>| {
        let (_, event) = row.expect("read");
        RawValue::from_string(rows::event(view, event).expect("read").json.into()).expect("JSON")
    };
    timeline.map(json).collect()
}

fn inbound(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let inbound = runtime.block_on(Inbound::new());
    let mut group = c.benchmark_group("node");
    group.sample_size(10).throughput(Throughput::Elements(PDUS as u64));
    group.bench_function(format!("judge {PDUS} PDUs of a peer"), |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                took += runtime.block_on(inbound.judge());
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, sending, first_sync, inbound);
criterion_main!(benches);
