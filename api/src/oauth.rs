//! The authorisation server over HTTP: JSON for clients, plain pages for people. The pages need no script, but for the one that tells a
//! client that it may go on; each form carries a token that only our own pages know, and says in its policy where it may lead.

mod account;
mod authorize;
mod browser;
pub(crate) mod confirm;
mod decision;
mod device;
mod json;
mod page;
pub(crate) mod sso;
pub(crate) mod terms;

use axum::{
    Router,
    routing::{get, post},
};
use millpond_node::NodeHandle;

/// The routes.
pub(crate) fn router() -> Router<NodeHandle> {
    Router::new()
        .route("/.well-known/openid-configuration", get(json::metadata))
        .route("/.well-known/oauth-authorization-server", get(json::metadata))
        .route("/_matrix/client/unstable/org.matrix.msc2965/auth_issuer", get(json::issuer))
        .route("/oauth2/clients/register", post(json::register))
        .route("/oauth2/token", post(json::token))
        .route("/oauth2/revoke", post(json::revoke))
        .route("/oauth2/device/authorize", post(json::device))
        .route("/oauth2/authorize", get(authorize::ask).post(authorize::decide))
        .route(sso::PATH, get(sso::ask).post(sso::decide))
        .route(confirm::PATH, get(confirm::ask).post(confirm::decide))
        .route(terms::PATH, get(terms::ask).post(terms::decide))
        .route(confirm::SCRIPT_PATH, get(confirm::script))
        .route("/oauth2/device", get(device::ask).post(device::decide))
        .route("/oauth2/style.css", get(page::style))
        .route("/account", get(account::show).post(account::act))
}

/// Whether a path is a page for people, which no other origin may read.
pub(crate) fn is_page(path: &str) -> bool {
    matches!(path, "/oauth2/authorize" | "/oauth2/device" | sso::PATH | confirm::PATH | terms::PATH | "/account")
}
