//! The power goes at every sync point.

use millpond_store::testing::{Cut, Disk, Unsynced};
use ruma::events::TimelineEventType;
use serde_json::json;

use crate::run::{Run, Setting};

/// Rounds of the busy run; `MILLPOND_CRASH_ROUNDS` makes it longer.
const ROUNDS: usize = 8;
/// Ways of tearing the unsynced writes, at each sync point; `MILLPOND_CRASH_SEEDS` tries more.
const SEEDS: u64 = 2;
/// Whole runs that lose power while they run; the others are opened from one run's disk.
const LIVE_CUTS: usize = 6;

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn rounds() -> usize {
    setting("MILLPOND_CRASH_ROUNDS", ROUNDS as u64) as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_sync_point_what_was_answered_is_there_and_nothing_is_half_done() {
    let (stage, disk) = (Setting::new(), Disk::default());
    let mut run = Run::new(&stage, disk.clone()).unwrap();
    let cast = run.all(rounds()).await.unwrap();
    assert_eq!(run.book.faults(disk.syncs(), &run.node), Vec::<String>::new(), "before any cut");
    let (mut cuts, mut opened) = (0, 0);
    for cut in disk.cuts() {
        cuts += 1;
        for unsynced in variants() {
            let Some(node) = open(&stage, &cut, unsynced, run.book.answers[0].syncs) else { continue };
            opened += 1;
            let faults = run.book.faults(cut.syncs, &node);
            assert!(faults.is_empty(), "after {} syncs, {unsynced:?}: {faults:#?}", cut.syncs);
            if opened % 16 == 0 && cut.syncs > disk.syncs() / 2 {
                // And on it goes.
                let content = json!({ "msgtype": "m.text", "body": "after the cut" }).to_string();
                let txn = millpond_node::rooms::ClientTxn { device_id: "D".into(), txn_id: "after".into() };
                let kind = TimelineEventType::RoomMessage;
                node.rooms.send(&cast.alice.user_id, txn, &cast.shared, kind, &content).await.unwrap();
                while node.inbox.work_once().await.unwrap() {}
                let report = millpond_store::check::check(node.core.snapshot().unwrap().view()).unwrap();
                assert!(report.findings.is_empty(), "after {} syncs: {:#?}", cut.syncs, report.findings);
            }
        }
    }
    println!("{cuts} sync points, {opened} disks, {} answers", run.book.answers.len());
    assert!(cuts > 250 || rounds() < ROUNDS, "{cuts} sync points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_its_disk_answers_nothing_more_and_keeps_what_it_answered() {
    let stage = Setting::new();
    let disk = Disk::default();
    Run::new(&stage, disk.clone()).unwrap().all(1).await.unwrap();
    let total = disk.syncs();
    for n in 1..=LIVE_CUTS {
        let disk = Disk::default();
        let mut run = Run::new(&stage, disk.clone()).unwrap();
        let at = disk.syncs() + (total - disk.syncs()) * n / (LIVE_CUTS + 1);
        disk.cut_after(at);
        assert!(run.all(1).await.is_err(), "the power went after {at} of {total} syncs");
        assert!(disk.is_cut());
        assert!(run.all(1).await.is_err(), "a node without a disk answers nothing");
        let cut = disk.cuts().last().unwrap();
        // Torn writes could make the request whole that was cut off, of which this book knows nothing.
        let node = open(&stage, &cut, Unsynced::Lost, 0).expect("there was a database before the cut");
        let faults = run.book.faults(cut.syncs, &node);
        assert!(faults.is_empty(), "after {at} of {total} syncs: {faults:#?}");
    }
}

fn variants() -> impl Iterator<Item = Unsynced> {
    std::iter::once(Unsynced::Lost).chain((0..setting("MILLPOND_CRASH_SEEDS", SEEDS)).map(Unsynced::Torn))
}

/// The node on what the cut left; none if that is no database yet, before the first answer.
fn open(stage: &Setting, cut: &Cut, unsynced: Unsynced, first: usize) -> Option<millpond_node::NodeHandle> {
    match stage.open(cut.disk(unsynced)) {
        Ok(node) => Some(node),
        Err(_) if cut.syncs < first => None,
        Err(error) => panic!("after {} syncs, {unsynced:?}: {error}", cut.syncs),
    }
}
