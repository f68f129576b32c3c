//! Our side of a stream that we opened: sends requests, many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use millpond_mailbox::name::NodeName;
use tokio::time::Instant;

use super::body::{self, BodyError, Budget};
use super::{CONNECTION_WINDOW, MAX_FRAME, STREAM_WINDOW};
use crate::error::RouteError;
use crate::limits::Limits;
use crate::tasks::Tasks;
use crate::transport::BoxIo;

/// Sends requests on one stream. Clones share the stream.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Full<Bytes>>,
    usage: Arc<Usage>,
    limits: Arc<Limits>,
    budget: Budget,
}

/// When the stream was last used, so that an idle one can be closed.
struct Usage {
    since: Instant,
    last_ms: AtomicU64,
}

impl Usage {
    fn touch(&self) {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// What became of a request.
pub(crate) enum Outcome {
    Answered(Response<Bytes>),
    /// The stream was closed before the request left; it can go over another one.
    Unsent(Request<Full<Bytes>>),
    Failed(RouteError),
}

impl Channel {
    /// Begins HTTP on an authenticated stream. The future that is returned drives it and ends with it. Dropping either closes the stream.
    pub(crate) async fn open(
        io: BoxIo,
        limits: Arc<Limits>,
        budget: Budget,
        tasks: Tasks,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), RouteError> {
        let mut builder = Builder::new(tasks);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(limits.max_headers)
            .max_concurrent_streams(0)
            .keep_alive_interval(limits.ping)
            .keep_alive_timeout(limits.ping_timeout)
            .keep_alive_while_idle(true);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|_| RouteError::Closed)?;
        let usage = Arc::new(Usage { since: Instant::now(), last_ms: AtomicU64::new(0) });
        let driven = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an outbound stream ended");
            }
        };
        Ok((Self { sender, usage, limits, budget }, driven))
    }

    /// Sends one request and reads its response whole. Dropping the future cancels the request at the peer.
    pub(crate) async fn send(mut self, request: Request<Full<Bytes>>) -> Outcome {
        self.usage.touch();
        if self.sender.ready().await.is_err() {
            return Outcome::Unsent(request);
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return error.take_message().map_or(Outcome::Failed(RouteError::Closed), Outcome::Unsent);
            }
        };
        self.usage.touch();
        let (parts, incoming) = response.into_parts();
        let limit = self.limits.max_body;
        let read = body::read(incoming, limit, self.limits.body, &self.budget).await;
        self.usage.touch();
        match read {
            Ok(received) => Outcome::Answered(Response::from_parts(parts, received.into_bytes())),
            Err(BodyError::TooLarge) => Outcome::Failed(RouteError::TooLarge { what: "response", limit }),
            Err(BodyError::Timeout) => Outcome::Failed(RouteError::Timeout),
            Err(BodyError::NoMemory | BodyError::Broken) => Outcome::Failed(RouteError::Closed),
        }
    }

    /// Whether the stream can take no more requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether nothing was sent or is being waited for since `idle` ago. The caller's own clone does not count.
    pub(crate) fn is_idle(&self) -> bool {
        let last_ms = self.usage.last_ms.load(Ordering::Relaxed);
        let last = self.usage.since + std::time::Duration::from_millis(last_ms);
        Arc::strong_count(&self.usage) == 1 && last.elapsed() >= self.limits.idle
    }
}

/// A request as it goes over the stream: an absolute target, as HTTP/2 wants it, and none of the headers that belong to one connection.
pub(crate) fn outbound(to: &NodeName, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, RouteError> {
    let malformed = |why: String| RouteError::Malformed { why };
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let authority = Authority::try_from(to.as_str()).map_err(|error| malformed(error.to_string()))?;
    let target = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path);
    parts.uri = target.build().map_err(|error| malformed(error.to_string()))?;
    parts.version = http::Version::HTTP_2;
    for name in CONNECTION_HEADERS {
        parts.headers.remove(name);
    }
    Ok(Request::from_parts(parts, Full::new(body)))
}

/// HTTP/2 forbids them (RFC 9113, section 8.2.2); the host is in the target.
const CONNECTION_HEADERS: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::HOST, header::CONTENT_LENGTH];
