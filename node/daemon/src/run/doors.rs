//! The listeners for classic servers: bound before the data directory is touched, so that a start that fails leaves nothing.

use std::path::PathBuf;

use anyhow::Context;
use millpond_api::{Certificates, Listener};
use millpond_node::NodeHandle;
use tokio::net::TcpListener;

use crate::settings::Doors;

/// Bound, not yet served.
pub(super) struct Bound {
    tls: Option<(std::net::TcpListener, Option<Certificates>)>,
    acme: Option<std::net::TcpListener>,
    proxied: Option<std::net::TcpListener>,
}

/// Opens the ports and reads the certificate.
pub(super) fn bind(doors: &Doors) -> anyhow::Result<Bound> {
    let tls = doors.tls.as_ref().map(|(address, files)| {
        let load = |(certificate, key): &(_, _)| Certificates::load(PathBuf::clone(certificate), PathBuf::clone(key));
        let certificates = files.as_ref().map(load).transpose()?;
        anyhow::Ok((port(*address, "classic-listen")?, certificates))
    });
    let acme = doors.acme.map(|address| port(address, "acme-listen"));
    let proxied = doors.proxied.map(|address| port(address, "classic-proxied"));
    Ok(Bound { tls: tls.transpose()?, acme: acme.transpose()?, proxied: proxied.transpose()? })
}

/// Hands them to the runtime.
pub(super) fn listeners(bound: Bound, node: &NodeHandle) -> anyhow::Result<Vec<Listener>> {
    let handed = |listener| TcpListener::from_std(listener).context("handing a port to the runtime");
    let mut listeners = Vec::new();
    if let Some((listener, certificates)) = bound.tls {
        let certificates = match certificates {
            Some(certificates) => certificates,
            None => from_acme(node)?,
        };
        if let Some(listener) = bound.acme {
            listeners.push(Listener::Tls(handed(listener)?, certificates.clone()));
        }
        listeners.push(Listener::Tls(handed(listener)?, certificates));
    }
    if let Some(listener) = bound.proxied {
        listeners.push(Listener::Proxied(handed(listener)?));
    }
    Ok(listeners)
}

/// The certificate that the node keeps by ACME.
fn from_acme(node: &NodeHandle) -> anyhow::Result<Certificates> {
    let files = node.acme.files().context("making the files of the TLS certificate")?;
    let (certificate, key) = files.context("a TLS door without a certificate")?;
    Ok(Certificates::load(certificate, key)?.with_challenges(node.acme.challenges()))
}

fn port(address: std::net::SocketAddr, setting: &str) -> anyhow::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.with_context(|| format!("cannot listen on {address} ({setting})"))
}
