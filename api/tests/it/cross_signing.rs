//! Cross-signing keys and signatures.

use millpond_node::accounts::{NewAccount, NewDevice};
use ruma::signatures::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::{
    encryption::{cross_signing_key, device_keys, key_pair, public, self_named, signed},
    harness::{TestNode, TestUser},
};

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const DEVICE_SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

/// A user with device keys and cross-signing keys.
struct Signer {
    user: TestUser,
    device: Ed25519KeyPair,
    master: Ed25519KeyPair,
    self_signing: Ed25519KeyPair,
    user_signing: Ed25519KeyPair,
}

impl Signer {
    async fn new(node: &TestNode, name: &str) -> Self {
        let account = NewAccount { name: name.to_owned(), password: Some("open sesame".to_owned()), admin: false };
        let (id, session) = node.node.accounts.create(account, Some(NewDevice::default())).await.unwrap();
        let session = session.unwrap();
        let user = TestUser { id, device_id: session.device_id, token: session.access_token };
        let device = key_pair(user.device_id.as_str());
        let keys = device_keys(&user, &device);
        node.ok(node.post(&user, UPLOAD, json!({ "device_keys": keys }))).await;
        Self { user, device, master: self_named(), self_signing: self_named(), user_signing: self_named() }
    }

    fn body(&self) -> Value {
        let signed_by_master =
            |usage, pair| signed(&cross_signing_key(&self.user, usage, pair), &self.user, &self.master);
        json!({
            "master_key": cross_signing_key(&self.user, "master", &self.master),
            "self_signing_key": signed_by_master("self_signing", &self.self_signing),
            "user_signing_key": signed_by_master("user_signing", &self.user_signing),
        })
    }

    async fn upload(&self, node: &TestNode) {
        assert_eq!(node.ok(node.post(&self.user, DEVICE_SIGNING, self.body())).await, json!({}));
    }

    async fn sees(&self, node: &TestNode, other: &TestUser) -> Value {
        let query = json!({ "device_keys": { other.id.as_str(): [] } });
        node.ok(node.post(&self.user, "/_matrix/client/v3/keys/query", query)).await
    }

    async fn sign(&self, node: &TestNode, of: &TestUser, id: &str, object: Value) -> Value {
        let body = json!({ of.id.as_str(): { id: object } });
        node.ok(node.post(&self.user, SIGNATURES, body)).await
    }
}

#[tokio::test]
async fn the_first_keys_need_no_password_and_the_user_signing_key_is_its_owners_alone() {
    let node = TestNode::new();
    let (alice, bob) = (Signer::new(&node, "alice").await, Signer::new(&node, "bob").await);
    alice.upload(&node).await;
    alice.upload(&node).await;
    let own = alice.sees(&node, &alice.user).await;
    let id = alice.user.id.as_str();
    for (shown, uploaded) in [
        ("master_keys", "master_key"),
        ("self_signing_keys", "self_signing_key"),
        ("user_signing_keys", "user_signing_key"),
    ] {
        assert_eq!(own[shown][id], alice.body()[uploaded]);
    }
    let others = bob.sees(&node, &alice.user).await;
    assert!(others["master_keys"][id].is_object() && others["self_signing_keys"][id].is_object());
    assert_eq!(others["user_signing_keys"], Value::Null);
}

#[tokio::test]
async fn replacing_keys_needs_the_password() {
    let node = TestNode::new();
    let mut alice = Signer::new(&node, "alice").await;
    alice.upload(&node).await;
    alice.master = self_named();
    let (status, info) = node.post(&alice.user, DEVICE_SIGNING, alice.body()).await;
    assert_eq!(status, 401, "{info}");
    assert_eq!(info["flows"], json!([{ "stages": ["m.login.password"] }]));
    let mut body = alice.body();
    body["auth"] = json!({
        "type": "m.login.password", "session": info["session"], "password": "open sesame",
        "identifier": { "type": "m.id.user", "user": alice.user.id },
    });
    node.ok(node.post(&alice.user, DEVICE_SIGNING, body)).await;
    let own = alice.sees(&node, &alice.user).await;
    assert_eq!(own["master_keys"][alice.user.id.as_str()], alice.body()["master_key"]);
}

#[tokio::test]
async fn keys_that_do_not_hold_are_refused() {
    let node = TestNode::new();
    let alice = Signer::new(&node, "alice").await;
    let only = |name: &str| json!({ name: alice.body()[name] });
    node.fails(node.post(&alice.user, DEVICE_SIGNING, only("self_signing_key")), 400, "M_MISSING_PARAM").await;
    let with = |name: &str, key: Value| {
        let mut body = alice.body();
        body[name] = key;
        node.post(&alice.user, DEVICE_SIGNING, body)
    };
    let unsigned = cross_signing_key(&alice.user, "self_signing", &alice.self_signing);
    node.fails(with("self_signing_key", unsigned), 400, "M_INVALID_SIGNATURE").await;
    let wrong_usage = cross_signing_key(&alice.user, "user_signing", &alice.master);
    node.fails(with("master_key", wrong_usage), 400, "M_INVALID_PARAM").await;
    let mut wrong_user = cross_signing_key(&alice.user, "master", &alice.master);
    wrong_user["user_id"] = json!("@bob:test.example");
    node.fails(with("master_key", wrong_user), 400, "M_INVALID_PARAM").await;
    let mut misnamed = cross_signing_key(&alice.user, "master", &alice.master);
    misnamed["keys"] = json!({ "ed25519:other": public(&alice.master) });
    node.fails(with("master_key", misnamed), 400, "M_INVALID_PARAM").await;

    let device = NewDevice { device_id: Some(public(&alice.master).into()), ..NewDevice::default() };
    node.node.accounts.open_session(&alice.user.id, device).await.unwrap();
    node.fails(node.post(&alice.user, DEVICE_SIGNING, alice.body()), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn ones_own_signatures_on_device_and_master_key_are_shown_to_all() {
    let node = TestNode::new();
    let (alice, bob) = (Signer::new(&node, "alice").await, Signer::new(&node, "bob").await);
    alice.upload(&node).await;
    let id = alice.user.id.as_str();
    let device_id = alice.user.device_id.as_str();
    let shown = bob.sees(&node, &alice.user).await;
    let device = signed(&shown["device_keys"][id][device_id], &alice.user, &alice.self_signing);
    assert_eq!(alice.sign(&node, &alice.user, device_id, device).await, json!({}));
    let master = signed(&shown["master_keys"][id], &alice.user, &alice.device);
    assert_eq!(alice.sign(&node, &alice.user, &public(&alice.master), master).await, json!({}));

    let shown = bob.sees(&node, &alice.user).await;
    let by_self_signing = format!("ed25519:{}", public(&alice.self_signing));
    assert!(shown["device_keys"][id][device_id]["signatures"][id][&by_self_signing].is_string(), "{shown}");
    assert!(shown["master_keys"][id]["signatures"][id][format!("ed25519:{device_id}")].is_string(), "{shown}");
}

#[tokio::test]
async fn a_signature_on_anothers_master_key_is_for_its_maker_only() {
    let node = TestNode::new();
    let (alice, bob) = (Signer::new(&node, "alice").await, Signer::new(&node, "bob").await);
    alice.upload(&node).await;
    bob.upload(&node).await;
    let since = node.node.core.snapshot().unwrap().view().position().unwrap();
    let master = signed(&bob.body()["master_key"], &alice.user, &alice.user_signing);
    assert_eq!(alice.sign(&node, &bob.user, &public(&bob.master), master).await, json!({}));
    let signature =
        |shown: &Value| shown["master_keys"][bob.user.id.as_str()]["signatures"][alice.user.id.as_str()].clone();
    assert!(signature(&alice.sees(&node, &bob.user).await).is_object());
    assert!(signature(&bob.sees(&node, &bob.user).await).is_null());
    let snapshot = node.node.core.snapshot().unwrap();
    let changed = |user: &TestUser| {
        millpond_node::keys::device_lists(snapshot.view(), &user.id, since).unwrap().changed.contains(&bob.user.id)
    };
    assert!(changed(&alice.user) && !changed(&bob.user), "and only its maker asks again");
}

#[tokio::test]
async fn signatures_that_do_not_hold_are_named_and_the_others_are_kept() {
    let node = TestNode::new();
    let (alice, bob) = (Signer::new(&node, "alice").await, Signer::new(&node, "bob").await);
    alice.upload(&node).await;
    bob.upload(&node).await;
    let shown = alice.sees(&node, &alice.user).await;
    let device_id = alice.user.device_id.as_str();
    let device = &shown["device_keys"][alice.user.id.as_str()][device_id];
    let mut changed = device.clone();
    changed["algorithms"] = json!([]);
    let mut forged = signed(device, &alice.user, &alice.self_signing);
    let by = format!("ed25519:{}", public(&alice.self_signing));
    forged["signatures"][alice.user.id.as_str()][&by] = json!("A".repeat(86));
    for (bad, code) in [
        (signed(&changed, &alice.user, &alice.self_signing), "M_INVALID_SIGNATURE"),
        (forged, "M_INVALID_SIGNATURE"),
        (signed(device, &alice.user, &alice.user_signing), "M_INVALID_SIGNATURE"),
    ] {
        let answer = alice.sign(&node, &alice.user, device_id, bad).await;
        assert_eq!(answer["failures"][alice.user.id.as_str()][device_id]["errcode"], code, "{answer}");
    }
    let good = signed(device, &alice.user, &alice.self_signing);
    let body = json!({
        alice.user.id.as_str(): { device_id: good, "UNKNOWN": device },
        bob.user.id.as_str(): { public(&bob.master): bob.body()["master_key"] },
    });
    let answer = node.ok(node.post(&alice.user, SIGNATURES, body)).await;
    assert_eq!(answer["failures"][alice.user.id.as_str()]["UNKNOWN"]["errcode"], "M_NOT_FOUND", "{answer}");
    assert!(answer["failures"][alice.user.id.as_str()][device_id].is_null());
    assert!(answer["failures"][bob.user.id.as_str()][public(&bob.master)]["error"].is_string());
    let shown = alice.sees(&node, &alice.user).await;
    assert!(
        shown["device_keys"][alice.user.id.as_str()][device_id]["signatures"][alice.user.id.as_str()][by].is_string()
    );
}
