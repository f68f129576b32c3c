//! The device authorisation grant.

use std::time::Duration;

use super::world::{Answer, Browser, World, scope};

const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");

async fn begin(world: &World) -> serde_json::Value {
    let scope = scope("KLMNOPQRST");
    let pairs = [("client_id", world.client_id.as_str()), ("scope", scope.as_str())];
    let answer = world.post("/oauth2/device/authorize", &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn poll(world: &World, begun: &serde_json::Value) -> Answer {
    world.token(&[GRANT, ("device_code", begun["device_code"].as_str().unwrap())]).await
}

#[tokio::test]
async fn a_code_that_the_user_types_in_signs_the_other_device_in() {
    let world = World::new().await;
    let begun = begin(&world).await;
    assert_eq!((&begun["interval"], &begun["expires_in"]), (&5.into(), &900.into()));
    assert_eq!(poll(&world, &begun).await.json()["error"], "authorization_pending");
    assert_eq!(poll(&world, &begun).await.json()["error"], "slow_down");
    let mut browser = Browser::new(&world);
    let page = browser.get("/oauth2/device").await;
    let wrong = browser.submit(&page, &[("user_code", "BBBB-BBBB"), ("do", "look")]).await;
    assert_eq!(wrong.status, 400);
    let typed = begun["user_code"].as_str().unwrap().to_lowercase().replace('-', " ");
    let page = browser.submit(&page, &[("user_code", &typed), ("do", "look")]).await;
    assert!(page.body.contains("KLMNOPQRST"), "{}", page.body);
    let done = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "allow")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    world.node.pass(Duration::from_secs(5));
    let tokens = poll(&world, &begun).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    let access = tokens.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.whoami(&access).await.json()["device_id"], "KLMNOPQRST");
    // A second use of the code is the sign of a thief.
    world.node.pass(Duration::from_secs(5));
    assert_eq!(poll(&world, &begun).await.json()["error"], "invalid_grant");
    assert_eq!(world.whoami(&access).await.status, 401);
}

#[tokio::test]
async fn a_code_is_refused_or_runs_out() {
    let world = World::new().await;
    let begun = begin(&world).await;
    let mut browser = Browser::new(&world);
    let complete = format!("/oauth2/device?user_code={}", begun["user_code"].as_str().unwrap());
    let page = browser.get(&complete).await;
    let allowed = browser.submit(&page, &[("user", "alice"), ("password", "guess"), ("do", "allow")]).await;
    assert_eq!(allowed.status, 403);
    let refused = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "refuse")]).await;
    assert_eq!(refused.status, 200, "{}", refused.body);
    assert_eq!(poll(&world, &begun).await.json()["error"], "access_denied");
    let late = begin(&world).await;
    world.node.pass(Duration::from_secs(901));
    assert_eq!(poll(&world, &late).await.json()["error"], "expired_token");
    let bad = world.post("/oauth2/device/authorize", &[("client_id", &world.client_id), ("scope", "openid")]).await;
    assert_eq!(bad.json()["error"], "invalid_scope");
    let bad =
        world.post("/oauth2/device/authorize", &[("client_id", "unknown"), ("scope", &scope("KLMNOPQRST"))]).await;
    assert_eq!((bad.status, bad.json()["error"].as_str()), (401, Some("invalid_client")));
    assert_eq!(world.token(&[GRANT, ("device_code", "nonsense")]).await.json()["error"], "invalid_grant");
}
