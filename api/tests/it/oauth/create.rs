//! A client whose user has no account yet (`prompt=create`).

use serde_json::json;

use super::world::{Browser, VERIFIER, World, parameters};
use crate::harness::REGISTRATION_TOKEN;

#[tokio::test]
async fn an_account_is_made_in_the_browser_by_who_has_the_token() {
    let world = World::new().await;
    let metadata = world.node.ok(world.node.get("", "/_matrix/client/v1/auth_metadata")).await;
    assert_eq!(metadata["prompt_values_supported"], json!(["create"]));
    let mut browser = Browser::new(&world);
    let page = browser.get(&world.authorize(&[("prompt", "create")])).await;
    assert!(page.body.contains("Create an account") && page.body.contains("registration_token"), "{}", page.body);
    let fill = |user: &'static str, token: &'static str| {
        [("user", user), ("password", "secret"), ("registration_token", token), ("do", "create")]
    };
    let refused = browser.submit(&page, &fill("bob", "guess")).await;
    assert_eq!(refused.status, 403);
    assert!(!refused.body.contains("secret") && !refused.body.contains("guess"), "{}", refused.body);
    let taken = browser.submit(&refused, &fill("alice", REGISTRATION_TOKEN)).await;
    assert_eq!(taken.status, 403);
    let made = browser.submit(&taken, &fill("bob", REGISTRATION_TOKEN)).await;
    assert_eq!(made.status, 303, "{}", made.body);
    let code = &parameters(made.location(), '?')["code"];
    let tokens = world.exchange(code, VERIFIER).await.json();
    let whoami = world.whoami(tokens["access_token"].as_str().unwrap()).await.json();
    assert_eq!(whoami["user_id"], json!(world.node.user_id("bob")));
}

#[tokio::test]
async fn who_has_an_account_is_asked_to_sign_in() {
    let world = World::new().await;
    let page = Browser::new(&world).get(&world.authorize(&[])).await;
    assert!(page.body.contains("Sign in") && !page.body.contains("registration_token"), "{}", page.body);
}
