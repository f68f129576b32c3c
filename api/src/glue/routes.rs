//! Registration: a handler goes under every path that ruma lists for its request (r0, v3, unstable).

use std::collections::HashSet;

use axum::{
    Router,
    body::Body,
    extract::State,
    routing::{MethodFilter, on},
};
use http::{Method, Request};
use millpond_node::NodeHandle;
use ruma::api::{Metadata, path_builder::PathBuilder};

use super::{args::Routed, failure::error_response, handler::Handler};

/// The last path argument is empty: it has no segment that axum could match.
#[derive(Clone, Copy)]
pub(super) struct EmptyTail;

/// The endpoints that were added.
#[derive(Default)]
pub struct Routes {
    router: Router<NodeHandle>,
}

type RequestOf<H, M> = <<H as Handler<M>>::Args as Routed>::Request;

impl Routes {
    /// Adds a handler under all paths of its request.
    ///
    /// # Panics
    /// When two handlers claim the same method and path: a bug that shows at the first start.
    pub fn add<M, H: Handler<M, Args: Routed>>(&mut self, handler: H) {
        for path in paths::<RequestOf<H, M>>() {
            self.insert(RequestOf::<H, M>::METHOD, &path, handler.clone(), false);
        }
    }

    /// Adds a handler under paths that ruma does not know for its request, or that has no type of ruma's.
    ///
    /// # Panics
    /// As [`Routes::add`].
    pub fn add_at<M, H: Handler<M>>(&mut self, method: Method, paths: &[&'static str], handler: H) {
        for path in paths {
            self.insert(method.clone(), &numbered(path), handler.clone(), false);
        }
    }

    /// As [`Routes::add`], and also under the paths without their last argument, with and without a trailing slash;
    /// that argument is then empty (`/state/{type}/`).
    ///
    /// # Panics
    /// As [`Routes::add`].
    pub fn add_with_empty_tail<M, H: Handler<M, Args: Routed>>(&mut self, handler: H) {
        self.add(handler.clone());
        for path in paths::<RequestOf<H, M>>() {
            let Some((head, tail)) = path.rsplit_once('/') else { continue };
            if tail.starts_with('{') {
                self.insert(RequestOf::<H, M>::METHOD, head, handler.clone(), true);
                self.insert(RequestOf::<H, M>::METHOD, &format!("{head}/"), handler.clone(), true);
            }
        }
    }

    /// Adds routes that are not of the Matrix specification.
    pub fn merge(&mut self, router: Router<NodeHandle>) {
        self.router = std::mem::take(&mut self.router).merge(router);
    }

    /// The routes for axum.
    pub fn into_router(self) -> Router<NodeHandle> {
        self.router
    }

    fn insert<M, H: Handler<M>>(&mut self, method: Method, path: &str, handler: H, empty_tail: bool) {
        // The first public API had the same endpoints under another name; scripts from then still work.
        if let Some(rest) = path.strip_prefix("/_matrix/client/r0/") {
            self.insert(method.clone(), &format!("/_matrix/client/api/v1/{rest}"), handler.clone(), empty_tail);
        }
        let filter = MethodFilter::try_from(method).expect("ruma's methods are the usual ones");
        let run = move |State(node): State<NodeHandle>, mut request: Request<Body>| async move {
            if empty_tail {
                request.extensions_mut().insert(EmptyTail);
            }
            handler.handle(node, request).await.unwrap_or_else(|e| error_response(&e))
        };
        self.router = std::mem::take(&mut self.router).route(path, on(filter, run));
    }
}

/// The paths with their variables numbered: axum wants one name per place, ruma names them by endpoint.
fn paths<R: Metadata>() -> HashSet<String> {
    R::PATH_BUILDER.all_paths().map(numbered).collect()
}

fn numbered(path: &str) -> String {
    let mut number = 0;
    let segments = path.split('/').map(|segment| match segment.strip_prefix('{') {
        Some(_) => {
            number += 1;
            format!("{{arg{number}}}")
        }
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}
