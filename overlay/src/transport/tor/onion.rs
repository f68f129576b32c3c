//! The onion route as a transport: one isolation for all that it dials, one service at most.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::{Address, BoxIo, Incoming, Transport, TransportError};
use super::address::OnionAddress;
use super::isolation::Isolation;
use super::{PATIENCE, ROUTE, Tor};

/// Streams to onion services, and from one of ours.
pub struct Onion {
    tor: Tor,
    /// The nickname of the service that `listen` opens.
    service: Option<&'static str>,
    isolation: Isolation,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    incoming: Option<mpsc::Sender<Incoming>>,
    address: Option<Address>,
}

impl Onion {
    pub(super) fn new(tor: Tor, service: Option<&'static str>, isolation: Isolation) -> Self {
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
        async move {
            let to = OnionAddress::of(address).ok_or(TransportError::WrongKind { route: ROUTE })?;
            self.tor.onion(&to, &self.isolation).await
        }
        .boxed()
    }

    fn listen(&self, _: Vec<Address>) -> BoxFuture<'_, Result<Vec<Address>, TransportError>> {
        async move {
            let Some(nickname) = self.service else { return Ok(Vec::new()) };
            let incoming = self.state.lock().incoming.clone().ok_or(TransportError::Stopped)?;
            let address = self.tor.carrier.open(nickname, incoming).await?.address();
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
            if let Some(nickname) = self.service.filter(|_| listening) {
                self.tor.carrier.close(nickname).await;
            }
        }
        .boxed()
    }
}
