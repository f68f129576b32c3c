//! The other server: its keys, and the PDUs that it signs.

use millpond_matrix::{
    CheckedPdu,
    build::{self, EventDraft, Signer},
    check::RawPdu,
    rules::rules,
};
use millpond_node::{
    NodeHandle,
    identity::Identity,
    rooms::{reader::StoredRoom, rows},
};
use millpond_store::{job, rows::Peer as PeerRow, tables};
use ruma::{CanonicalJsonObject, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, events::TimelineEventType};
use serde_json::{Value, value::RawValue};

/// A server that the node is linked with; it sends, and takes nothing.
#[derive(Clone)]
pub struct Peer {
    identity: Identity,
}

impl Peer {
    pub fn new() -> Self {
        Self { identity: Identity::load_or_create(tempfile::tempdir().unwrap().path()).unwrap() }
    }

    pub fn name(&self) -> OwnedServerName {
        self.identity.server_name().to_owned()
    }

    pub fn user(&self, name: &str) -> OwnedUserId {
        format!("@{name}:{}", self.name()).try_into().unwrap()
    }

    /// Lets `node` know the peer as linked, with its keys.
    pub async fn link(&self, node: &NodeHandle) -> Result<(), millpond_node::Error> {
        let name = self.name();
        let document = self.identity.key_document().as_bytes().to_vec();
        let link = job(
            |_| Ok::<_, millpond_node::Error>(()),
            move |(), txn| {
                txn.put(tables::PEERS, &*name, &PeerRow { linked: true, ..PeerRow::default() })?;
                txn.put(tables::KEY_DOCUMENTS, &*name, &document)
            },
        );
        node.core.write(link).await.map(drop)
    }

    /// The next event of a room, signed by the peer, whether or not it is allowed.
    pub fn event(&self, node: &NodeHandle, room_id: &RoomId, draft: Draft<'_>) -> CheckedPdu {
        let snapshot = node.core.snapshot().unwrap();
        let view = snapshot.view();
        let (short, room) = rows::room(view, room_id).unwrap().unwrap();
        let content: CanonicalJsonObject = serde_json::from_value(draft.content).unwrap();
        let event = EventDraft {
            state_key: draft.state_key,
            ..EventDraft::new(draft.kind, content, draft.sender.clone(), node.core.clock().now())
        };
        let signer = Signer { server: self.identity.server_name(), key: self.identity.signing_key() };
        let rules = rules(&room.version).unwrap();
        build::next(&StoredRoom::new(view, short, &room), rules, room_id, event, &signer).unwrap()
    }

    /// Hands an event to the node, as a transaction of its does.
    pub async fn stage(&self, node: &NodeHandle, pdu: &CheckedPdu) -> Result<(), millpond_node::Error> {
        node.inbox.stage(&self.name(), &[RawValue::from_string(pdu.json().to_owned()).unwrap()]).await
    }
}

/// What the peer's user sends.
pub struct Draft<'a> {
    pub kind: TimelineEventType,
    pub state_key: Option<String>,
    pub content: Value,
    pub sender: &'a OwnedUserId,
}

impl<'a> Draft<'a> {
    pub fn join(sender: &'a OwnedUserId) -> Self {
        let content = serde_json::json!({ "membership": "join" });
        Self { kind: TimelineEventType::RoomMember, state_key: Some(sender.to_string()), content, sender }
    }

    pub fn message(sender: &'a OwnedUserId, body: &str) -> Self {
        let content = serde_json::json!({ "msgtype": "m.text", "body": body });
        Self { kind: TimelineEventType::RoomMessage, state_key: None, content, sender }
    }
}

/// The id of an event of a room of the default version.
pub fn event_id(json: &str) -> OwnedEventId {
    let rules = rules(&millpond_matrix::rules::DEFAULT).unwrap();
    let pdu = RawPdu::parse(json).unwrap();
    pdu.event_id(rules).unwrap()
}
