//! What carries streams: Tor where there is an onion address, libp2p where showing an IP address is allowed.

use std::sync::Arc;

use millpond_overlay::{
    Routes,
    host_client::FreshTransport,
    transport::{
        Address, Transport, TransportError,
        libp2p::{Libp2p, Libp2pConfig},
        tor::is_onion,
    },
};
use zeroize::Zeroizing;

use crate::{Error, config::Direct};

/// The transports to and from peers; `onion` opens a service of this node.
pub(super) fn to_peers(settings: &Direct, routes: &Routes, onion: bool) -> Result<Vec<Box<dyn Transport>>, Error> {
    let mut transports: Vec<Box<dyn Transport>> = Vec::new();
    if let Some(tor) = routes.tor() {
        transports.push(Box::new(tor.peers(onion.then_some("node"))));
    }
    if !routes.is_tor_only() {
        transports.push(Box::new(direct(settings)?));
    }
    Ok(transports)
}

/// Connections to mailbox hosts: each on circuits of its own, or with a PeerId of its own.
pub(super) fn to_hosts(routes: &Arc<Routes>) -> Arc<dyn FreshTransport> {
    Arc::new(ToHosts(routes.clone()))
}

struct ToHosts(Arc<Routes>);

impl FreshTransport for ToHosts {
    fn fresh(&self, to: &[Address]) -> Result<Box<dyn Transport>, TransportError> {
        let allowed = self.0.to_host(to.to_vec());
        match self.0.tor() {
            Some(tor) if allowed.iter().any(is_onion) => Ok(Box::new(tor.for_one_host())),
            _ if allowed.is_empty() && !to.is_empty() => Err(TransportError::Shows),
            _ => Ok(Box::new(Libp2p::new(Libp2pConfig::default())?)),
        }
    }
}

fn direct(settings: &Direct) -> Result<Libp2p, Error> {
    let mut config =
        Libp2pConfig { port: settings.port, visible_nearby: settings.visible_nearby, ..Libp2pConfig::default() };
    if !settings.addresses.is_empty() {
        config.bind.clone_from(&settings.addresses);
    }
    for relay in &settings.relays {
        let address = Address::parse(relay).map_err(|e| Error::invalid_param(format!("direct-relays: {e}")))?;
        config.relays.push(address);
    }
    config.peer_key = settings.peer_key.map(Zeroizing::new);
    Libp2p::new(config).map_err(|e| Error::internal(e.to_string()))
}
