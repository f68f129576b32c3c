//! A full disk under a whole node: the request fails with a clear error, nothing of it is kept, and the node goes on.

use millpond_node::{Error, StoreError, rooms::ClientTxn};
use millpond_store::testing::Disk;
use ruma::events::TimelineEventType;
use serde_json::json;

use crate::run::{Cast, Run, Setting};

async fn send(run: &Run, cast: &Cast, txn_id: &str) -> Result<ruma::OwnedEventId, Error> {
    let content = json!({ "msgtype": "m.text", "body": "a long message ".repeat(1000) }).to_string();
    let txn = ClientTxn { device_id: "D".into(), txn_id: txn_id.into() };
    let kind = TimelineEventType::RoomMessage;
    Ok(run.node.rooms.send(&cast.alice.user_id, txn, &cast.shared, kind, &content).await?.event_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_clearly_and_the_node_goes_on_when_there_is_room() {
    let (stage, disk) = (Setting::new(), Disk::default());
    let mut run = Run::new(&stage, disk.clone()).unwrap();
    let cast = run.all(1).await.unwrap();
    for room in 0..12 {
        disk.fill_after(room);
        let mut answered = Vec::new();
        let refused = loop {
            match send(&run, &cast, &format!("{room} {}", answered.len())).await {
                Ok(event) => answered.push(event),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Store(StoreError::DiskFull)), "{refused:?}");
        assert_eq!(refused.to_string(), StoreError::DiskFull.to_string());
        disk.free();
        // The client tries again with the same transaction id.
        let event = send(&run, &cast, &format!("{room} {}", answered.len())).await.unwrap();
        answered.push(event);
        let snapshot = run.node.core.snapshot().unwrap();
        let view = snapshot.view();
        for event in &answered {
            let row = millpond_node::rooms::rows::event_by_id(view, event).unwrap();
            assert!(row.is_some_and(|(_, row)| row.meta.position.is_some()), "{event} was answered");
        }
        let report = millpond_store::check::check(view).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}
