//! Our side of a stream that a peer opened: hands his requests to the node and carries the answers back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::body::{self, BodyError, Budget};
use super::{CONNECTION_WINDOW, MAX_FRAME, STREAM_WINDOW};
use crate::limits::Limits;
use crate::tasks::Tasks;
use crate::transport::BoxIo;

/// Answers one request of a peer. `None`: nobody is there to answer.
pub(crate) trait Answer: Send + Sync + 'static {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Option<Response<Bytes>>>;
}

/// What a stream's requests share.
struct Service<A> {
    answer: A,
    limits: Arc<Limits>,
    budget: Budget,
    open: AtomicUsize,
    activity: watch::Sender<()>,
}

/// Serves one stream until it ends, falls idle or `close` asks for it; then the open requests are finished. Dropping the future cuts them off.
pub(crate) async fn serve<A: Answer>(
    io: BoxIo,
    answer: A,
    limits: Arc<Limits>,
    budget: Budget,
    tasks: Tasks,
    close: CancellationToken,
) {
    let (activity, mut active) = watch::channel(());
    let service = Arc::new(Service { answer, limits: limits.clone(), budget, open: AtomicUsize::new(0), activity });
    let handler = {
        let service = service.clone();
        service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.handle(request).await) }
        })
    };
    let mut builder = Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(limits.max_headers)
        .max_concurrent_streams(limits.requests_per_stream)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping_timeout);
    let connection = builder.serve_connection(TokioIo::new(io), handler);
    let mut connection = std::pin::pin!(connection);
    // Twice the client's idle time, so that it is normally the client who closes.
    let idle = limits.idle * 2;
    let idle_since = async {
        loop {
            tokio::select! {
                changed = active.changed() => if changed.is_err() { return },
                () = sleep(idle) => if service.open.load(Ordering::Relaxed) == 0 { return },
            }
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return report(ended),
        () = idle_since => {}
        () = close.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    report(connection.await);
}

fn report(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an inbound stream ended");
    }
}

impl<A: Answer> Service<A> {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let _open = Open::count(self);
        let (mut parts, body) = request.into_parts();
        // The peer is known by the link; whatever host it names means nothing.
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
        parts.headers.remove(header::HOST);
        let received = match body::read(body, self.limits.max_body, self.limits.body, &self.budget).await {
            Ok(received) => received,
            Err(error) => return refusal(error, self.limits.max_body),
        };
        let request = Request::from_parts(parts, received.bytes.clone());
        match timeout(self.limits.answer, self.answer.answer(request)).await {
            Ok(Some(response)) => response.map(Full::new),
            Ok(None) => plain(StatusCode::SERVICE_UNAVAILABLE, "the node is shutting down; try again later"),
            Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the node did not answer in time; try again later"),
        }
    }
}

/// Counts a request as open for as long as it lives, so that a stream with a slow answer is not idle.
struct Open<'a> {
    open: &'a AtomicUsize,
    activity: &'a watch::Sender<()>,
}

impl<'a> Open<'a> {
    fn count<A>(service: &'a Service<A>) -> Self {
        service.open.fetch_add(1, Ordering::Relaxed);
        service.activity.send_replace(());
        Self { open: &service.open, activity: &service.activity }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.activity.send_replace(());
    }
}

fn refusal(error: BodyError, max: usize) -> Response<Full<Bytes>> {
    match error {
        BodyError::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("a body has at most {max} bytes")),
        BodyError::NoMemory => plain(StatusCode::SERVICE_UNAVAILABLE, "too many large bodies at once; try again later"),
        BodyError::Timeout => plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        BodyError::Broken => plain(StatusCode::BAD_REQUEST, "the body broke off"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
