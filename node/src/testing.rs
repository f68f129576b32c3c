//! What unit tests stand on: a core in memory, on the test's own thread.

use std::sync::atomic::{AtomicU64, Ordering};

use millpond_store::{Options, Store, rows::RoomShort};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, UserId, api::client::room::create_room,
    events::TimelineEventType,
};
use serde_json::json;

use crate::{
    Core,
    clock::Clock,
    config::Config,
    identity::Identity,
    notify::Notifier,
    rooms::{Action, ClientTxn, Rooms},
};

/// A core with its store in memory, its clock at one second, its keys and files in `data_dir`.
pub fn core_in(data_dir: &std::path::Path) -> Core {
    let notifier = Notifier::default();
    let commits = notifier.clone();
    let observer = Box::new(move |commit: &millpond_store::Commit| commits.commit(commit));
    let store = Store::in_memory(Options { inline: true, observer, ..Options::default() }).unwrap();
    let identity = Identity::load_or_create(data_dir).unwrap();
    Core::new(store, identity, notifier, Clock::from_fn(|| 1000), Config::new(data_dir.to_owned()))
}

/// A core for tests that need no files later.
pub fn core() -> Core {
    core_in(tempfile::tempdir().unwrap().path())
}

/// The id of a user of `core`'s node.
pub fn user(core: &Core, name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:{}", core.identity().server_name())).unwrap()
}

/// A public room with Alice, who made it, and Bob; both are users of this node.
pub struct Room {
    /// What it stands on.
    pub core: Core,
    /// The rooms.
    pub rooms: Rooms,
    /// The creator.
    pub alice: OwnedUserId,
    /// The other member.
    pub bob: OwnedUserId,
    /// The room.
    pub room_id: OwnedRoomId,
    sent: AtomicU64,
}

impl Room {
    /// Makes it.
    pub async fn new() -> Self {
        let core = core();
        let (alice, bob) = (user(&core, "alice"), user(&core, "bob"));
        let rooms = Rooms::new(core.clone());
        let mut request = create_room::v3::Request::new();
        request.preset = Some(create_room::v3::RoomPreset::PublicChat);
        let room_id = rooms.create(&alice, request).await.unwrap();
        let extra = CanonicalJsonObject::new();
        rooms.change_membership(&bob, &room_id, &bob, Action::Join, extra).await.unwrap();
        Self { core, rooms, alice, bob, room_id, sent: AtomicU64::new(0) }
    }

    /// The room's number.
    pub fn short(&self) -> RoomShort {
        crate::rooms::rows::room_short(self.core.snapshot().unwrap().view(), &self.room_id).unwrap().unwrap()
    }

    /// Sends `m.room.message` events with a content.
    pub async fn send(&self, sender: &UserId, content: serde_json::Value) -> OwnedEventId {
        let txn_id = format!("t{}", self.sent.fetch_add(1, Ordering::Relaxed));
        let txn = ClientTxn { device_id: "D".into(), txn_id: txn_id.as_str().into() };
        let kind = TimelineEventType::RoomMessage;
        self.rooms.send(sender, txn, &self.room_id, kind, &content.to_string()).await.unwrap().event_id
    }

    /// Sends a text.
    pub async fn say(&self, sender: &UserId, text: &str) -> OwnedEventId {
        self.send(sender, json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Sends a text into a thread.
    pub async fn reply(&self, sender: &UserId, root: &EventId, text: &str) -> OwnedEventId {
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        self.send(sender, json!({ "msgtype": "m.text", "body": text, "m.relates_to": relation })).await
    }

    /// Redacts an event.
    pub async fn redact(&self, sender: &UserId, event: &EventId) {
        let txn_id = format!("t{}", self.sent.fetch_add(1, Ordering::Relaxed));
        let txn = ClientTxn { device_id: "D".into(), txn_id: txn_id.as_str().into() };
        self.rooms.redact(sender, txn, &self.room_id, event, None).await.unwrap();
    }
}
