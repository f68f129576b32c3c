//! Syncs of somebody who is in 2,000 rooms, over a database file: `/sync` and sliding sync with one new event, the first
//! page of sliding sync, and how much one incremental sync allocates. Fails when a figure is over its bound, which the
//! issue that asked for it names.

use std::{
    alloc::System,
    hint::black_box,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use millpond_node::{
    NodeHandle,
    accounts::{NewAccount, NewDevice},
    config::Config,
    rooms::ClientTxn,
    start,
    sync::{Request, sliding},
};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset},
    device_id,
    events::TimelineEventType,
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

const ROOMS: usize = 2000;
/// Bounds of one answer.
const INCREMENTAL: Duration = Duration::from_millis(10);
const FIRST_PAGE: Duration = Duration::from_millis(50);
const ALLOCATED: usize = 200 * 1000;

/// The system's allocator, counting what it gives.
#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A node with somebody in many rooms.
struct Stage {
    runtime: Runtime,
    node: NodeHandle,
    user: OwnedUserId,
    rooms: Vec<OwnedRoomId>,
    sent: AtomicU64,
}

impl Stage {
    fn new(dir: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let node = start::open(Config { rate_limits: false, ..Config::new(dir.to_owned()) }).expect("a node");
        let account = NewAccount { name: "alice".to_owned(), password: None, admin: false };
        let device = NewDevice { device_id: Some("D".into()), ..NewDevice::default() };
        let (user, _) = runtime.block_on(node.accounts.create(account, Some(device))).expect("an account");
        // Many at a time share commits.
        let made = (0..ROOMS).map(|n| {
            let (node, user) = (node.clone(), user.clone());
            runtime.spawn(async move {
                let mut request = CreateRoom::new();
                request.preset = Some(RoomPreset::PublicChat);
                request.name = Some(format!("room {n}"));
                node.rooms.create(&user, request).await.expect("a room")
            })
        });
        let made: Vec<_> = made.collect();
        let rooms = made.into_iter().map(|room| runtime.block_on(room).expect("made")).collect();
        Self { runtime, node, user, rooms, sent: AtomicU64::new(0) }
    }

    fn send(&self) {
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        let room = &self.rooms[usize::try_from(n).expect("small") % ROOMS];
        let content = json!({ "msgtype": "m.text", "body": format!("message {n} of a bench") }).to_string();
        let txn_id = format!("t{n}");
        let txn = ClientTxn { device_id: device_id!("D"), txn_id: txn_id.as_str().into() };
        let kind = TimelineEventType::RoomMessage;
        self.runtime.block_on(self.node.rooms.send(&self.user, txn, room, kind, &content)).expect("sent");
    }

    fn sync(&self, since: Option<String>) -> Value {
        let request = Request { since, ..Request::default() };
        let answer = self.runtime.block_on(self.node.sync.answer(&self.user, device_id!("D"), request));
        serde_json::from_slice(&answer.expect("a sync")).expect("JSON")
    }

    /// As the room list of clients asks: a page first, then everything.
    fn slide(&self, pos: Option<&str>, last: usize) -> Vec<u8> {
        let required = json!([
            ["m.room.name", ""],
            ["m.room.encryption", ""],
            ["m.room.member", "$LAZY"],
            ["m.room.member", "$ME"],
            ["m.room.topic", ""],
            ["m.room.avatar", ""],
            ["m.room.canonical_alias", ""],
            ["m.room.power_levels", ""],
            ["m.room.join_rules", ""],
            ["m.room.tombstone", ""],
            ["m.room.create", ""],
            ["m.room.history_visibility", ""],
            ["m.space.parent", "*"],
            ["m.space.child", "*"],
        ]);
        let on = json!({ "enabled": true });
        let asked = json!({
            "conn_id": "room-list", "pos": pos,
            "lists": { "all_rooms": { "ranges": [[0, last]], "timeline_limit": 1, "required_state": required } },
            "extensions": { "account_data": on, "receipts": on, "typing": on },
        });
        let request: sliding::Request = serde_json::from_value(asked).expect("a request");
        self.runtime.block_on(self.node.sync.slide(&self.user, device_id!("D"), request)).expect("a sync")
    }

    /// The position of a connection that has all rooms.
    fn all_rooms(&self) -> String {
        pos(&self.slide(Some(&pos(&self.slide(None, 19))), ROOMS - 1))
    }
}

fn pos(answer: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    answer["pos"].as_str().expect("a position").to_owned()
}

fn syncs(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let stage = Stage::new(dir.path());
    let mut group = c.benchmark_group("sync");
    group.sample_size(20);

    let since = stage.sync(None)["next_batch"].as_str().expect("a token").to_owned();
    stage.send();
    let found = stage.sync(Some(since.clone()));
    assert_eq!(found["rooms"]["join"].as_object().map(serde_json::Map::len), Some(1), "one room has news");
    bound("/sync with one event", ALLOCATED, INCREMENTAL, || {
        let request = Request { since: Some(since.clone()), ..Request::default() };
        stage.runtime.block_on(stage.node.sync.answer(&stage.user, device_id!("D"), request)).expect("a sync")
    });
    group.bench_function(format!("one event in {ROOMS} rooms"), |b| {
        b.iter(|| {
            let request = Request { since: Some(since.clone()), ..Request::default() };
            stage.runtime.block_on(stage.node.sync.answer(&stage.user, device_id!("D"), request)).expect("a sync")
        });
    });

    let at = stage.all_rooms();
    stage.send();
    bound("sliding sync with one event", ALLOCATED, INCREMENTAL, || stage.slide(Some(&at), ROOMS - 1));
    group.bench_function(format!("sliding: one event in {ROOMS} rooms"), |b| {
        b.iter(|| stage.slide(Some(&at), ROOMS - 1));
    });
    // Each starts a connection, which is one commit: most of the time is the disk's.
    bound("the first page of sliding sync", usize::MAX, FIRST_PAGE, || stage.slide(None, 19));
    group.bench_function(format!("sliding: the first 20 of {ROOMS} rooms"), |b| b.iter(|| stage.slide(None, 19)));
    bound("all rooms in one answer", usize::MAX, Duration::MAX, || stage.slide(None, ROOMS - 1));
    group.finish();
}

/// Runs `run` a few times, prints its best time and what it allocates, and fails if either is over its bound.
fn bound(what: &str, most_bytes: usize, most: Duration, mut run: impl FnMut() -> Vec<u8>) {
    let (mut best, mut bytes) = (Duration::MAX, usize::MAX);
    for _ in 0..10 {
        let (start, region) = (Instant::now(), Region::new(COUNTING));
        black_box(run());
        best = best.min(start.elapsed());
        bytes = bytes.min(region.change().bytes_allocated);
    }
    println!("{what}: {best:?}, {bytes} bytes allocated");
    assert!(best <= most, "{what} took {best:?}, more than {most:?}");
    assert!(bytes <= most_bytes, "{what} allocated {bytes} bytes, more than {most_bytes}");
}

criterion_group!(benches, syncs);
criterion_main!(benches);
