//! Single sign-on for clients that know no OAuth: our own login page, and back with a login token.

use serde_json::{Value, json};

use super::world::{Answer, Browser, World, parameters};
use crate::{
    harness::{REGISTRATION_TOKEN, TestNode},
    room::escape,
};

const REDIRECT: &str = "/_matrix/client/v3/login/sso/redirect";
const CLIENT: &str = "https://frog.example/?hs=pond&loginToken=old";

async fn world() -> World {
    World::with(|config| config.single_sign_on = true).await
}

/// Follows the client's first step to our page.
async fn led(browser: &mut Browser<'_>, client: &str, action: &str) -> Answer {
    let answer = browser.get(&format!("{REDIRECT}?redirectUrl={}{action}", escape(client))).await;
    assert_eq!(answer.status, 302);
    let page = answer.location().strip_prefix("http://127.0.0.1:8008").unwrap().to_owned();
    browser.get(&page).await
}

async fn log_in(world: &World, back: &str) -> (u16, Value) {
    let token = &parameters(back, '?')["loginToken"];
    let body = json!({ "type": "m.login.token", "token": token });
    let (status, json) = world.node.post("", "/_matrix/client/v3/login", body).await;
    (status.as_u16(), json)
}

#[tokio::test]
async fn who_signs_in_on_the_page_comes_back_with_a_token_that_logs_in_once() {
    let world = world().await;
    let flows = world.node.ok(world.node.get("", "/_matrix/client/v3/login")).await;
    let sso = json!({ "type": "m.login.sso", "oauth_aware_preferred": true });
    assert!(flows["flows"].as_array().unwrap().contains(&sso), "{flows}");
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, CLIENT, "").await;
    assert!(page.body.contains("<strong>frog.example</strong>"), "{}", page.body);
    assert!(page.policy().contains("form-action 'self' https://frog.example;"), "{}", page.policy());
    let wrong = browser.submit(&page, &[("user", "alice"), ("password", "guess"), ("do", "allow")]).await;
    assert_eq!(wrong.status, 403);
    let back = browser.submit(&wrong, &[("user", "alice"), ("password", "secret"), ("do", "allow")]).await;
    assert_eq!(back.status, 303, "{}", back.body);
    let back = back.location().to_owned();
    assert!(back.starts_with("https://frog.example/?hs=pond&loginToken=") && !back.contains("old"), "{back}");
    let (status, session) = log_in(&world, &back).await;
    assert_eq!((status, &session["user_id"]), (200, &json!(world.node.user_id("alice"))));
    assert_eq!(log_in(&world, &back).await.0, 403, "once");
    // Who is signed in is asked all the same; and the token is for a client that is there now.
    let page = led(&mut browser, "element:/connect", "").await;
    assert!(page.body.contains("You are signed in as") && !page.body.contains("password"), "{}", page.body);
    let back = browser.submit(&page, &[("do", "allow")]).await.location().to_owned();
    assert!(back.starts_with("element:/connect?loginToken="), "{back}");
    world.node.pass(std::time::Duration::from_secs(11));
    assert_eq!(log_in(&world, &back).await.0, 403, "late");
}

#[tokio::test]
async fn who_refuses_or_did_not_ask_gives_no_token() {
    let world = world().await;
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, CLIENT, "").await;
    let refused = browser.submit(&page, &[("do", "refuse")]).await;
    assert!(refused.headers.get("location").is_none(), "{}", refused.body);
    // Another site's form has no token of our page, and says where it comes from.
    let good = [("user", "alice"), ("password", "secret"), ("do", "allow")];
    let foreign = browser.submit_from(&page, &good, &[("origin", "https://evil.example")]).await;
    assert!(foreign.status == 400 && foreign.headers.get("location").is_none());
    let other = Browser::new(&world).submit(&page, &good).await;
    assert!(other.status == 400 && other.headers.get("location").is_none());
}

#[tokio::test]
async fn who_has_no_account_makes_one_there() {
    let world = world().await;
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, CLIENT, "&action=register").await;
    assert!(page.body.contains("Create an account"), "{}", page.body);
    let fields =
        [("user", "bob"), ("password", "secret"), ("registration_token", REGISTRATION_TOKEN), ("do", "create")];
    let back = browser.submit(&page, &fields).await;
    let (status, session) = log_in(&world, back.location()).await;
    assert_eq!((status, &session["user_id"]), (200, &json!(world.node.user_id("bob"))));
}

#[tokio::test]
async fn places_that_are_none_are_refused_and_without_the_setting_there_is_nothing() {
    let world = world().await;
    for bad in ["javascript:alert(1)", "data:text/html,x", "frog"] {
        let path = format!("{REDIRECT}?redirectUrl={}", escape(bad));
        world.node.fails(world.node.get("", path), 400, "M_INVALID_PARAM").await;
        let page = Browser::new(&world).get(&format!("/oauth2/sso?redirectUrl={}", escape(bad))).await;
        assert!(page.status == 400 && !page.body.contains("<form"), "{}", page.body);
    }
    world.node.fails(world.node.get("", REDIRECT), 400, "M_MISSING_PARAM").await;
    world
        .node
        .fails(world.node.get("", format!("{REDIRECT}/any?redirectUrl=https%3A%2F%2Fa.b")), 404, "M_NOT_FOUND")
        .await;
    let off = TestNode::new();
    off.fails(off.get("", format!("{REDIRECT}?redirectUrl=https%3A%2F%2Fa.b")), 404, "M_NOT_FOUND").await;
    let world = World::new().await;
    assert_eq!(Browser::new(&world).get("/oauth2/sso?redirectUrl=https%3A%2F%2Fa.b").await.status, 400);
}
