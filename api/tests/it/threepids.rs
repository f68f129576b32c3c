//! E-mail addresses and phone numbers of accounts, through a configured identity server.

mod identity;

use http::StatusCode;
use ruma::serde::Base64;
use serde_json::{Value, json};

use self::identity::{IdentityServer, TOKENS};
use crate::harness::{TestNode, TestUser};

const V3: &str = "/_matrix/client/v3";

/// A node whose owner has configured an identity server.
async fn stage() -> (TestNode, IdentityServer) {
    let server = IdentityServer::start().await;
    let host = server.host.clone();
    let node = TestNode::with(|config| {
        config.identity_server = Some(format!("http://{host}"));
        config.identity_token = Some(TOKENS[0].to_owned());
        config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let identity = node.node.core.identity();
    let key: Base64 = Base64::new(identity.signing_key().public_key().to_vec());
    server.knows_homeserver(
        identity.server_name().as_str(),
        &format!("ed25519:{}", identity.signing_key().version()),
        key,
    );
    (node, server)
}

fn ask(email: &str, secret: &str) -> Value {
    json!({ "client_secret": secret, "email": email, "send_attempt": 1 })
}

fn auth(user: &TestUser, password: &str) -> Value {
    json!({ "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user.id } })
}

impl TestNode {
    /// Adds an e-mail address to an account, with all that its user does.
    async fn add_email(&self, server: &IdentityServer, user: &TestUser, password: &str, email: &str) {
        let secret = format!("secret-of-{}", email.replace('@', "-"));
        let sent = self.ok(self.post("", format!("{V3}/account/3pid/email/requestToken"), ask(email, &secret))).await;
        server.follow_link(email);
        let body = json!({ "sid": sent["sid"], "client_secret": secret, "auth": auth(user, password) });
        self.ok(self.post(user, format!("{V3}/account/3pid/add"), body)).await;
    }
}

#[tokio::test]
async fn an_address_is_added_after_its_owner_has_shown_that_it_is_his() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    let capabilities = node.ok(node.get(&alice, format!("{V3}/capabilities"))).await;
    assert_ne!(capabilities["capabilities"]["m.3pid_changes"]["enabled"], false);
    let request = format!("{V3}/account/3pid/email/requestToken");
    let sent = node.ok(node.post("", &request, ask("Alice@Example.org", "quiet"))).await;
    assert!(sent.get("submit_url").is_none(), "the message has a link");
    // The same number asks for no second message, a higher one does.
    node.ok(node.post("", &request, ask("Alice@Example.org", "quiet"))).await;
    assert_eq!(server.messages(), 1);
    let add = format!("{V3}/account/3pid/add");
    let body = |auth: Option<Value>| {
        let mut body = json!({ "sid": sent["sid"], "client_secret": "quiet" });
        if let Some(auth) = auth {
            body["auth"] = auth;
        }
        body
    };
    let (status, asked) = node.post(&alice, &add, body(None)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.password"] }]));
    let early = node.post(&alice, &add, body(Some(auth(&alice, "secret"))));
    node.fails(early, 400, "M_THREEPID_AUTH_FAILED").await;
    server.follow_link("alice@example.org");
    let mut wrong = body(Some(auth(&alice, "secret")));
    wrong["client_secret"] = json!("another");
    node.fails(node.post(&alice, &add, wrong), 400, "M_THREEPID_AUTH_FAILED").await;
    node.ok(node.post(&alice, &add, body(Some(auth(&alice, "secret"))))).await;
    let listed = node.ok(node.get(&alice, format!("{V3}/account/3pid"))).await;
    assert_eq!(
        listed["threepids"],
        json!([{ "medium": "email", "address": "alice@example.org", "validated_at": 1_700_000_000_123_u64,
            "added_at": crate::harness::NOW_MS }])
    );
    assert_eq!(server.bound("email", "alice@example.org"), None, "nobody was told of it");
    // Nobody else can take it, and it is a way to log in.
    node.fails(node.post("", &request, ask("alice@example.ORG", "other")), 400, "M_THREEPID_IN_USE").await;
    let registration = format!("{V3}/register/email/requestToken");
    node.fails(node.post("", registration, ask("alice@example.org", "other")), 400, "M_THREEPID_IN_USE").await;
    let login = |address: &str, password: &str| {
        let identifier = json!({ "type": "m.id.thirdparty", "medium": "email", "address": address });
        node.post(
            "",
            format!("{V3}/login"),
            json!({ "type": "m.login.password", "identifier": identifier, "password": password }),
        )
    };
    assert_eq!(node.ok(login("Alice@example.org", "secret")).await["user_id"], json!(alice.id));
    node.fails(login("alice@example.org", "wrong"), 403, "M_FORBIDDEN").await;
    node.fails(login("nobody@example.org", "secret"), 403, "M_FORBIDDEN").await;
    let delete = json!({ "medium": "email", "address": "alice@example.org" });
    let gone = node.ok(node.post(&alice, format!("{V3}/account/3pid/delete"), delete)).await;
    assert_eq!(gone["id_server_unbind_result"], "no-support", "it was nowhere bound");
    node.fails(login("alice@example.org", "secret"), 403, "M_FORBIDDEN").await;
    assert_eq!(node.ok(node.get(&alice, format!("{V3}/account/3pid"))).await["threepids"], json!([]));
}

#[tokio::test]
async fn an_address_of_another_account_cannot_be_added() {
    let (node, server) = stage().await;
    let (alice, bob) =
        (node.user_with_password("alice", "secret").await, node.user_with_password("bob", "secret").await);
    let request = format!("{V3}/account/3pid/email/requestToken");
    let sent = node.ok(node.post("", request, ask("us@example.org", "of-bob"))).await;
    server.follow_link("us@example.org");
    node.add_email(&server, &alice, "secret", "us@example.org").await;
    let body = json!({ "sid": sent["sid"], "client_secret": "of-bob", "auth": auth(&bob, "secret") });
    node.fails(node.post(&bob, format!("{V3}/account/3pid/add"), body), 400, "M_THREEPID_IN_USE").await;
    let report = millpond_store::check::check(node.node.core.snapshot().unwrap().view()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
}

#[tokio::test]
async fn a_phone_number_is_validated_with_the_code_of_the_message() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    let request = format!("{V3}/account/3pid/msisdn/requestToken");
    let body = json!({ "client_secret": "quiet", "country": "GB", "phone_number": "020 7946 0958", "send_attempt": 1 });
    let sent = node.ok(node.post("", &request, body)).await;
    let submit = sent["submit_url"].as_str().unwrap();
    let path = submit.strip_prefix("http://127.0.0.1:8008").unwrap();
    let code = |code: &str| json!({ "sid": sent["sid"], "client_secret": "quiet", "token": code });
    node.fails(node.post("", path, code("nonsense")), 400, "M_TOKEN_INCORRECT").await;
    let code = code(&server.message("442079460958").unwrap());
    assert_eq!(node.ok(node.post("", path, code)).await, json!({ "success": true }));
    let body = json!({ "sid": sent["sid"], "client_secret": "quiet", "auth": auth(&alice, "secret") });
    node.ok(node.post(&alice, format!("{V3}/account/3pid/add"), body)).await;
    let listed = node.ok(node.get(&alice, format!("{V3}/account/3pid"))).await;
    assert_eq!(listed["threepids"][0]["address"], "442079460958");
    let identifier = json!({ "type": "m.id.phone", "country": "GB", "phone": "+44 20 7946 0958" });
    let login = json!({ "type": "m.login.password", "identifier": identifier, "password": "secret" });
    assert_eq!(node.ok(node.post("", format!("{V3}/login"), login)).await["user_id"], json!(alice.id));
}

#[tokio::test]
async fn who_forgot_his_password_comes_back_by_his_address() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    let request = format!("{V3}/account/password/email/requestToken");
    node.fails(node.post("", &request, ask("alice@example.org", "one")), 400, "M_THREEPID_NOT_FOUND").await;
    node.add_email(&server, &alice, "secret", "alice@example.org").await;
    let sent = node.ok(node.post("", &request, ask("alice@example.org", "two"))).await;
    let password = format!("{V3}/account/password");
    let (status, asked) = node.post("", &password, json!({ "new_password": "better" })).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let stages: Vec<_> = asked["flows"].as_array().unwrap().iter().map(|flow| flow["stages"][0].clone()).collect();
    assert_eq!(stages, ["m.login.password", "m.login.email.identity", "m.login.msisdn"]);
    let creds = json!({ "sid": sent["sid"], "client_secret": "two" });
    let body = json!({ "new_password": "better",
        "auth": { "type": "m.login.email.identity", "session": asked["session"], "threepid_creds": creds } });
    let (status, refused) = node.post("", &password, body.clone()).await;
    assert_eq!((status, &refused["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_THREEPID_AUTH_FAILED")));
    server.follow_link("alice@example.org");
    node.ok(node.post("", &password, body)).await;
    node.fails(node.get(&alice, format!("{V3}/account/whoami")), 401, "M_UNKNOWN_TOKEN").await;
    let login = |password: &str| {
        let identifier = json!({ "type": "m.id.user", "user": "alice" });
        node.post(
            "",
            format!("{V3}/login"),
            json!({ "type": "m.login.password", "identifier": identifier, "password": password }),
        )
    };
    node.fails(login("secret"), 403, "M_FORBIDDEN").await;
    node.ok(login("better")).await;
    // An address does not take an account away.
    let (_, asked) = node.post("", format!("{V3}/account/deactivate"), json!({})).await;
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.password"] }]));
}

#[tokio::test]
async fn who_registers_with_an_address_has_it() {
    let (node, server) = stage().await;
    let sent = node.ok(node.post("", format!("{V3}/register/email/requestToken"), ask("new@example.org", "new"))).await;
    let register = format!("{V3}/register");
    let body = |auth: Value| json!({ "username": "newcomer", "password": "secret", "auth": auth });
    let (_, asked) = node.post("", &register, json!({ "username": "newcomer", "password": "secret" })).await;
    assert_eq!(asked["flows"][1]["stages"], json!(["m.login.email.identity", "m.login.registration_token"]));
    let creds = json!({ "sid": sent["sid"], "client_secret": "new" });
    server.follow_link("new@example.org");
    let auth = json!({ "type": "m.login.email.identity", "session": asked["session"], "threepid_creds": creds });
    let (status, half) = node.post("", &register, body(auth)).await;
    assert_eq!((status, &half["completed"]), (StatusCode::UNAUTHORIZED, &json!(["m.login.email.identity"])));
    let auth = json!({ "type": "m.login.registration_token", "session": asked["session"],
        "token": crate::harness::REGISTRATION_TOKEN });
    let made = node.ok(node.post("", &register, body(auth))).await;
    let token = made["access_token"].as_str().unwrap();
    let listed = node.ok(node.get(token, format!("{V3}/account/3pid"))).await;
    assert_eq!(listed["threepids"][0]["address"], "new@example.org");
}

#[tokio::test]
async fn an_address_is_shown_to_others_and_taken_back_with_the_homeservers_signature() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    let request = format!("{V3}/account/3pid/email/requestToken");
    let with_token = |secret: &str| {
        let mut body = ask("alice@example.org", secret);
        body["id_server"] = json!(server.host);
        body["id_access_token"] = json!(TOKENS[1]);
        body
    };
    let sent = node.ok(node.post("", &request, with_token("shown"))).await;
    let bind = |sid: &Value| json!({ "sid": sid, "client_secret": "shown", "id_server": server.host, "id_access_token": TOKENS[1] });
    let path = format!("{V3}/account/3pid/bind");
    node.fails(node.post(&alice, &path, bind(&sent["sid"])), 400, "M_SESSION_NOT_VALIDATED").await;
    let old = json!({ "three_pid_creds": bind(&sent["sid"]) });
    node.fails(node.post(&alice, format!("{V3}/account/3pid"), old), 403, "M_THREEPID_AUTH_FAILED").await;
    server.follow_link("alice@example.org");
    node.fails(node.post(&alice, &path, bind(&json!("s77"))), 404, "M_NO_VALID_SESSION").await;
    node.ok(node.post(&alice, &path, bind(&sent["sid"]))).await;
    assert_eq!(server.bound("email", "alice@example.org"), Some(alice.id.to_string()));
    assert_eq!(server.asked_with(), [TOKENS[1].to_owned()].into(), "the user's own token, not the owner's");
    let listed = node.ok(node.get(&alice, format!("{V3}/account/3pid"))).await;
    assert_eq!(listed["threepids"], json!([]), "to show is not to add");
    let address = json!({ "medium": "email", "address": "alice@example.org" });
    let unbound = node.ok(node.post(&alice, format!("{V3}/account/3pid/unbind"), address.clone())).await;
    assert_eq!(unbound["id_server_unbind_result"], "success");
    assert_eq!(server.bound("email", "alice@example.org"), None);
    let again = node.ok(node.post(&alice, format!("{V3}/account/3pid/unbind"), address.clone())).await;
    assert_eq!(again["id_server_unbind_result"], "no-support", "it is not known to be bound");
    // The old spelling binds too; the account takes what is shown with it when it goes.
    let old = json!({ "three_pid_creds": bind(&sent["sid"]) });
    node.ok(node.post(&alice, format!("{V3}/account/3pid"), old)).await;
    let body = json!({ "auth": auth(&alice, "secret") });
    let gone = node.ok(node.post(&alice, format!("{V3}/account/deactivate"), body)).await;
    assert_eq!(gone["id_server_unbind_result"], "success");
    assert_eq!(server.bound("email", "alice@example.org"), None);
    let report = millpond_store::check::check(node.node.core.snapshot().unwrap().view()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
}

#[tokio::test]
async fn what_the_identity_server_keeps_is_told_and_the_account_loses_it_all_the_same() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    node.add_email(&server, &alice, "secret", "alice@example.org").await;
    let bind = json!({ "sid": "s0", "client_secret": "secret-of-alice-example.org", "id_server": server.host,
        "id_access_token": TOKENS[1] });
    node.ok(node.post(&alice, format!("{V3}/account/3pid/bind"), bind)).await;
    server.keeps_bindings();
    let address = json!({ "medium": "email", "address": "alice@example.org" });
    let kept = node.ok(node.post(&alice, format!("{V3}/account/3pid/unbind"), address.clone())).await;
    assert_eq!(kept["id_server_unbind_result"], "no-support");
    let gone = node.ok(node.post(&alice, format!("{V3}/account/3pid/delete"), address)).await;
    assert_eq!(gone["id_server_unbind_result"], "no-support");
    assert_eq!(node.ok(node.get(&alice, format!("{V3}/account/3pid"))).await["threepids"], json!([]));
}

#[tokio::test]
async fn what_is_no_address_and_who_is_not_trusted_is_refused_before_anybody_is_asked() {
    let (node, server) = stage().await;
    let alice = node.user("alice").await;
    let request = format!("{V3}/account/3pid/email/requestToken");
    node.fails(node.post("", &request, ask("not an address", "x")), 400, "M_INVALID_PARAM").await;
    node.fails(node.post("", &request, ask("a@b.c", "!")), 400, "M_BAD_JSON").await;
    node.fails(node.post("", &request, json!({ "client_secret": "x", "send_attempt": 1 })), 400, "M_MISSING_PARAM")
        .await;
    let mut elsewhere = ask("a@b.c", "x");
    elsewhere["id_server"] = json!("id.elsewhere.example");
    node.fails(node.post("", &request, elsewhere.clone()), 400, "M_MISSING_PARAM").await;
    elsewhere["id_access_token"] = json!("t");
    node.fails(node.post("", &request, elsewhere), 400, "M_SERVER_NOT_TRUSTED").await;
    let bind =
        json!({ "sid": "s0", "client_secret": "x", "id_server": "id.elsewhere.example", "id_access_token": "t" });
    node.fails(node.post(&alice, format!("{V3}/account/3pid/bind"), bind), 400, "M_SERVER_NOT_TRUSTED").await;
    assert_eq!((server.messages(), server.asked_with().len()), (0, 0));
    // What it refuses itself is called as the client-server API calls it; a token that it does not take is a refusal too.
    node.fails(node.post("", &request, ask("a@refused.example", "x")), 400, "M_INVALID_PARAM").await;
    let mut stranger = ask("a@b.c", "x");
    stranger["id_server"] = json!(server.host);
    stranger["id_access_token"] = json!("of somebody else");
    node.fails(node.post("", &request, stranger), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn without_an_identity_server_nobody_has_addresses() {
    let node = TestNode::new();
    let alice = node.user_with_password("alice", "secret").await;
    let kinds = ["account/3pid", "account/password", "register"];
    for path in kinds.iter().flat_map(|kind| [format!("{kind}/email"), format!("{kind}/msisdn")]) {
        node.fails(node.post("", format!("{V3}/{path}/requestToken"), ask("a@b.c", "x")), 403, "M_THREEPID_DENIED")
            .await;
    }
    let body = json!({ "sid": "s", "client_secret": "x", "auth": auth(&alice, "secret") });
    node.fails(node.post(&alice, format!("{V3}/account/3pid/add"), body), 403, "M_THREEPID_DENIED").await;
    let capabilities = node.ok(node.get(&alice, format!("{V3}/capabilities"))).await;
    assert_eq!(capabilities["capabilities"]["m.3pid_changes"]["enabled"], false);
}

#[tokio::test]
async fn phone_numbers_are_refused_as_addresses_are() {
    let (node, server) = stage().await;
    let alice = node.user_with_password("alice", "secret").await;
    let ask =
        |number: &str| json!({ "client_secret": "quiet", "country": "GB", "phone_number": number, "send_attempt": 1 });
    let path = |kind: &str| format!("{V3}/{kind}/msisdn/requestToken");
    let mut elsewhere = ask("+442079460958");
    elsewhere["id_server"] = json!("id.elsewhere.example");
    elsewhere["id_access_token"] = json!("t");
    for kind in ["account/3pid", "account/password", "register"] {
        node.fails(node.post("", path(kind), ask("call me")), 400, "M_INVALID_PARAM").await;
        node.fails(node.post("", path(kind), elsewhere.clone()), 400, "M_SERVER_NOT_TRUSTED").await;
        let email = format!("{V3}/{kind}/email/requestToken");
        let mut other = elsewhere.clone();
        other["email"] = json!("a@b.c");
        node.fails(node.post("", email, other), 400, "M_SERVER_NOT_TRUSTED").await;
    }
    let email = |kind: &str| format!("{V3}/{kind}/email/requestToken");
    let mail = json!({ "client_secret": "quiet", "email": "a@b.c", "send_attempt": 1 });
    for kind in ["account/3pid", "register"] {
        server.lacks(Some("msisdn"));
        let number = ask("+442079460958");
        node.fails(node.post("", path(kind), number), 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED").await;
        server.lacks(Some("email"));
        node.fails(node.post("", email(kind), mail.clone()), 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED").await;
    }
    server.lacks(None);
    node.fails(node.post("", path("account/password"), ask("+442079460958")), 400, "M_THREEPID_NOT_FOUND").await;
    let sent = node.ok(node.post("", path("account/3pid"), ask("+442079460958"))).await;
    server.follow_link("442079460958");
    let body = json!({ "sid": sent["sid"], "client_secret": "quiet", "auth": auth(&alice, "secret") });
    node.ok(node.post(&alice, format!("{V3}/account/3pid/add"), body)).await;
    for kind in ["account/3pid", "register"] {
        node.fails(node.post("", path(kind), ask("+44 20 7946 0958")), 400, "M_THREEPID_IN_USE").await;
    }
    // As it is written in its country, it is found for a forgotten password.
    node.ok(node.post("", path("account/password"), ask("020 7946 0958"))).await;
}
