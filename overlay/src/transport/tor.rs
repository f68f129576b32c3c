//! Tor, inside this process (arti) or by a SOCKS5 proxy of the user's. Everything that arti exports stays in this folder.
//!
//! ```text
//! Tor (one for a node) -- started by the first stream or service, never before
//!   |- Tor::peers        a transport: streams to onion services, and the node's own service, if it has one
//!   |- Tor::for_one_host a transport for one connection to a mailbox host, on circuits that nothing else uses
//!   '- Tor::exit         a stream to a name on the Internet, through an exit
//! ```
//!
//! A dial can hang for minutes when the other end died without a word, so each has a time-out of its own and a second attempt on circuits of its own.

mod address;
mod arti;
mod config;
mod health;
mod isolation;
mod keys;
mod onion;
mod service;
mod socks;
mod status;

use std::sync::Arc;
use std::time::Duration;

pub use config::{PluggableTransport, Through, TorConfig};
pub use isolation::Isolation;
pub use onion::{Onion, OwnService};
pub use status::{TorState, TorStatus};

use futures::future::BoxFuture;
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use tokio::sync::mpsc;

use super::{Address, BoxIo, Incoming, TransportError};
use address::OnionAddress;
use arti::Arti;
use socks::Socks;

/// Tor as one node uses it. Clones share it. Nothing runs, and no folder is made, before something is dialled or a service opened.
#[derive(Clone)]
pub struct Tor {
    carrier: Arc<dyn Carrier>,
}

/// What carries the streams: arti, or a proxy.
trait Carrier: Send + Sync {
    /// Opens a stream to an onion service, with one of these keys if it asks for one, or through an exit.
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        on: &'a Isolation,
        keys: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>>;

    /// Opens the service of this nickname: for everybody who knows its address, or for those with these keys.
    fn open(
        &self,
        nickname: &'static str,
        admitted: Option<Vec<DiscoveryKey>>,
        incoming: mpsc::Sender<Incoming>,
    ) -> BoxFuture<'_, Result<OnionAddress, TransportError>>;

    /// Changes for whom an open service is.
    fn admit(&self, nickname: &'static str, admitted: Vec<DiscoveryKey>);

    /// Closes it.
    fn close(&self, nickname: &'static str) -> BoxFuture<'_, ()>;

    fn status(&self) -> TorStatus;

    /// Waits until it works again after it did not. Safe to drop.
    fn came_back(&self) -> BoxFuture<'_, ()>;

    fn set_dormant(&self, dormant: bool);

    fn stop(&self) -> BoxFuture<'_, ()>;
}

impl Tor {
    /// Prepares Tor.
    ///
    /// # Errors
    /// When the settings do not go together, or a bridge line or the file of a test network cannot be read.
    pub fn new(config: TorConfig) -> Result<Self, TransportError> {
        Ok(match config.through {
            Through::Arti => Self { carrier: Arc::new(Arti::new(config)?) },
            Through::Socks(proxy) => Self { carrier: Arc::new(Socks::new(proxy)) },
        })
    }

    /// The route to peers: dials their onion services, and opens one of its own, if there is to be one.
    pub fn peers(&self, service: Option<OwnService>) -> Onion {
        Onion::new(self.clone(), service, Isolation::fresh())
    }

    /// A transport for one connection to a host: what goes over it shares no circuit with anything else.
    pub fn for_one_host(&self) -> Onion {
        Onion::new(self.clone(), None, Isolation::fresh())
    }

    /// Opens a stream to a name or address on the Internet, through an exit; names are looked up there. Dropping the future gives it up.
    ///
    /// # Errors
    /// When Tor is not up, or the exit cannot connect.
    pub async fn exit(&self, host: &str, port: u16, isolation: &Isolation) -> Result<BoxIo, TransportError> {
        self.carrier.connect(host, port, isolation, &[]).await
    }

    async fn onion(
        &self,
        to: &OnionAddress,
        isolation: &Isolation,
        keys: &[DiscoverySecret],
    ) -> Result<BoxIo, TransportError> {
        self.carrier.connect(&to.host(), to.port(), isolation, keys).await
    }

    /// How it stands.
    pub fn status(&self) -> TorStatus {
        self.carrier.status()
    }

    /// Waits until it works again after it did not, for one who waits. Safe to drop.
    pub async fn came_back(&self) {
        self.carrier.came_back().await;
    }

    /// Puts the background work to sleep while the device is suspended, or wakes it. The next stream wakes it too; an own service is not to be
    /// reached meanwhile.
    pub fn set_dormant(&self, dormant: bool) {
        self.carrier.set_dormant(dormant);
    }

    /// Ends everything; later dials fail. Not to be dropped half-way.
    pub async fn stop(&self) {
        self.carrier.stop().await;
    }
}

/// Whether an address is an onion service.
pub fn is_onion(address: &Address) -> bool {
    OnionAddress::of(address).is_some()
}

const ROUTE: &str = "onion";
/// All of a dial: the start of Tor, and every attempt.
pub const PATIENCE: Duration = Duration::from_secs(55);
