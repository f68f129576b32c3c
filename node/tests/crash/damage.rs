//! The integrity check finds each kind of damage to a homeserver: one row is changed by hand, and the finding names it.

use millpond_node::{NodeHandle, rooms::rows};
use millpond_store::{
    Error, View, WriteTxn,
    check::check,
    job,
    rows::{EventShort, RoomCounts, RoomShort, StateGroup},
    tables,
    testing::{Cut, Disk, Unsynced},
};
use ruma::{OwnedEventId, OwnedServerName};

use crate::run::{Run, Setting};

/// A good database, and some of its rows.
struct Good {
    stage: Setting,
    cut: Cut,
    room: RoomShort,
    /// A message, its number and its place.
    message: (OwnedEventId, EventShort, i64),
    head: StateGroup,
    server: OwnedServerName,
}

impl Good {
    async fn new() -> Self {
        let (stage, disk) = (Setting::new(), Disk::default());
        let mut run = Run::new(&stage, disk.clone()).unwrap();
        let cast = run.all(1).await.unwrap();
        let snapshot = run.node.core.snapshot().unwrap();
        let view = snapshot.view();
        let room = rows::room_short(view, &cast.shared).unwrap().unwrap();
        let mut timeline = view.scan(tables::TIMELINE, (room,)).unwrap().map(Result::unwrap);
        let message = timeline.find_map(|((_, position), event)| {
            let row = rows::event(view, event).unwrap();
            let is_message = row.json.contains("m.room.message");
            is_message.then_some((row.header.event_id, event, position))
        });
        let head = view.get(tables::ROOM_HEADS, room).unwrap().unwrap().group;
        let (message, server) = (message.unwrap(), stage.peer.name());
        Self { stage, cut: disk.cuts().last().unwrap(), room, message, head, server }
    }

    fn node(&self) -> NodeHandle {
        self.stage.open(self.cut.disk(Unsynced::Lost)).unwrap()
    }

    /// The findings after one row was damaged.
    async fn findings(
        &self,
        mut damage: impl FnMut(&mut WriteTxn<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Vec<String> {
        let node = self.node();
        let write = job(|_| Ok::<_, millpond_node::Error>(()), move |(), txn| damage(txn));
        node.core.write(write).await.unwrap();
        check(node.core.snapshot().unwrap().view()).unwrap().findings
    }

    async fn expect(&self, finding: &str, damage: impl FnMut(&mut WriteTxn<'_>) -> Result<(), Error> + Send + 'static) {
        let found = self.findings(damage).await;
        assert!(found.iter().any(|found| found.contains(finding)), "`{finding}` is not among {found:#?}");
    }
}

/// The current state's first entry of a type.
fn entry(view: View<'_>, room: RoomShort, kind: &str) -> Result<(String, EventShort), Error> {
    let first = view.scan(tables::ROOM_STATE, (room, kind))?.next().unwrap()?;
    Ok((first.0.2, first.1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_events_is_found() {
    let good = Good::new().await;
    assert_eq!(good.findings(|_| Ok(())).await, Vec::<String>::new());
    let (room, (id, event, position)) = (good.room, good.message.clone());
    let name = id.clone();
    good.expect(&format!("{id} is numbered {} and not stored there", event.0), move |txn| {
        txn.remove(tables::EVENTS, event).map(drop)
    })
    .await;
    good.expect(&format!("{id} has another number than"), move |txn| txn.remove(tables::EVENT_IDS, &*name).map(drop))
        .await;
    good.expect(&format!("{id} is not at its place in the timeline"), move |txn| {
        txn.remove(tables::TIMELINE, (room, position)).map(drop)
    })
    .await;
    good.expect(&format!("names event {} at 99999", event.0), move |txn| {
        txn.put(tables::TIMELINE, (room, 99_999), &event)
    })
    .await;
    good.expect(&format!("{id} belongs to an unknown room"), move |txn| {
        change(txn, event, |row| row.room = RoomShort(999))
    })
    .await;
    good.expect(&format!("{id} is without its state"), move |txn| {
        change(txn, event, |row| row.state_after = Some(StateGroup(999_999)))
    })
    .await;
    good.expect(&format!("{id} is in the timeline without a state"), move |txn| {
        change(txn, event, |row| row.state_after = None)
    })
    .await;
    good.expect(&format!("{id} refers to event 999999"), move |txn| {
        change(txn, event, |row| row.redacted_by = Some(EventShort(999_999)))
    })
    .await;
    good.expect(&format!("{id} refers to event 999998"), move |txn| {
        change(txn, event, |row| row.replaces = Some(EventShort(999_998)))
    })
    .await;
}

fn change(
    txn: &mut WriteTxn<'_>,
    event: EventShort,
    change: impl Fn(&mut millpond_store::rows::EventMeta),
) -> Result<(), Error> {
    let mut row = txn.view().get(tables::EVENTS, event)?.unwrap();
    change(&mut row.meta);
    txn.put(tables::EVENTS, event, &row)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_the_state_of_a_room_is_found() {
    let good = Good::new().await;
    let (room, head, message) = (good.room, good.head, good.message.1);
    good.expect("is without its state", move |txn| txn.remove(tables::STATE_GROUPS, head).map(drop)).await;
    good.expect("has a current state or extremities, but not both", move |txn| {
        txn.remove(tables::ROOM_HEADS, room).map(drop)
    })
    .await;
    good.expect("has a current state or extremities, but not both", move |txn| {
        txn.remove_all(tables::EXTREMITIES, (room,)).map(drop)
    })
    .await;
    good.expect("an extremity of room", move |txn| txn.put(tables::EXTREMITIES, (room, EventShort(999_999)), &()))
        .await;
    good.expect("the current m.room.topic of room", move |txn| {
        txn.put(tables::ROOM_STATE, (room, "m.room.topic", ""), &message)
    })
    .await;
    good.expect("lacks a m.room.topic", move |txn| {
        txn.remove(tables::ROOM_STATE, (room, "m.room.topic", "")).map(drop)
    })
    .await;
    good.expect("has no way back", move |txn| txn.remove_all(tables::STATE_KEY_NAMES, ()).map(drop)).await;
    good.expect("hangs from a group that is not there", move |txn| {
        let row = txn.view().get(tables::STATE_GROUPS, head)?.unwrap();
        let row = millpond_store::rows::StateGroupRow { parent: Some(StateGroup(999_999)), ..row };
        txn.put(tables::STATE_GROUPS, head, &row)
    })
    .await;
    good.expect("by event 999999, which is not there", move |txn| {
        let key = txn.view().scan(tables::ROOM_STATE_LOG, (room,))?.next().unwrap()?.0;
        let change = millpond_store::rows::StateChange { event: Some(EventShort(999_999)), replaces: None };
        txn.put(tables::ROOM_STATE_LOG, key, &change)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_what_is_counted_and_owed_is_found() {
    let good = Good::new().await;
    let (room, server) = (good.room, good.server.clone());
    good.expect("counts RoomCounts { joined: 9", move |txn| {
        txn.put(tables::ROOM_COUNTS, room, &RoomCounts { joined: 9, invited: 0 })
    })
    .await;
    good.expect("counts other servers than its members have", move |txn| {
        txn.put(tables::ROOM_SERVERS, (room, &*server), &7)
    })
    .await;
    good.expect("is not that of his member event", move |txn| {
        let (user, _) = entry(txn.view(), room, "m.room.member")?;
        let user = ruma::OwnedUserId::try_from(user).unwrap();
        txn.remove(tables::MEMBERSHIPS, (&*user, room)).map(drop)
    })
    .await;
    good.expect("an event that is not there", move |txn| {
        let mut owed = txn.view().scan(tables::OUTBOX, ())?;
        let pdu = owed.find_map(|row| match row.unwrap().1 {
            millpond_store::rows::OutboxItem::Pdu(event) => Some(event),
            _ => None,
        });
        drop(owed);
        txn.remove(tables::EVENTS, pdu.unwrap()).map(drop)
    })
    .await;
    let server = good.server.clone();
    good.expect("does not prove itself", move |txn| {
        let mut bytes = txn.view().get(tables::KEY_DOCUMENTS, &*server)?.unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        txn.put(tables::KEY_DOCUMENTS, &*server, &bytes)
    })
    .await;
    good.expect("names no receipt", move |txn| txn.remove_all(tables::RECEIPTS, (room,)).map(drop)).await;
    good.expect("is not in the log: no sync would show it", |txn| {
        txn.remove_all(tables::ACCOUNT_DATA_LOG, ()).map(drop)
    })
    .await;
    good.expect("belongs to no account", |txn| txn.remove_all(tables::ACCOUNTS, ()).map(drop)).await;
}
