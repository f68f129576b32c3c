//! What peers are told and answered about local devices.

use ruma::{
    OneTimeKeyAlgorithm, OwnedUserId, ServerName,
    api::{client::keys::upload_keys, federation::transactions::edu::Edu},
    server_name, user_id,
};
use serde_json::json;

use super::fixture::{Fixture, raw};
use crate::keys::{Audience, Claims, device_list_edus, device_lists_delivered, device_removed};

fn there() -> &'static ServerName {
    server_name!("there.example")
}

/// (device, stream id, prev ids, deleted) of the updates that are due, which count as delivered then.
async fn deliver(f: &Fixture, limit: usize) -> Vec<(String, u64, Vec<u64>, bool)> {
    let batch = f.read(|view| device_list_edus(view, there(), crate::peers::Route::Link, limit));
    let noted = batch.clone();
    f.write(move |txn| device_lists_delivered(txn, there(), &noted)).await;
    let told = batch.edus.iter().map(|json| match serde_json::from_str(json).unwrap() {
        Edu::DeviceListUpdate(update) => (
            update.device_id.to_string(),
            update.stream_id.into(),
            update.prev_id.into_iter().map(Into::into).collect(),
            update.deleted == Some(true),
        ),
        other => panic!("{other:?}"),
    });
    told.collect()
}

async fn scene() -> (Fixture, OwnedUserId) {
    let f = Fixture::new();
    let alice = f.user("alice", "A1").await;
    f.device(&alice, "A2").await;
    let room = f.room(&alice).await;
    f.remote_member(user_id!("@carol:there.example"), &room, true).await;
    (f, alice)
}

#[tokio::test]
async fn a_destination_is_told_the_newest_state_of_each_device_as_a_chain() {
    let (f, alice) = scene().await;
    f.upload(&alice, "A1").await;
    f.upload(&alice, "A2").await;
    f.upload(&alice, "A1").await;
    let told = deliver(&f, 10).await;
    assert_eq!(told.iter().map(|edu| edu.0.as_str()).collect::<Vec<_>>(), ["A2", "A1"]);
    assert_eq!(told[0].2, [] as [u64; 0]);
    assert_eq!(told[1].2, [told[0].1]);
    assert!(deliver(&f, 10).await.is_empty());

    let user = alice.clone();
    f.write(move |txn| device_removed(txn, &user, "A2".into())).await;
    let gone = deliver(&f, 10).await;
    assert_eq!((gone[0].0.as_str(), &gone[0].2, gone[0].3), ("A2", &vec![told[1].1], true));
}

#[tokio::test]
async fn an_answer_that_is_cut_short_goes_on_where_it_stopped() {
    let (f, alice) = scene().await;
    f.upload(&alice, "A1").await;
    f.upload(&alice, "A2").await;
    assert!(f.read(|view| device_list_edus(view, there(), crate::peers::Route::Link, 1)).more);
    assert_eq!(deliver(&f, 1).await[0].0, "A1");
    assert_eq!(deliver(&f, 1).await[0].0, "A2");
    assert!(!f.read(|view| device_list_edus(view, there(), crate::peers::Route::Link, 1)).more);
}

#[tokio::test]
async fn servers_that_share_no_room_are_told_nothing() {
    let f = Fixture::new();
    let alice = f.user("alice", "A").await;
    f.upload(&alice, "A").await;
    assert!(deliver(&f, 10).await.is_empty());
    let room = f.room(&alice).await;
    f.remote_member(user_id!("@carol:there.example"), &room, true).await;
    // Who comes to share a room asks for the list; what is behind the cursor is not owed any more.
    assert!(deliver(&f, 10).await.is_empty());
}

#[tokio::test]
async fn what_changes_while_it_is_on_its_way_is_told_again() {
    let (f, alice) = scene().await;
    f.upload(&alice, "A1").await;
    let on_its_way = f.read(|view| device_list_edus(view, there(), crate::peers::Route::Link, 10));
    let user = alice.clone();
    f.write(move |txn| device_removed(txn, &user, "A1".into())).await;
    // Whether its acknowledgement arrives or not.
    assert!(
        serde_json::to_string(&f.read(|view| device_list_edus(view, there(), crate::peers::Route::Link, 10)).edus)
            .unwrap()
            .contains("deleted")
    );
    f.write(move |txn| device_lists_delivered(txn, there(), &on_its_way)).await;
    let told = deliver(&f, 10).await;
    assert_eq!((told[0].0.as_str(), told[0].2.len(), told[0].3), ("A1", 1, true));
}

#[tokio::test]
async fn co_members_may_ask_about_users_they_share_a_room_with_and_contacts_about_all() {
    let (f, alice) = scene().await;
    f.upload(&alice, "A1").await;
    let bob = f.user("bob", "B").await;
    f.upload(&bob, "B").await;
    let keys = &f.node.keys;
    let devices = keys.user_devices(there(), Audience::CoMembers, &alice).unwrap();
    assert_eq!(devices.devices.len(), 1);
    assert_eq!(devices.devices[0].device_display_name.as_deref(), Some(format!("A1 of {alice}").as_str()));
    assert!(u64::from(devices.stream_id) > 0);
    assert!(keys.user_devices(there(), Audience::CoMembers, &bob).is_err());
    assert_eq!(keys.user_devices(there(), Audience::Contact, &bob).unwrap().devices.len(), 1);
    assert!(keys.user_devices(there(), Audience::Contact, &f.id("nobody")).is_err());
    assert!(keys.user_devices(there(), Audience::Contact, user_id!("@carol:there.example")).is_err());
}

#[tokio::test]
async fn a_claim_of_a_peer_takes_the_key_away() {
    let (f, alice) = scene().await;
    let mut request = upload_keys::v3::Request::new();
    let id = "signed_curve25519:AAAA";
    request.one_time_keys.insert(id.try_into().unwrap(), raw(&json!({ "key": "k1" })));
    f.node.keys.upload(&alice, "A1".into(), request).await.unwrap();
    let one = [("A1".into(), OneTimeKeyAlgorithm::SignedCurve25519)].into_iter().collect();
    let claims: Claims = [(alice.clone(), one)].into_iter().collect();
    let claim = |server| f.node.keys.claim_from(server, Audience::CoMembers, claims.clone());
    assert!(claim(server_name!("elsewhere.example")).await.unwrap().is_empty());
    let claimed = claim(there()).await.unwrap();
    assert_eq!(claimed[&alice].len(), 1);
    assert!(claim(there()).await.unwrap().is_empty());
}
