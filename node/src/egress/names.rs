//! From a host's name to the addresses that may be connected to. The filter stands behind every resolver and inside the
//! connection, so what was looked at is what is connected to: a name that answers differently the second time gains nothing.

use std::{io, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Network, is_public};

/// Finds the addresses of a host. A port of 0 stands for the URL's; another one holds where the URL names none.
pub trait Names: Send + Sync {
    /// The addresses, in the order in which they are tried. Dropping the future gives the look-up up.
    ///
    /// # Errors
    /// When there are none, or nobody knows.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// The port that holds where the URL names none and nobody can be asked, because names are looked up at a Tor exit.
    fn port(&self) -> Option<u16> {
        None
    }
}

/// The system's resolver.
pub(super) struct System;

impl Names for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.take(ADDRESSES_MAX).collect()) })
    }
}

/// Where connections may go.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed(pub(super) Vec<Network>);

impl Allowed {
    /// Whether the address is public or in a listed network.
    pub(super) fn permits(&self, address: std::net::IpAddr) -> bool {
        is_public(address) || self.0.iter().any(|network| network.contains(address))
    }
}

/// A resolver that gives only addresses that may be connected to.
pub(super) struct Filtered {
    pub(super) names: Arc<dyn Names>,
    pub(super) allowed: Allowed,
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, allowed, host) = (self.names.clone(), self.allowed.clone(), name.as_str().to_owned());
        Box::pin(async move {
            // RFC 7686: names of onion services are not asked of the DNS.
            if is_onion(&host) {
                return Err(io::Error::other("onion services are not reached over the DNS").into());
            }
            let mut found = names.resolve(&host).await?;
            found.retain(|address| allowed.permits(address.ip()));
            if found.is_empty() {
                return Err(Box::from(Inside));
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

pub(super) fn is_onion(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("onion"))
}

/// The host has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address on the public internet")]
pub(super) struct Inside;

/// Addresses of one name that are tried at most.
const ADDRESSES_MAX: usize = 16;
