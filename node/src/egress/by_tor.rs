//! HTTP through Tor exits: a stream for each request, TLS to the server inside it, names looked up at the exit. Requests to one host share
//! circuits for ten minutes; those to different hosts never do.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyDataStream, Full};
use hyper_util::rt::TokioIo;
use millpond_overlay::{
    Routes,
    transport::{BoxIo, tor::Isolation},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{task::JoinHandle, time::Instant};
use tokio_rustls::TlsConnector;

use super::{Body, EgressError, Settings, names::is_onion, with_causes};

/// The way through Tor. Clones share the circuits.
#[derive(Clone)]
pub(super) struct ByTor(Arc<Inner>);

struct Inner {
    routes: Arc<Routes>,
    tls: OnceLock<Result<TlsConnector, String>>,
    isolations: Mutex<HashMap<String, (Instant, Isolation)>>,
}

impl ByTor {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self(Arc::new(Inner { routes, tls: OnceLock::new(), isolations: Mutex::default() }))
    }

    /// Whether requests have to go this way.
    pub(super) fn is_the_way(&self) -> bool {
        self.0.routes.hides()
    }

    /// One request and the head of its answer. `port` is for a URL without one.
    pub(super) async fn ask(
        &self,
        mut request: Request<Bytes>,
        port: Option<u16>,
        settings: &Settings,
    ) -> Result<Response<Body>, EgressError> {
        let (secure, host, port) = target(request.uri(), port)?;
        let io = self.stream(&host, port).await?;
        let io: BoxIo = match secure {
            true => Box::new(self.encrypt(io, &host, settings).await?),
            false => io,
        };
        let authority = request.uri().authority().ok_or(EgressError::Refused("the URL has no host"))?;
        let host_header = HeaderValue::from_str(authority.as_str());
        let headers = request.headers_mut();
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, host_header.map_err(|_| EgressError::Refused("not a URL"))?);
        }
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| EgressError::Refused("not a URL"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(failed)?;
        // Ends with the body, which holds it.
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let answer = sender.send_request(request.map(Full::new)).await.map_err(failed)?;
        let (parts, body) = answer.into_parts();
        let body = BodyDataStream::new(body).map(move |chunk| {
            let _ = &connection;
            chunk.map_err(failed)
        });
        Ok(Response::from_parts(parts, body.boxed()))
    }

    async fn stream(&self, host: &str, port: u16) -> Result<BoxIo, EgressError> {
        let tor =
            self.0.routes.tor().ok_or(EgressError::Refused("this node leaves through Tor, which is not set up"))?;
        tor.exit(host, port, &self.isolation(host)).await.map_err(EgressError::Tor)
    }

    fn isolation(&self, host: &str) -> Isolation {
        let mut isolations = self.0.isolations.lock().unwrap_or_else(PoisonError::into_inner);
        isolations.retain(|_, (since, _)| since.elapsed() < SHARED);
        if isolations.len() >= HOSTS {
            isolations.clear();
        }
        isolations.entry(host.to_owned()).or_insert_with(|| (Instant::now(), Isolation::fresh())).1.clone()
    }

    async fn encrypt(
        &self,
        io: BoxIo,
        host: &str,
        settings: &Settings,
    ) -> Result<tokio_rustls::client::TlsStream<BoxIo>, EgressError> {
        let made = self.0.tls.get_or_init(|| connector(settings));
        let connector = made.as_ref().map_err(|why| EgressError::NoClient(why.clone()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| EgressError::Refused("not a host's name"))?;
        connector.connect(name, io).await.map_err(|e| EgressError::Failed(with_causes(&e)))
    }
}

/// The task of one connection, which ends with its answer.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether there is TLS, and where to connect.
fn target(url: &Uri, port: Option<u16>) -> Result<(bool, String, u16), EgressError> {
    let secure = url.scheme_str() == Some("https");
    let host = url.host().ok_or(EgressError::Refused("the URL has no host"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // RFC 7686 is about the DNS; but an exit would look it up there.
    if is_onion(host) && host.parse::<IpAddr>().is_err() {
        return Err(EgressError::Refused("onion services are not asked over HTTP"));
    }
    let port = url.port_u16().or(port).unwrap_or(if secure { 443 } else { 80 });
    Ok((secure, host.to_owned(), port))
}

fn connector(settings: &Settings) -> Result<TlsConnector, String> {
    millpond_overlay::install_crypto_provider();
    let provider = rustls::crypto::CryptoProvider::get_default().ok_or("no crypto provider")?.clone();
    let mut roots = Vec::new();
    for path in &settings.roots {
        let pem = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        roots.extend(found.map_err(|e| format!("{} holds no certificates: {e}", path.display()))?);
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider.clone());
    let verifier = verifier.map_err(|e| with_causes(&e))?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| with_causes(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn failed(error: hyper::Error) -> EgressError {
    EgressError::Failed(with_causes(&error))
}

const AGENT: &str = concat!("Millpond/", env!("CARGO_PKG_VERSION"));
/// How long requests to one host share circuits.
const SHARED: Duration = Duration::from_secs(600);
/// Hosts that are remembered for that.
const HOSTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_handed_on_as_they_are_and_onion_services_are_not_asked() {
        let target = |url: &str, port| target(&url.parse().unwrap(), port);
        assert_eq!(target("https://example.org/a", None).unwrap(), (true, "example.org".to_owned(), 443));
        assert_eq!(target("http://example.org/a", None).unwrap(), (false, "example.org".to_owned(), 80));
        assert_eq!(target("https://example.org/a", Some(8448)).unwrap().2, 8448);
        assert_eq!(target("https://example.org:1/a", Some(8448)).unwrap().2, 1);
        assert_eq!(target("https://[2001:db8::1]/a", None).unwrap().1, "2001:db8::1");
        for onion in ["http://a.onion/", "http://a.ONION./"] {
            assert!(matches!(target(onion, None), Err(EgressError::Refused(_))), "{onion}");
        }
    }

    #[test]
    fn requests_to_one_host_share_circuits_and_those_to_two_do_not() {
        let by_tor = ByTor::new(Arc::new(Routes::without_tor()));
        assert_eq!(by_tor.isolation("a.example"), by_tor.isolation("a.example"));
        assert_ne!(by_tor.isolation("a.example"), by_tor.isolation("b.example"));
    }
}
