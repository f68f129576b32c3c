//! The account page.

use serde_json::json;

use super::world::{Browser, DEVICE, VERIFIER, World};
use crate::{
    encryption::{cross_signing_key, self_named},
    harness::TestUser,
};

#[tokio::test]
async fn devices_are_listed_and_signed_out() {
    let world = World::new().await;
    let tokens = world.exchange(&world.code(&[]).await, VERIFIER).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let mut browser = Browser::new(&world);
    let page = browser.get(&format!("/account?action=org.matrix.device_delete&device_id={DEVICE}")).await;
    assert!(!page.body.contains("Frog"), "nothing is shown to who is not signed in");
    let page = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "sign-in")]).await;
    assert!(page.body.contains("Frog &lt;b&gt;") && page.body.contains(DEVICE), "{}", page.body);
    assert_eq!(browser.submit(&page, &[("do", "end")]).await.status, 200);
    assert_eq!(world.whoami(access).await.status, 401);
    let list = browser.get("/account?action=org.matrix.devices_list").await;
    assert!(list.body.contains("Your devices") && !list.body.contains(DEVICE));
    let other = browser.get("/account?action=org.matrix.device_view&device_id=NOTHERE").await;
    assert_eq!(other.status, 400);
}

#[tokio::test]
async fn cross_signing_keys_of_a_client_are_replaced_once_it_is_approved_in_the_browser() {
    let world = World::new().await;
    let tokens = world.exchange(&world.code(&[]).await, VERIFIER).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let alice = TestUser { id: world.node.user_id("alice"), device_id: DEVICE.into(), token: access.to_owned() };
    let upload = "/_matrix/client/v3/keys/device_signing/upload";
    let first = json!({ "master_key": cross_signing_key(&alice, "master", &self_named()) });
    world.node.ok(world.node.post(&alice, upload, first)).await;
    let second = json!({ "master_key": cross_signing_key(&alice, "master", &self_named()) });
    let (status, asked) = world.node.post(&alice, upload, second.clone()).await;
    assert_eq!(status.as_u16(), 401);
    assert_eq!(asked["flows"], json!([{ "stages": ["m.oauth"] }]));
    let url = asked["params"]["m.oauth"]["url"].as_str().unwrap();
    assert!(url.ends_with("/account?action=org.matrix.cross_signing_reset"), "{url}");
    let mut again = second.clone();
    again["auth"] = json!({ "session": asked["session"] });
    assert_eq!(world.node.post(&alice, upload, again.clone()).await.0.as_u16(), 401, "not approved yet");
    let mut browser = Browser::new(&world);
    let page = browser.get("/account?action=org.matrix.cross_signing_reset").await;
    let page = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "sign-in")]).await;
    assert_eq!(browser.submit(&page, &[("do", "reset")]).await.status, 200);
    world.node.ok(world.node.post(&alice, upload, again)).await;
    world.node.pass(std::time::Duration::from_secs(601));
    let third = json!({ "master_key": cross_signing_key(&alice, "master", &self_named()) });
    assert_eq!(world.node.post(&alice, upload, third).await.0.as_u16(), 401, "the approval is over");
}
