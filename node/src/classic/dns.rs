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
    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        proto::{
            op::{Message, ResponseCode},
            rr::{Name, Record, RecordType, rdata::A},
        },
    };
    use tokio::net::UdpSocket;

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

    /// A DNS server that knows some services and addresses, and the finder that asks it.
    async fn names(services: &'static [(&str, &str, u16)], hosts: &'static [(&str, [u8; 4])]) -> MatrixNames {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let mut answer = Message::from_vec(&buffer[..len]).unwrap().into_response();
                let (name, kind) = (answer.queries[0].name().clone(), answer.queries[0].query_type());
                let asked = name.to_ascii();
                for (_, target, port) in
                    services.iter().filter(|(service, ..)| kind == RecordType::SRV && *service == asked)
                {
                    let srv = SRV::new(0, 0, *port, Name::from_ascii(target).unwrap());
                    answer.add_answer(Record::from_rdata(name.clone(), 60, RData::SRV(srv)));
                }
                for (_, address) in hosts.iter().filter(|(host, _)| kind == RecordType::A && *host == asked) {
                    answer.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A((*address).into()))));
                }
                if answer.answers.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
        MatrixNames { resolver: OnceLock::from(Ok(resolver)) }
    }

    #[tokio::test]
    async fn the_newer_service_counts_before_the_older_one_and_both_before_the_host_itself() {
        const HOSTS: &[(&str, [u8; 4])] = &[
            ("new.example.", [192, 0, 2, 1]),
            ("old.example.", [192, 0, 2, 2]),
            ("both.example.", [192, 0, 2, 3]),
            ("none.example.", [192, 0, 2, 4]),
        ];
        let services: &[(&str, &str, u16)] = &[
            ("_matrix-fed._tcp.both.example.", "new.example.", 4443),
            ("_matrix._tcp.both.example.", "old.example.", 8449),
            ("_matrix._tcp.aged.example.", "old.example.", 8449),
            ("_matrix-fed._tcp.nowhere.example.", "gone.example.", 1),
        ];
        let names = names(services, HOSTS).await;
        let found = async |host: &str| names.resolve(host).await.unwrap();
        assert_eq!(found("both.example").await, [SocketAddr::from(([192, 0, 2, 1], 4443))]);
        assert_eq!(found("aged.example").await, [SocketAddr::from(([192, 0, 2, 2], 8449))]);
        assert_eq!(found("none.example").await, [SocketAddr::from(([192, 0, 2, 4], 8448))]);
        // A service whose host is not there is no reason to guess another place.
        assert!(names.resolve("nowhere.example").await.is_err());
    }
}
