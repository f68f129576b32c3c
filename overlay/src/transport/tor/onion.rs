//! The onion route as a transport: one isolation for all that it dials, one service at most.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::{Address, BoxIo, Incoming, Transport, TransportError};
use super::address::OnionAddress;
use super::isolation::Isolation;
use super::{PATIENCE, ROUTE, Tor};

/// An onion service of ours.
#[derive(Clone, Copy, Debug)]
pub struct OwnService {
    /// arti keeps its key under this name.
    pub nickname: &'static str,
    /// Only who has an admitted key finds it.
    pub restricted: bool,
}

/// Streams to onion services, and from one of ours.
pub struct Onion {
    tor: Tor,
    /// The service that `listen` opens.
    service: Option<OwnService>,
    isolation: Isolation,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    incoming: Option<mpsc::Sender<Incoming>>,
    address: Option<Address>,
    admitted: Vec<DiscoveryKey>,
}

impl Onion {
    pub(super) fn new(tor: Tor, service: Option<OwnService>, isolation: Isolation) -> Self {
        Self { tor, service, isolation, state: Arc::default() }
    }

    /// What its streams share circuits by.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }
}

impl Transport for Onion {
    fn route(&self) -> &'static str {
        ROUTE
    }

    fn carries(&self, address: &Address) -> bool {
        OnionAddress::of(address).is_some()
    }

    fn start(&self, incoming: mpsc::Sender<Incoming>) -> Result<(), TransportError> {
        self.state.lock().incoming = Some(incoming);
        Ok(())
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        self.dial_with(address, &[])
    }

    fn dial_with<'a>(
        &'a self,
        address: &'a Address,
        keys: &'a [DiscoverySecret],
    ) -> BoxFuture<'a, Result<BoxIo, TransportError>> {
        async move {
            let to = OnionAddress::of(address).ok_or(TransportError::WrongKind { route: ROUTE })?;
            self.tor.onion(&to, &self.isolation, keys).await
        }
        .boxed()
    }

    fn is_restricted(&self) -> bool {
        self.service.is_some_and(|service| service.restricted)
    }

    fn admit(&self, keys: Vec<DiscoveryKey>) {
        let Some(service) = self.service.filter(|service| service.restricted) else { return };
        self.state.lock().admitted.clone_from(&keys);
        self.tor.carrier.admit(service.nickname, keys);
    }

    fn listen(&self, _: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        async move {
            let Some(OwnService { nickname, restricted }) = self.service else { return Ok(Vec::new()) };
            let (incoming, admitted) = {
                let state = self.state.lock();
                (state.incoming.clone().ok_or(TransportError::Stopped)?, state.admitted.clone())
            };
            let address = self.tor.carrier.open(nickname, restricted.then_some(admitted), incoming).await?.address();
            self.state.lock().address = Some(address.clone());
            Ok(vec![address])
        }
        .boxed()
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.state.lock().address.iter().cloned().collect()
    }

    fn nearby(&self) -> Vec<Address> {
        Vec::new()
    }

    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async move {
            let listening = std::mem::take(&mut *self.state.lock()).address.is_some();
            if let Some(service) = self.service.filter(|_| listening) {
                self.tor.carrier.close(service.nickname).await;
            }
        }
        .boxed()
    }
}
