//! Key packs between two nodes: what one makes is what the other answers its clients from.

use std::collections::BTreeMap;

use millpond_store::{rows::Peer, tables};
use ruma::{
    OneTimeKeyAlgorithm, OwnedServerName, OwnedUserId,
    api::client::keys::{claim_keys, get_keys, upload_keys},
};
use serde_json::json;

use super::fixture::{Fixture, raw};
use crate::{
    Error,
    keys::{
        Audience, Keys, PackEdu, RemoteKeys, apply_pack, apply_used, device_removed, link_ended, pack_edus,
        packs_delivered,
    },
};

/// A contact that sleeps: nothing can be asked of it.
struct Asleep;

impl RemoteKeys for Asleep {
    fn devices(
        &self,
        _: OwnedUserId,
    ) -> futures::future::BoxFuture<'static, Result<ruma::api::federation::device::get_devices::v1::Response, Error>>
    {
        Box::pin(async { Err(Error::unreachable("asleep")) })
    }
    fn query(
        &self,
        _: &ruma::ServerName,
        _: BTreeMap<OwnedUserId, Vec<ruma::OwnedDeviceId>>,
    ) -> futures::future::BoxFuture<'static, Result<ruma::api::federation::keys::get_keys::v1::Response, Error>> {
        Box::pin(async { Err(Error::unreachable("asleep")) })
    }
    fn claim(
        &self,
        _: &ruma::ServerName,
        _: crate::keys::Claims,
    ) -> futures::future::BoxFuture<'static, Result<crate::keys::Claimed, Error>> {
        Box::pin(async { Err(Error::unreachable("asleep")) })
    }
    fn is_up(&self, _: &ruma::ServerName) -> bool {
        false
    }
    fn audience(&self, _: &ruma::ServerName) -> Audience {
        Audience::Contact
    }
}

/// Alice's node, Bob's node, and Alice with one device.
struct Scene {
    a: Fixture,
    b: Fixture,
    alice: OwnedUserId,
    bob: OwnedUserId,
}

impl Scene {
    async fn new(one_time_keys: usize) -> Self {
        let (a, b) = (Fixture::new(), Fixture::new());
        let (alice, bob) = (a.user("alice", "A").await, b.user("bob", "B").await);
        for (node, other) in [(&a, server(&b)), (&b, server(&a))] {
            node.write(move |txn| txn.put(tables::PEERS, &*other, &Peer { linked: true, ..Peer::default() })).await;
        }
        a.upload(&alice, "A").await;
        let scene = Self { a, b, alice, bob };
        scene.upload_keys(0..one_time_keys, "F1").await;
        scene
    }

    fn a_keys(&self) -> Keys {
        Keys::new(self.a.node.core.clone(), std::sync::Arc::new(Asleep))
    }

    fn b_keys(&self) -> Keys {
        Keys::new(self.b.node.core.clone(), std::sync::Arc::new(Asleep))
    }

    async fn upload_keys(&self, one_time: std::ops::Range<usize>, fallback: &str) {
        let mut request = upload_keys::v3::Request::new();
        for n in one_time {
            let id = format!("signed_curve25519:K{n:03}");
            request.one_time_keys.insert((*id).try_into().unwrap(), raw(&json!({ "key": format!("one {n}") })));
        }
        let id = format!("signed_curve25519:{fallback}");
        request.fallback_keys.insert((*id).try_into().unwrap(), raw(&json!({ "key": fallback, "fallback": true })));
        self.a.node.keys.upload(&self.alice, "A".into(), request).await.unwrap();
    }

    /// Makes what is due and takes it over to Bob's node; says how many packs that were.
    async fn carry(&self) -> usize {
        while self.a_keys().tend_packs_once().await.unwrap() {}
        let to = server(&self.b);
        let packs = self.a.read(|view| pack_edus(view, &to, 100));
        let from = server(&self.a);
        self.take(&packs.edus, &from).await;
        let (count, noted) = (packs.edus.len(), packs.clone());
        self.a.write(move |txn| packs_delivered(txn, &to, &noted)).await;
        count
    }

    async fn take(&self, edus: &[String], from: &OwnedServerName) {
        for edu in edus {
            let Some(PackEdu::Pack(pack)) = PackEdu::parse(from, edu) else { panic!("{edu}") };
            let from = from.clone();
            self.b.write(move |txn| apply_pack(txn, &from, &pack)).await;
        }
    }

    /// Claims a key of Alice's device at Bob's node; gives its id.
    async fn claim(&self) -> Option<String> {
        let device = [("A".into(), OneTimeKeyAlgorithm::SignedCurve25519)].into_iter().collect();
        let claims = [(self.alice.clone(), device)].into_iter().collect();
        let answer = self.b_keys().claim(claim_keys::v3::Request::new(claims)).await.unwrap();
        let keys = answer.one_time_keys.get(&self.alice)?.values().next()?;
        assert!(answer.failures.is_empty());
        Some(keys.keys().next()?.key_name().to_string())
    }

    /// Brings Alice's node the news of used keys.
    async fn report(&self) {
        let (from, to) = (server(&self.b), server(&self.a));
        let owed: Vec<(u64, String)> = self.b.read(|view| {
            let rows = view.scan(tables::OUTBOX, (&*to,))?;
            rows.map(|row| {
                row.map(|((_, position), item)| match item {
                    millpond_store::rows::OutboxItem::Edu(json) => (position, json),
                    other => panic!("{other:?}"),
                })
            })
            .collect()
        });
        for (position, json) in owed {
            let Some(PackEdu::Used(used)) = PackEdu::parse(&from, &json) else { panic!("{json}") };
            let (from, core) = (from.clone(), self.a.node.core.clone());
            self.a.write(move |txn| apply_used(txn, core.identity(), &from, &used)).await;
            let to = to.clone();
            self.b.write(move |txn| txn.remove(tables::OUTBOX, (&*to, position))).await;
        }
    }

    async fn query(&self) -> get_keys::v3::Response {
        let mut request = get_keys::v3::Request::new();
        request.device_keys.insert(self.alice.clone(), Vec::new());
        self.b_keys().query(&self.bob, request).await.unwrap()
    }
}

fn server(f: &Fixture) -> OwnedServerName {
    f.node.core.identity().server_name().to_owned()
}

fn device() -> ruma::OwnedDeviceId {
    "A".into()
}

fn left(f: &Fixture, user: &OwnedUserId) -> u64 {
    let counts = f.read(|view| crate::keys::key_counts(view, user, "A".into()));
    counts.one_time.values().sum()
}

#[tokio::test]
async fn keys_of_a_sleeping_contact_are_answered_from_its_pack() {
    let scene = Scene::new(20).await;
    assert!(scene.query().await.failures.contains_key(server(&scene.a).as_str()));
    assert_eq!(scene.claim().await, None);
    assert_eq!(scene.carry().await, 1);
    let answer = scene.query().await;
    assert!(answer.failures.is_empty(), "{:?}", answer.failures);
    assert_eq!(answer.device_keys[&scene.alice].len(), 1);
    assert_eq!(left(&scene.a, &scene.alice), 15);
    assert_eq!(scene.claim().await.as_deref(), Some("K000"));
    assert_eq!(scene.claim().await.as_deref(), Some("K001"));
    // Nothing changed: no new pack.
    assert_eq!(scene.carry().await, 0);
}

#[tokio::test]
async fn an_exhausted_pack_gives_the_fallback_key_and_is_filled_again_when_its_owner_hears() {
    let scene = Scene::new(10).await;
    scene.carry().await;
    for n in 0..5 {
        assert_eq!(scene.claim().await, Some(format!("K00{n}")));
    }
    for _ in 0..3 {
        assert_eq!(scene.claim().await.as_deref(), Some("F1"));
    }
    scene.report().await;
    let counts = scene.a.read(|view| crate::keys::key_counts(view, &scene.alice, "A".into()));
    assert!(counts.unused_fallback.is_empty(), "the client makes a new fallback key");
    scene.upload_keys(10..40, "F2").await;
    assert_eq!(scene.carry().await, 1);
    assert_eq!(scene.claim().await.as_deref(), Some("K005"), "the oldest that are left");
    for _ in 0..4 {
        scene.claim().await;
    }
    assert_eq!(scene.claim().await.as_deref(), Some("F2"));
}

#[tokio::test]
async fn a_key_is_given_out_once_though_its_pack_comes_again() {
    let scene = Scene::new(10).await;
    while scene.a_keys().tend_packs_once().await.unwrap() {}
    let (from, to) = (server(&scene.a), server(&scene.b));
    let packs = scene.a.read(|view| pack_edus(view, &to, 100));
    scene.take(&packs.edus, &from).await;
    assert_eq!(scene.claim().await.as_deref(), Some("K000"));
    // The acknowledgement was lost.
    scene.take(&packs.edus, &from).await;
    for n in 1..5 {
        assert_eq!(scene.claim().await, Some(format!("K00{n}")));
    }
    assert_eq!(scene.claim().await.as_deref(), Some("F1"));
}

#[tokio::test]
async fn a_removed_device_goes_with_the_next_pack() {
    let scene = Scene::new(5).await;
    scene.a.device(&scene.alice, "A2").await;
    scene.a.upload(&scene.alice, "A2").await;
    scene.carry().await;
    assert_eq!(scene.query().await.device_keys[&scene.alice].len(), 2);
    let alice = scene.alice.clone();
    scene.a.write(move |txn| device_removed(txn, &alice, "A".into())).await;
    assert_eq!(scene.carry().await, 1);
    let devices = scene.query().await.device_keys.remove(&scene.alice).unwrap();
    assert_eq!(devices.keys().map(|device| device.as_str()).collect::<Vec<_>>(), ["A2"]);
    assert_eq!(scene.claim().await, None);
}

#[tokio::test]
async fn at_most_a_thousand_keys_of_a_device_are_outstanding() {
    let scene = Scene::new(10).await;
    let (alice, out) = (scene.alice.clone(), 998);
    scene.a.write(move |txn| txn.put(tables::KEY_PACKS_OUT, (&*alice, &*device()), &out)).await;
    scene.carry().await;
    assert_eq!(left(&scene.a, &scene.alice), 8);
    assert_eq!(scene.claim().await.as_deref(), Some("K000"));
    assert_eq!(scene.claim().await.as_deref(), Some("K001"));
    assert_eq!(scene.claim().await.as_deref(), Some("F1"));
    let alice = scene.alice.clone();
    scene.a.write(move |txn| txn.put(tables::KEY_PACKS_OUT, (&*alice, &*device()), &2)).await;
}

#[tokio::test]
async fn packs_are_about_the_peers_own_users_and_end_with_the_link() {
    let scene = Scene::new(5).await;
    while scene.a_keys().tend_packs_once().await.unwrap() {}
    let to = server(&scene.b);
    let packs = scene.a.read(|view| pack_edus(view, &to, 100));
    assert!(PackEdu::parse(ruma::server_name!("liar.example"), &packs.edus[0]).is_none());
    scene.carry().await;
    let from = server(&scene.a);
    scene.b.write(move |txn| link_ended(txn, &from)).await;
    assert_eq!(scene.claim().await, None);
    scene.a.write(move |txn| link_ended(txn, &to)).await;
    assert_eq!(scene.a.read(|view| view.get(tables::KEY_PACKS_OUT, (&*scene.alice, &*device()))), None);
}

#[tokio::test]
async fn a_peer_cannot_report_keys_that_it_was_not_given() {
    let scene = Scene::new(20).await;
    scene.carry().await;
    let json = json!({ "edu_type": "org.millpond.key_pack_used", "content": { "user_id": scene.alice, "device_id": "A",
        "one_time": ["signed_curve25519:K010", "signed_curve25519:K011"], "fallback": ["signed_curve25519:nothing"] } });
    let from = server(&scene.b);
    let Some(PackEdu::Used(used)) = PackEdu::parse(&from, &json.to_string()) else { panic!() };
    let core = scene.a.node.core.clone();
    scene.a.write(move |txn| apply_used(txn, core.identity(), &from, &used)).await;
    assert_eq!(scene.carry().await, 0);
    assert_eq!(left(&scene.a, &scene.alice), 15);
}
