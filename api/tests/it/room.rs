//! What tests of rooms do all the time.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{TestNode, TestUser};

/// Makes an id fit for a path.
pub fn escape(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A path below a room.
pub fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", escape(room))
}

/// The contents' `body` of some events; of others the type.
pub fn bodies(events: &Value) -> Vec<String> {
    let text = |event: &Value| event["content"]["body"].as_str().or(event["type"].as_str()).unwrap().to_owned();
    events.as_array().unwrap().iter().map(text).collect()
}

/// The state keys of the member events among some events.
pub fn members(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten().filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<_> = events.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
    members.sort();
    members
}

impl TestNode {
    /// The node's server name.
    pub fn server(&self) -> String {
        self.node.core.identity().server_name().to_string()
    }

    /// Creates a room.
    pub async fn room(&self, who: &TestUser, body: Value) -> String {
        // A room's id is the hash of its create event: two made at the same time would be the same.
        self.pass(std::time::Duration::from_millis(1));
        let json = self.ok(self.post(who, "/_matrix/client/v3/createRoom", body)).await;
        json["room_id"].as_str().unwrap().to_owned()
    }

    /// A room that anybody may join, without a name.
    pub async fn public_room(&self, who: &TestUser) -> String {
        self.room(who, json!({ "preset": "public_chat" })).await
    }

    /// Sends a text; gives the event id.
    pub async fn text(&self, who: &TestUser, room: &str, body: &str) -> String {
        self.message(who, room, json!({ "msgtype": "m.text", "body": body })).await
    }

    /// Sends an `m.room.message` of any content; gives the event id.
    pub async fn message(&self, who: &TestUser, room: &str, content: Value) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let txn = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = path(room, &format!("send/m.room.message/t{txn}"));
        self.ok(self.put(who, &path, content)).await["event_id"].as_str().unwrap().to_owned()
    }

    /// Sends a state event; gives the event id.
    pub async fn state(&self, who: &TestUser, room: &str, kind: &str, key: &str, content: Value) -> String {
        let path = path(room, &format!("state/{kind}/{}", escape(key)));
        self.ok(self.put(who, &path, content)).await["event_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room.
    pub async fn join(&self, who: &TestUser, room: &str) {
        self.ok(self.post(who, &path(room, "join"), json!({}))).await;
    }

    /// Leaves a room.
    pub async fn leave(&self, who: &TestUser, room: &str) {
        self.ok(self.post(who, &path(room, "leave"), json!({}))).await;
    }

    /// Invites somebody into a room.
    pub async fn invite(&self, who: &TestUser, room: &str, other: &TestUser) {
        self.ok(self.post(who, &path(room, "invite"), json!({ "user_id": other.id }))).await;
    }

    /// Syncs with these query parameters.
    pub async fn sync(&self, who: &TestUser, parameters: &[(&str, &str)]) -> Value {
        self.ok(self.get(who, &sync_path(parameters))).await
    }

    /// Syncs from a token without waiting.
    pub async fn sync_since(&self, who: &TestUser, since: &Value) -> Value {
        self.sync(who, &[("since", since.as_str().unwrap())]).await
    }

    /// The token of a fresh sync.
    pub async fn token(&self, who: &TestUser) -> Value {
        self.sync(who, &[]).await["next_batch"].clone()
    }
}

/// The path of a sync with these query parameters.
pub fn sync_path(parameters: &[(&str, &str)]) -> String {
    let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    format!("/_matrix/client/v3/sync?{}", query.join("&"))
}
