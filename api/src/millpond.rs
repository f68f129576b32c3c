//! `/_millpond/v1`: the node's own API, for the command line and the dashboard. Bearer token from the file `admin_token` in
//! the data directory; no CORS, so that no web page can use it.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use http::{Request, StatusCode, header::AUTHORIZATION};
use millpond_node::{Error, NodeHandle};
use ruma::api::error::ErrorKind;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::glue::{Http, error_response};

mod accounts;
mod backup;
mod contacts;
mod history;
mod mailboxes;
mod media;
mod reports;
mod sleep;
mod status;

/// The routes, behind the token.
pub(crate) fn router(node: &NodeHandle) -> Router<NodeHandle> {
    Router::new()
        .route("/_millpond/v1/status", get(status::get))
        .route("/_millpond/v1/accounts", get(accounts::list).post(accounts::create))
        .route("/_millpond/v1/accounts/password", post(accounts::password))
        .route("/_millpond/v1/accounts/deactivate", post(accounts::deactivate))
        .route("/_millpond/v1/accounts/token", post(accounts::token))
        .route("/_millpond/v1/backup", post(backup::make))
        .route("/_millpond/v1/accounts/mark", post(accounts::mark))
        .route("/_millpond/v1/reports", get(reports::list))
        .route("/_millpond/v1/reports/remove", post(reports::remove))
        .route("/_millpond/v1/contacts", get(contacts::list))
        .route("/_millpond/v1/contacts/link", post(contacts::link))
        .route("/_millpond/v1/contacts/add", post(contacts::add))
        .route("/_millpond/v1/contacts/confirm", post(contacts::confirm))
        .route("/_millpond/v1/contacts/remove", post(contacts::remove))
        .route("/_millpond/v1/purge", post(history::purge))
        .route("/_millpond/v1/export", post(history::export))
        .route("/_millpond/v1/export/media", post(history::media))
        .route("/_millpond/v1/media/quarantine", post(media::quarantine))
        .route("/_millpond/v1/suspend", post(sleep::suspend))
        .route("/_millpond/v1/resume", post(sleep::resume))
        .route("/_millpond/v1/mailboxes", get(mailboxes::list).post(mailboxes::add))
        .route("/_millpond/v1/mailboxes/accept", post(mailboxes::accept))
        .route("/_millpond/v1/mailboxes/leave", post(mailboxes::leave))
        .layer(middleware::from_fn_with_state(node.clone(), authorise))
}

async fn authorise(State(node): State<NodeHandle>, request: Request<Body>, next: Next) -> Response {
    match check(&node, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => error_response(&refusal),
    }
}

fn check(node: &NodeHandle, request: &Request<Body>) -> Result<(), Error> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
        let message = "This API takes the token from the file admin_token in the node's data directory";
        return Err(Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, message));
    };
    let wanted = millpond_node::start::admin_token(&node.core.config().data_dir)
        .map_err(|e| Error::internal(format!("the file admin_token cannot be read: {e}")))?;
    // Digests have one length and no structure, so comparing them tells nothing about the token by its time.
    if Sha256::digest(given) == Sha256::digest(wanted) {
        return Ok(());
    }
    let message = "The token is not that of the file admin_token in the node's data directory";
    Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message))
}

/// Bytes of a request of this API at most.
const MAX_BODY: usize = 64 << 10;

async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Error> {
    let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| Error::too_large("at most 64 KiB"))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::bad_json(format!("the request body is not as it should be: {e}")))
}

fn answer<T: Serialize>(outcome: Result<T, Error>) -> Response {
    let body = outcome.and_then(|value| {
        serde_json::to_vec(&value).map_err(|e| Error::internal(format!("the answer does not serialise: {e}")))
    });
    match body {
        Ok(body) => Http::json(body).0,
        Err(error) => error_response(&error),
    }
}
