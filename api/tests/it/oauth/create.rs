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

async fn with_terms() -> World {
    World::with(|config| {
        config.registration_terms = vec!["Terms of use 1.2 https://pond.example/terms".parse().unwrap()];
    })
    .await
}

#[tokio::test]
async fn terms_are_shown_with_the_form_and_must_be_accepted() {
    let world = with_terms().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(&world.authorize(&[("prompt", "create")])).await;
    assert!(
        page.body.contains("href=\"https://pond.example/terms\"") && page.body.contains("checkbox"),
        "{}",
        page.body
    );
    let fields =
        [("user", "bob"), ("password", "secret"), ("registration_token", REGISTRATION_TOKEN), ("do", "create")];
    let refused = browser.submit(&page, &fields).await;
    assert!(refused.status == 403 && refused.body.contains("consent"), "{}", refused.body);
    let mut wrong = fields.to_vec();
    wrong.push(("terms", "yes"));
    wrong[2].1 = "guess";
    let refused = browser.submit(&refused, &wrong).await;
    assert!(refused.status == 403 && refused.body.contains("token"), "{}", refused.body);
    let mut right = fields.to_vec();
    right.push(("terms", "yes"));
    let made = browser.submit(&refused, &right).await;
    assert_eq!(made.status, 303, "{}", made.body);
}

#[tokio::test]
async fn a_client_that_cannot_show_terms_leads_to_our_page() {
    let world = with_terms().await;
    let (register, fallback) = ("/_matrix/client/v3/register", "/_matrix/client/v3/auth/m.login.terms/fallback/web");
    let body = json!({ "username": "bob", "password": "secret" });
    let (_, asked) = world.node.post("", register, body.clone()).await;
    let session = asked["session"].as_str().unwrap();
    let mut browser = Browser::new(&world);
    let led = browser.get(&format!("{fallback}?session={session}")).await;
    assert_eq!(led.status, 302, "{}", led.body);
    let page = browser.get(led.location().strip_prefix("http://127.0.0.1:8008").unwrap()).await;
    assert!(page.body.contains("https://pond.example/terms"), "{}", page.body);
    let refused = browser.submit(&page, &[("do", "refuse")]).await;
    assert!(refused.status == 400 && !refused.body.contains("script"), "{}", refused.body);
    let with = |auth| {
        let mut body = body.clone();
        body["auth"] = auth;
        body
    };
    let token = json!({ "type": "m.login.registration_token", "token": REGISTRATION_TOKEN, "session": session });
    let (_, asked) = world.node.post("", register, with(token)).await;
    assert_eq!(asked["completed"], json!(["m.login.registration_token"]));
    let accepted = browser.submit(&page, &[("do", "accept")]).await;
    assert!(accepted.status == 200 && accepted.body.contains("/oauth2/confirmed.js"), "{}", accepted.body);
    world.node.ok(world.node.post("", register, with(json!({ "session": session })))).await;
    let over = browser.submit(&page, &[("do", "accept")]).await;
    assert_eq!(over.status, 400, "{}", over.body);
    let none = World::new().await;
    none.node.fails(none.node.get("", format!("{fallback}?session={session}")), 404, "M_NOT_FOUND").await;
}
