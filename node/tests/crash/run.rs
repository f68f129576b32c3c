//! The busy run: accounts, rooms, members, messages, state, redactions, receipts, account data, to-device messages, a peer's
//! PDUs, and what is owed to that peer. Everything that the node answers is written into the book.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use millpond_node::{
    Core, Error, NodeHandle,
    accounts::{NewAccount, NewDevice, Session},
    clock::Clock,
    config::Config,
    identity::Identity,
    notify::Notifier,
    receipts::Kind,
    rooms::{Action, ClientTxn},
};
use millpond_store::{Options, Store, job, tables, testing::Disk};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    api::client::{
        room::create_room::v3::{Request as CreateRoom, RoomPreset},
        to_device::send_event_to_device::v3::Request as SendToDevice,
    },
    events::{StateEventType, TimelineEventType, receipt::ReceiptThread},
    to_device::DeviceIdOrAllDevices,
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    book::{Answer, Book, NONE, REFUSED, Seen, look},
    peer::{Draft, Peer},
};

/// The node and its peer, whatever disk the node runs on.
#[derive(Clone)]
pub struct Setting {
    identity: Identity,
    data_dir: Arc<tempfile::TempDir>,
    pub peer: Peer,
}

impl Setting {
    pub fn new() -> Self {
        let data_dir = Arc::new(tempfile::tempdir().unwrap());
        let identity = Identity::load_or_create(data_dir.path()).unwrap();
        Self { identity, data_dir, peer: Peer::new() }
    }

    /// Opens the node on a disk.
    pub fn open(&self, disk: Disk) -> Result<NodeHandle, millpond_store::Error> {
        let notifier = Notifier::default();
        let commits = notifier.clone();
        let observer = Box::new(move |commit: &millpond_store::Commit| commits.commit(commit));
        let store = Store::open_backend(disk, Options { inline: true, observer, ..Options::default() })?;
        let now = AtomicU64::new(1_700_000_000_000);
        let clock = Clock::from_fn(move || now.fetch_add(1, Ordering::Relaxed));
        let config = Config::new(self.data_dir.path().to_owned());
        Ok(NodeHandle::new(Core::new(store, self.identity.clone(), notifier, clock, config)))
    }
}

/// The node while it runs.
pub struct Run {
    pub node: NodeHandle,
    pub book: Book,
    disk: Disk,
    peer: Peer,
    /// What the node owes to the peer, as far as it must know.
    owed: Vec<String>,
    /// To-device messages that wait for Bob.
    waiting: usize,
    txn_ids: u64,
}

/// Alice's room, where the peer's Carol is, and a room of their own.
pub struct Cast {
    pub alice: Session,
    pub bob: Session,
    pub carol: OwnedUserId,
    pub shared: OwnedRoomId,
    pub own: OwnedRoomId,
}

impl Run {
    pub fn new(setting: &Setting, disk: Disk) -> Result<Self, millpond_store::Error> {
        let node = setting.open(disk.clone())?;
        let (book, peer) = (Book::default(), setting.peer.clone());
        Ok(Self { node, book, disk, peer, owed: Vec::new(), waiting: 0, txn_ids: 0 })
    }

    /// The whole run. An error is the power's.
    pub async fn all(&mut self, rounds: usize) -> Result<Cast, Error> {
        let cast = self.beginning().await?;
        for round in 0..rounds {
            self.local_round(&cast, round).await?;
            self.peer_round(&cast, round).await?;
            self.refusals(&cast).await?;
        }
        Ok(cast)
    }

    async fn beginning(&mut self) -> Result<Cast, Error> {
        let alice = self.account("alice").await?;
        let bob = self.account("bob").await?;
        self.peer.link(&self.node).await?;
        self.answer("link", vec![]);
        let shared = self.room(&alice.user_id).await?;
        let own = self.room(&alice.user_id).await?;
        for room in [&shared, &own] {
            self.membership(room, &bob.user_id, &bob.user_id, Action::Join).await?;
        }
        let carol = self.peer.user("carol");
        let join = self.peer.event(&self.node, &shared, Draft::join(&carol));
        self.take(&join, true).await?;
        Ok(Cast { alice, bob, carol, shared, own })
    }

    async fn local_round(&mut self, cast: &Cast, round: usize) -> Result<(), Error> {
        let (alice, bob) = (&cast.alice, &cast.bob);
        let first = self.message(alice, &cast.shared, &format!("message {round}")).await?;
        self.message(bob, &cast.own, &format!("own message {round}")).await?;
        self.topic(alice, &cast.shared, &format!("topic {round}")).await?;
        self.receipt(bob, &cast.shared, &first).await?;
        self.redact(alice, &cast.shared, &first).await?;
        self.account_data(&alice.user_id, &format!("m.test.{}", round % 2), &json!({ "round": round })).await?;
        self.send_to_device(alice, &bob.user_id, &bob.device_id.clone()).await?;
        let carol = cast.carol.clone();
        self.send_to_device(alice, &carol, "C".into()).await?;
        self.membership(&cast.own, &bob.user_id, &bob.user_id, Action::Leave).await?;
        self.membership(&cast.own, &alice.user_id, &bob.user_id, Action::Invite).await?;
        self.membership(&cast.own, &bob.user_id, &bob.user_id, Action::Join).await?;
        let guest = self.account(&format!("guest{round}")).await?;
        if round.is_multiple_of(2) {
            self.log_out(&guest).await?;
        }
        Ok(())
    }

    /// The peer sends, and takes the older half of what it is owed.
    async fn peer_round(&mut self, cast: &Cast, round: usize) -> Result<(), Error> {
        let body = format!("from afar {round}");
        let pdu = self.peer.event(&self.node, &cast.shared, Draft::message(&cast.carol, &body));
        self.take(&pdu, true).await?;
        self.acknowledge(self.owed.len() / 2).await
    }

    /// What must be refused, and leave nothing behind.
    async fn refusals(&mut self, cast: &Cast) -> Result<(), Error> {
        let stranger: OwnedUserId =
            format!("@stranger:{}", self.node.core.identity().server_name()).try_into().unwrap();
        let txn = ClientTxn { device_id: "S".into(), txn_id: "refused".into() };
        let content = json!({ "msgtype": "m.text", "body": REFUSED }).to_string();
        let kind = TimelineEventType::RoomMessage;
        refused(self.node.rooms.send(&stranger, txn, &cast.own, kind, &content).await)?;
        let content = json!({ "topic": REFUSED }).to_string();
        let send = self.node.rooms.send_state(
            &cast.bob.user_id,
            &cast.own,
            &StateEventType::RoomPowerLevels,
            String::new(),
            &content,
        );
        refused(send.await)?;
        let mallory = self.peer.user("mallory");
        let pdu = self.peer.event(&self.node, &cast.shared, Draft::message(&mallory, REFUSED));
        self.take(&pdu, false).await
    }

    async fn account(&mut self, name: &str) -> Result<Session, Error> {
        let account = NewAccount { name: name.to_owned(), password: None, admin: false };
        let device = NewDevice { device_id: Some("D".into()), ..NewDevice::default() };
        let (user, session) = self.node.accounts.create(account, Some(device)).await?;
        let session = session.expect("a device was asked for");
        let token = (Seen::Token(session.access_token.clone()), user.to_string());
        self.answer("register", vec![(Seen::Account(user), "true".to_owned()), token]);
        Ok(session)
    }

    async fn log_out(&mut self, session: &Session) -> Result<(), Error> {
        self.node.accounts.delete_devices(&session.user_id, vec![session.device_id.clone()]).await?;
        self.answer("log out", vec![(Seen::Token(session.access_token.clone()), NONE.to_owned())]);
        Ok(())
    }

    async fn room(&mut self, creator: &UserId) -> Result<OwnedRoomId, Error> {
        let mut request = CreateRoom::new();
        request.preset = Some(RoomPreset::PublicChat);
        let room = self.node.rooms.create(creator, request).await?;
        self.answer_with("createRoom", |view| {
            let states = [("m.room.create", ""), ("m.room.member", creator.as_str()), ("m.room.power_levels", "")];
            let seen = states.map(|(kind, key)| Seen::State(room.clone(), kind.to_owned(), key.to_owned()));
            let seen = seen.map(|seen| (seen.clone(), look(view, &seen)));
            assert!(seen.iter().all(|(_, event)| event != NONE));
            seen.to_vec()
        });
        Ok(room)
    }

    async fn membership(
        &mut self,
        room: &OwnedRoomId,
        sender: &UserId,
        target: &UserId,
        action: Action,
    ) -> Result<(), Error> {
        self.node.rooms.change_membership(sender, room, target, action, CanonicalJsonObject::new()).await?;
        self.answer_with("membership", |view| {
            let seen = Seen::State(room.clone(), "m.room.member".to_owned(), target.to_string());
            vec![(seen.clone(), look(view, &seen))]
        });
        Ok(())
    }

    async fn message(&mut self, from: &Session, room: &OwnedRoomId, body: &str) -> Result<OwnedEventId, Error> {
        let txn_id = self.txn_id();
        let txn = ClientTxn { device_id: &from.device_id, txn_id: txn_id.as_str().into() };
        let content = json!({ "msgtype": "m.text", "body": body }).to_string();
        let kind = TimelineEventType::RoomMessage;
        let sent = self.node.rooms.send(&from.user_id, txn, room, kind, &content).await?;
        self.sent("send", room, &sent.event_id, vec![]);
        Ok(sent.event_id)
    }

    async fn topic(&mut self, from: &Session, room: &OwnedRoomId, topic: &str) -> Result<(), Error> {
        let content = json!({ "topic": topic }).to_string();
        let kind = StateEventType::RoomTopic;
        let sent = self.node.rooms.send_state(&from.user_id, room, &kind, String::new(), &content).await?;
        let state = Seen::State(room.clone(), "m.room.topic".to_owned(), String::new());
        self.sent("state", room, &sent.event_id, vec![(state, sent.event_id.to_string())]);
        Ok(())
    }

    async fn redact(&mut self, from: &Session, room: &OwnedRoomId, target: &OwnedEventId) -> Result<(), Error> {
        let txn_id = self.txn_id();
        let txn = ClientTxn { device_id: &from.device_id, txn_id: txn_id.as_str().into() };
        let sent = self.node.rooms.redact(&from.user_id, txn, room, target, None).await?;
        let redacted = (Seen::RedactedBy(target.clone()), sent.event_id.to_string());
        self.sent("redact", room, &sent.event_id, vec![redacted]);
        Ok(())
    }

    async fn receipt(&mut self, from: &Session, room: &OwnedRoomId, event: &OwnedEventId) -> Result<(), Error> {
        self.node.receipts.set(&from.user_id, room, Kind::Read, event, ReceiptThread::Unthreaded).await?;
        self.answer("receipt", vec![(Seen::Receipt(room.clone(), from.user_id.clone()), event.to_string())]);
        Ok(())
    }

    async fn account_data(&mut self, user: &UserId, kind: &str, content: &Value) -> Result<(), Error> {
        let content = content.to_string();
        self.node.account_data.set(user, None, kind, &RawValue::from_string(content.clone()).unwrap()).await?;
        self.answer("account data", vec![(Seen::AccountData(user.to_owned(), kind.to_owned()), content)]);
        Ok(())
    }

    async fn send_to_device(&mut self, from: &Session, to: &UserId, device: &ruma::DeviceId) -> Result<(), Error> {
        let content = ruma::serde::Raw::from_json_string(json!({ "secret": 1 }).to_string()).unwrap();
        let devices = BTreeMap::from([(DeviceIdOrAllDevices::DeviceId(device.to_owned()), content)]);
        let messages = BTreeMap::from([(to.to_owned(), devices)]);
        let request = SendToDevice::new_raw("m.test".into(), self.txn_id().as_str().into(), messages);
        self.node.to_device.send(&from.user_id, &from.device_id, request).await?;
        let seen = if self.node.core.identity().is_our_user(to) {
            self.waiting += 1;
            (Seen::ToDevice(to.to_owned(), device.to_owned()), self.waiting.to_string())
        } else {
            self.owed.push("edu".to_owned());
            self.outbox()
        };
        self.answer("sendToDevice", vec![seen]);
        Ok(())
    }

    /// A PDU of the peer: staged and acknowledged, then judged.
    async fn take(&mut self, pdu: &millpond_matrix::CheckedPdu, shown: bool) -> Result<(), Error> {
        self.peer.stage(&self.node, pdu).await?;
        let id = pdu.owned_event_id();
        self.answer("a peer's transaction", vec![(Seen::Taken(id.clone()), "true".to_owned())]);
        while self.node.inbox.work_once().await? {}
        self.answer("judging", vec![(Seen::Event(id), shown.to_string())]);
        Ok(())
    }

    /// The peer has taken what it was owed first; its rows go, as the outbox lets them go.
    async fn acknowledge(&mut self, count: usize) -> Result<(), Error> {
        let server = self.peer.name();
        let mut positions = Vec::new();
        for row in self.node.core.snapshot()?.view().scan(tables::OUTBOX, (&*server,))?.take(count) {
            positions.push(row?.0.1);
        }
        let forget = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                for position in &positions {
                    txn.remove(tables::OUTBOX, (&*server, *position))?;
                }
                Ok(())
            },
        );
        self.node.core.write(forget).await?;
        self.owed.drain(..count);
        let outbox = self.outbox();
        self.answer("the peer's 200", vec![outbox]);
        Ok(())
    }

    /// An event of ours: in the timeline, and owed to the peer where the peer is in the room.
    fn sent(&mut self, request: &str, room: &OwnedRoomId, event: &OwnedEventId, also: Vec<(Seen, String)>) {
        let mut seen = vec![(Seen::Event(event.clone()), "true".to_owned())];
        seen.extend(also);
        let server = self.peer.name();
        let there = {
            let snapshot = self.node.core.snapshot().unwrap();
            let short = millpond_node::rooms::rows::room_short(snapshot.view(), room).unwrap().unwrap();
            snapshot.view().contains(tables::ROOM_SERVERS, (short, &*server)).unwrap()
        };
        if there {
            self.owed.push(event.to_string());
            seen.push(self.outbox());
        }
        self.answer(request, seen);
    }

    fn outbox(&self) -> (Seen, String) {
        (Seen::Outbox(self.peer.name()), self.owed.join(" "))
    }

    fn txn_id(&mut self) -> String {
        self.txn_ids += 1;
        format!("t{}", self.txn_ids)
    }

    fn answer(&mut self, request: &str, seen: Vec<(Seen, String)>) {
        self.answer_with(request, |_| seen);
    }

    fn answer_with(&mut self, request: &str, seen: impl FnOnce(millpond_store::View<'_>) -> Vec<(Seen, String)>) {
        let snapshot = self.node.core.snapshot().unwrap();
        let seen = seen(snapshot.view());
        self.book.answers.push(Answer { syncs: self.disk.syncs(), request: request.to_owned(), seen });
    }
}

/// A refusal is what was wanted; a storage error is passed on.
fn refused<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Matrix { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => panic!("what must be refused was taken"),
    }
}
