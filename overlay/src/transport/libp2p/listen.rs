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
    again: Option<Again>,
}

/// A port that we want and that was taken. The sockets of an overlay that was stopped a moment ago live on until its QUIC connections are wound up.
struct Again {
    port: u16,
    at: Instant,
    until: Instant,
}

impl Listeners {
    pub(super) fn new(config: &Libp2pConfig) -> Self {
        let (bind, fixed) = (config.bind.clone(), config.port);
        Self { bind, fixed, open: HashMap::new(), waiting: Vec::new(), settle_by: None, again: None }
    }

    /// Opens the ports, once; `reply` gets its answer when the system has told us our addresses.
    pub(super) fn listen<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>, earlier: Option<u16>, reply: Reply) {
        self.waiting.push(reply);
        if !self.open.is_empty() || self.again.is_some() {
            return;
        }
        match self.fixed.or(earlier) {
            Some(port) => {
                self.again = Some(Again { port, at: Instant::now(), until: Instant::now() + RETRY_FOR });
                self.on_due(swarm);
            }
            None => {
                let opened = self.open_any(swarm);
                self.opened(opened);
            }
        }
    }

    /// Another attempt at a port that was taken, or the answer to those who wait.
    pub(super) fn on_due<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>) {
        let Some(again) = self.again.take() else { return self.answer(&Ok(())) };
        let opened = self.open_port(swarm, again.port);
        if opened.is_err() && Instant::now() < again.until {
            self.again = Some(Again { at: Instant::now() + RETRY_EVERY, ..again });
            return;
        }
        if opened.is_err() && self.fixed.is_none() {
            tracing::warn!("the port of last time is taken; contacts learn the new one when a stream opens");
            let opened = self.open_any(swarm);
            return self.opened(opened);
        }
        self.opened(opened);
    }

    fn opened(&mut self, opened: Result<(), TransportError>) {
        match opened {
            Ok(()) => self.settle_by = Some(Instant::now() + SETTLE),
            Err(error) => self.answer(&Err(error)),
        }
    }

    fn open_any<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>) -> Result<(), TransportError> {
        let why = "no local address is configured".to_owned();
        let mut last = TransportError::Listen { on: "any port".to_owned(), why };
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

    /// Ends when there is something to do in `on_due`: every listener has an address or had time for one, or a taken port is to be tried again.
    pub(super) async fn due(&self) {
        let settled = self.settle_by.filter(|_| !self.waiting.is_empty());
        match self.again.as_ref().map(|again| again.at).or(settled) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn answer(&mut self, result: &Result<(), TransportError>) {
        for reply in self.waiting.drain(..) {
            // The caller may have given up waiting; open ports stay open for the next call.
            let _ = reply.send(result.clone());
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

/// QUIC winds a connection up within three probe time-outs, well under a second each.
const RETRY_FOR: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_millis(100);
const PORT_ATTEMPTS: usize = 8;
/// How long the system may take to tell us the addresses of its interfaces.
const SETTLE: Duration = Duration::from_secs(1);
/// A contact link shows them all; more than this is a machine with many virtual networks.
const MAX_ADDRESSES: usize = 8;
