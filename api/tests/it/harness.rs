//! A node in memory behind the real application; no network.
//!
//! ```ignore
//! let node = TestNode::new();                                       // or TestNode::with(|config| config.turn = ..)
//! let alice = node.user("alice").await;                             // account, device and token
//! let (status, json) = node.post(&alice, "/_matrix/client/v3/createRoom", json!({})).await;
//! let json = node.ok(node.get(&alice, "/_matrix/client/v3/sync")).await;          // expects 200
//! node.fails(node.get("", "/_matrix/client/v3/sync"), 401, "M_MISSING_TOKEN").await;
//! ```
//!
//! Where a user goes, a `&str` token goes as well; the empty one sends none. `raw` sends any bytes, `answer` any request
//! and gives the whole response. Time stands still at `NOW_MS` until `pass` moves it. `node.node` has the services.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use millpond_api::App;
use millpond_node::{
    Core, NodeHandle,
    accounts::{NewAccount, NewDevice},
    clock::Clock,
    config::Config,
    identity::Identity,
    links::Links,
    notify::Notifier,
};
use millpond_store::{Options, Store};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};

/// The registration token of test nodes.
pub const REGISTRATION_TOKEN: &str = "let-me-in";
/// When tests start.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// A node and its application.
pub struct TestNode {
    /// The services.
    pub node: NodeHandle,
    /// What answers requests.
    pub app: App,
    now_ms: Arc<AtomicU64>,
    _data_dir: tempfile::TempDir,
}

/// A user with a device that is logged in.
#[derive(Clone)]
pub struct TestUser {
    /// The user id.
    pub id: OwnedUserId,
    /// The device id.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub token: String,
}

/// Something that gives an access token.
pub trait Token {
    /// The token; empty for none.
    fn token(&self) -> &str;
}

impl Token for &TestUser {
    fn token(&self) -> &str {
        &self.token
    }
}
impl Token for &str {
    fn token(&self) -> &str {
        self
    }
}
impl Token for &String {
    fn token(&self) -> &str {
        self
    }
}

/// A status and a JSON body.
pub type Answered = (StatusCode, Value);

impl TestNode {
    /// A node with default settings, the rate limits off.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A node with other settings.
    pub fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let now_ms = Arc::new(AtomicU64::new(NOW_MS));
        let told = now_ms.clone();
        let clock = Clock::from_fn(move || told.load(Ordering::Relaxed));
        Self::built(configure, (now_ms, clock), NodeHandle::new)
    }

    /// A node with a name in the DNS.
    pub fn named(name: &ruma::ServerName) -> Self {
        let name = name.to_owned();
        Self::with(|config| config.classic = Some(millpond_node::config::Classic::new(name)))
    }

    /// A node on the system's clock, for what waits.
    pub fn live(configure: impl FnOnce(&mut Config)) -> Self {
        Self::built(configure, (Arc::default(), Clock::system()), NodeHandle::new)
    }

    /// A node on the system's clock, with links of the caller's making.
    pub fn linked(links: impl FnOnce(Core) -> Links) -> Self {
        Self::linked_with(|_| {}, links)
    }

    /// The same with other settings.
    pub fn linked_with(configure: impl FnOnce(&mut Config), links: impl FnOnce(Core) -> Links) -> Self {
        let services = |core: Core| NodeHandle::with_links(core.clone(), links(core));
        Self::built(configure, (Arc::default(), Clock::system()), services)
    }

    fn built(
        configure: impl FnOnce(&mut Config),
        (now_ms, clock): (Arc<AtomicU64>, Clock),
        services: impl FnOnce(Core) -> NodeHandle,
    ) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(data_dir.path().to_owned());
        config.registration_token = REGISTRATION_TOKEN.to_owned();
        config.rate_limits = false;
        configure(&mut config);
        let notifier = Notifier::default();
        let observer = notifier.clone();
        let observer = Box::new(move |commit: &millpond_store::Commit| observer.commit(commit));
        let store = Store::in_memory(Options { observer, inline: true, ..Options::default() }).unwrap();
        let name = config.classic.as_ref().map(|classic| &*classic.server_name);
        let identity = Identity::load_or_create_named(data_dir.path(), name).unwrap();
        let node = services(Core::new(store, identity, notifier, clock, config));
        Self { app: App::new(node.clone()), node, now_ms, _data_dir: data_dir }
    }

    /// The node in a data directory with a database, on the system's clock.
    pub fn opened(dir: tempfile::TempDir, links: impl FnOnce(Core) -> Links) -> Self {
        let mut config = Config::new(dir.path().to_owned());
        config.rate_limits = false;
        let core = millpond_node::start::open(config).unwrap().core.clone();
        let node = NodeHandle::with_links(core.clone(), links(core));
        Self { app: App::new(node.clone()), node, now_ms: Arc::default(), _data_dir: dir }
    }

    /// The same node with new services, as after a start.
    pub fn again(self, links: impl FnOnce(Core) -> Links) -> Self {
        let core = self.node.core.clone();
        let node = NodeHandle::with_links(core.clone(), links(core));
        Self { app: App::new(node.clone()), node, ..self }
    }

    /// The same node with other settings, as after a start.
    pub fn with_config(self, configure: impl FnOnce(&mut Config)) -> Self {
        let before = &self.node.core;
        let mut config = before.config().clone();
        configure(&mut config);
        let parts =
            (before.store().clone(), before.identity().clone(), before.notifier().clone(), before.clock().clone());
        let node = NodeHandle::new(Core::new(parts.0, parts.1, parts.2, parts.3, config));
        Self { app: App::new(node.clone()), node, ..self }
    }

    /// The id of a user here, whether there is one or not.
    pub fn user_id(&self, name: &str) -> OwnedUserId {
        OwnedUserId::try_from(format!("@{name}:{}", self.node.core.identity().server_name())).unwrap()
    }

    /// Moves the clock.
    pub fn pass(&self, time: Duration) {
        self.now_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Makes an account without a password and logs a device in.
    pub async fn user(&self, name: &str) -> TestUser {
        let account = NewAccount { name: name.to_owned(), password: None, admin: false };
        let (id, session) = self.node.accounts.create(account, Some(NewDevice::default())).await.unwrap();
        let session = session.unwrap();
        TestUser { id, device_id: session.device_id, token: session.access_token }
    }

    /// As [`TestNode::user`], with a password: for what asks for authentication again. Costs a hash.
    pub async fn user_with_password(&self, name: &str, password: &str) -> TestUser {
        let account = NewAccount { name: name.to_owned(), password: Some(password.to_owned()), admin: false };
        let (id, session) = self.node.accounts.create(account, Some(NewDevice::default())).await.unwrap();
        let session = session.unwrap();
        TestUser { id, device_id: session.device_id, token: session.access_token }
    }

    /// Logs another device of a user in.
    pub async fn device(&self, user: &TestUser) -> TestUser {
        let session = self.node.accounts.open_session(&user.id, NewDevice::default()).await.unwrap();
        TestUser { id: session.user_id, device_id: session.device_id, token: session.access_token }
    }

    /// `GET`.
    pub async fn get(&self, who: impl Token, path: impl AsRef<str>) -> Answered {
        self.raw(Method::GET, who, path, "").await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, who: impl Token, path: impl AsRef<str>, body: Value) -> Answered {
        self.raw(Method::POST, who, path, body.to_string()).await
    }

    /// `PUT` with a JSON body.
    pub async fn put(&self, who: impl Token, path: impl AsRef<str>, body: Value) -> Answered {
        self.raw(Method::PUT, who, path, body.to_string()).await
    }

    /// `DELETE` with a JSON body.
    pub async fn delete(&self, who: impl Token, path: impl AsRef<str>, body: Value) -> Answered {
        self.raw(Method::DELETE, who, path, body.to_string()).await
    }

    /// Any bytes as the body.
    pub async fn raw(
        &self,
        method: Method,
        who: impl Token,
        path: impl AsRef<str>,
        body: impl Into<Bytes>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path.as_ref());
        if !who.token().is_empty() {
            request = request.header("authorization", format!("Bearer {}", who.token()));
        }
        let response = self.answer(request.body(Body::from(body.into())).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(json!({ "not json": String::from_utf8_lossy(&bytes) }));
        (parts.status, json)
    }

    /// Any request; a Host header is added where there is none.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        request.headers_mut().entry("host").or_insert("localhost:8008".parse().unwrap());
        // On the heap: without optimisation a test that makes many requests does not fit its stack otherwise.
        Box::pin(self.app.answer(request)).await
    }

    /// Expects 200 and gives the JSON.
    pub async fn ok(&self, answered: impl Future<Output = Answered>) -> Value {
        let (status, json) = answered.await;
        assert_eq!(status, StatusCode::OK, "{json}");
        json
    }

    /// Expects an error with this status and code, and a message; gives the JSON.
    pub async fn fails(&self, answered: impl Future<Output = Answered>, status: u16, errcode: &str) -> Value {
        let (found, json) = answered.await;
        assert_eq!((found.as_u16(), json["errcode"].as_str()), (status, Some(errcode)), "{json}");
        assert!(json["error"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        json
    }
}
