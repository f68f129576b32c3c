//! Where the DNS says that a host's Matrix server is: `_matrix-fed._tcp`, the deprecated `_matrix._tcp`, else the host's own
//! address and port 8448 (server-server spec, "Resolving server names", steps 3.3 to 3.5 and 4 to 6). The addresses that
//! come out pass the egress filter like all others.

use std::{io, net::SocketAddr, sync::OnceLock};

use futures::future::BoxFuture;
use hickory_resolver::{
    Resolver, TokioResolver,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, rdata::SRV},
};

use crate::egress::Names;

/// The port without an SRV record.
const PORT: u16 = 8448;
/// SRV targets and addresses of each that are tried at most.
const MAX_TARGETS: usize = 4;
const MAX_ADDRESSES: usize = 8;

/// Finds the Matrix server of a host.
#[derive(Default)]
pub(super) struct MatrixNames {
    /// The system's configuration, read at first use.
    resolver: OnceLock<Result<TokioResolver, String>>,
}

impl Names for MatrixNames {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
                if let Some(targets) = self.srv(&format!("{service}.{host}.")).await? {
                    return self.addresses(targets).await;
                }
            }
            self.of_host(host, PORT).await
        })
    }

    /// A Tor exit looks up addresses and nothing else: servers that are found by SRV records only are not reached.
    fn port(&self) -> Option<u16> {
        Some(PORT)
    }
}

impl MatrixNames {
    fn resolver(&self) -> io::Result<&TokioResolver> {
        let made = self.resolver.get_or_init(|| {
            let builder = Resolver::builder(TokioRuntimeProvider::default()).map_err(|e| e.to_string())?;
            builder.build().map_err(|e| e.to_string())
        });
        made.as_ref().map_err(|why| io::Error::other(format!("no DNS resolver: {why}")))
    }

    /// The targets of a service in the order in which they are tried; none without such records.
    async fn srv(&self, name: &str) -> io::Result<Option<Vec<(String, u16)>>> {
        let found = match self.resolver()?.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(None),
            // Without an answer nobody knows whether there is a record; the host itself would be a guess.
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.clone()),
            _ => None,
        });
        let targets = in_order(records.collect(), |below| rand::random_range(0..below));
        Ok((!targets.is_empty()).then_some(targets))
    }

    async fn addresses(&self, targets: Vec<(String, u16)>) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        let mut failure = None;
        for (host, port) in targets.into_iter().take(MAX_TARGETS) {
            match self.of_host(&host, port).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    async fn of_host(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = self.resolver()?.lookup_ip(format!("{}.", host.trim_end_matches('.'))).await;
        let found = found.map_err(|e| io::Error::other(e.to_string()))?;
        Ok(found.iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

fn is_absent(error: &NetError) -> bool {
    error.is_no_records_found() || error.is_nx_domain()
}

/// The targets by priority, and among equals by weight as RFC 2782 says; `draw` gives a number below its argument.
/// A target of "." says that there is no such service.
fn in_order(mut records: Vec<SRV>, mut draw: impl FnMut(u32) -> u32) -> Vec<(String, u16)> {
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut targets = Vec::new();
    while let Some(first) = records.first() {
        let priority = first.priority;
        let same = records.iter().take_while(|srv| srv.priority == priority).count();
        let total: u32 = records[..same].iter().map(|srv| u32::from(srv.weight)).sum();
        let mut left = draw(total + 1);
        let chosen = records[..same].iter().position(|srv| {
            let weight = u32::from(srv.weight);
            let found = left <= weight;
            left = left.saturating_sub(weight);
            found
        });
        let srv = records.remove(chosen.unwrap_or(0));
        let host = srv.target.to_utf8();
        if host != "." {
            targets.push((host, srv.port));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> SRV {
        SRV::new(priority, weight, 1, Name::from_ascii(target).unwrap())
    }

    #[test]
    fn targets_come_by_priority_and_then_by_weight() {
        let records = vec![srv(10, 5, "c."), srv(1, 0, "a."), srv(10, 100, "b."), srv(20, 0, ".")];
        let order = |draw: fn(u32) -> u32| -> Vec<String> {
            in_order(records.clone(), draw).into_iter().map(|(host, _)| host).collect()
        };
        assert_eq!(order(|_| 0), ["a.", "c.", "b."]);
        assert_eq!(order(|below| below - 1), ["a.", "b.", "c."]);
    }
}
