//! Several whole nodes in one process, linked over the overlay's memory transport.
//!
//! ```ignore
//! let net = Net::new();
//! let (a, b) = (net.node().await, net.node().await);
//! link(&a, &b).await;
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use millpond_api::{Listener, serve};
use millpond_mailbox::{
    host::{HostLimits, MemoryRows},
    host_key::HostSecret,
    rand_core::UnwrapErr,
    token::TokenSecret,
};
use millpond_node::{
    Core, Supervisor,
    config::Config,
    links::{Arrival, Links},
};
use millpond_overlay::{
    LinkState,
    host_client::FreshTransport,
    relay::{Relay, RelayConfig, StreamLimits},
    transport::{Transport, memory::MemoryNet},
};
use millpond_store::rows::OutboxItem;
use ruma::OwnedServerName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::harness::{Answered, TestNode, TestUser};

/// The network that the nodes are in.
#[derive(Clone, Default)]
pub struct Net {
    memory: MemoryNet,
    next: Arc<AtomicU64>,
    hosts: Arc<Vec<Host>>,
}

/// A mailbox host, its link, and what its tokens are made with.
struct Host {
    _relay: Relay,
    link: String,
    tokens: [u8; 32],
}

/// A node that runs.
pub struct Running {
    pub it: TestNode,
    /// Makes it a peer that takes requests and does not answer.
    pub silence: Silence,
    net: Net,
    number: u64,
    supervisor: Supervisor,
    _stop: tokio_util::sync::DropGuard,
}

/// Requests that a node takes and never answers, while it is on.
#[derive(Clone, Default)]
pub struct Silence(Arc<(AtomicBool, AtomicU64)>);

impl Silence {
    pub fn set(&self, on: bool) {
        self.0.0.store(on, Ordering::Relaxed);
    }

    /// How many requests were not answered.
    pub fn unanswered(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }

    fn between(&self, mut arrivals: mpsc::Receiver<Arrival>) -> mpsc::Receiver<Arrival> {
        let (pass, passed) = mpsc::channel(1);
        let silence = self.0.clone();
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(arrival) = arrivals.recv().await {
                if silence.0.load(Ordering::Relaxed) {
                    silence.1.fetch_add(1, Ordering::Relaxed);
                    unanswered.push(arrival);
                } else if pass.send(arrival).await.is_err() {
                    return;
                }
            }
        });
        passed
    }
}

/// A node whose loops and links have ended. Its own clients reach it still.
pub struct Asleep {
    pub it: TestNode,
    number: u64,
}

impl std::ops::Deref for Asleep {
    type Target = TestNode;
    fn deref(&self) -> &TestNode {
        &self.it
    }
}

impl std::ops::Deref for Running {
    type Target = TestNode;
    fn deref(&self) -> &TestNode {
        &self.it
    }
}

/// How long anything between two nodes of one process may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Net {
    /// Starts a node.
    pub async fn node(&self) -> Running {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.run(number, TestNode::linked(self.links(number))).await
    }

    /// Starts a node with other settings and with doors beside its links.
    pub async fn node_with(&self, configure: impl FnOnce(&mut Config), doors: Vec<Listener>) -> Running {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Box::pin(self.run_with(number, TestNode::linked_with(configure, self.links(number)), doors)).await
    }

    /// A network with mailbox hosts, at which nodes can have mailboxes.
    pub async fn with_hosts(count: u8) -> Self {
        let net = Self::default();
        let mut hosts = Vec::new();
        for name in 1..=count {
            let tokens = [name; 32];
            let config = RelayConfig {
                secret: HostSecret::from_bytes([name; 32]),
                tokens: TokenSecret::from_bytes(tokens),
                limits: HostLimits::default(),
                streams: StreamLimits::default(),
            };
            let relay = Relay::start(config, Box::new(MemoryRows::default())).unwrap();
            let transport: Box<dyn Transport> = Box::new(net.memory.transport(1_000 + u64::from(name)));
            let addresses = relay.serve(vec![transport], Vec::new()).await.unwrap();
            let link = relay.link(&addresses).unwrap().to_uri();
            hosts.push(Host { _relay: relay, link, tokens });
        }
        Self { hosts: Arc::new(hosts), ..net }
    }

    fn links(&self, number: u64) -> impl FnOnce(Core) -> Links + use<> {
        let (memory, hosted) = (self.memory.clone(), !self.hosts.is_empty());
        let to_hosts = self.memory.clone();
        let fresh = move || Ok(Box::new(to_hosts.transport(9_000)) as Box<dyn Transport>);
        let fresh: Option<Arc<dyn FreshTransport>> = hosted.then(|| Arc::new(fresh) as Arc<dyn FreshTransport>);
        move |core| {
            let direct = Arc::new(move |_: &_| Ok(vec![Box::new(memory.transport(number)) as Box<dyn Transport>]));
            Links::over(core, direct, Arc::new(move |_: &_| fresh.clone()))
        }
    }

    /// Gives a node mailboxes at every host.
    pub async fn mailboxes(&self, node: &Running) {
        for host in self.hosts.iter() {
            let leave = TokenSecret::from_bytes(host.tokens).grant(&mut UnwrapErr(getrandom::SysRng));
            node.node.links.add_mailbox(&host.link, &leave.to_text()).await.unwrap();
        }
    }

    /// Two contacts who have each other's stamps; from then on they need never be there together.
    pub async fn mailed_pair(&self) -> (Running, Running) {
        let (a, b) = (self.node().await, self.node().await);
        link(&a, &b).await;
        self.mail_between(&a, &b).await;
        (a, b)
    }

    /// Gives two linked nodes mailboxes at the hosts, and stamps for each other's.
    pub async fn mail_between(&self, a: &Running, b: &Running) {
        self.mailboxes(a).await;
        self.mailboxes(b).await;
        for (one, other) in [(a, b), (b, a)] {
            let server = other.server();
            one.node.links.connect(&server, PATIENCE).await.unwrap();
            until("stamps", async || one.node.links.mail_of(&server).is_some_and(|mail| mail.stamps > 0)).await;
        }
    }

    /// The node in a data directory, as after a restore.
    pub async fn in_dir(&self, dir: tempfile::TempDir, number: u64) -> Running {
        let it = TestNode::opened(dir, self.links(number));
        self.run(number, it).await
    }

    /// Starts a node again that was put to sleep.
    pub async fn wake(&self, asleep: Asleep) -> Running {
        let Asleep { it, number } = asleep;
        self.run(number, it.again(self.links(number))).await
    }

    async fn run(&self, number: u64, it: TestNode) -> Running {
        // Nodes are large, and tests hold several: on the heap while they start.
        Box::pin(self.run_with(number, it, Vec::new())).await
    }

    async fn run_with(&self, number: u64, it: TestNode, mut doors: Vec<Listener>) -> Running {
        let supervisor = Box::pin(it.node.start()).await.unwrap();
        let stop = CancellationToken::new();
        let silence = Silence::default();
        let arrivals = silence.between(it.node.links.arrivals().unwrap());
        doors.push(Listener::Peers(arrivals));
        tokio::spawn(serve(it.node.clone(), doors, stop.clone()));
        Running { it, silence, net: self.clone(), number, supervisor, _stop: stop.drop_guard() }
    }

    /// Two nodes that are contacts.
    pub async fn pair(&self) -> (Running, Running) {
        let (a, b) = (self.node().await, self.node().await);
        link(&a, &b).await;
        (a, b)
    }
}

impl Running {
    /// Ends the loops and links, as when a device goes to sleep.
    pub async fn sleep(self) -> Asleep {
        self.supervisor.stop().await;
        Asleep { it: self.it, number: self.number }
    }

    /// Waits until what is owed to another node is at its hosts, as far as there are stamps, and goes to sleep.
    pub async fn post_and_sleep(self, to: &ruma::ServerName) -> Asleep {
        // What does not go by mail alone is tried in person for four seconds first.
        let calm = std::cell::Cell::new(0);
        until("everything is at hosts", async || {
            let snapshot = self.node.core.snapshot().unwrap();
            let rows = snapshot.view().scan(millpond_store::tables::OUTBOX, (to,)).unwrap();
            let owed: Vec<_> = rows.map(|row| row.unwrap().1).collect();
            let by_mail = |item: &OutboxItem| matches!(item, OutboxItem::Question | OutboxItem::Response(_));
            let enough = if owed.iter().all(by_mail) { 100 } else { 500 };
            let mail = self.node.links.mail_of(to).unwrap();
            let quiet = !mail.busy && (owed.is_empty() || mail.unacknowledged > 0);
            calm.set(if quiet { calm.get() + 1 } else { 0 });
            calm.get() > enough
        })
        .await;
        self.sleep().await
    }

    /// Which place it has in its network.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The network that it is in.
    pub fn net(&self) -> Net {
        self.net.clone()
    }

    /// The server name.
    pub fn server(&self) -> OwnedServerName {
        self.node.core.identity().server_name().to_owned()
    }

    /// Sends a federation request as this node; gives the status and the JSON.
    pub async fn ask(&self, other: &Running, method: Method, path: &str, body: impl Into<Bytes>) -> Answered {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let answer = self.node.links.request(&other.server(), request, PATIENCE).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
    }

    /// A question that must be answered.
    pub async fn get_from(&self, other: &Running, path: &str) -> Value {
        let (status, json) = self.ask(other, Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {json}");
        json
    }

    /// A question that must be refused.
    pub async fn refused_by(&self, other: &Running, path: &str, status: u16, errcode: &str) {
        let (found, json) = self.ask(other, Method::GET, path, "").await;
        assert_eq!((found.as_u16(), json["errcode"].as_str()), (status, Some(errcode)), "{path}: {json}");
    }

    /// Makes a room.
    pub async fn room(&self, user: &TestUser, body: Value) -> String {
        let made = self.ok(self.post(user, "/_matrix/client/v3/createRoom", body)).await;
        made["room_id"].as_str().unwrap().to_owned()
    }

    /// Invites somebody.
    pub async fn invite(&self, user: &TestUser, room: &str, target: &TestUser) {
        let path = format!("/_matrix/client/v3/rooms/{}/invite", encoded(room));
        self.ok(self.post(user, &path, json!({ "user_id": target.id }))).await;
    }

    /// Waits for an invite and takes it.
    pub async fn accept(&self, user: &TestUser, room: &str) {
        self.until_membership(user, room, "invite").await;
        self.ok(self.post(user, &format!("/_matrix/client/v3/join/{}", encoded(room)), json!({}))).await;
    }

    /// Sends a text; gives the event id.
    pub async fn say(&self, user: &TestUser, room: &str, text: &str) -> String {
        let txn = rand_txn();
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", encoded(room));
        let sent = self.ok(self.put(user, &path, json!({ "msgtype": "m.text", "body": text }))).await;
        sent["event_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a text can be read.
    pub async fn until_read(&self, user: &TestUser, room: &str, text: &str) {
        let found = async || self.texts(user, room).await.iter().any(|found| found == text);
        until(&format!("{text:?} is read"), found).await;
    }

    /// The texts of a room, the newest first.
    pub async fn texts(&self, user: &TestUser, room: &str) -> Vec<String> {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", encoded(room));
        let (status, json) = self.get(user, &path).await;
        if status != StatusCode::OK {
            return Vec::new();
        }
        let texts = json["chunk"].as_array().unwrap().iter();
        texts.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until a user has a membership, by this node's rows.
    pub async fn until_membership(&self, user: &TestUser, room: &str, wanted: &str) {
        let reached = async || self.membership(user, room).as_deref() == Some(wanted);
        until(&format!("{} is {wanted}", user.id), reached).await;
    }

    /// A user's membership, by this node's rows.
    pub fn membership(&self, user: &TestUser, room: &str) -> Option<String> {
        let room = ruma::RoomId::parse(room).unwrap();
        let snapshot = self.node.core.snapshot().unwrap();
        let view = snapshot.view();
        let short = millpond_node::rooms::rows::room_short(view, &room).unwrap()?;
        let row = millpond_node::rooms::current::membership(view, short, &user.id).unwrap()?;
        Some(row.membership.to_string())
    }
}

/// Makes two nodes contacts, and waits until both know it.
pub async fn link(a: &Running, b: &Running) {
    shake_hands(a, b).await;
    for (one, other) in [(a, b), (b, a)] {
        until("the link is up", async || one.node.peers.is_linked(&other.server()).unwrap()).await;
    }
}

/// Makes two nodes contacts, without waiting for what each then finds out about the other.
pub async fn shake_hands(a: &Running, b: &Running) {
    let offer = a.node.links.offer().await.unwrap();
    b.node.links.add(&offer.link).await.unwrap();
    let overlay = a.node.links.overlay().await.unwrap().clone();
    until("the offer is answered", async || {
        overlay.links().iter().any(|link| {
            link.state == LinkState::AwaitsUs && link.peer.as_ref() == Some(b.node.core.identity().node_name())
        })
    })
    .await;
    a.node.links.confirm(b.node.core.identity().node_name().as_str()).await.unwrap();
}

/// Runs a long test where there is room for it: without optimisation the state of so many requests does not fit a test's own stack.
pub fn roomy<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let thread = std::thread::Builder::new().stack_size(32 << 20);
    let ended = thread.spawn(move || runtime().block_on(test())).unwrap().join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Waits for something that takes a few messages between nodes.
pub async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// An id as a part of a path.
pub fn encoded(id: &str) -> String {
    id.replace('!', "%21").replace('$', "%24").replace(':', "%3A").replace('@', "%40").replace('#', "%23")
}

fn rand_txn() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
