use millpond_store::{job, rows::Membership};
use ruma::{events::room::member::MembershipState, room_id, user_id};

use super::*;
use crate::testing;

const ROOM: RoomShort = RoomShort(1);

/// Alice and Bob are in room 1, `!r:here`; so is the server `there`.
async fn service() -> Typing {
    let core = testing::core();
    let write = job(
        |_| Ok::<_, Error>(()),
        |(), txn| {
            txn.put(tables::ROOM_IDS, room_id!("!r:here"), &ROOM)?;
            txn.put(tables::ROOM_SERVERS, (ROOM, ruma::server_name!("there")), &1)?;
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
    let waiting = [Topic::Room(ROOM), Topic::Outbox(ruma::server_name!("there").to_owned())];
    for waiting in waiting.map(|topic| typing.core.notifier().register([topic])) {
        waiting.changed().await;
    }
    assert_eq!(typing.since(ROOM, Some(seen)), Some(vec![]));
    running.abort();
}

#[tokio::test]
async fn peers_are_told_of_our_users_only() {
    let typing = service().await;
    let before = typing.serial();
    typing.set(alice(), room_id!("!r:here"), TEN).unwrap();
    typing.set_remote(user_id!("@bob:there"), room_id!("!r:here"), true).unwrap();
    assert_eq!(typing.since(ROOM, None).unwrap().len(), 2);
    assert_eq!(typing.own_changes(ROOM, before), [OwnChange { user_id: alice().to_owned(), typing: true }]);
    assert_eq!(typing.own_changes(ROOM, typing.serial()), []);
    typing.set(alice(), room_id!("!r:here"), None).unwrap();
    assert_eq!(typing.own_changes(ROOM, before), [OwnChange { user_id: alice().to_owned(), typing: false }]);
}
