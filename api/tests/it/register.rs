//! Registration.

use millpond_node::config::Registration;
use serde_json::{Value, json};

use crate::harness::{REGISTRATION_TOKEN, TestNode};

const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn with(mut body: Value, auth: Value) -> Value {
    body["auth"] = auth;
    body
}

#[tokio::test]
async fn a_registration_token_is_asked_for_and_taken() {
    let node = TestNode::new();
    let body = json!({ "username": "Alice", "password": "secret", "initial_device_display_name": "Phone" });
    let (status, json) = node.post("", REGISTER, body.clone()).await;
    assert_eq!(status, 401);
    assert_eq!(json["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    assert_eq!(json["params"], json!({}));
    assert!(json.get("errcode").is_none());
    let session = json["session"].as_str().unwrap();

    let wrong = json!({ "type": "m.login.registration_token", "token": "guess", "session": session });
    let json = node.fails(node.post("", REGISTER, with(body.clone(), wrong)), 401, "M_FORBIDDEN").await;
    assert_eq!(json["session"], session);

    let auth = json!({ "type": "m.login.registration_token", "token": REGISTRATION_TOKEN, "session": session });
    let json = node.ok(node.post("", REGISTER, with(body.clone(), auth.clone()))).await;
    assert_eq!(json["user_id"], node.user_id("alice").as_str());
    let token = json["access_token"].as_str().unwrap();
    let me = node.ok(node.get(token, WHOAMI)).await;
    assert_eq!(me["device_id"], json["device_id"]);
    let device = node.ok(node.get(token, format!("/_matrix/client/v3/devices/{}", me["device_id"].as_str().unwrap())));
    assert_eq!(device.await["display_name"], "Phone");

    let again = with(json!({ "username": "bob", "password": "secret" }), auth);
    node.fails(node.post("", REGISTER, again), 400, "M_UNKNOWN").await;
}

#[tokio::test]
async fn who_registers_where_there_are_terms_accepts_them() {
    let node = TestNode::with(|config| {
        config.registration_terms =
            ["Terms of use 1.2 https://pond.example/terms", "Privacy 2026-01 https://pond.example/p"]
                .map(|policy| policy.parse().unwrap())
                .to_vec();
    });
    let body = json!({ "username": "alice", "password": "secret" });
    let (status, asked) = node.post("", REGISTER, body.clone()).await;
    assert_eq!(status, 401);
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.registration_token", "m.login.terms"] }]));
    let policies = json!({
        "terms_of_use": { "version": "1.2", "en": { "name": "Terms of use", "url": "https://pond.example/terms" } },
        "privacy": { "version": "2026-01", "en": { "name": "Privacy", "url": "https://pond.example/p" } },
    });
    assert_eq!(asked["params"], json!({ "m.login.terms": { "policies": policies } }));
    let session = &asked["session"];
    let token = json!({ "type": "m.login.registration_token", "token": REGISTRATION_TOKEN, "session": session });
    let (status, asked) = node.post("", REGISTER, with(body.clone(), token)).await;
    assert_eq!((status.as_u16(), &asked["completed"]), (401, &json!(["m.login.registration_token"])));
    let terms = json!({ "type": "m.login.terms", "session": session });
    node.ok(node.post("", REGISTER, with(body, terms.clone()))).await;
    // They are no stage of anything else, and alone they are not enough.
    let bob = json!({ "username": "bob", "password": "secret" });
    let (status, asked) = node.post("", REGISTER, with(bob, json!({ "type": "m.login.terms" }))).await;
    assert_eq!((status.as_u16(), &asked["completed"]), (401, &json!(["m.login.terms"])));
    let end = json!({ "auth": { "type": "m.login.terms" } });
    let (status, asked) = node.post("", "/_matrix/client/v3/account/deactivate", end).await;
    assert_eq!((status.as_u16(), &asked["errcode"]), (401, &json!("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn an_open_node_takes_the_dummy_stage_at_once_and_does_not_log_in_when_told_so() {
    let node = TestNode::with(|config| config.registration = Registration::Open);
    let body = json!({
        "username": "alice", "password": "secret", "inhibit_login": true, "auth": { "type": "m.login.dummy" },
    });
    let json = node.ok(node.post("", REGISTER, body.clone())).await;
    assert!(json.get("access_token").is_none() && json.get("device_id").is_none_or(Value::is_null), "{json}");
    node.fails(node.post("", REGISTER, body), 400, "M_USER_IN_USE").await;
    let nameless = json!({ "password": "secret", "auth": { "type": "m.login.dummy" } });
    node.ok(node.post("", REGISTER, nameless)).await;
}

#[tokio::test]
async fn a_closed_node_and_guests_are_refused() {
    let node = TestNode::with(|config| config.registration = Registration::Closed);
    node.fails(node.post("", REGISTER, json!({ "username": "a", "password": "p" })), 403, "M_FORBIDDEN").await;
    let guest = node.post("", format!("{REGISTER}?kind=guest"), json!({}));
    node.fails(guest, 403, "M_GUEST_ACCESS_FORBIDDEN").await;
}

#[tokio::test]
async fn bad_names_and_passwords_are_refused() {
    let node = TestNode::with(|config| config.registration = Registration::Open);
    let register = |name: &str, password: Option<&str>| {
        let body = json!({ "username": name, "password": password, "auth": { "type": "m.login.dummy" } });
        node.post("", REGISTER, body)
    };
    for name in ["", "a b", "a:b", "@a", "\u{e9}t\u{e9}"] {
        node.fails(register(name, Some("secret")), 400, "M_INVALID_USERNAME").await;
    }
    node.fails(register("alice", None), 400, "M_MISSING_PARAM").await;
    node.fails(register("alice", Some("")), 400, "M_MISSING_PARAM").await;
    let long = "x".repeat(5000);
    node.fails(register("alice", Some(&long)), 400, "M_INVALID_PARAM").await;
}

#[tokio::test]
async fn a_session_stays_with_its_request() {
    let node = TestNode::new();
    let body = json!({ "username": "alice", "password": "secret" });
    let (_, json) = node.post("", REGISTER, body).await;
    let auth = json!({ "type": "m.login.registration_token", "token": REGISTRATION_TOKEN, "session": json["session"] });
    let other = json!({ "username": "mallory", "password": "secret", "auth": auth });
    node.fails(node.post("", REGISTER, other), 403, "M_FORBIDDEN").await;
    node.pass(std::time::Duration::from_secs(3600));
    let late = json!({ "username": "alice", "password": "secret", "auth": auth });
    node.fails(node.post("", REGISTER, late), 400, "M_UNKNOWN").await;
}

#[tokio::test]
async fn clients_can_ask_beforehand() {
    let node = TestNode::new();
    node.user("alice").await;
    let available = |name: &str| {
        let path = format!("{REGISTER}/available?username={name}");
        let node = &node;
        async move { node.get("", &path).await }
    };
    assert_eq!(node.ok(available("bob")).await["available"], true);
    node.fails(available("alice"), 400, "M_USER_IN_USE").await;
    node.fails(available("a%20b"), 400, "M_INVALID_USERNAME").await;
    for (token, valid) in [(REGISTRATION_TOKEN, true), ("guess", false)] {
        let path = format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
        assert_eq!(node.ok(node.get("", &path)).await["valid"], valid);
    }
}

#[tokio::test]
async fn the_first_account_is_admin_and_the_next_is_not() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let admin = |user: &str| node.node.accounts.authenticate(user, None).unwrap().admin;
    assert!(admin(&alice.token) && !admin(&bob.token));
}
