//! Our own listening: the same port for QUIC and TCP, the port of last time where it is free, and the list of addresses worth telling a contact.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{Address, TransportError};
use super::Libp2pConfig;

type Reply = oneshot::Sender<Result<(), TransportError>>;

/// The listeners of one swarm.
pub(super) struct Listeners {
    bind: Vec<IpAddr>,
    fixed: Option<u16>,
    open: HashMap<ListenerId, BTreeSet<Multiaddr>>,
    waiting: Vec<Reply>,
    settle_by: Option<Instant>,
}

impl Listeners {
    pub(super) fn new(config: &Libp2pConfig) -> Self {
        let (bind, fixed) = (config.bind.clone(), config.port);
        Self { bind, fixed, open: HashMap::new(), waiting: Vec::new(), settle_by: None }
    }

    /// Opens the ports, once; `reply` gets its answer when the system has told us our addresses.
    pub(super) fn listen<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>, earlier: Option<u16>, reply: Reply) {
        if self.open.is_empty() {
            if let Err(error) = self.open_all(swarm, earlier) {
                // The caller may have given up; then nobody needs the error.
                let _ = reply.send(Err(error));
                return;
            }
            self.settle_by = Some(Instant::now() + SETTLE);
        }
        self.waiting.push(reply);
    }

    fn open_all<B: NetworkBehaviour>(
        &mut self,
        swarm: &mut Swarm<B>,
        earlier: Option<u16>,
    ) -> Result<(), TransportError> {
        if let Some(port) = self.fixed {
            return self.open_port(swarm, port);
        }
        if let Some(port) = earlier {
            match self.open_port(swarm, port) {
                Ok(()) => return Ok(()),
                Err(_) => tracing::warn!(
                    port,
                    "the port of last time is taken; contacts learn the new one at the next exchange"
                ),
            }
        }
        let mut last =
            TransportError::Listen { on: "any port".to_owned(), why: "no local address is configured".to_owned() };
        for _ in 0..PORT_ATTEMPTS {
            let Some(port) = self.bind.first().and_then(|ip| free_port(*ip)) else { break };
            match self.open_port(swarm, port) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens QUIC and TCP on one port on every configured address, or nothing. IPv6 may be missing from a machine: its wildcard alone may fail.
    fn open_port<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>, port: u16) -> Result<(), TransportError> {
        let mut opened = Vec::new();
        for ip in &self.bind {
            let quic = Multiaddr::from(*ip).with(Protocol::Udp(port)).with(Protocol::QuicV1);
            for address in [quic, Multiaddr::from(*ip).with(Protocol::Tcp(port))] {
                match swarm.listen_on(address) {
                    Ok(id) => opened.push(id),
                    Err(_) if ip.is_ipv6() && ip.is_unspecified() && !opened.is_empty() => {}
                    Err(error) => {
                        for id in opened {
                            swarm.remove_listener(id);
                        }
                        return Err(TransportError::Listen { on: format!("port {port}"), why: reason(&error) });
                    }
                }
            }
        }
        self.open = opened.into_iter().map(|id| (id, BTreeSet::new())).collect();
        Ok(())
    }

    pub(super) fn added(&mut self, listener: ListenerId, address: Multiaddr) {
        if let Some(addresses) = self.open.get_mut(&listener) {
            addresses.insert(address);
        }
        if self.open.values().all(|addresses| !addresses.is_empty()) {
            self.settle_by = Some(Instant::now());
        }
    }

    pub(super) fn expired(&mut self, listener: ListenerId, address: &Multiaddr) {
        if let Some(addresses) = self.open.get_mut(&listener) {
            addresses.remove(address);
        }
    }

    pub(super) fn closed(&mut self, listener: ListenerId) {
        self.open.remove(&listener);
    }

    /// Ends when every listener has an address, or when there has been time for it; never while nobody waits.
    pub(super) async fn settled(&self) {
        match self.settle_by {
            Some(at) if !self.waiting.is_empty() => tokio::time::sleep_until(at).await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn answer(&mut self) {
        for reply in self.waiting.drain(..) {
            // The caller may have given up waiting; the ports stay open for the next call.
            let _ = reply.send(Ok(()));
        }
    }

    /// Our addresses, best first: QUIC before TCP, and loopback only when it is all there is or all that was asked for.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut all: Vec<&Multiaddr> = self.open.values().flatten().filter(|address| !is_link_local(address)).collect();
        let loopback_only = all.iter().all(|address| is_loopback(address));
        if !loopback_only {
            all.retain(|address| !is_loopback(address));
        }
        all.sort_by_key(|address| !address.iter().any(|part| part == Protocol::QuicV1));
        all.into_iter().take(MAX_ADDRESSES).filter_map(|address| Address::checked(address.clone()).ok()).collect()
    }
}

/// A port that is free for both protocols just now.
fn free_port(ip: IpAddr) -> Option<u16> {
    let tcp = TcpListener::bind((ip, 0)).ok()?;
    let port = tcp.local_addr().ok()?.port();
    UdpSocket::bind((ip, port)).ok()?;
    Some(port)
}

fn reason(error: &libp2p::TransportError<std::io::Error>) -> String {
    match error {
        libp2p::TransportError::MultiaddrNotSupported(_) => "this kind of address is not supported".to_owned(),
        libp2p::TransportError::Other(error) => error.kind().to_string(),
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// Link-local IPv6 addresses mean nothing without the interface.
fn is_link_local(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Ip6(ip) if ip.is_unicast_link_local()))
}

const PORT_ATTEMPTS: usize = 8;
/// How long the system may take to tell us the addresses of its interfaces.
const SETTLE: Duration = Duration::from_secs(1);
/// A contact link shows them all; more than this is a machine with many virtual networks.
const MAX_ADDRESSES: usize = 8;
