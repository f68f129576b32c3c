//! What answers requests: for clients with host check and CORS, for peers without; and an answer whatever happens inside.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    BoxError, Router,
    body::{Body, HttpBody},
    response::Response,
};
use futures::FutureExt;
use http::{Method, Request, StatusCode};
use millpond_node::{Error, NodeHandle};
use ruma::api::error::ErrorKind;
use tower::Service;

use crate::{
    classic::Doorkeeper,
    client, cors, federation,
    glue::{Routes, error_response},
    hosts::Hosts,
    millpond, oauth,
};

/// Answers HTTP requests of clients, those of peers, or those of classic servers. Cloning is cheap.
#[derive(Clone)]
pub struct App {
    router: Router,
    /// For clients; a link names its peer, so there a Host header means nothing.
    hosts: Option<Arc<Hosts>>,
    /// For classic servers, which prove themselves by their signatures.
    classic: Option<(NodeHandle, Doorkeeper)>,
}

impl App {
    /// The application for clients of a node.
    pub fn new(node: NodeHandle) -> Self {
        let hosts = Some(Arc::new(Hosts::new(node.core.config())));
        let mut routes = Routes::default();
        client::routes(&mut routes);
        federation::public_routes(&mut routes);
        routes.merge(oauth::router());
        routes.merge(millpond::router(&node));
        Self::of(node, routes, hosts)
    }

    /// The application for peers that are linked with a node: the one federation router. Its requests carry a
    /// [`Origin`](millpond_node::federation::Origin).
    pub fn for_peers(node: NodeHandle) -> Self {
        let mut routes = Routes::default();
        federation::routes(&mut routes);
        Self::of(node, routes, None)
    }

    /// The application for classic servers: the same router behind the check of signatures.
    pub fn for_classic(node: NodeHandle) -> Self {
        let mut app = Self::for_peers(node.clone());
        app.classic = Some((node, Doorkeeper::default()));
        app
    }

    fn of(node: NodeHandle, routes: Routes, hosts: Option<Arc<Hosts>>) -> Self {
        let router = routes.into_router().fallback(unknown_path).method_not_allowed_fallback(wrong_method);
        Self { router: router.with_state(node), hosts, classic: None }
    }

    /// Answers one request. Dropping the future abandons it; what was written by then stays written.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(Body::new);
        if let Some(hosts) = &self.hosts
            && let Err(refusal) = hosts.check(&request)
        {
            return error_response(&refusal);
        }
        let cors = self.hosts.is_some() && cors::applies(request.uri().path());
        if cors && request.method() == Method::OPTIONS {
            return cors::preflight();
        }
        let mut router = self.router.clone();
        let door = self.classic.clone();
        let answered = AssertUnwindSafe(async move {
            let request = match door {
                Some((node, keeper)) => keeper.admit(&node, request).await,
                None => Ok(request),
            };
            match request {
                Ok(request) => router.call(request).await,
                Err(refusal) => Ok(error_response(&refusal)),
            }
        });
        let answered = answered.catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                tracing::error!("a request handler panicked; the request was answered with 500");
                error_response(&Error::internal("The homeserver hit a bug while answering; see its log"))
            }
        };
        if cors {
            cors::add_headers(response.headers_mut());
        }
        response
    }
}

async fn unknown_path() -> Response {
    let message = "This homeserver has no such endpoint";
    error_response(&Error::matrix(StatusCode::NOT_FOUND, ErrorKind::Unrecognized, message))
}

async fn wrong_method(method: Method) -> Response {
    let message = format!("This endpoint does not take {method}");
    error_response(&Error::matrix(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized, message))
}
