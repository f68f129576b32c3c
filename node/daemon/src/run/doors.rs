//! The listeners for classic servers: bound before the data directory is touched, so that a start that fails leaves nothing.

use anyhow::Context;
use millpond_api::{Certificates, Listener};
use tokio::net::TcpListener;

use crate::settings::Doors;

/// Bound, not yet served.
pub(super) struct Bound {
    tls: Option<(std::net::TcpListener, Certificates)>,
    proxied: Option<std::net::TcpListener>,
}

/// Opens the ports and reads the certificate.
pub(super) fn bind(doors: &Doors) -> anyhow::Result<Bound> {
    let tls = doors.tls.as_ref().map(|(address, certificate, key)| {
        let certificates = Certificates::load(certificate.clone(), key.clone())?;
        anyhow::Ok((port(*address, "classic-listen")?, certificates))
    });
    let proxied = doors.proxied.map(|address| port(address, "classic-proxied"));
    Ok(Bound { tls: tls.transpose()?, proxied: proxied.transpose()? })
}

/// Hands them to the runtime.
pub(super) fn listeners(bound: Bound) -> anyhow::Result<Vec<Listener>> {
    let handed = |listener| TcpListener::from_std(listener).context("handing a port to the runtime");
    let mut listeners = Vec::new();
    if let Some((listener, certificates)) = bound.tls {
        listeners.push(Listener::Tls(handed(listener)?, certificates));
    }
    if let Some(listener) = bound.proxied {
        listeners.push(Listener::Proxied(handed(listener)?));
    }
    Ok(listeners)
}

fn port(address: std::net::SocketAddr, setting: &str) -> anyhow::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.with_context(|| format!("cannot listen on {address} ({setting})"))
}
