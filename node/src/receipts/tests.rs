use ruma::{
    EventId,
    api::error::ErrorKind,
    event_id,
    events::receipt::ReceiptThread::{Main, Thread, Unthreaded},
    server_name, user_id,
};
use serde_json::Value;

use super::*;
use crate::testing::Room;

async fn room() -> (Room, Receipts) {
    let room = Room::new().await;
    let receipts = Receipts::new(room.core.clone());
    (room, receipts)
}

/// What `reader` sees of the receipts after a position.
fn seen(room: &Room, from: Position, reader: &UserId) -> Option<Value> {
    let snapshot = room.core.snapshot().unwrap();
    let event = since(snapshot.view(), room.short(), from, reader).unwrap()?;
    Some(serde_json::from_str::<Value>(event.json().get()).unwrap()["content"].clone())
}

fn position(room: &Room) -> Position {
    room.core.snapshot().unwrap().view().position().unwrap()
}

#[tokio::test]
async fn a_receipt_is_shown_to_all_and_replaces_the_one_before() {
    let (room, receipts) = room().await;
    let (one, two) = (room.say(&room.alice, "one").await, room.say(&room.alice, "two").await);
    receipts.set(&room.bob, &room.room_id, Kind::Read, &one, Unthreaded).await.unwrap();
    let before = position(&room);
    receipts.set(&room.bob, &room.room_id, Kind::Read, &two, Unthreaded).await.unwrap();
    let expected = json!({ &*two: { "m.read": { &*room.bob: { "ts": 1000 } } } });
    assert_eq!(seen(&room, before, &room.alice).unwrap(), expected);
    assert_eq!(seen(&room, Position(0), &room.alice).unwrap(), expected, "only the newest is kept");
    assert_eq!(seen(&room, position(&room), &room.alice), None);
}

#[tokio::test]
async fn a_receipt_never_moves_backwards() {
    let (room, receipts) = room().await;
    let (one, two) = (room.say(&room.alice, "one").await, room.say(&room.alice, "two").await);
    receipts.set(&room.bob, &room.room_id, Kind::Read, &two, Unthreaded).await.unwrap();
    let before = position(&room);
    receipts.set(&room.bob, &room.room_id, Kind::Read, &one, Unthreaded).await.unwrap();
    assert_eq!(seen(&room, before, &room.alice), None);
    receipts.set(&room.bob, &room.room_id, Kind::Read, &one, Main).await.unwrap();
    assert!(seen(&room, before, &room.alice).is_some(), "another thread is another receipt");
}

#[tokio::test]
async fn a_private_receipt_is_for_its_owner_only() {
    let (room, receipts) = room().await;
    let event = room.say(&room.alice, "one").await;
    let before = position(&room);
    receipts.set(&room.bob, &room.room_id, Kind::ReadPrivate, &event, Unthreaded).await.unwrap();
    assert_eq!(seen(&room, before, &room.alice), None);
    assert!(seen(&room, before, &room.bob).is_some());
    let there = server_name!("there");
    assert!(
        !owes_receipts(room.core.snapshot().unwrap().view(), room.core.identity(), there, crate::peers::Route::Link)
            .unwrap()
    );
}

#[tokio::test]
async fn what_is_not_in_the_room_or_the_thread_is_refused() {
    let (room, receipts) = room().await;
    let (root, other) = (room.say(&room.alice, "root").await, room.say(&room.alice, "other").await);
    let reply = room.reply(&room.alice, &root, "reply").await;
    let set = async |event: &EventId, thread| {
        let outcome = receipts.set(&room.bob, &room.room_id, Kind::Read, event, thread).await;
        outcome.map_err(|error| error.kind().cloned())
    };
    set(&reply, Thread(root.clone())).await.unwrap();
    assert_eq!(set(&other, Thread(root.clone())).await, Err(Some(ErrorKind::InvalidParam)));
    assert_eq!(set(event_id!("$nowhere"), Unthreaded).await, Err(Some(ErrorKind::InvalidParam)));
    let stranger = receipts.set(user_id!("@eve:here"), &room.room_id, Kind::Read, &root, Unthreaded).await;
    assert_eq!(stranger.unwrap_err().kind(), Some(&ErrorKind::Forbidden));
}

#[tokio::test]
async fn the_fully_read_marker_is_room_account_data_and_moves_forward() {
    let (room, receipts) = room().await;
    let (one, two) = (room.say(&room.alice, "one").await, room.say(&room.alice, "two").await);
    for event in [&two, &one] {
        let markers = Markers { fully_read: Some(event.clone()), read: Some(one.clone()), ..Markers::default() };
        receipts.set_markers(&room.bob, &room.room_id, markers).await.unwrap();
    }
    let snapshot = room.core.snapshot().unwrap();
    let row = account_data::row(snapshot.view(), &room.bob, Some(&room.room_id), FULLY_READ).unwrap().unwrap();
    assert_eq!(row.content, json!({ "event_id": two }).to_string());
    assert!(seen(&room, Position(0), &room.alice).unwrap().get(one.as_str()).is_some());
}

/// Puts the server `there` into the room.
async fn with_peer(room: &Room) {
    let short = room.short();
    let there = server_name!("there");
    let join = job(|_| Ok::<_, Error>(()), move |(), txn| txn.put(tables::ROOM_SERVERS, (short, there), &1));
    room.core.write(join).await.unwrap();
}

/// The receipts owed to `there`, which are then delivered.
async fn deliver(room: &Room, limit: usize) -> Vec<ReceiptContent> {
    let there = server_name!("there");
    let sent = receipt_edus(
        room.core.snapshot().unwrap().view(),
        room.core.identity(),
        there,
        crate::peers::Route::Link,
        limit,
    )
    .unwrap();
    let edus = sent.edus.iter().map(|json| serde_json::from_str::<Value>(json).unwrap());
    let contents = edus.map(|edu| serde_json::from_value(edu["content"].clone()).unwrap()).collect();
    let core = room.core.clone();
    let delivered = job(
        |_| Ok::<_, Error>(()),
        move |(), txn| receipts_delivered(txn, core.identity(), server_name!("there"), &sent),
    );
    room.core.write(delivered).await.unwrap();
    contents
}

#[tokio::test]
async fn a_peer_gets_the_latest_receipts_once() {
    let (room, receipts) = room().await;
    with_peer(&room).await;
    let (one, two) = (room.say(&room.alice, "one").await, room.say(&room.alice, "two").await);
    for event in [&one, &two] {
        receipts.set(&room.bob, &room.room_id, Kind::Read, event, Unthreaded).await.unwrap();
    }
    receipts.set(&room.bob, &room.room_id, Kind::Read, &one, Main).await.unwrap();
    let first = deliver(&room, 1).await;
    assert_eq!(first[0].receipts[&room.room_id].read[&room.bob].event_ids, [two]);
    let second = deliver(&room, 9).await;
    assert_eq!((second.len(), &second[0].receipts[&room.room_id].read[&room.bob].data.thread), (1, &Main));
    assert!(deliver(&room, 9).await.is_empty());
    let there = server_name!("there");
    assert!(
        !owes_receipts(room.core.snapshot().unwrap().view(), room.core.identity(), there, crate::peers::Route::Link)
            .unwrap()
    );
}

#[tokio::test]
async fn a_peer_that_left_hears_no_more() {
    let (room, receipts) = room().await;
    with_peer(&room).await;
    let event = room.say(&room.alice, "one").await;
    receipts.set(&room.bob, &room.room_id, Kind::Read, &event, Unthreaded).await.unwrap();
    let short = room.short();
    let leave =
        job(|_| Ok::<_, Error>(()), move |(), txn| txn.remove(tables::ROOM_SERVERS, (short, server_name!("there"))));
    room.core.write(leave).await.unwrap();
    assert!(deliver(&room, 9).await.is_empty());
}

#[tokio::test]
async fn a_peer_is_believed_about_its_own_users_only() {
    let (room, receipts) = room().await;
    with_peer(&room).await;
    let event = room.say(&room.alice, "one").await;
    receipts.set(&room.bob, &room.room_id, Kind::Read, &event, Unthreaded).await.unwrap();
    let mut content = deliver(&room, 9).await.remove(0);
    let before = position(&room);
    let receipt = content.receipts[&room.room_id].read[&room.bob].clone();
    content.receipts.get_mut(&room.room_id).unwrap().read.insert(room.alice.clone(), receipt);
    receipts.receive(server_name!("there"), content.clone()).await.unwrap();
    assert_eq!(seen(&room, before, &room.bob), None);
    receipts.receive(room.alice.server_name(), content).await.unwrap();
    assert!(seen(&room, before, &room.bob).unwrap()[event.as_str()]["m.read"].get(room.alice.as_str()).is_some());
}
