use millpond_store::Topic;
use ruma::{OwnedUserId, user_id};

use super::fixture::Fixture;
use crate::{
    keys::{DeviceListChanges, device_lists, device_removed, device_renamed},
    rooms::Action,
};

fn changes(changed: &[&OwnedUserId], left: &[&OwnedUserId]) -> DeviceListChanges {
    let set = |users: &[&OwnedUserId]| users.iter().map(|user| (*user).clone()).collect();
    DeviceListChanges { changed: set(changed), left: set(left) }
}

#[tokio::test]
async fn those_who_share_a_room_hear_of_new_renamed_and_removed_devices() {
    let f = Fixture::new();
    let (alice, bob, eve) = (f.user("alice", "A").await, f.user("bob", "B").await, f.user("eve", "E").await);
    let room = f.room(&alice).await;
    f.act(&bob, &room, Action::Join).await;
    let waiting = f
        .node
        .core
        .notifier()
        .register([Topic::Room(f.read(|view| crate::rooms::rows::room_short(view, &room)).unwrap())]);
    let since = f.position();
    f.upload(&bob, "B").await;
    waiting.changed().await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[&bob], &[]));
    assert_eq!(f.read(|view| device_lists(view, &bob, since)), changes(&[&bob], &[]), "one's own other devices too");
    assert_eq!(f.read(|view| device_lists(view, &eve, since)), changes(&[], &[]));

    let since = f.position();
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]));
    let user = bob.clone();
    f.write(move |txn| device_renamed(txn, &user, "B".into())).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[&bob], &[]));
    let since = f.position();
    let user = bob.clone();
    f.write(move |txn| device_removed(txn, &user, "B".into())).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[&bob], &[]));
}

#[tokio::test]
async fn uploading_the_same_keys_again_is_no_change() {
    let f = Fixture::new();
    let alice = f.user("alice", "A").await;
    let pair = f.upload(&alice, "A").await;
    let since = f.position();
    let mut request = ruma::api::client::keys::upload_keys::v3::Request::new();
    request.device_keys = Some(super::fixture::raw(&super::fixture::device_keys(&alice, "A", &pair)));
    f.node.keys.upload(&alice, "A".into(), request).await.unwrap();
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]));
}

#[tokio::test]
async fn the_first_shared_room_counts_as_a_change_and_the_last_one_left_as_left() {
    let f = Fixture::new();
    let (alice, bob) = (f.user("alice", "A").await, f.user("bob", "B").await);
    let carol = user_id!("@carol:there.example").to_owned();
    let (one, two) = (f.room(&alice).await, f.room(&alice).await);
    f.remote_member(&carol, &one, true).await;

    let since = f.position();
    f.act(&bob, &one, Action::Join).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[&bob], &[]));
    assert_eq!(f.read(|view| device_lists(view, &bob, since)), changes(&[&alice, &carol], &[]));

    let since = f.position();
    f.act(&bob, &two, Action::Join).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]), "they shared one before");
    f.act(&bob, &one, Action::Leave).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]), "they share the other");
    assert_eq!(f.read(|view| device_lists(view, &bob, since)), changes(&[], &[&carol]));

    let since = f.position();
    f.act(&bob, &two, Action::Leave).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[&bob]));
    assert_eq!(f.read(|view| device_lists(view, &bob, since)), changes(&[], &[&alice]));
}

#[tokio::test]
async fn a_change_of_name_is_no_change_of_sharing() {
    let f = Fixture::new();
    let alice = f.user("alice", "A").await;
    let carol = user_id!("@carol:there.example").to_owned();
    let room = f.room(&alice).await;
    f.remote_member(&carol, &room, true).await;
    let since = f.position();
    let content = [("displayname".to_owned(), "Al".into())].into_iter().collect();
    f.node.rooms.change_membership(&alice, &room, &alice, Action::Join, content).await.unwrap();
    assert!(f.position() > since);
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]));
}

#[tokio::test]
async fn coming_and_going_between_two_syncs_is_neither() {
    let f = Fixture::new();
    let (alice, bob) = (f.user("alice", "A").await, f.user("bob", "B").await);
    let room = f.room(&alice).await;
    let since = f.position();
    f.act(&bob, &room, Action::Join).await;
    f.act(&bob, &room, Action::Leave).await;
    assert_eq!(f.read(|view| device_lists(view, &alice, since)), changes(&[], &[]));
    assert_eq!(f.read(|view| device_lists(view, &bob, since)), changes(&[], &[]));
}
