//! Being reachable through relays: a listener on each, opened again when it ends, and the address that contacts dial.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::time::Instant;

use super::Circuit;

/// The relays of one swarm.
pub(super) struct Circuits {
    relays: Vec<Circuit>,
    open: HashMap<ListenerId, Listening>,
    /// When to look for relays without a listener; none: nothing listens yet.
    again: Option<Instant>,
}

struct Listening {
    relay: usize,
    address: Option<Multiaddr>,
}

impl Circuits {
    pub(super) fn new(relays: Vec<Circuit>) -> Self {
        Self { relays, open: HashMap::new(), again: None }
    }

    /// Who they are.
    pub(super) fn relays(&self) -> impl Iterator<Item = PeerId> {
        self.relays.iter().map(|circuit| circuit.relay)
    }

    /// From now on there is a listener on each relay, as far as they answer.
    pub(super) fn listen(&mut self) {
        self.again.get_or_insert_with(Instant::now);
    }

    /// Ends when relays are to be looked at.
    pub(super) async fn due(&self) {
        match self.again {
            Some(at) if !self.relays.is_empty() => tokio::time::sleep_until(at).await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn on_due<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>) {
        self.again = Some(Instant::now() + RETRY);
        for (relay, circuit) in self.relays.iter().enumerate() {
            if self.open.values().any(|listening| listening.relay == relay) {
                continue;
            }
            let address = circuit.relay_address().with(Protocol::P2pCircuit);
            match swarm.listen_on(address) {
                Ok(id) => drop(self.open.insert(id, Listening { relay, address: None })),
                Err(_) => tracing::debug!("a relay's address cannot be used"),
            }
        }
    }

    /// Whether the listener is one of ours.
    pub(super) fn added(&mut self, listener: ListenerId, address: &Multiaddr) -> bool {
        self.open.get_mut(&listener).is_some_and(|listening| {
            listening.address = Some(address.clone());
            true
        })
    }

    pub(super) fn expired(&mut self, listener: ListenerId) {
        if let Some(listening) = self.open.get_mut(&listener) {
            listening.address = None;
        }
    }

    pub(super) fn closed(&mut self, listener: ListenerId) {
        self.open.remove(&listener);
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.open.values().filter_map(|listening| listening.address.as_ref())
    }
}

/// A relay that is down is asked this often.
const RETRY: Duration = Duration::from_secs(15);
