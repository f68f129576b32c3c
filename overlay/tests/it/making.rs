//! `mailbox add`, cut off at each of its steps: the next start finishes it with the same token, and the host has no mailbox too many.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, FutureExt};
use millpond_mailbox::host::{HostLimits, HostRows, HostStore, HostStoreError, MemoryRows};
use millpond_mailbox::host_key::HostSecret;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::rand_core::UnwrapErr;
use millpond_mailbox::stream::HOST_REPLY_LEN;
use millpond_mailbox::token::{Grant, MAX_TOKENS, TokenSecret};
use millpond_mailbox::way::Way;
use millpond_overlay::RecordKind;
use millpond_overlay::host_client::FreshTransport;
use millpond_overlay::relay::{Relay, RelayConfig, StreamLimits};
use millpond_overlay::transport::memory::{Memory, MemoryNet};
use millpond_overlay::transport::{Address, BoxIo, Incoming, Transport, TransportError};
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use crate::mail::until;
use crate::support::{Seed, TestNode};

/// Where the connection to the host breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The host is not reached by the n-th connection.
    Unreached(usize),
    /// What is asked on the n-th connection arrives, and the answer does not.
    Unanswered(usize),
    /// The n-th commit from here on fails.
    Unkept(usize),
}

/// The host's disk, which the test can look at.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<MemoryRows>>);

impl HostStore for Disk {
    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn HostRows) -> Result<(), HostStoreError>,
    ) -> Result<(), HostStoreError> {
        self.0.lock().write(work)
    }
}

struct World {
    net: MemoryNet,
    disk: Disk,
    link: HostLink,
    leave: Grant,
    _relay: Relay,
}

impl World {
    async fn new() -> Self {
        let (net, disk) = (MemoryNet::new(), Disk::default());
        let tokens = || TokenSecret::from_bytes([42; 32]);
        let config = RelayConfig {
            secret: HostSecret::from_bytes([41; 32]),
            tokens: tokens(),
            limits: HostLimits::default(),
            streams: StreamLimits::default(),
        };
        let relay = Relay::start(config, Box::new(disk.clone())).unwrap();
        let addresses = relay.serve(vec![Box::new(net.transport(900))], Vec::new()).await.unwrap();
        let link = relay.link(&addresses).unwrap();
        let leave = tokens().grant(&mut UnwrapErr(getrandom::SysRng));
        Self { net, disk, link, leave, _relay: relay }
    }

    /// How many steps the host has taken: the leave spent, and each mailbox.
    fn steps(&self) -> usize {
        let rows = self.disk.0.lock();
        let spent = usize::from(rows.spent(&self.leave.spent_mark()).unwrap().is_some());
        spent + rows.totals().unwrap().mailboxes as usize
    }

    /// Connections to the host, the first of which are counted; from the one that breaks on there is none.
    fn to_host(&self, fault: Option<Fault>) -> Arc<dyn FreshTransport> {
        let (net, made) = (self.net.clone(), AtomicUsize::new(0));
        let fresh = move || -> Result<Box<dyn Transport>, TransportError> {
            let number = made.fetch_add(1, Ordering::SeqCst);
            let transport = net.transport(7_000);
            match fault {
                Some(Fault::Unreached(at)) if number >= at => Err(gone()),
                Some(Fault::Unanswered(at)) if number > at => Err(gone()),
                Some(Fault::Unanswered(at)) if number == at => Ok(Box::new(Deaf(transport))),
                _ => Ok(Box::new(transport)),
            }
        };
        Arc::new(fresh)
    }
}

fn gone() -> TransportError {
    TransportError::Unreachable { why: "cut off by the test".to_owned() }
}

/// A way to the host on which nothing is heard once something was asked.
struct Deaf(Memory);

impl Transport for Deaf {
    fn route(&self) -> &'static str {
        self.0.route()
    }

    fn carries(&self, address: &Address) -> bool {
        self.0.carries(address)
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        self.0.start(incoming)
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        async move {
            let io = self.0.dial(address).await?;
            Ok(Box::new(Line { io, read: 0, asked: false, reader: None }) as BoxIo)
        }
        .boxed()
    }

    fn listen(&self, earlier: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        self.0.listen(earlier)
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.0.local_addresses()
    }

    fn nearby(&self) -> Vec<Address> {
        self.0.nearby()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop()
    }
}

/// A stream that ends when something was written behind the handshake.
struct Line {
    io: BoxIo,
    read: usize,
    asked: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.asked {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(cx.waker().clone());
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read += buf.filled().len() - before;
        polled
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() && self.read >= HOST_REPLY_LEN {
            self.asked = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A node that begins, is cut off, and is gone.
async fn cut_off(world: &World, node: &mut Seed, fault: Fault) {
    node.hosts = Some(world.to_host(Some(fault)));
    let at_node = node.start(world.net.transport(1)).await;
    if let Fault::Unkept(at) = fault {
        *node.links.commits_left.lock() = Some(at);
    }
    let added = at_node.overlay.add_mailbox(world.link.clone(), world.leave.clone()).await;
    assert!(added.is_err(), "{fault:?}");
    let steps = match fault {
        Fault::Unreached(at) => at,
        Fault::Unanswered(at) => at + 1,
        Fault::Unkept(at) => 3 * at,
    };
    until("the host has taken the step", async || world.steps() == steps).await;
    at_node.overlay.shutdown().await;
    *node.links.commits_left.lock() = None;
}

async fn made(node: &TestNode) -> usize {
    node.overlay.mailboxes().await.unwrap().len()
}

fn records(node: &Seed, kind: RecordKind) -> Vec<Vec<u8>> {
    let rows = node.links.rows.lock();
    rows.iter().filter(|(key, _)| key.kind == kind).map(|(_, bytes)| bytes.clone()).collect()
}

/// What must be there in the end, however it came about.
async fn whole(world: &World, node: &Seed, at_node: &TestNode, fault: Fault) {
    assert_eq!((made(at_node).await, world.steps()), (2, 3), "{fault:?}: one mailbox and one for HELLOs");
    assert!(records(node, RecordKind::Leave).is_empty(), "{fault:?}: nothing is open");
    let tokens: (u8, Way, Vec<ByteBuf>) = serde_cbor::from_slice(&records(node, RecordKind::Tokens)[0]).unwrap();
    assert_eq!(tokens.2.len(), MAX_TOKENS - 2, "{fault:?}: no token is lost");
}

#[tokio::test]
async fn a_mailbox_that_was_cut_off_at_any_step_is_finished_at_the_next_start() {
    let faults = (0..3).flat_map(|n| [Fault::Unreached(n), Fault::Unanswered(n)]).chain([Fault::Unkept(1)]);
    for fault in faults {
        let (world, mut node) = (World::new().await, Seed::new());
        cut_off(&world, &mut node, fault).await;
        assert_eq!(records(&node, RecordKind::Leave).len(), 1, "{fault:?}: what is open is on the disk");
        node.hosts = Some(world.to_host(None));
        let at_node = node.start(world.net.transport(1)).await;
        until("it is finished", async || made(&at_node).await == 2).await;
        whole(&world, &node, &at_node, fault).await;
        at_node.overlay.shutdown().await;
    }
}

#[tokio::test]
async fn the_user_may_also_repeat_the_command_with_the_same_token() {
    for fault in [Fault::Unreached(0), Fault::Unanswered(0), Fault::Unanswered(2), Fault::Unkept(0)] {
        let (world, mut node) = (World::new().await, Seed::new());
        cut_off(&world, &mut node, fault).await;
        node.hosts = Some(world.to_host(None));
        let at_node = node.start(world.net.transport(1)).await;
        // The start has begun it already, and may be done: then the token is used.
        let _ = at_node.overlay.add_mailbox(world.link.clone(), world.leave.clone()).await;
        whole(&world, &node, &at_node, fault).await;
        at_node.overlay.shutdown().await;
    }
}
