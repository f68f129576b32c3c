use std::collections::BTreeMap;

use millpond_store::{Position, Topic, rows::OutboxItem, tables};
use ruma::{
    OwnedUserId, UserId,
    api::federation::transactions::edu::{DirectDeviceContent, Edu},
    server_name,
    to_device::DeviceIdOrAllDevices,
    user_id,
};
use serde_json::{Value, json};

use super::{Messages, Request, acknowledge, has_acknowledgeable, pending, receive_direct_to_device};
use crate::keys::tests::fixture::{Fixture, raw};

fn to(user: &UserId, device: &str, body: &str) -> Messages {
    let device = DeviceIdOrAllDevices::try_from(device).unwrap();
    BTreeMap::from([(user.to_owned(), BTreeMap::from([(device, raw(&json!({ "body": body })))]))])
}

async fn send(f: &Fixture, from: &UserId, txn_id: &str, messages: Messages) {
    let request = Request::new_raw("m.test".into(), txn_id.into(), messages);
    f.node.to_device.send(from, "A".into(), request).await.unwrap();
}

fn bodies(f: &Fixture, user: &UserId, device: &str, after: Position, limit: usize) -> Vec<String> {
    let messages = f.read(|view| pending(view, user, device.into(), after, limit));
    let body = |json: &str| {
        let event: Value = serde_json::from_str(json).unwrap();
        assert_eq!(event["type"], "m.test");
        assert!(event["sender"].is_string());
        event["content"]["body"].as_str().unwrap().to_owned()
    };
    messages.iter().map(|(_, event)| body(event.json().get())).collect()
}

#[tokio::test]
async fn messages_wait_in_order_until_the_device_says_that_it_got_them() {
    let f = Fixture::new();
    let (alice, bob) = (f.user("alice", "A").await, f.user("bob", "B").await);
    let waiting = f.node.core.notifier().register([Topic::User(bob.clone())]);
    for n in 0..3 {
        send(&f, &alice, &format!("t{n}"), to(&bob, "B", &format!("m{n}"))).await;
    }
    waiting.changed().await;
    assert_eq!(bodies(&f, &bob, "B", Position(0), 10), ["m0", "m1", "m2"]);
    assert_eq!(bodies(&f, &bob, "B", Position(0), 2), ["m0", "m1"]);
    let shown = f.read(|view| pending(view, &bob, "B".into(), Position(0), 2));
    let up_to = shown.last().unwrap().0;
    assert!(f.read(|view| has_acknowledgeable(view, &bob, "B".into(), up_to)));
    let user = bob.clone();
    f.write(move |txn| acknowledge(txn, &user, "B".into(), up_to)).await;
    assert!(!f.read(|view| has_acknowledgeable(view, &bob, "B".into(), up_to)));
    assert_eq!(bodies(&f, &bob, "B", up_to, 10), ["m2"]);
    assert_eq!(bodies(&f, &bob, "B", Position(0), 10), ["m2"]);
}

#[tokio::test]
async fn the_same_transaction_id_sends_once() {
    let f = Fixture::new();
    let (alice, bob) = (f.user("alice", "A").await, f.user("bob", "B").await);
    send(&f, &alice, "t", to(&bob, "B", "once")).await;
    send(&f, &alice, "t", to(&bob, "B", "twice")).await;
    assert_eq!(bodies(&f, &bob, "B", Position(0), 10), ["once"]);
}

#[tokio::test]
async fn a_star_means_all_devices_and_unknown_ones_are_nobodys() {
    let f = Fixture::new();
    let (alice, bob) = (f.user("alice", "A").await, f.user("bob", "B1").await);
    f.device(&bob, "B2").await;
    send(&f, &alice, "t1", to(&bob, "*", "all")).await;
    send(&f, &alice, "t2", to(&bob, "B3", "none")).await;
    assert_eq!(bodies(&f, &bob, "B1", Position(0), 10), ["all"]);
    assert_eq!(bodies(&f, &bob, "B2", Position(0), 10), ["all"]);
    f.device(&bob, "B3").await;
    assert!(bodies(&f, &bob, "B3", Position(0), 10).is_empty());
}

#[tokio::test]
async fn messages_for_elsewhere_are_owed_to_their_server() {
    let f = Fixture::new();
    let alice = f.user("alice", "A").await;
    let mut messages = to(user_id!("@carol:there.example"), "C", "hello");
    messages.extend(to(user_id!("@dave:there.example"), "*", "hello"));
    let there = server_name!("there.example");
    let waiting = f.node.core.notifier().register([Topic::Outbox(there.to_owned())]);
    send(&f, &alice, "t", messages.clone()).await;
    waiting.changed().await;
    send(&f, &alice, "t", messages).await;
    let owed: Vec<_> = f.read(|view| view.scan(tables::OUTBOX, (there,))?.collect::<Result<_, _>>());
    assert_eq!(owed.len(), 1);
    let OutboxItem::Edu(json) = &owed[0].1 else { panic!("{owed:?}") };
    let Edu::DirectToDevice(content) = serde_json::from_str(json).unwrap() else { panic!("{json}") };
    assert_eq!((content.sender.as_str(), content.messages.len()), (alice.as_str(), 2));
    assert!(content.message_id.as_str().len() <= 32);
}

async fn receive(f: &Fixture, origin: &str, sender: &str, id: &str, messages: Messages) -> bool {
    let origin = ruma::OwnedServerName::try_from(origin).unwrap();
    let sender = OwnedUserId::try_from(sender).unwrap();
    let mut edu = DirectDeviceContent::new(sender, "m.test".into(), id.into());
    edu.messages = messages;
    f.write(move |txn| receive_direct_to_device(txn, &origin, &edu)).await
}

#[tokio::test]
async fn a_peers_message_is_taken_once_and_only_from_its_own_users() {
    let f = Fixture::new();
    let bob = f.user("bob", "B").await;
    let carol = "@carol:there.example";
    assert!(receive(&f, "there.example", carol, "1", to(&bob, "B", "one")).await);
    assert!(!receive(&f, "there.example", carol, "1", to(&bob, "B", "again")).await);
    assert!(!receive(&f, "elsewhere.example", carol, "2", to(&bob, "B", "forged")).await);
    assert!(!receive(&f, "there.example", carol, &"x".repeat(200), to(&bob, "B", "long")).await);
    assert!(receive(&f, "elsewhere.example", "@e:elsewhere.example", "1", to(&bob, "B", "two")).await);
    assert_eq!(bodies(&f, &bob, "B", Position(0), 10), ["one", "two"]);
}

#[tokio::test]
async fn old_message_ids_are_forgotten_at_last() {
    let f = Fixture::new();
    f.write(|txn| {
        for n in 0..=super::REMEMBERED {
            assert!(super::first_time(txn, server_name!("there.example"), &n.to_string())?);
        }
        Ok(())
    })
    .await;
    let remembered = f.read(|view| Ok(view.scan(tables::TO_DEVICE_SEEN, ())?.count()));
    assert_eq!(remembered as u64, super::REMEMBERED);
    assert!(!f.read(|view| view.contains(tables::TO_DEVICE_SEEN, (server_name!("there.example"), "0"))));
}
