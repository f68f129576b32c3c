//! The authorisation code grant, refresh and revocation.

use std::time::Duration;

use serde_json::json;

use super::world::{Browser, DEVICE, REDIRECT, VERIFIER, World, parameters, scope};

#[tokio::test]
async fn a_code_becomes_a_device_whose_tokens_are_refreshed_and_revoked() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(&world.authorize(&[])).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Frog &lt;b&gt;") && page.body.contains(DEVICE), "{}", page.body);
    assert!(page.policy().starts_with("default-src 'none'") && page.policy().contains("example.frog:"));
    assert!(page.headers.get("access-control-allow-origin").is_none(), "pages are for no other origin");
    assert_eq!(page.headers["x-frame-options"], "DENY");
    let wrong = browser.submit(&page, &[("user", "alice"), ("password", "guess"), ("do", "allow")]).await;
    assert_eq!(wrong.status, 403);
    assert!(!wrong.body.contains("guess"), "a password is not shown");
    let allowed = browser.submit(&wrong, &[("user", "alice"), ("password", "secret"), ("do", "allow")]).await;
    assert_eq!(allowed.status, 303);
    assert!(allowed.location().starts_with("example.frog:/cb?"), "{}", allowed.location());
    let sent = parameters(allowed.location(), '?');
    assert_eq!(sent["state"], "st&te");

    let tokens = world.exchange(&sent["code"], VERIFIER).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    assert_eq!(tokens.headers["cache-control"], "no-store");
    let tokens = tokens.json();
    assert_eq!((&tokens["token_type"], &tokens["scope"]), (&"Bearer".into(), &scope(DEVICE).into()));
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(world.whoami(access).await.json()["device_id"], DEVICE);

    let refresh = tokens["refresh_token"].as_str().unwrap();
    let legacy =
        world.node.post("", "/_matrix/client/v3/refresh", serde_json::json!({ "refresh_token": refresh })).await;
    assert_eq!(legacy.0.as_u16(), 401, "the session of a client is refreshed where it was made");
    let other = world
        .post("/oauth2/token", &[("client_id", "other"), ("grant_type", "refresh_token"), ("refresh_token", refresh)])
        .await;
    assert_eq!(other.json()["error"], "invalid_grant");
    let refreshed = world.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let refreshed = refreshed.json();
    let newer = refreshed["access_token"].as_str().unwrap();
    assert_eq!(world.whoami(newer).await.status, 200);
    assert_eq!(world.whoami(access).await.json()["soft_logout"], true);
    let replayed = world.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    assert_eq!(replayed.json()["error"], "invalid_grant");

    let other = world.post("/oauth2/revoke", &[("token", newer), ("client_id", "other")]).await;
    assert_eq!((other.status, other.json()["error"].as_str()), (401, Some("invalid_client")));
    let newest = refreshed["refresh_token"].as_str().unwrap();
    let revoked = world.post("/oauth2/revoke", &[("token", newest), ("client_id", &world.client_id)]).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(world.whoami(newer).await.status, 401);
    let unknown = world.post("/oauth2/revoke", &[("token", "nonsense")]).await;
    assert_eq!(unknown.status, 200, "what is not known counts as revoked");
}

#[tokio::test]
async fn a_code_that_is_shown_again_ends_the_session_that_it_made() {
    let world = World::new().await;
    let code = world.code(&[]).await;
    let tokens = world.exchange(&code, VERIFIER).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(world.whoami(access).await.status, 200);
    let again = world.exchange(&code, VERIFIER).await;
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(world.whoami(access).await.status, 401);
}

#[tokio::test]
async fn a_code_is_for_its_client_its_verifier_and_its_minute() {
    let world = World::new().await;
    let code = world.code(&[]).await;
    assert_eq!(
        world.exchange(&code, "another-verifier-of-enough-characters-000").await.json()["error"],
        "invalid_grant"
    );
    assert_eq!(world.exchange("nonsense", VERIFIER).await.json()["error"], "invalid_grant");
    let elsewhere = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", VERIFIER)];
    let mut pairs = elsewhere.to_vec();
    pairs.push(("redirect_uri", "http://127.0.0.1/cb"));
    assert_eq!(world.token(&pairs).await.json()["error"], "invalid_grant");
    assert_eq!(world.token(&elsewhere).await.json()["error"], "invalid_request");
    let toad = json!({ "client_name": "Toad", "client_uri": "https://toad.example/", "application_type": "native",
        "redirect_uris": ["example.toad:/cb"], "grant_types": ["authorization_code", "refresh_token"] });
    let (_, toad) = world.node.post("", "/oauth2/clients/register", toad).await;
    let mut pairs = elsewhere.to_vec();
    pairs.extend([("client_id", toad["client_id"].as_str().unwrap()), ("redirect_uri", REDIRECT)]);
    let of_another = world.post("/oauth2/token", &pairs).await;
    assert_eq!((of_another.status, &of_another.json()["error"]), (400, &json!("invalid_grant")));
    // None of that used it up; time does.
    world.node.pass(Duration::from_secs(61));
    assert_eq!(world.exchange(&code, VERIFIER).await.json()["error"], "invalid_grant");
    let fresh = world.code(&[]).await;
    assert_eq!(world.exchange(&fresh, VERIFIER).await.status, 200);
    assert_eq!(world.token(&[("grant_type", "password")]).await.json()["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_to_the_client_or_to_the_user() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    // Nobody knows who is at such an address, so nothing is sent there.
    for changes in [
        &[("redirect_uri", "example.toad:/cb")][..],
        &[("redirect_uri", "")],
        &[("client_id", "unknown")],
        &[("client_id", "")],
    ] {
        let page = browser.get(&world.authorize(changes)).await;
        assert_eq!((page.status, page.headers.get("location")), (400, None), "{changes:?}");
    }
    for (changes, error) in [
        (&[("scope", "urn:matrix:client:api:*")][..], "invalid_scope"),
        (&[("scope", "urn:matrix:client:device:ABCDEFGHIJ")], "invalid_scope"),
        (&[("scope", "")], "invalid_request"),
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("response_mode", "form_post")], "invalid_request"),
    ] {
        let page = browser.get(&world.authorize(changes)).await;
        let sent = parameters(page.location(), '?');
        assert_eq!((sent["error"].as_str(), sent["state"].as_str()), (error, "st&te"), "{changes:?}");
    }
    let twice = format!("{}&state=x", world.authorize(&[]));
    assert_eq!(browser.get(&twice).await.status, 400);
}

#[tokio::test]
async fn a_refusal_goes_back_to_the_client_and_a_fragment_is_one_if_asked_for() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(&world.authorize(&[("response_mode", "fragment")])).await;
    let refused = browser.submit(&page, &[("do", "refuse")]).await;
    assert!(refused.location().starts_with(&format!("{REDIRECT}#")), "{}", refused.location());
    assert_eq!(parameters(refused.location(), '#')["error"], "access_denied");
    // A program on this machine listens on any port; signed in once, the browser needs no password again.
    let loopback = [("redirect_uri", "http://127.0.0.1:4711/cb")];
    let page = browser.get(&world.authorize(&loopback)).await;
    let allowed = browser.submit(&page, &[("user", "alice"), ("password", "secret"), ("do", "allow")]).await;
    assert!(allowed.location().starts_with("http://127.0.0.1:4711/cb?code="));
    let page = browser.get(&world.authorize(&loopback)).await;
    assert!(page.body.contains("You are signed in as") && !page.body.contains("type=\"password\""));
    assert!(browser.submit(&page, &[("do", "allow")]).await.location().contains("code="));
    let other = browser.submit(&page, &[("do", "sign-out")]).await;
    assert!(other.body.contains("type=\"password\""));
    assert!(!browser.cookies.contains_key("millpond_session"));
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let page = browser.get(&world.authorize(&[])).await;
    let fields = [("user", "alice"), ("password", "secret"), ("do", "allow")];
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let answer = browser.submit_from(&page, &fields, headers).await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    browser.cookies.clear();
    assert_eq!(browser.submit(&page, &fields).await.status, 400, "the token is the cookie's");
    browser.cookies.insert("millpond_csrf".to_owned(), "x".repeat(43));
    assert_eq!(browser.submit(&page, &fields).await.status, 400);
}
