//! The one place by which HTTP leaves the node: previews, push gateways, classic federation. Requests go to the public
//! internet only (and to networks that the owner has listed), are over in bounded time and bring bounded bodies; no proxy
//! from the environment, no cookies, no redirect that was not checked. While the node hides its address (`Routes::hides`)
//! every request goes through a Tor exit, where names are looked up too; there is no way back from that to this machine's
//! own address, and if Tor is down a request fails.

use std::{
    error::Error as _,
    io,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use millpond_overlay::Routes;
use tokio::time::{Instant, Sleep, timeout_at};

mod address;
mod by_tor;
mod names;

pub use self::{
    address::{Network, is_public},
    names::Names,
};
use self::{
    by_tor::ByTor,
    names::{Allowed, Filtered, Inside, System},
};

/// Sends HTTP requests. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    settings: Settings,
    names: Arc<dyn Names>,
    http1_only: bool,
    /// Made at first use: a node that asks nobody loads no certificates.
    client: OnceLock<Result<reqwest::Client, String>>,
    by_tor: ByTor,
}

/// What the owner decides about outgoing requests.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Networks beside the public internet that may be connected to.
    pub allow: Vec<Network>,
    /// PEM files with certificates that are trusted beside the system's.
    pub roots: Vec<PathBuf>,
}

/// How far a request may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All of it: look-up, connection, redirects, body.
    pub time: Duration,
    /// The answer's body.
    pub body: u64,
    /// Redirects that are followed, of GET and HEAD only.
    pub redirects: u8,
    /// Whether `http` is refused.
    pub https_only: bool,
}

/// A body on its way; an item is an error when it is over its limits or breaks off.
pub type Body = BoxStream<'static, Result<Bytes, EgressError>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL cannot be asked: its scheme, its host, or too many redirects to it.
    #[error("{0}")]
    Refused(&'static str),
    /// The host is, or resolves to, an address that requests may not go to.
    #[error("the host is not on the public internet: its network would have to be listed in the settings")]
    Inside,
    /// The answer is larger than the limit.
    #[error("the answer has more than {0} bytes")]
    TooLarge(u64),
    /// It took too long.
    #[error("no whole answer in time")]
    TimedOut,
    /// No connection, or it broke off. The text names no address.
    #[error("the request failed: {0}")]
    Failed(String),
    /// This node uses Tor, and Tor does not get there.
    #[error("not through Tor: {0}")]
    Tor(#[source] millpond_overlay::transport::TransportError),
    /// The certificates cannot be loaded.
    #[error("no HTTP client: {0}")]
    NoClient(String),
}

impl Egress {
    /// A door with the system's resolver, and no Tor. Nothing is opened yet.
    pub fn new(settings: Settings) -> Self {
        Self::over(settings, Arc::new(Routes::without_tor()))
    }

    /// A door that goes by these routes. Nothing is opened yet.
    pub fn over(settings: Settings, routes: Arc<Routes>) -> Self {
        Self::with(settings, Arc::new(System), false, ByTor::new(routes))
    }

    fn with(settings: Settings, names: Arc<dyn Names>, http1_only: bool, by_tor: ByTor) -> Self {
        Self(Arc::new(Inner { settings, names, http1_only, client: OnceLock::new(), by_tor }))
    }

    /// The same with another resolver, for which the same addresses are allowed; connections are not shared.
    pub fn with_names(&self, names: Arc<dyn Names>) -> Self {
        let Inner { settings, http1_only, by_tor, .. } = &*self.0;
        Self::with(settings.clone(), names, *http1_only, by_tor.clone())
    }

    /// The same over HTTP/1.1 only, where a `Host` header that differs from the URL's host counts; connections are not shared.
    pub fn http1_only(&self) -> Self {
        let Inner { settings, names, by_tor, .. } = &*self.0;
        Self::with(settings.clone(), names.clone(), true, by_tor.clone())
    }

    /// Sends a request and reads the whole answer. Dropping the future gives the request up.
    ///
    /// # Errors
    /// What goes beyond the limits, hosts that may not be asked, failed connections. A status is not an error.
    pub async fn send(&self, request: Request<Bytes>, limits: Limits) -> Result<Response<Bytes>, EgressError> {
        let (parts, mut body) = self.open(request, limits).await?.into_parts();
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.next().await {
            whole.extend_from_slice(&chunk?);
        }
        Ok(Response::from_parts(parts, whole.freeze()))
    }

    /// As [`Egress::send`], with the body as it arrives. The response's extensions hold the [`Uri`] that answered.
    ///
    /// # Errors
    /// As [`Egress::send`]; those of the body are its items.
    pub async fn open(&self, request: Request<Bytes>, limits: Limits) -> Result<Response<Body>, EgressError> {
        let deadline = Instant::now() + limits.time;
        let (parts, body) = request.into_parts();
        let (mut url, mut headers) = (parts.uri, parts.headers);
        let follows = matches!(parts.method, Method::GET | Method::HEAD);
        for _ in 0..=limits.redirects {
            self.check(&url, limits)?;
            let mut attempt = Request::new(body.clone());
            *attempt.method_mut() = parts.method.clone();
            *attempt.uri_mut() = url.clone();
            *attempt.headers_mut() = headers.clone();
            let answer = timeout_at(deadline, self.ask(attempt)).await.map_err(|_| EgressError::TimedOut)??;
            match next_hop(&answer, &url).filter(|_| follows && limits.redirects > 0) {
                Some(next) => {
                    let next = next?;
                    if next.authority() != url.authority() {
                        keep_to_ourselves(&mut headers);
                    }
                    url = next;
                }
                None => return bounded(answer, url, limits.body, deadline),
            }
        }
        Err(EgressError::Refused("too many redirects"))
    }

    /// One request and the head of its answer. This is where the way is chosen, for every request anew.
    async fn ask(&self, request: Request<Bytes>) -> Result<Response<Body>, EgressError> {
        if self.0.by_tor.is_the_way() {
            return self.0.by_tor.ask(request, self.0.names.port(), &self.0.settings).await;
        }
        let request = reqwest::Request::try_from(request).map_err(|_| EgressError::Refused("not a URL"))?;
        let answer: Response<reqwest::Body> = self.client()?.execute(request).await.map_err(failed)?.into();
        let (parts, body) = answer.into_parts();
        let body = http_body_util::BodyDataStream::new(body).map(|chunk| chunk.map_err(failed));
        Ok(Response::from_parts(parts, body.boxed()))
    }

    /// The connection does not resolve an address that stands in the URL, so it is looked at here, before each hop.
    fn check(&self, url: &Uri, limits: Limits) -> Result<(), EgressError> {
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if !limits.https_only => {}
            Some("http") => return Err(EgressError::Refused("only https is asked here")),
            _ => return Err(EgressError::Refused("only http and https can be asked")),
        }
        // reqwest's parser reads `127.1` and `0x7f000001` as addresses, so that is the one that is asked.
        let parsed = reqwest::Url::parse(&url.to_string()).map_err(|_| EgressError::Refused("not a URL"))?;
        let host = parsed.host_str().ok_or(EgressError::Refused("the URL has no host"))?;
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match literal.parse::<IpAddr>() {
            Ok(address) if !Allowed(self.0.settings.allow.clone()).permits(address) => Err(EgressError::Inside),
            _ => Ok(()),
        }
    }

    fn client(&self) -> Result<&reqwest::Client, EgressError> {
        let made = self.0.client.get_or_init(|| self.0.build());
        made.as_ref().map_err(|why| EgressError::NoClient(why.clone()))
    }
}

impl Inner {
    fn build(&self) -> Result<reqwest::Client, String> {
        millpond_overlay::install_crypto_provider();
        let allowed = Allowed(self.settings.allow.clone());
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("Millpond/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Filtered { names: self.names.clone(), allowed }));
        if self.http1_only {
            builder = builder.http1_only();
        }
        let mut roots = Vec::new();
        for path in &self.settings.roots {
            let pem = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem);
            roots.extend(found.map_err(|e| format!("{} holds no certificates: {e}", path.display()))?);
        }
        if !roots.is_empty() {
            builder = builder.tls_certs_merge(roots);
        }
        builder.build().map_err(|e| with_causes(&e))
    }
}

/// Where a redirect leads, if the answer is one.
fn next_hop(answer: &Response<Body>, from: &Uri) -> Option<Result<Uri, EgressError>> {
    const REDIRECTS: [StatusCode; 5] = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !REDIRECTS.contains(&answer.status()) {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    Some(join(from, location).ok_or(EgressError::Refused("the redirect leads to what is not a URL")))
}

/// A link of a page as a URL, without its fragment; none if it is no link.
pub fn join(page: &Uri, link: &str) -> Option<Uri> {
    let mut joined = reqwest::Url::parse(&page.to_string()).ok()?.join(link).ok()?;
    joined.set_fragment(None);
    joined.as_str().parse().ok()
}

/// What is meant for one server is not shown to another one.
fn keep_to_ourselves(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::COOKIE, header::HOST] {
        headers.remove(name);
    }
}

fn bounded(answer: Response<Body>, url: Uri, max: u64, deadline: Instant) -> Result<Response<Body>, EgressError> {
    let announced = answer.headers().get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    if announced.is_some_and(|len: u64| len > max) {
        return Err(EgressError::TooLarge(max));
    }
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    response.extensions_mut().insert(url);
    let bytes = answer.into_body();
    let body = Bounded { bytes, left: max, max, over: Box::pin(tokio::time::sleep_until(deadline)), done: false };
    Ok(response.map(|()| body.boxed()))
}

/// A body that ends with an error at its limit or its deadline.
struct Bounded {
    bytes: Body,
    left: u64,
    max: u64,
    over: Pin<Box<Sleep>>,
    done: bool,
}

impl Stream for Bounded {
    type Item = Result<Bytes, EgressError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let item = match self.bytes.poll_next_unpin(cx) {
            Poll::Pending => match self.over.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => Some(Err(EgressError::TimedOut)),
            },
            Poll::Ready(Some(Ok(chunk))) => match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Some(Ok(chunk))
                }
                None => Some(Err(EgressError::TooLarge(self.max))),
            },
            Poll::Ready(other) => other,
        };
        self.done = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

fn failed(error: reqwest::Error) -> EgressError {
    if error.is_timeout() {
        return EgressError::TimedOut;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Inside>() || inner.downcast_ref::<io::Error>().is_some_and(is_inside) {
            return EgressError::Inside;
        }
        cause = inner.source();
    }
    EgressError::Failed(with_causes(&error.without_url()))
}

fn is_inside(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Inside>())
}

/// An error with what caused it: reqwest's own message only says what was being done.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Patience for one connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection without requests is kept.
const IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
