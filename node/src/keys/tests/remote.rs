//! Lists of remote users: kept, doubted, fetched again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::{FutureExt, future::BoxFuture};
use millpond_store::tables;
use ruma::{
    OwnedDeviceId, OwnedRoomId, OwnedUserId, ServerName, UInt, UserId,
    api::{
        client::keys::{claim_keys, get_keys as client_get_keys},
        federation::{
            device::get_devices::v1::{Response, UserDevice},
            keys::get_keys,
            transactions::edu::DeviceListUpdateContent,
        },
    },
    user_id,
};
use serde_json::json;

use super::fixture::{Fixture, device_keys, key_pair, public, raw, signed};
use crate::{
    Error,
    keys::{
        Claimed, Claims, Keys, RemoteKeys, Update, apply_device_list_update, apply_signing_key_update, device_lists,
        lists,
    },
    rooms::Action,
};

/// The other server: what it answers, and how often it was asked.
#[derive(Default)]
struct There(Mutex<State>);

#[derive(Default)]
struct State {
    asleep: bool,
    stream_id: u32,
    devices: Vec<(OwnedDeviceId, serde_json::Value)>,
    master: Option<serde_json::Value>,
    asked: u32,
}

impl There {
    fn set(&self, stream_id: u32, devices: &[&str]) {
        let mut state = self.0.lock().unwrap();
        state.stream_id = stream_id;
        let user = user_id!("@carol:there.example");
        state.devices = devices.iter().map(|id| ((*id).into(), device_keys(user, id, &key_pair(id)))).collect();
    }
    fn sleep(&self, asleep: bool) {
        self.0.lock().unwrap().asleep = asleep;
    }
    fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }
    fn ask(&self) -> Result<(u32, Vec<(OwnedDeviceId, serde_json::Value)>), Error> {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        if state.asleep {
            return Err(Error::unreachable("asleep"));
        }
        Ok((state.stream_id, state.devices.clone()))
    }
}

struct Way(Arc<There>);

impl RemoteKeys for Way {
    fn devices(&self, user: OwnedUserId) -> BoxFuture<'static, Result<Response, Error>> {
        let answer = self.0.ask().map(|(stream_id, devices)| {
            let mut response = Response::new(user, UInt::from(stream_id));
            response.devices = devices.iter().map(|(id, keys)| UserDevice::new(id.clone(), raw(keys))).collect();
            response
        });
        async { answer }.boxed()
    }
    fn query(
        &self,
        _: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> BoxFuture<'static, Result<get_keys::v1::Response, Error>> {
        let master = self.0.0.lock().unwrap().master.clone();
        let answer = self.0.ask().map(|(_, devices)| {
            let devices: BTreeMap<_, _> = devices.iter().map(|(id, keys)| (id.clone(), raw(keys))).collect();
            // Also what nobody asked for.
            let all = users.into_keys().chain([user_id!("@dave:there.example").to_owned()]);
            let mut response = get_keys::v1::Response::new(all.map(|user| (user, devices.clone())).collect());
            response.master_keys =
                master.iter().map(|key| (user_id!("@carol:there.example").to_owned(), raw(key))).collect();
            response
        });
        async { answer }.boxed()
    }
    fn claim(&self, _: &ServerName, claims: Claims) -> BoxFuture<'static, Result<Claimed, Error>> {
        let answer = self.0.ask().map(|_| {
            let mut claimed = Claimed::new();
            for (user, devices) in claims {
                for device in devices.into_keys().chain(["EXTRA".into()]) {
                    let key = raw(&json!({ "key": "k" }));
                    let keys = BTreeMap::from([("signed_curve25519:1".try_into().unwrap(), key)]);
                    claimed.entry(user.clone()).or_default().insert(device, keys);
                }
            }
            claimed
        });
        async { answer }.boxed()
    }
}

struct Scene {
    f: Fixture,
    there: Arc<There>,
    alice: OwnedUserId,
    carol: OwnedUserId,
    room: OwnedRoomId,
}

impl Scene {
    async fn new() -> Self {
        let mut f = Fixture::new();
        let there = Arc::new(There::default());
        f.node.keys = Keys::new(f.node.core.clone(), Arc::new(Way(there.clone())));
        let alice = f.user("alice", "A").await;
        let room = f.room(&alice).await;
        let carol = user_id!("@carol:there.example").to_owned();
        Self { f, there, alice, carol, room }
    }

    async fn query(&self) -> client_get_keys::v3::Response {
        let mut request = client_get_keys::v3::Request::new();
        request.device_keys = BTreeMap::from([(self.carol.clone(), vec![])]);
        self.f.node.keys.query(&self.alice, request).await.unwrap()
    }

    async fn devices(&self) -> Vec<String> {
        let response = self.query().await;
        assert!(response.failures.is_empty(), "{:?}", response.failures);
        response.device_keys[&self.carol].keys().map(ToString::to_string).collect()
    }

    async fn update(&self, device: &str, stream_id: u32, prev_id: &[u32]) -> Update {
        let mut update = DeviceListUpdateContent::new(self.carol.clone(), device.into(), stream_id.into());
        update.prev_id = prev_id.iter().map(|id| UInt::from(*id)).collect();
        update.keys = Some(raw(&device_keys(&self.carol, device, &key_pair(device))));
        self.apply(self.carol.server_name(), update).await
    }

    async fn apply(&self, origin: &ServerName, update: DeviceListUpdateContent) -> Update {
        let origin = origin.to_owned();
        self.f.write(move |txn| apply_device_list_update(txn, &origin, &update)).await
    }
}

#[tokio::test]
async fn a_list_is_kept_while_a_room_is_shared_and_not_otherwise() {
    let s = Scene::new().await;
    s.there.set(1, &["C1"]);
    assert_eq!(s.devices().await, ["C1"]);
    assert_eq!(s.devices().await, ["C1"]);
    assert_eq!(s.there.asked(), 2, "nothing is kept of users who share no room");
    s.f.remote_member(&s.carol, &s.room, true).await;
    assert_eq!(s.devices().await, ["C1"]);
    assert_eq!(s.devices().await, ["C1"]);
    assert_eq!(s.there.asked(), 3);
    // Nobody owed us the updates while the room was not shared.
    s.f.remote_member(&s.carol, &s.room, false).await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(2, &["C1", "C2"]);
    assert_eq!(s.devices().await, ["C1", "C2"]);
    assert_eq!(s.there.asked(), 4);
}

#[tokio::test]
async fn updates_are_applied_in_their_order_and_a_gap_makes_the_list_stale() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(5, &["C1"]);
    assert_eq!(s.devices().await, ["C1"]);
    let since = s.f.position();
    assert_eq!(s.update("C2", 7, &[5]).await, Update::Applied);
    assert!(s.f.read(|view| device_lists(view, &s.alice, since)).changed.contains(&s.carol));
    assert_eq!(s.update("C2", 7, &[5]).await, Update::Ignored, "it came before");
    assert_eq!(s.devices().await, ["C1", "C2"]);
    let mut gone = DeviceListUpdateContent::new(s.carol.clone(), "C1".into(), UInt::from(8_u32));
    gone.prev_id = vec![UInt::from(7_u32)];
    gone.deleted = Some(true);
    assert_eq!(s.apply(s.carol.server_name(), gone).await, Update::Applied);
    assert_eq!(s.devices().await, ["C2"]);
    assert_eq!(s.there.asked(), 1);

    let since = s.f.position();
    assert_eq!(s.update("C4", 12, &[11]).await, Update::Stale);
    assert!(s.f.read(|view| device_lists(view, &s.alice, since)).changed.contains(&s.carol));
    s.there.set(12, &["C2", "C3", "C4"]);
    assert_eq!(s.devices().await, ["C2", "C3", "C4"]);
    assert_eq!(s.there.asked(), 2);
    assert_eq!(s.update("C5", 13, &[12]).await, Update::Applied);
}

#[tokio::test]
async fn updates_of_another_servers_users_and_of_unknown_lists_write_nothing() {
    let s = Scene::new().await;
    let update = DeviceListUpdateContent::new(s.carol.clone(), "C1".into(), UInt::from(1_u32));
    assert_eq!(s.apply("elsewhere.example".try_into().unwrap(), update).await, Update::Ignored);
    assert_eq!(s.update("C1", 1, &[]).await, Update::Ignored, "no room is shared");
    s.f.remote_member(&s.carol, &s.room, true).await;
    let since = s.f.position();
    assert_eq!(s.update("C1", 1, &[]).await, Update::NotKept);
    assert!(s.f.read(|view| device_lists(view, &s.alice, since)).changed.contains(&s.carol));
}

#[tokio::test]
async fn a_sleeping_servers_kept_list_is_shown_and_it_is_named_as_a_failure() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(1, &["C1"]);
    s.devices().await;
    s.there.sleep(true);
    let _ = s.f.node.keys.resync_server(s.carol.server_name()).await.unwrap_err();
    let response = s.query().await;
    assert_eq!(response.device_keys[&s.carol].len(), 1);
    assert!(response.failures.contains_key("there.example"));
}

#[tokio::test]
async fn a_link_that_comes_back_fetches_its_lists_again_and_tells_of_what_changed() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(1, &["C1"]);
    s.devices().await;
    let since = s.f.position();
    s.f.node.keys.resync_server(s.carol.server_name()).await.unwrap();
    assert!(s.there.asked() == 2);
    // Only if the keys differ; set() signs with new ones each time, so set nothing.
    assert!(s.f.read(|view| device_lists(view, &s.alice, since)).changed.is_empty());
    s.there.set(4, &["C1", "C2"]);
    s.f.node.keys.resync_server(s.carol.server_name()).await.unwrap();
    assert!(s.f.read(|view| device_lists(view, &s.alice, since)).changed.contains(&s.carol));
    assert_eq!(s.devices().await, ["C1", "C2"]);
    assert_eq!(s.there.asked(), 3);
}

#[tokio::test]
async fn a_link_that_comes_back_forgets_the_lists_of_those_who_left() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(1, &["C1"]);
    s.devices().await;
    s.f.remote_member(&s.carol, &s.room, false).await;
    s.f.node.keys.resync_server(s.carol.server_name()).await.unwrap();
    assert_eq!(s.there.asked(), 1);
    s.there.sleep(true);
    assert!(s.query().await.device_keys.is_empty());
}

#[tokio::test]
async fn answers_say_nothing_about_users_that_were_not_asked_for() {
    let s = Scene::new().await;
    s.there.set(1, &["C1"]);
    let response = s.query().await;
    assert_eq!(response.device_keys.keys().collect::<Vec<_>>(), [&s.carol]);
    let algorithm = ruma::OneTimeKeyAlgorithm::SignedCurve25519;
    let claims = BTreeMap::from([(s.carol.clone(), BTreeMap::from([("C1".into(), algorithm)]))]);
    let claimed = s.f.node.keys.claim(claim_keys::v3::Request::new(claims.clone())).await.unwrap();
    assert_eq!(claimed.one_time_keys[&s.carol].keys().collect::<Vec<_>>(), ["C1"]);
    s.there.sleep(true);
    let claimed = s.f.node.keys.claim(claim_keys::v3::Request::new(claims)).await.unwrap();
    assert!(claimed.one_time_keys.is_empty() && claimed.failures.contains_key("there.example"));
}

#[tokio::test]
async fn ones_own_signature_shows_on_the_master_key_of_somebody_nothing_is_kept_of() {
    let s = Scene::new().await;
    let public = public(&key_pair("x"));
    let keys = json!({ format!("ed25519:{public}"): public });
    s.there.0.lock().unwrap().master = Some(json!({ "user_id": s.carol, "usage": ["master"], "keys": keys }));
    let row = (s.carol.clone(), public, s.alice.clone(), "ed25519:mine".to_owned());
    s.f.write(move |txn| txn.put(tables::KEY_SIGNATURES, row.clone(), &"signature".to_owned())).await;
    let shown: serde_json::Value = serde_json::from_str(s.query().await.master_keys[&s.carol].json().get()).unwrap();
    assert_eq!(shown["signatures"], json!({ s.alice.as_str(): { "ed25519:mine": "signature" } }));
}

#[tokio::test]
async fn signing_keys_of_peers_are_taken_only_if_they_hold() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    s.there.set(1, &["C1"]);
    s.devices().await;
    let name = |pair: &_, usage: &str| {
        let public = public(pair);
        json!({ "user_id": s.carol, "usage": [usage], "keys": { format!("ed25519:{public}"): public } })
    };
    let master = key_pair("x");
    let master_signs = {
        let der = millpond_matrix::signing::Ed25519KeyPair::generate();
        let probe = millpond_matrix::signing::Ed25519KeyPair::from_der(&der, "probe".to_owned()).unwrap();
        millpond_matrix::signing::Ed25519KeyPair::from_der(&der, public(&probe)).unwrap()
    };
    let update = |master: serde_json::Value, own: serde_json::Value| {
        let mut update = ruma::api::federation::transactions::edu::SigningKeyUpdateContent::new(s.carol.clone());
        update.master_key = Some(raw(&master));
        update.self_signing_key = Some(raw(&own));
        let origin = s.carol.server_name().to_owned();
        s.f.write(move |txn| apply_signing_key_update(txn, &origin, &update))
    };
    let own = signed(name(&key_pair("y"), "self_signing"), &s.carol, &master_signs);
    assert_eq!(update(name(&master, "master"), own.clone()).await, Update::Applied);
    let shown = s.query().await;
    assert!(shown.master_keys.contains_key(&s.carol) && !shown.self_signing_keys.contains_key(&s.carol));
    assert_eq!(update(name(&master_signs, "master"), own).await, Update::Applied);
    assert!(s.query().await.self_signing_keys.contains_key(&s.carol));
}

#[tokio::test]
async fn sharing_is_unbroken_through_a_change_of_name() {
    let s = Scene::new().await;
    s.f.remote_member(&s.carol, &s.room, true).await;
    let since = s.f.position();
    let content = [("displayname".to_owned(), "Al".into())].into_iter().collect();
    s.f.node.rooms.change_membership(&s.alice, &s.room, &s.alice, Action::Join, content).await.unwrap();
    let shares = |user: &UserId| {
        s.f.read(|view| {
            let mine = lists::memberships(view, &s.alice)?;
            lists::sharing_since(view, &mine, (&s.alice, user), since)
        })
    };
    assert_eq!(shares(&s.carol), (true, true));
    s.f.remote_member(&s.carol, &s.room, false).await;
    assert_eq!(shares(&s.carol), (false, false));
    s.f.remote_member(&s.carol, &s.room, true).await;
    assert_eq!(shares(&s.carol), (true, false));
}
