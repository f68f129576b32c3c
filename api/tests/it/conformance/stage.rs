//! What the gate asks about: users, a room with history, a space, a key backup, a file, a filter, a push rule.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use millpond_node::config::{Config, Turn};
use serde_json::{Value, json};

use super::wire::Wire;
use crate::{
    harness::{TestNode, TestUser},
    room::escape,
};

/// The password of every user here who has one.
pub const PASSWORD: &str = "secret";

/// A node with something in it.
pub struct Stage {
    /// The node.
    pub node: TestNode,
    /// The way to it.
    pub wire: Wire,
    /// The first user, an administrator, with a password.
    pub alice: TestUser,
    /// Another user.
    pub bob: TestUser,
    /// A public room of Alice's with Bob in it.
    pub room: String,
    /// A message of Alice's there.
    pub event: String,
    /// A space of Alice's.
    pub space: String,
    /// `server/media id` of a file.
    pub file: String,
    /// The id of a filter of Alice's.
    pub filter: String,
    next: AtomicU64,
}

impl Stage {
    /// Sets the stage.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let turn = Turn { uris: vec!["turn:turn.example".to_owned()], secret: "s".to_owned(), ttl_secs: 60 };
        let node = TestNode::with(|config| {
            config.turn = Some(turn);
            configure(config);
        });
        let (alice, bob) = (node.user_with_password("alice", PASSWORD).await, node.user("bob").await);
        let room =
            node.room(&alice, json!({ "preset": "public_chat", "room_alias_name": "pond", "name": "Pond" })).await;
        node.join(&bob, &room).await;
        let event = node.text(&alice, &room, "hello").await;
        let space =
            node.room(&alice, json!({ "creation_content": { "type": "m.space" }, "preset": "public_chat" })).await;
        node.state(&alice, &space, "m.space.child", &room, json!({ "via": [node.server()] })).await;
        let account_data = |rest: &str| format!("/_matrix/client/v3/user/{}/{rest}", escape(alice.id.as_str()));
        node.ok(node.put(&alice, account_data("account_data/org.example.data"), json!({ "a": 1 }))).await;
        let of_room = account_data(&format!("rooms/{}/account_data/org.example.data", escape(&room)));
        node.ok(node.put(&alice, of_room, json!({ "a": 1 }))).await;
        let filter = node.ok(node.post(&alice, account_data("filter"), json!({}))).await;
        let rule = json!({ "pattern": "tea", "actions": ["notify"] });
        node.ok(node.put(&alice, "/_matrix/client/v3/pushrules/global/content/tea", rule)).await;
        node.ok(node.post(&alice, "/_matrix/client/v3/room_keys/version", backup())).await;
        let session = format!("/_matrix/client/v3/room_keys/keys/{}/session?version=1", escape(&room));
        node.ok(node.put(&alice, session, backed_up())).await;
        let upload = node.raw(Method::POST, &alice, "/_matrix/media/v3/upload", PIXEL);
        let file = node.ok(upload).await["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let wire = Wire::to(&node).await;
        let filter = filter["filter_id"].as_str().unwrap().to_owned();
        Self { node, wire, alice, bob, room, event, space, file, filter, next: AtomicU64::new(0) }
    }

    /// A number that was not given before.
    pub fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A user for something that does not leave him as he was.
    pub async fn spare(&self) -> TestUser {
        self.node.user(&format!("spare{}", self.fresh())).await
    }

    /// The same, with [`PASSWORD`].
    pub async fn spare_with_password(&self) -> TestUser {
        self.node.user_with_password(&format!("spare{}", self.fresh()), PASSWORD).await
    }

    /// A spare member of the room.
    pub async fn member(&self) -> TestUser {
        let user = self.spare().await;
        self.node.join(&user, &self.room).await;
        user
    }

    /// `auth` of a user with [`PASSWORD`].
    pub fn auth(&self, user: &TestUser) -> Value {
        json!({
            "type": "m.login.password", "password": PASSWORD,
            "identifier": { "type": "m.id.user", "user": user.id },
        })
    }
}

/// A key backup as clients make it.
pub fn backup() -> Value {
    json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "abcdefg", "signatures": {} },
    })
}

/// A session in it.
pub fn backed_up() -> Value {
    json!({
        "first_message_index": 1, "forwarded_count": 0, "is_verified": true,
        "session_data": { "ephemeral": "AA", "ciphertext": "AA", "mac": "AA" },
    })
}

/// A GIF of one pixel.
pub const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
