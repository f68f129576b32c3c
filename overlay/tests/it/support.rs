//! A node that is nothing but its overlay: an identity, links in memory, and a loop that answers requests.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::{Request, Response, StatusCode};
use millpond_mailbox::identity::IdentityKey;
use millpond_mailbox::introduction::Introduction;
use millpond_mailbox::item::Item;
use millpond_mailbox::key_document::{DocumentKeys, KeyDocument};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::schedule::Mode;
use millpond_mailbox::session::Handle;
use millpond_mailbox::signing_key::{Generation, SigningKey};
use millpond_mailbox::xwing::XWingSecret;
use millpond_overlay::host_client::{ClientLimits, FreshTransport, HostClient};
use millpond_overlay::relay::Relay;
use millpond_overlay::transport::Transport;
use millpond_overlay::transport::libp2p::{Libp2p, Libp2pConfig};
use millpond_overlay::transport::memory::MemoryNet;
use millpond_overlay::{
    Arrival, Change, Config, Delivery, Error, Event, INTRO_PATH, Limits, LinkStore, Me, Overlay, Record, RecordKey,
    RouteError, Routes, StoreError, start,
};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Links in memory; what a test may look into and break.
#[derive(Default)]
pub struct MemoryLinks {
    pub rows: Mutex<BTreeMap<RecordKey, Vec<u8>>>,
    pub broken: Mutex<bool>,
    /// What came out of mailboxes.
    pub arrived: Mutex<Vec<Item>>,
    /// What the peers have.
    pub done: Mutex<Vec<Handle>>,
    /// Of whom nothing more is taken.
    pub full: Mutex<Vec<NodeName>>,
    /// So many commits go well, and then none.
    pub commits_left: Mutex<Option<usize>>,
}

impl LinkStore for MemoryLinks {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let rows = self.rows.lock();
        let records = rows.iter().map(|(key, bytes)| Record { key: key.clone(), bytes: bytes.clone() }).collect();
        async move { Ok(records) }.boxed()
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let mut left = self.commits_left.lock();
            if *self.broken.lock() || *left == Some(0) {
                return Err(StoreError { why: "broken by the test".to_owned() });
            }
            *left = left.map(|left| left - 1);
            drop(left);
            let mut rows = self.rows.lock();
            for change in changes {
                match change {
                    Change::Put(record) => drop(rows.insert(record.key, record.bytes)),
                    Change::Remove(key) => drop(rows.remove(&key)),
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn takes_more(&self, peer: &NodeName) -> bool {
        !self.full.lock().contains(peer)
    }

    fn commit_delivery(&self, changes: Vec<Change>, delivery: Delivery) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.commit(changes).await?;
            self.arrived.lock().extend(delivery.arrived);
            self.done.lock().extend(delivery.done);
            Ok(())
        }
        .boxed()
    }
}

/// What stays when a node is restarted.
pub struct Seed {
    identity: IdentityKey,
    signing: SigningKey,
    intro: [u8; 32],
    pub links: Arc<MemoryLinks>,
    pub limits: Limits,
    /// How a connection to mailbox hosts is made.
    pub hosts: Option<Arc<dyn FreshTransport>>,
    /// A mailbox host beside the node.
    pub host: Option<Relay>,
    /// Whether it keeps mailboxes at contacts' hosts unasked.
    pub accept_hosts: Option<bool>,
}

impl Seed {
    pub fn new() -> Self {
        let mut rng = UnwrapErr(getrandom::SysRng);
        Self {
            identity: IdentityKey::generate(&mut rng),
            signing: SigningKey::generate(Generation(1), &mut rng),
            intro: {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).unwrap();
                seed
            },
            links: Arc::default(),
            limits: Limits::default(),
            hosts: None,
            host: None,
            accept_hosts: None,
        }
    }

    pub fn name(&self) -> NodeName {
        self.identity.name()
    }

    pub fn document(&self, generation: u64) -> KeyDocument {
        let intro = XWingSecret::from_bytes(self.intro).public();
        let keys = DocumentKeys {
            generation: Generation(generation),
            current: &[&self.signing],
            old: &BTreeMap::new(),
            intro_key: Some(&intro),
        };
        KeyDocument::build(&self.identity, &keys).unwrap()
    }

    pub async fn start(&self, transport: impl Transport) -> TestNode {
        millpond_overlay::install_crypto_provider();
        let me = Me {
            identity: self.identity.clone(),
            key_document: self.document(1),
            intro_secret: XWingSecret::from_bytes(self.intro),
            signing: self.signing.clone(),
        };
        let hosts = self.hosts.clone().map(|fresh| HostClient::new(fresh, ClientLimits::default()));
        let config = Config {
            me,
            limits: self.limits.clone(),
            host: self.host.clone(),
            hosts,
            mode: Mode::Instant,
            accept_hosts: self.accept_hosts,
            routes: Arc::new(Routes::without_tor()),
        };
        let (overlay, arrivals) = start(config, self.links.clone(), vec![Box::new(transport)]).await.unwrap();
        let events = overlay.events();
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(overlay.clone(), self.name(), arrivals));
        TestNode { name: self.name(), overlay, events, _tasks: tasks }
    }
}

/// A running overlay.
pub struct TestNode {
    pub name: NodeName,
    pub overlay: Overlay,
    pub events: broadcast::Receiver<Event>,
    _tasks: JoinSet<()>,
}

impl TestNode {
    /// Waits for an event; other events on the way are passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("the event comes")
    }

    pub async fn established(&mut self, peer: &NodeName) {
        self.until(|event| matches!(event, Event::Established { peer: with } if with == peer)).await;
    }

    pub async fn get(&self, to: &NodeName, path: &str) -> Result<Response<Bytes>, RouteError> {
        self.send(to, path, Bytes::new()).await
    }

    pub async fn send(&self, to: &NodeName, path: &str, body: Bytes) -> Result<Response<Bytes>, RouteError> {
        let request = Request::builder().method("PUT").uri(path).body(body).unwrap();
        self.overlay.request(to, request, soon()).await
    }

    /// What the peer's node echoes: who asked, and for what.
    pub async fn echo(&self, to: &NodeName) -> String {
        let response = self.get(to, "/echo?x=1").await.expect("the peer answers");
        assert_eq!(response.status(), StatusCode::OK);
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Links two nodes: `a` offers, `b` answers, `a` confirms.
pub async fn link(a: &mut TestNode, b: &mut TestNode) {
    let shown = a.overlay.offer().await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    let b_name = b.name.clone();
    a.until(|event| matches!(event, Event::Pending { peer } if *peer == b_name)).await;
    a.overlay.confirm(&b.name).await.unwrap();
    let a_name = a.name.clone();
    b.established(&a_name).await;
}

pub fn libp2p() -> Libp2p {
    libp2p_with(|_| {})
}

pub fn libp2p_with(change: impl FnOnce(&mut Libp2pConfig)) -> Libp2p {
    let mut config = Libp2pConfig { bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..Libp2pConfig::default() };
    change(&mut config);
    Libp2p::new(config).unwrap()
}

/// Two linked nodes over memory.
pub async fn memory_pair() -> (MemoryNet, TestNode, TestNode) {
    let net = MemoryNet::new();
    let mut a = Seed::new().start(net.transport(1)).await;
    let mut b = Seed::new().start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    (net, a, b)
}

/// The node behind the overlay: echoes, counts, delays, as the path says.
async fn answer(overlay: Overlay, name: NodeName, mut arrivals: mpsc::Receiver<Arrival>) {
    let mut open = JoinSet::new();
    let mut held = HashMap::new();
    while let Some(Arrival::Request { peer, class, request, reply }) = arrivals.recv().await {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            INTRO_PATH => {
                let (overlay, name) = (overlay.clone(), name.clone());
                open.spawn(async move {
                    let mut response = Response::new(Bytes::new());
                    if let Err(error) = introduction(&overlay, &name, &peer, request.body()).await {
                        *response.status_mut() = StatusCode::FORBIDDEN;
                        *response.body_mut() = error.to_string().into();
                    }
                    let _ = reply.send(response);
                });
            }
            "/never" => drop(held.insert(held.len(), reply)),
            "/mirror" => drop(reply.send(Response::new(request.into_body()))),
            "/size" => drop(reply.send(Response::new(Bytes::from(request.body().len().to_string())))),
            "/big" => drop(reply.send(Response::new(Bytes::from(vec![7; 20 << 20])))),
            _ => {
                open.spawn(async move {
                    let text = format!("{peer} {class:?} {} {}", request.method(), request.uri());
                    let _ = reply.send(Response::new(Bytes::from(text)));
                });
            }
        }
    }
}

/// What a node does with an introduction, without the question who is joined to the room.
async fn introduction(overlay: &Overlay, name: &NodeName, from: &NodeName, body: &[u8]) -> Result<(), Error> {
    let intro = Introduction::from_bytes(body).unwrap();
    if intro.to() != name {
        return overlay.carry(&intro.to().clone(), &intro, soon()).await;
    }
    let opened = overlay.open_introduction(intro).await?;
    overlay.take_introduction(from, opened).await
}

/// Far more than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
