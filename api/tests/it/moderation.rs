//! What administrators do: lock, suspend, look; what users report to them; accounts made with the shared secret.

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::{escape, path},
};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn mark(kind: &str, user: &str) -> String {
    format!("/_matrix/client/v1/admin/{kind}/{}", escape(user))
}

async fn people(node: &TestNode) -> (TestUser, TestUser, TestUser) {
    // The first account is an administrator's.
    (node.user("admin").await, node.user("bob").await, node.user("carol").await)
}

#[tokio::test]
async fn a_locked_account_can_only_log_out_and_comes_back_as_it_was() {
    let node = TestNode::new();
    let (admin, bob, _) = people(&node).await;
    let second = node.device(&bob).await;
    let lock = mark("lock", bob.id.as_str());
    node.ok(node.get(&bob, WHOAMI)).await;
    assert_eq!(node.ok(node.put(&admin, &lock, json!({ "locked": true }))).await, json!({ "locked": true }));
    assert_eq!(node.ok(node.get(&admin, &lock)).await, json!({ "locked": true }));
    let refused = node.fails(node.get(&bob, WHOAMI), 401, "M_USER_LOCKED").await;
    assert_eq!(refused["soft_logout"], true);
    node.fails(node.get(&bob, "/_matrix/client/v3/sync"), 401, "M_USER_LOCKED").await;
    let field = format!("/_matrix/client/v3/profile/{}/logout", escape(bob.id.as_str()));
    node.fails(node.put(&bob, field, json!({ "logout": "x" })), 401, "M_USER_LOCKED").await;
    node.ok(node.post(&second, "/_matrix/client/v3/logout", json!({}))).await;
    node.fails(node.get(&second, WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    node.ok(node.put(&admin, &lock, json!({ "locked": false }))).await;
    node.ok(node.get(&bob, WHOAMI)).await;
}

#[tokio::test]
async fn a_suspended_account_reads_and_leaves_and_does_not_take_part() {
    let node = TestNode::new();
    let (admin, bob, carol) = people(&node).await;
    let room = node.public_room(&carol).await;
    let other = node.public_room(&carol).await;
    node.join(&bob, &room).await;
    let own = node.text(&bob, &room, "mine").await;
    let theirs = node.text(&carol, &room, "theirs").await;
    let invited = node.room(&carol, json!({ "invite": [bob.id] })).await;
    node.ok(node.put(&admin, mark("suspend", bob.id.as_str()), json!({ "suspended": true }))).await;

    let text = json!({ "msgtype": "m.text", "body": "?" });
    let me = escape(bob.id.as_str());
    for (method, path, body) in [
        (Method::PUT, path(&room, "send/m.room.message/1"), text.clone()),
        (Method::POST, path(&room, "send/m.room.message"), text),
        (Method::PUT, path(&room, "state/m.room.topic/"), json!({ "topic": "?" })),
        (Method::POST, path(&other, "join"), json!({})),
        (Method::POST, format!("/_matrix/client/v3/join/{}", escape(&other)), json!({})),
        (Method::POST, path(&invited, "join"), json!({})),
        (Method::POST, format!("/_matrix/client/v3/knock/{}", escape(&other)), json!({})),
        (Method::POST, path(&room, "invite"), json!({ "user_id": admin.id })),
        (Method::POST, path(&room, "kick"), json!({ "user_id": carol.id })),
        (Method::POST, "/_matrix/client/v3/createRoom".to_owned(), json!({})),
        (Method::POST, path(&room, "upgrade"), json!({ "new_version": "12" })),
        (Method::PUT, path(&room, &format!("redact/{}/1", escape(&theirs))), json!({})),
        (Method::PUT, format!("/_matrix/client/v3/profile/{me}/displayname"), json!({ "displayname": "?" })),
        (Method::DELETE, format!("/_matrix/client/v3/profile/{me}/displayname"), json!({})),
    ] {
        let (status, json) = node.raw(method, &bob, &path, body.to_string()).await;
        assert_eq!((status.as_u16(), json["errcode"].as_str()), (403, Some("M_USER_SUSPENDED")), "{path}: {json}");
    }
    node.ok(node.get(&bob, "/_matrix/client/v3/sync")).await;
    node.ok(node.put(&bob, path(&room, &format!("redact/{}/2", escape(&own))), json!({}))).await;
    node.leave(&bob, &invited).await;
    node.leave(&bob, &room).await;
    node.ok(node.put(&admin, mark("suspend", bob.id.as_str()), json!({ "suspended": false }))).await;
    node.join(&bob, &other).await;
}

#[tokio::test]
async fn only_administrators_mark_accounts_and_never_their_own() {
    let node = TestNode::new();
    let (admin, bob, carol) = people(&node).await;
    for (kind, field) in [("lock", "locked"), ("suspend", "suspended")] {
        let body = json!({ field: true });
        for target in [&carol.id, &node.user_id("nobody")] {
            node.fails(node.put(&bob, mark(kind, target.as_str()), body.clone()), 403, "M_FORBIDDEN").await;
            node.fails(node.get(&bob, mark(kind, target.as_str())), 403, "M_FORBIDDEN").await;
        }
        let nobody = node.user_id("nobody");
        node.fails(node.put(&admin, mark(kind, nobody.as_str()), body.clone()), 404, "M_NOT_FOUND").await;
        node.fails(node.get(&admin, mark(kind, nobody.as_str())), 404, "M_NOT_FOUND").await;
        node.fails(node.put(&admin, mark(kind, "@a:elsewhere"), body.clone()), 400, "M_INVALID_PARAM").await;
        node.fails(node.put(&admin, mark(kind, admin.id.as_str()), body.clone()), 403, "M_FORBIDDEN").await;
        node.fails(node.put(&admin, mark(kind, bob.id.as_str()), json!({})), 400, "M_MISSING_PARAM").await;
        node.node.accounts.set_admin(&carol.id, true).await.unwrap();
        node.fails(node.put(&admin, mark(kind, carol.id.as_str()), body), 403, "M_FORBIDDEN").await;
        node.node.accounts.set_admin(&carol.id, false).await.unwrap();
    }
    let capabilities = "/_matrix/client/v3/capabilities";
    let shown = node.ok(node.get(&admin, capabilities)).await;
    assert_eq!(shown["capabilities"]["m.account_moderation"], json!({ "lock": true, "suspend": true }));
    let shown = node.ok(node.get(&bob, capabilities)).await;
    assert_eq!(shown["capabilities"].get("m.account_moderation"), None);
    assert_eq!(shown["capabilities"]["m.profile_fields"], json!({ "enabled": true }));
}

#[tokio::test]
async fn connections_are_shown_to_their_user_and_to_administrators() {
    let node = TestNode::new();
    let (admin, bob, carol) = people(&node).await;
    let whois = format!("/_matrix/client/v3/admin/whois/{}", escape(bob.id.as_str()));
    for who in [&admin, &bob] {
        let shown = node.ok(node.get(who, &whois)).await;
        assert_eq!(shown["user_id"], json!(bob.id));
        let connection = &shown["devices"][bob.device_id.as_str()]["sessions"][0]["connections"][0];
        assert!(connection["last_seen"].is_u64(), "{shown}");
    }
    node.fails(node.get(&carol, &whois), 403, "M_FORBIDDEN").await;
    node.fails(node.get(&admin, "/_matrix/client/v3/admin/whois/@a:b"), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn reports_are_kept_for_the_owner_of_the_node() {
    let node = TestNode::new();
    let (_, bob, carol) = people(&node).await;
    let room = node.public_room(&carol).await;
    let event = node.text(&carol, &room, "rude").await;
    let about = |rest: &str| path(&room, rest);
    let reason = json!({ "reason": "it is rude" });
    let reported = format!("report/{}", escape(&event));
    node.fails(node.post(&bob, about(&reported), reason.clone()), 404, "M_NOT_FOUND").await;
    node.join(&bob, &room).await;
    node.ok(node.post(&bob, about(&reported), reason.clone())).await;
    node.ok(node.post(&bob, about(&reported), json!({ "reason": "r", "score": -100 }))).await;
    node.ok(node.post(&bob, about("report"), reason.clone())).await;
    let user = |id: &str| format!("/_matrix/client/v3/users/{}/report", escape(id));
    node.ok(node.post(&bob, user(carol.id.as_str()), reason.clone())).await;
    node.ok(node.post(&bob, user("@nobody:there"), reason.clone())).await;
    node.fails(node.post(&bob, about("report/$nothing"), reason.clone()), 404, "M_NOT_FOUND").await;
    node.fails(node.post(&bob, path("!nowhere", "report"), reason), 404, "M_NOT_FOUND").await;
    let long = json!({ "reason": "x".repeat(5000) });
    node.fails(node.post(&bob, about("report"), long), 400, "M_INVALID_PARAM").await;

    let admin_token = millpond_node::start::admin_token(&node.node.core.config().data_dir).unwrap();
    let list = async || node.ok(node.get(&admin_token, "/_millpond/v1/reports")).await["reports"].clone();
    let all = list().await;
    assert_eq!(all.as_array().unwrap().len(), 5);
    assert_eq!(
        (&all[0]["reporter"], &all[0]["event_id"], &all[0]["room_id"], &all[0]["reason"], &all[0]["user_id"]),
        (&json!(bob.id), &json!(event), &json!(room), &json!("it is rude"), &Value::Null)
    );
    assert_eq!((&all[2]["room_id"], &all[2]["event_id"]), (&json!(room), &Value::Null));
    assert_eq!(all[3]["user_id"], json!(carol.id));
    let remove = json!({ "number": all[0]["number"] });
    node.ok(node.post(&admin_token, "/_millpond/v1/reports/remove", remove.clone())).await;
    assert_eq!(list().await.as_array().unwrap().len(), 4);
    node.fails(node.post(&admin_token, "/_millpond/v1/reports/remove", remove), 404, "M_NOT_FOUND").await;
}

const REGISTER: &str = "/_synapse/admin/v1/register";

fn with_secret() -> TestNode {
    TestNode::with(|config| config.registration_shared_secret = Some("north".to_owned()))
}

/// HMAC-SHA1 under the key `north`, as a tool computes it.
fn mac(parts: &[&str]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"north").unwrap();
    mac.update(parts.join("\0").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn who_knows_the_shared_secret_makes_accounts() {
    let node = with_secret();
    let (_, bob, _) = people(&node).await;
    let nonce = async || node.ok(node.get("", REGISTER)).await["nonce"].as_str().unwrap().to_owned();
    let one = nonce().await;
    let body = json!({
        "nonce": one, "username": "dora", "displayname": "Dora", "password": "pizza", "admin": true,
        "mac": mac(&[&one, "dora", "pizza", "admin"]),
    });
    let made = node.ok(node.post("", REGISTER, body.clone())).await;
    assert_eq!((&made["user_id"], &made["home_server"]), (&json!(node.user_id("dora")), &json!(node.server())));
    let token = made["access_token"].as_str().unwrap();
    assert_eq!(node.ok(node.get(token, WHOAMI)).await["device_id"], made["device_id"]);
    node.ok(node.get(token, mark("lock", bob.id.as_str()))).await;
    let name = format!("/_matrix/client/v3/profile/{}/displayname", escape(made["user_id"].as_str().unwrap()));
    assert_eq!(node.ok(node.get("", name)).await["displayname"], "Dora");
    node.fails(node.post("", REGISTER, body), 400, "M_UNKNOWN").await;

    let two = nonce().await;
    let plain = mac(&[&two, "eve", "pizza", "notadmin"]);
    let lie = json!({ "nonce": two, "username": "eve", "password": "pizza", "admin": true, "mac": plain });
    node.fails(node.post("", REGISTER, lie), 403, "M_FORBIDDEN").await;
    let late = nonce().await;
    node.pass(std::time::Duration::from_secs(61));
    let late =
        json!({ "nonce": late, "username": "eve", "password": "p", "mac": mac(&[&late, "eve", "p", "notadmin"]) });
    node.fails(node.post("", REGISTER, late), 400, "M_UNKNOWN").await;
    let three = nonce().await;
    let bot = json!({
        "nonce": three, "username": "bot", "password": "p", "user_type": "bot",
        "mac": mac(&[&three, "bot", "p", "notadmin", "bot"]),
    });
    node.ok(node.post("", REGISTER, bot)).await;
    let closed = TestNode::new();
    closed.fails(closed.get("", REGISTER), 400, "M_UNKNOWN").await;
}
