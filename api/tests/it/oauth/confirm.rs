//! Single sign-on as a stage of user-interactive authentication: our own page, and the client asks again.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Answer, Browser, World};
use crate::harness::{Answered, TestUser};

const DELETE: &str = "/_matrix/client/v3/delete_devices";
const FALLBACK: &str = "/_matrix/client/v3/auth/m.login.sso/fallback/web";

async fn world() -> World {
    World::with(|config| config.single_sign_on = true).await
}

/// Another device of Alice's.
async fn device(world: &World) -> TestUser {
    let id = world.node.user_id("alice");
    let alice = TestUser { id, device_id: "".into(), token: String::new() };
    world.node.device(&alice).await
}

/// Asks for a device to be deleted, going on with a session.
async fn delete(world: &World, user: &TestUser, device: &TestUser, auth: Option<Value>) -> Answered {
    let mut body = json!({ "devices": [device.device_id] });
    if let Some(auth) = auth {
        body["auth"] = auth;
    }
    world.node.post(user, DELETE, body).await
}

/// The session of a request that must be confirmed.
async fn begun(world: &World, user: &TestUser, device: &TestUser) -> String {
    let (status, asked) = delete(world, user, device, None).await;
    assert_eq!(status, 401, "{asked}");
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.password"] }, { "stages": ["m.login.sso"] }]));
    asked["session"].as_str().unwrap().to_owned()
}

/// Follows the client to our page.
async fn led(browser: &mut Browser<'_>, session: &str) -> Answer {
    let answer = browser.get(&format!("{FALLBACK}?session={session}")).await;
    assert_eq!(answer.status, 302, "{}", answer.body);
    let page = answer.location().strip_prefix("http://127.0.0.1:8008").unwrap().to_owned();
    browser.get(&page).await
}

#[tokio::test]
async fn what_a_client_wants_is_done_when_its_user_has_confirmed_it_on_the_page() {
    let world = world().await;
    let (alice, other) = (device(&world).await, device(&world).await);
    let session = begun(&world, &alice, &other).await;
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, &session).await;
    assert!(page.body.contains("sign devices of yours out") && page.body.contains(alice.id.as_str()), "{}", page.body);
    assert!(page.policy().contains("default-src 'none'") && !page.policy().contains("script"), "{}", page.policy());
    let wrong = browser.submit(&page, &[("user", "alice"), ("password", "guess"), ("do", "confirm")]).await;
    assert_eq!(wrong.status, 403);
    let (status, asked) = delete(&world, &alice, &other, Some(json!({ "session": session }))).await;
    assert!(status == 401 && asked["completed"].is_null(), "not yet: {asked}");
    let typed = json!({ "type": "m.login.sso", "session": session });
    let (status, asked) = delete(&world, &alice, &other, Some(typed.clone())).await;
    assert_eq!((status.as_u16(), &asked["errcode"]), (401, &json!("M_FORBIDDEN")), "{asked}");

    let done = browser.submit(&wrong, &[("user", "alice"), ("password", "secret"), ("do", "confirm")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert!(done.body.contains(r#"<script src="/oauth2/confirmed.js"></script>"#), "{}", done.body);
    assert!(done.policy().contains("script-src 'self';"), "{}", done.policy());
    let script = browser.get("/oauth2/confirmed.js").await;
    assert!(script.headers["content-type"].to_str().unwrap().starts_with("text/javascript"));
    for part in ["window.onAuthDone()", r#"window.opener.postMessage("authDone", "*")"#] {
        assert!(script.body.contains(part), "{}", script.body);
    }
    // It was confirmed for this request and no other.
    let (status, json) = delete(&world, &alice, &alice, Some(json!({ "session": session }))).await;
    assert_eq!((status.as_u16(), &json["errcode"]), (403, &json!("M_FORBIDDEN")));
    world.node.ok(delete(&world, &alice, &other, Some(json!({ "session": session })))).await;
    assert_eq!(world.node.get(&other, "/_matrix/client/v3/account/whoami").await.0, 401);
    let again = device(&world).await;
    let (status, _) = delete(&world, &alice, &again, Some(json!({ "session": session }))).await;
    assert_eq!(status, 400, "once");
}

#[tokio::test]
async fn nobody_else_confirms_it_and_a_browser_that_is_signed_in_is_asked_all_the_same() {
    let world = world().await;
    world.node.user_with_password("bob", "secret").await;
    let (alice, other) = (device(&world).await, device(&world).await);
    let session = begun(&world, &alice, &other).await;
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, &session).await;
    let of_bob = browser.submit(&page, &[("user", "bob"), ("password", "secret"), ("do", "confirm")]).await;
    assert!(of_bob.status == 403 && of_bob.body.contains("another account"), "{}", of_bob.body);
    let refused = browser.submit(&of_bob, &[("user", "alice"), ("password", "secret"), ("do", "refuse")]).await;
    assert!(refused.status == 400 && !refused.body.contains("script"), "{}", refused.body);
    // Alice signs in on another page.
    let account = browser.get("/account").await;
    browser.submit(&account, &[("do", "sign-out")]).await;
    let account = browser.get("/account").await;
    let signed_in = browser.submit(&account, &[("user", "alice"), ("password", "secret"), ("do", "sign-in")]).await;
    assert!(signed_in.body.contains("You are signed in as"), "{}", signed_in.body);
    let page = led(&mut browser, &session).await;
    for fields in [vec![("do", "confirm")], vec![("user", "alice"), ("password", ""), ("do", "confirm")]] {
        assert_eq!(browser.submit(&page, &fields).await.status, 403);
    }
    // Another site's form, and another browser's.
    let good = [("user", "alice"), ("password", "secret"), ("do", "confirm")];
    assert_eq!(browser.submit_from(&page, &good, &[("origin", "https://evil.example")]).await.status, 400);
    assert_eq!(Browser::new(&world).submit(&page, &good).await.status, 400);
    let (status, _) = delete(&world, &alice, &other, Some(json!({ "session": session }))).await;
    assert_eq!(status, 401);
    world.node.pass(Duration::from_secs(16 * 60));
    let late = browser.submit(&page, &good).await;
    assert!(late.status == 400 && late.body.contains("took too long"), "{}", late.body);
}

#[tokio::test]
async fn who_has_no_token_says_on_the_page_which_account_ends() {
    let world = world().await;
    let path = "/_matrix/client/v3/account/deactivate";
    let (status, asked) = world.node.post("", path, json!({})).await;
    assert_eq!((status.as_u16(), &asked["flows"][1]["stages"]), (401, &json!(["m.login.sso"])));
    let session = &asked["session"];
    let mut browser = Browser::new(&world);
    let page = led(&mut browser, session.as_str().unwrap()).await;
    assert!(page.body.contains("deactivate your account"), "{}", page.body);
    let done = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "confirm")]).await;
    assert_eq!(done.status, 200, "{}", done.body);
    world.node.ok(world.node.post("", path, json!({ "auth": { "session": session } }))).await;
    let login = json!({ "type": "m.login.password", "password": "secret",
        "identifier": { "type": "m.id.user", "user": "alice" } });
    assert_eq!(world.node.post("", "/_matrix/client/v3/login", login).await.0, 403);
}

#[tokio::test]
async fn without_the_setting_and_for_other_stages_there_is_no_page() {
    let world = World::new().await;
    let (alice, other) = (device(&world).await, device(&world).await);
    let (_, asked) = delete(&world, &alice, &other, None).await;
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.password"] }]));
    let session = asked["session"].as_str().unwrap();
    world.node.fails(world.node.get("", format!("{FALLBACK}?session={session}")), 404, "M_NOT_FOUND").await;
    let page = Browser::new(&world).get(&format!("/oauth2/confirm?session={session}")).await;
    assert_eq!(page.status, 400, "{}", page.body);
    let world = self::world().await;
    let other = FALLBACK.replace("m.login.sso", "m.login.password");
    world.node.fails(world.node.get("", format!("{other}?session=x")), 404, "M_NOT_FOUND").await;
    world.node.fails(world.node.get("", FALLBACK), 400, "M_MISSING_PARAM").await;
    let unknown = led(&mut Browser::new(&world), "nothing").await;
    assert!(unknown.status == 400 && !unknown.body.contains("<form"), "{}", unknown.body);
}
