//! Secrets: kept encrypted in account data, shared between a user's own devices (client-server API, "Secrets").

use serde_json::{Value, json};

use crate::{
    harness::{TestNode, TestUser},
    room::escape,
};

fn data(user: &TestUser, kind: &str) -> String {
    format!("/_matrix/client/v3/user/{}/account_data/{kind}", escape(user.id.as_str()))
}

#[tokio::test]
async fn a_secret_is_kept_as_its_client_encrypted_it_and_told_to_other_devices() {
    let node = TestNode::new();
    let (alice, bob) = (node.user("alice").await, node.user("bob").await);
    let other = node.device(&alice).await;
    let since = node.token(&other).await;
    let key = json!({ "algorithm": "m.secret_storage.v1.aes-hmac-sha2", "iv": "a+b/c=", "mac": "m", "name": "K" });
    let secret = json!({ "encrypted": { "K1": { "iv": "i", "ciphertext": "c==", "mac": "m" } } });
    let entries = [
        ("m.secret_storage.key.K1", key),
        ("m.secret_storage.default_key", json!({ "key": "K1" })),
        ("m.cross_signing.master", secret.clone()),
    ];
    for (kind, content) in &entries {
        node.ok(node.put(&alice, data(&alice, kind), content.clone())).await;
        assert_eq!(node.ok(node.get(&other, data(&alice, kind))).await, *content);
        node.fails(node.get(&bob, data(&alice, kind)), 403, "M_FORBIDDEN").await;
    }
    let synced = node.sync_since(&other, &since).await;
    let told = synced["account_data"]["events"].as_array().unwrap();
    for (kind, content) in &entries {
        assert!(told.iter().any(|event| event["type"] == *kind && event["content"] == *content), "{kind}: {told:?}");
    }
    node.fails(node.get(&alice, data(&alice, "m.cross_signing.self_signing")), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn a_secret_goes_to_the_device_that_asked_and_to_no_other() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let (second, third) = (node.device(&alice).await, node.device(&alice).await);
    let send = |from: &TestUser, kind: &str, to: &str, content: Value| {
        let body = json!({ "messages": { alice.id.as_str(): { to: content } } });
        let path = format!("/_matrix/client/v3/sendToDevice/{kind}/{}", from.device_id);
        let (node, from) = (&node, from.clone());
        async move { node.ok(node.put(&from, path, body)).await }
    };
    let request = json!({
        "action": "request", "name": "m.cross_signing.master", "request_id": "r", "requesting_device_id": second.device_id,
    });
    send(&second, "m.secret.request", "*", request.clone()).await;
    let messages = async |who: &TestUser| node.sync(who, &[]).await["to_device"]["events"].clone();
    for device in [&alice, &third] {
        assert_eq!(messages(device).await[0]["content"], request);
    }
    let answer = json!({ "request_id": "r", "secret": "s" });
    send(&alice, "m.secret.send", second.device_id.as_str(), answer.clone()).await;
    let got = messages(&second).await;
    assert_eq!(got.as_array().unwrap().last().unwrap()["content"], answer);
    assert!(!messages(&third).await.to_string().contains("\"secret\""));
}
