//! What carries streams: Tor where there is an onion address, libp2p where showing an IP address is allowed.

use std::sync::Arc;

use millpond_overlay::{
    Routes,
    host_client::FreshTransport,
    transport::{
        Address, Transport, TransportError,
        libp2p::{Libp2p, Libp2pConfig},
        tor::{Onion, OwnService, Tor, is_onion},
    },
};
use zeroize::Zeroizing;

use crate::{
    Error,
    config::{Direct, TorSettings},
};

/// The transports to and from peers; `onion` says whether there is a service of this node.
pub(super) fn to_peers(
    settings: &Direct,
    routes: &Routes,
    onion: &TorSettings,
) -> Result<Vec<Box<dyn Transport>>, Error> {
    let mut transports: Vec<Box<dyn Transport>> = Vec::new();
    if let Some(tor) = routes.tor() {
        let service = OwnService { nickname: "node", restricted: onion.restricted };
        transports.push(Box::new(tor.peers(onion.onion.then_some(service))));
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

impl ToHosts {
    /// On circuits that no other connection has.
    fn by_tor(&self, allowed: &[Address]) -> Option<Onion> {
        self.0.tor().filter(|_| allowed.iter().any(is_onion)).map(Tor::for_one_host)
    }
}

impl FreshTransport for ToHosts {
    fn fresh(&self, to: &[Address]) -> Result<Box<dyn Transport>, TransportError> {
        let allowed = self.0.to_host(to.to_vec());
        match self.by_tor(&allowed) {
            Some(onion) => Ok(Box::new(onion)),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ONION: &str = "/onion3/duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad:7448";
    const IP: &str = "/ip4/192.0.2.1/tcp/7448";

    fn hosts() -> ToHosts {
        ToHosts(Arc::new(crate::tor::routes(&TorSettings::default(), Path::new("/nowhere")).unwrap()))
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).unwrap()).collect()
    }

    #[test]
    fn each_connection_to_a_host_is_isolated_from_all_others() {
        let (hosts, to) = (hosts(), addresses(&[ONION]));
        let connections: Vec<Onion> = (0..3).map(|_| hosts.by_tor(&to).unwrap()).collect();
        for (at, one) in connections.iter().enumerate() {
            assert!(connections[at + 1..].iter().all(|other| other.isolation() != one.isolation()));
        }
    }

    #[test]
    fn a_host_with_an_onion_address_is_dialled_there_and_one_without_only_while_no_address_is_hidden() {
        let hosts = hosts();
        assert_eq!(hosts.fresh(&addresses(&[IP, ONION])).unwrap().route(), "onion");
        assert_eq!(hosts.fresh(&addresses(&[IP])).unwrap().route(), "direct");
        hosts.0.note_onion();
        assert_eq!(hosts.fresh(&addresses(&[ONION])).unwrap().route(), "onion");
        assert!(matches!(hosts.fresh(&addresses(&[IP])).err(), Some(TransportError::Shows)));
    }
}
