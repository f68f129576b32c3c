//! The demo's Matrix client: it speaks plain HTTP to a node's client-server API, as any client does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::device::{Device, Peer};
use crate::{
    admin::{list, text},
    http1::{self, encoded},
};

/// Somebody with a token at a node's HTTP API.
pub(super) struct Caller {
    pub(super) address: String,
    pub(super) token: Option<String>,
}

impl Caller {
    /// A request; an error unless it is answered with 200.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.exchange(method.clone(), path, body).await?;
        if status != StatusCode::OK {
            let path = path.split('?').next().unwrap_or(path);
            bail!("{method} {path}: {status}, {} {}", text(&answer, "errcode"), text(&answer, "error"));
        }
        Ok(answer)
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let request = http1::request(method, &self.address, path, self.token.as_deref(), body)?;
        let (status, bytes) = http1::send(&self.address, request).await?;
        Ok((status, serde_json::from_slice(&bytes).context("the answer is not JSON")?))
    }
}

/// A logged-in user with one device.
pub(super) struct Client {
    caller: Caller,
    pub(super) user_id: String,
    device: Device,
    since: Option<String>,
    transactions: u64,
    /// Rooms that we are invited to.
    pub(super) invites: BTreeSet<String>,
    /// Who is joined, by room.
    pub(super) joined: BTreeMap<String, BTreeSet<String>>,
    /// What others said, decrypted, in the order of the timeline.
    pub(super) heard: Vec<Heard>,
    /// Encrypted events that wait for their room key.
    sealed: Vec<Sealed>,
    events: BTreeSet<String>,
}

/// A message of somebody else.
pub(super) struct Heard {
    pub(super) sender: String,
    pub(super) body: String,
}

struct Sealed {
    room_id: String,
    sender: String,
    content: Value,
}

/// The demo uses up one per Olm session.
const ONE_TIME_KEYS: usize = 10;
/// How long `/sync` waits when there is no news, in milliseconds.
const SYNC_TIMEOUT_MS: u32 = 5_000;
/// The timeline without gaps, as far as the demo goes.
const FILTER: &str = r#"{"room":{"timeline":{"limit":100}}}"#;

impl Client {
    /// Registers with the node's registration token and uploads the device's keys.
    pub(super) async fn register(address: &str, name: &str, registration_token: &str) -> anyhow::Result<Self> {
        let mut caller = Caller { address: address.to_owned(), token: None };
        let path = "/_matrix/client/v3/register";
        let password = format!("{:032x}", rand::random::<u128>());
        let mut body =
            json!({ "username": name, "password": password, "initial_device_display_name": "Millpond demo" });
        let (status, asked) = caller.exchange(Method::POST, path, Some(&body)).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "registration did not ask for the token: {status}");
        let kind = "m.login.registration_token";
        ensure!(
            list(&asked, "flows").iter().any(|flow| flow["stages"] == json!([kind])),
            "registration does not offer {kind}"
        );
        body["auth"] = json!({ "type": kind, "token": registration_token, "session": asked["session"] });
        let made = caller.call(Method::POST, path, Some(&body)).await?;
        caller.token = Some(text(&made, "access_token").to_owned());
        let user_id = text(&made, "user_id").to_owned();
        let device = Device::new(&user_id, text(&made, "device_id"));
        let mut client = Self {
            caller,
            user_id,
            device,
            since: None,
            transactions: 0,
            invites: BTreeSet::new(),
            joined: BTreeMap::new(),
            heard: Vec::new(),
            sealed: Vec::new(),
            events: BTreeSet::new(),
        };
        client.upload_keys().await?;
        Ok(client)
    }

    async fn upload_keys(&mut self) -> anyhow::Result<()> {
        let keys = self.device.upload(ONE_TIME_KEYS);
        let counts = self.caller.call(Method::POST, "/_matrix/client/v3/keys/upload", Some(&keys)).await?;
        let kept = &counts["one_time_key_counts"]["signed_curve25519"];
        ensure!(*kept == ONE_TIME_KEYS, "the server keeps {kept} of {ONE_TIME_KEYS} one-time keys");
        Ok(())
    }

    /// The node answers at another address from now on.
    pub(super) fn moved_to(&mut self, address: &str) {
        address.clone_into(&mut self.caller.address);
    }

    /// Whether the node answers at all.
    pub(super) async fn reaches_node(&self) -> bool {
        self.caller.call(Method::GET, "/_matrix/client/versions", None).await.is_ok()
    }

    /// Makes an encrypted room and invites somebody.
    pub(super) async fn create_encrypted_room(&self) -> anyhow::Result<String> {
        let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        let body = json!({
            "preset": "private_chat",
            "name": "Millpond demo",
            "initial_state": [{ "type": "m.room.encryption", "state_key": "", "content": encryption }],
        });
        let made = self.caller.call(Method::POST, "/_matrix/client/v3/createRoom", Some(&body)).await?;
        let room_id = text(&made, "room_id").to_owned();
        let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.encryption", encoded(&room_id));
        let state = self.caller.call(Method::GET, &path, None).await?;
        ensure!(state == encryption, "the room is not encrypted");
        Ok(room_id)
    }

    /// Invites a user.
    pub(super) async fn invite(&self, room_id: &str, user_id: &str) -> anyhow::Result<()> {
        let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(room_id));
        self.caller.call(Method::POST, &path, Some(&json!({ "user_id": user_id }))).await.map(drop)
    }

    /// Joins a room.
    pub(super) async fn join(&self, room_id: &str) -> anyhow::Result<()> {
        let path = format!("/_matrix/client/v3/join/{}", encoded(room_id));
        self.caller.call(Method::POST, &path, Some(&json!({}))).await.map(drop)
    }

    /// Begins a new Megolm session and gives its key to all other devices in the room.
    pub(super) async fn share_room_key(&mut self, room_id: &str) -> anyhow::Result<()> {
        let path = format!("/_matrix/client/v3/rooms/{}/joined_members", encoded(room_id));
        let members = self.caller.call(Method::GET, &path, None).await?;
        let members = members["joined"].as_object().context("joined_members has no `joined`")?;
        let others: Vec<String> = members.keys().filter(|user| **user != self.user_id).cloned().collect();
        let room_key = self.device.new_room_key(room_id);
        let mut messages = json!({});
        for user in others {
            for peer in self.devices_of(&user).await? {
                if !self.device.has_session_with(&peer) {
                    self.claim(&peer).await?;
                }
                messages[&peer.user_id][&peer.device_id] = self.device.seal(&peer, &room_key)?;
            }
        }
        let transaction = self.next_transaction();
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{transaction}");
        self.caller.call(Method::PUT, &path, Some(&json!({ "messages": messages }))).await.map(drop)
    }

    async fn devices_of(&mut self, user_id: &str) -> anyhow::Result<Vec<Peer>> {
        let body = json!({ "device_keys": { user_id: [] } });
        let answer = self.caller.call(Method::POST, "/_matrix/client/v3/keys/query", Some(&body)).await?;
        self.device.learn(user_id, &answer)
    }

    async fn claim(&mut self, peer: &Peer) -> anyhow::Result<()> {
        let wanted = json!({ &peer.user_id: { &peer.device_id: "signed_curve25519" } });
        let body = json!({ "one_time_keys": wanted });
        let answer = self.caller.call(Method::POST, "/_matrix/client/v3/keys/claim", Some(&body)).await?;
        self.device.begin(peer, &answer)
    }

    /// Encrypts a text and sends it.
    pub(super) async fn say(&mut self, room_id: &str, body: &str) -> anyhow::Result<()> {
        let content = json!({ "msgtype": "m.text", "body": body });
        let content = self.device.encrypt(room_id, "m.room.message", &content)?;
        let (room, transaction) = (encoded(room_id), self.next_transaction());
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/{transaction}");
        self.caller.call(Method::PUT, &path, Some(&content)).await.map(drop)
    }

    fn next_transaction(&mut self) -> String {
        self.transactions += 1;
        format!("demo{}", self.transactions)
    }

    /// Syncs until there is what is looked for.
    pub(super) async fn until<T>(&mut self, mut look: impl FnMut(&Self) -> Option<T>) -> anyhow::Result<T> {
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            self.sync().await?;
        }
    }

    async fn sync(&mut self) -> anyhow::Result<()> {
        let mut path = format!("/_matrix/client/v3/sync?timeout={SYNC_TIMEOUT_MS}&filter={}", encoded(FILTER));
        if let Some(since) = &self.since {
            path = format!("{path}&since={}", encoded(since));
        }
        let news = self.caller.call(Method::GET, &path, None).await?;
        for message in list(&news["to_device"], "events") {
            self.take_to_device(message).await?;
        }
        for (room_id, _) in fields(&news["rooms"]["invite"]) {
            self.invites.insert(room_id.clone());
        }
        for (room_id, room) in fields(&news["rooms"]["join"]) {
            self.invites.remove(room_id);
            let timeline = &room["timeline"];
            ensure!(timeline["limited"] != true || self.since.is_none(), "the timeline has a gap");
            for event in list(&room["state"], "events") {
                self.take_membership(room_id, event);
            }
            for event in list(timeline, "events") {
                self.take_event(room_id, event)?;
            }
        }
        self.since = Some(text(&news, "next_batch").to_owned());
        self.unseal()
    }

    async fn take_to_device(&mut self, message: &Value) -> anyhow::Result<()> {
        if text(message, "type") != "m.room.encrypted" {
            return Ok(());
        }
        let sender = text(message, "sender");
        self.devices_of(sender).await?;
        self.device.open(sender, &message["content"]).with_context(|| format!("a to-device message from {sender}"))
    }

    fn take_event(&mut self, room_id: &str, event: &Value) -> anyhow::Result<()> {
        let id = text(event, "event_id");
        ensure!(self.events.insert(id.to_owned()), "the event {id} came twice");
        self.take_membership(room_id, event);
        let sender = text(event, "sender");
        if text(event, "type") == "m.room.encrypted" && sender != self.user_id {
            let (room_id, content) = (room_id.to_owned(), event["content"].clone());
            self.sealed.push(Sealed { room_id, sender: sender.to_owned(), content });
        }
        Ok(())
    }

    fn take_membership(&mut self, room_id: &str, event: &Value) {
        if text(event, "type") != "m.room.member" {
            return;
        }
        let members = self.joined.entry(room_id.to_owned()).or_default();
        let user = text(event, "state_key");
        match text(&event["content"], "membership") {
            "join" => members.insert(user.to_owned()),
            _ => members.remove(user),
        };
    }

    /// Decrypts what waited; an event whose key has not come stops those after it, so that the order stays.
    fn unseal(&mut self) -> anyhow::Result<()> {
        while let Some(sealed) = self.sealed.first() {
            let plain = self.device.decrypt(&sealed.room_id, &sealed.sender, &sealed.content)?;
            let Some(plain) = plain else { return Ok(()) };
            let sealed = self.sealed.remove(0);
            self.heard.push(Heard { sender: sealed.sender, body: text(&plain["content"], "body").to_owned() });
        }
        Ok(())
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
