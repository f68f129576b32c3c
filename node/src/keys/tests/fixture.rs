//! A node in memory with local users, and members from elsewhere written straight into the tables.

use std::sync::atomic::{AtomicU64, Ordering};

use millpond_matrix::signing::{Ed25519KeyPair, sign_json};
use millpond_store::{Options, Position, Store, View, WriteTxn, job, rows, tables};
use ruma::{
    CanonicalJsonObject, DeviceId, OwnedRoomId, OwnedUserId, UserId,
    api::client::{
        keys::upload_keys,
        room::create_room::v3::{Request as CreateRoom, RoomPreset},
    },
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{
    Core, Error, NodeHandle,
    clock::Clock,
    config::Config,
    identity::Identity,
    notify::Notifier,
    rooms::{Action, current},
};

pub(crate) struct Fixture {
    pub(crate) node: NodeHandle,
    _data_dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let notifier = Notifier::default();
        let observer = notifier.clone();
        let observer = Box::new(move |commit: &millpond_store::Commit| observer.commit(commit));
        let store = Store::in_memory(Options { inline: true, observer, ..Options::default() }).unwrap();
        // Ticks at each look: the id of a room is the hash of its create event, time included.
        let now = AtomicU64::new(1_700_000_000_000);
        let clock = Clock::from_fn(move || now.fetch_add(1, Ordering::Relaxed));
        let data_dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(data_dir.path()).unwrap();
        let config = Config::new(data_dir.path().to_owned());
        let core = Core::new(store, identity, notifier, clock, config);
        Self { node: NodeHandle::new(core), _data_dir: data_dir }
    }

    pub(crate) fn id(&self, name: &str) -> OwnedUserId {
        format!("@{name}:{}", self.node.core.identity().server_name()).try_into().unwrap()
    }

    /// A local account with a device.
    pub(crate) async fn user(&self, name: &str, device: &str) -> OwnedUserId {
        let user = self.id(name);
        self.device(&user, device).await;
        user
    }

    pub(crate) async fn device(&self, user: &UserId, device: &str) {
        let (user, device) = (user.to_owned(), <&DeviceId>::from(device).to_owned());
        self.write(move |txn| {
            let account = rows::Account { password_hash: None, created_at_ms: 0, admin: false, deactivated: false };
            txn.put(tables::ACCOUNTS, &user, &account)?;
            let name = Some(format!("{device} of {user}"));
            let row = rows::Device { display_name: name, ..rows::Device::default() };
            txn.put(tables::DEVICES, (&user, &device), &row)
        })
        .await;
    }

    /// Uploads signed device keys.
    pub(crate) async fn upload(&self, user: &UserId, device: &str) -> Ed25519KeyPair {
        let pair = key_pair(device);
        let mut request = upload_keys::v3::Request::new();
        request.device_keys = Some(raw(&device_keys(user, device, &pair)));
        self.node.keys.upload(user, device.into(), request).await.unwrap();
        pair
    }

    pub(crate) async fn room(&self, creator: &UserId) -> OwnedRoomId {
        let mut request = CreateRoom::new();
        request.preset = Some(RoomPreset::PublicChat);
        self.node.rooms.create(creator, request).await.unwrap()
    }

    pub(crate) async fn act(&self, user: &UserId, room: &OwnedRoomId, action: Action) {
        self.node.rooms.change_membership(user, room, user, action, CanonicalJsonObject::new()).await.unwrap();
    }

    /// Lets a user of another server be joined to a room, or leave it.
    pub(crate) async fn remote_member(&self, user: &UserId, room: &OwnedRoomId, joined: bool) {
        let (user, room) = (user.to_owned(), room.clone());
        self.write(move |txn| {
            let short = crate::rooms::rows::room_short(txn.view(), &room)?.unwrap();
            // Any member event that says `join` does.
            let create = txn.view().scan(tables::ROOM_STATE, (short, "m.room.member"))?.next().unwrap()?;
            current::change(txn, short, "m.room.member", user.as_str(), joined.then_some(create.1))
        })
        .await;
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        mut write: impl FnMut(&mut WriteTxn<'_>) -> Result<T, millpond_store::Error> + Send + 'static,
    ) -> T {
        self.node.core.write(job(|_| Ok::<_, Error>(()), move |(), txn| write(txn))).await.unwrap().0
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(View<'_>) -> Result<T, millpond_store::Error>) -> T {
        read(self.node.core.snapshot().unwrap().view()).unwrap()
    }

    pub(crate) fn position(&self) -> Position {
        self.read(|view| view.position())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let report = millpond_store::check::check(self.node.core.snapshot().unwrap().view()).unwrap();
            let own: Vec<_> = report.findings.iter().filter(|finding| !finding.contains("member")).collect();
            assert!(own.is_empty(), "{own:?}");
        }
    }
}

pub(crate) fn key_pair(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), name.to_owned()).unwrap()
}

pub(crate) fn public(pair: &Ed25519KeyPair) -> String {
    ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(pair.public_key()).encode()
}

pub(crate) fn signed(mut object: Value, signer: &UserId, pair: &Ed25519KeyPair) -> Value {
    let mut canonical: CanonicalJsonObject = serde_json::from_value(object.take()).unwrap();
    sign_json(signer.as_str(), pair, &mut canonical).unwrap();
    serde_json::to_value(canonical).unwrap()
}

pub(crate) fn device_keys(user: &UserId, device: &str, pair: &Ed25519KeyPair) -> Value {
    let keys = json!({
        "user_id": user, "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): public(pair), format!("curve25519:{device}"): public(pair) },
    });
    signed(keys, user, pair)
}

pub(crate) fn raw<T>(value: &Value) -> Raw<T> {
    Raw::from_json_string(value.to_string()).unwrap()
}
