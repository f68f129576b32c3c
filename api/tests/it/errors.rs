//! The error cases that the specification lists for an operation, where no other file meets them: what belongs to a user.

mod rooms;

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::escape,
};

const V3: &str = "/_matrix/client/v3";

#[tokio::test]
async fn account_data_is_ones_own_and_an_object_of_a_room() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let room = node.room(&alice, json!({})).await;
    let of = |user: &TestUser, room: &str| format!("{V3}/user/{}/rooms/{}/account_data/org.a", user.id, escape(room));
    let global = |user: &TestUser| format!("{V3}/user/{}/account_data/org.a", user.id);
    node.fails(node.put(&alice, global(&bob), json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.raw(Method::PUT, &alice, global(&alice), "{"), 400, "M_NOT_JSON").await;
    node.fails(node.raw(Method::PUT, &alice, of(&alice, &room), "{"), 400, "M_NOT_JSON").await;
    node.fails(node.put(&alice, of(&alice, &room), json!([])), 400, "M_BAD_JSON").await;
    node.fails(node.put(&alice, of(&alice, "no-room"), json!({})), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&alice, of(&alice, "no-room")), 400, "M_INVALID_PARAM").await;
    node.fails(node.get(&alice, of(&bob, &room)), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&alice, of(&alice, &room)), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn profile_fields_have_bounds_and_owners() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let field = |user: &TestUser, name: &str| format!("{V3}/profile/{}/{name}", user.id);
    let long = "k".repeat(256);
    node.fails(node.put(&alice, field(&alice, &long), json!({ &*long: 1 })), 400, "M_KEY_TOO_LARGE").await;
    node.fails(node.put(&alice, field(&alice, "org.a"), json!({})), 400, "M_MISSING_PARAM").await;
    let large = json!({ "org.a": "x".repeat(70_000) });
    node.fails(node.put(&alice, field(&alice, "org.a"), large), 400, "M_PROFILE_TOO_LARGE").await;
    node.fails(node.delete(&alice, field(&bob, "org.a"), json!({})), 403, "M_FORBIDDEN").await;
    node.fails(node.delete(&alice, field(&alice, "No%20Name"), json!({})), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn push_rules_that_are_not_there_or_make_no_sense_are_refused() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let rule = |rest: &str| format!("{V3}/pushrules/global/room/!none:here{rest}");
    node.fails(node.delete(&alice, rule(""), json!({})), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&alice, rule("/enabled")), 404, "M_NOT_FOUND").await;
    node.fails(node.put(&alice, rule("/enabled"), json!({ "enabled": true })), 404, "M_NOT_FOUND").await;
    node.fails(node.get(&alice, rule("/actions")), 404, "M_NOT_FOUND").await;
    node.fails(node.put(&alice, rule("/actions"), json!({ "actions": [] })), 404, "M_NOT_FOUND").await;
    let after = format!("{V3}/pushrules/global/override/mine?after=nothing");
    let body = json!({ "actions": ["notify"], "conditions": [] });
    node.fails(node.put(&alice, after, body), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn backups_that_are_not_there_hold_and_take_nothing() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let version = format!("{V3}/room_keys/version");
    let keys = |room: &str, version: u32| format!("{V3}/room_keys/keys{room}?version={version}");
    let session = json!({ "first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": {} });
    let of_room = json!({ "sessions": { "s": session } });
    let all = json!({ "rooms": { "!r:here": of_room } });
    for room in ["", "/!r:here"] {
        node.fails(node.get(&alice, keys(room, 1)), 404, "M_NOT_FOUND").await;
        node.fails(node.delete(&alice, keys(room, 1), json!({})), 404, "M_NOT_FOUND").await;
    }
    node.fails(node.put(&alice, keys("", 1), all.clone()), 404, "M_NOT_FOUND").await;
    node.fails(node.put(&alice, keys("/!r:here", 1), of_room.clone()), 404, "M_NOT_FOUND").await;
    node.fails(node.delete(&alice, format!("{version}/1"), json!({})), 404, "M_NOT_FOUND").await;
    let info = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "abcdefg", "signatures": {} } });
    for _ in 0..2 {
        node.ok(node.post(&alice, &version, info.clone())).await;
    }
    for (room, body) in [("", all), ("/!r:here", of_room)] {
        let refused = node.fails(node.put(&alice, keys(room, 1), body), 403, "M_WRONG_ROOM_KEYS_VERSION").await;
        assert_eq!(refused["current_version"], "2");
    }
}

#[tokio::test]
async fn administrators_ask_about_users_of_this_server() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    for what in ["suspend", "lock"] {
        let path = format!("/_matrix/client/v1/admin/{what}/@who:elsewhere.example");
        node.fails(node.get(&alice, path), 400, "M_INVALID_PARAM").await;
    }
}

#[tokio::test]
async fn devices_go_after_the_password_was_given() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let body = json!({ "devices": [alice.device_id] });
    let (status, asked) = node.post(&alice, format!("{V3}/delete_devices"), body).await;
    assert_eq!((status.as_u16(), &asked["flows"][0]["stages"]), (401, &json!(["m.login.password"])));
}

#[tokio::test]
async fn registration_that_is_closed_has_no_tokens() {
    let node = TestNode::with(|config| config.registration = millpond_node::config::Registration::Closed);
    let path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=t";
    node.fails(node.get("", path), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn downloads_and_uploads_are_counted() {
    let node = TestNode::with(|config| config.rate_limits = true);
    let alice = node.user("alice").await;
    let server = node.server();
    let until_refused = async |method: Method, path: String, most: usize| -> Value {
        for _ in 0..=most {
            let (status, json) = node.raw(method.clone(), &alice, &path, "").await;
            if status.as_u16() == 429 {
                return json;
            }
        }
        panic!("{path} is not counted");
    };
    let media = format!("/_matrix/client/v1/media/download/{server}/none");
    assert_eq!(until_refused(Method::GET, media, 1_000).await["errcode"], "M_LIMIT_EXCEEDED");
    // One bucket for both, which stays empty.
    for path in [format!("thumbnail/{server}/none?width=1&height=1"), format!("download/{server}/none/name")] {
        let path = format!("/_matrix/client/v1/media/{path}");
        node.fails(node.get(&alice, path), 429, "M_LIMIT_EXCEEDED").await;
    }
    let config = "/_matrix/client/v1/media/config";
    assert_eq!(until_refused(Method::GET, config.to_owned(), 1_000).await["errcode"], "M_LIMIT_EXCEEDED");
    until_refused(Method::GET, format!("{V3}/account/whoami"), 200).await;
    for path in ["/_matrix/media/v1/create", "/_matrix/media/v3/upload"] {
        node.fails(node.raw(Method::POST, &alice, path, "x"), 429, "M_LIMIT_EXCEEDED").await;
    }
}

#[tokio::test]
async fn a_picture_of_too_many_pixels_has_no_thumbnail() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let uploaded = node.ok(node.raw(Method::POST, &alice, "/_matrix/media/v3/upload", HUGE)).await;
    let (_, id) = uploaded["content_uri"].as_str().unwrap().rsplit_once('/').unwrap();
    let path = format!("/_matrix/client/v1/media/thumbnail/{}/{id}?width=32&height=32", node.server());
    node.fails(node.get(&alice, path), 413, "M_TOO_LARGE").await;
}

/// A PNG that says that it has 9,000 times 9,000 pixels.
pub const HUGE: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x23\x28\x00\x00\x23\x28\x08\x00\x00\x00\x00\x48\xbe\x2d\x66\x00\x00\x00\x08\x49\x44\x41\x54\x78\x9c\x03\x00\x00\x00\x00\x01\x48\x06\x89\xd2\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";
