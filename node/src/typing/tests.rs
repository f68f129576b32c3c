use millpond_store::{
    job,
    rows::{Membership, Room},
};
use ruma::{events::room::member::MembershipState, room_id, server_name, user_id};

use super::*;
use crate::testing;

const ROOM: RoomShort = RoomShort(1);

/// Alice and Bob are in room 1, `!r:here`; so is the server `there`.
async fn service() -> Typing {
    let core = testing::core();
    let write = job(
        |_| Ok::<_, Error>(()),
        |(), txn| {
            let room =
                Room { room_id: room_id!("!r:here").to_owned(), version: ruma::RoomVersionId::V12, overlay: true };
            txn.put(tables::ROOMS, ROOM, &room)?;
            txn.put(tables::ROOM_IDS, room_id!("!r:here"), &ROOM)?;
            txn.put(tables::ROOM_SERVERS, (ROOM, server_name!("there")), &1)?;
            for user in [user_id!("@alice:here"), user_id!("@bob:there")] {
                let row = Membership { membership: MembershipState::Join, event: None, position: 1, forgotten: false };
                txn.put(tables::MEMBERSHIPS, (user, ROOM), &row)?;
            }
            Ok(())
        },
    );
    core.write(write).await.unwrap();
    Typing::new(core)
}

fn alice() -> &'static UserId {
    user_id!("@alice:here")
}

const TEN: Option<Duration> = Some(Duration::from_secs(10));

#[tokio::test]
async fn a_change_is_seen_once() {
    let typing = service().await;
    let before = typing.serial();
    assert_eq!(typing.since(ROOM, Some(before)), None);
    typing.set(alice(), room_id!("!r:here"), TEN).unwrap();
    assert_eq!(typing.since(ROOM, Some(before)), Some(vec![alice().to_owned()]));
    assert_eq!(typing.since(ROOM, None), Some(vec![alice().to_owned()]));
    let seen = typing.serial();
    typing.set(alice(), room_id!("!r:here"), TEN).unwrap();
    assert_eq!(typing.since(ROOM, Some(seen)), None, "going on typing is no news");
    typing.set(alice(), room_id!("!r:here"), None).unwrap();
    assert_eq!(typing.since(ROOM, Some(seen)), Some(vec![]));
    assert_eq!(typing.since(ROOM, None), None);
}

#[tokio::test]
async fn a_token_of_an_earlier_run_is_told_that_nobody_types() {
    let typing = service().await;
    assert_eq!(typing.since(ROOM, Some(typing.serial() - 1)), Some(vec![]));
}

#[tokio::test]
async fn who_is_not_in_the_room_cannot_type_there() {
    let typing = service().await;
    let error = typing.set(user_id!("@eve:here"), room_id!("!r:here"), TEN).unwrap_err();
    assert_eq!(error.kind(), Some(&ruma::api::error::ErrorKind::Forbidden));
    typing.set_remote(user_id!("@eve:there"), room_id!("!r:here"), true).unwrap();
    typing.set_remote(user_id!("@bob:there"), room_id!("!other:here"), true).unwrap();
    assert_eq!(typing.since(ROOM, None), None);
}

#[tokio::test(start_paused = true)]
async fn typing_ends_by_itself_and_wakes_the_room_and_the_peers() {
    let typing = service().await;
    let runner = typing.clone();
    let running = tokio::spawn(async move { runner.run().await });
    typing.set(alice(), room_id!("!r:here"), TEN).unwrap();
    let seen = typing.serial();
    let waiting = [Topic::Room(ROOM), Topic::Outbox(server_name!("there").to_owned())];
    for waiting in waiting.map(|topic| typing.core.notifier().register([topic])) {
        waiting.changed().await;
    }
    assert_eq!(typing.since(ROOM, Some(seen)), Some(vec![]));
    running.abort();
}

/// What `there` is told, which is then delivered: who types, and whether.
fn tell(typing: &Typing, limit: usize) -> Vec<(String, bool)> {
    let there = server_name!("there");
    let sent = typing.edus(typing.core.snapshot().unwrap().view(), there, crate::peers::Route::Link, limit).unwrap();
    typing.delivered(there, &sent);
    let edus = sent.edus.iter().map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap()["content"].clone());
    edus.map(|edu| (edu["user_id"].as_str().unwrap().to_owned(), edu["typing"].as_bool().unwrap())).collect()
}

#[tokio::test]
async fn a_peer_is_told_once_of_our_users_only() {
    let typing = service().await;
    typing.set(alice(), room_id!("!r:here"), TEN).unwrap();
    typing.set_remote(user_id!("@bob:there"), room_id!("!r:here"), true).unwrap();
    assert_eq!(typing.since(ROOM, None).unwrap().len(), 2);
    assert_eq!(tell(&typing, 0), []);
    assert_eq!(tell(&typing, 9), [(alice().to_string(), true)]);
    assert_eq!(tell(&typing, 9), []);
    typing.set(alice(), room_id!("!r:here"), None).unwrap();
    assert_eq!(tell(&typing, 9), [(alice().to_string(), false)]);
}
