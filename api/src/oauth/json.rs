//! What clients ask by themselves: registration, tokens, revocation, device codes.

use axum::{
    body::{Body, to_bytes},
    extract::State,
    response::Response,
};
use http::{HeaderValue, Request, StatusCode, header};
use millpond_node::{
    NodeHandle,
    accounts::oauth::{Form, Refusal},
};
use serde_json::{Value, json};

use super::browser;
use crate::glue::{ClientAddr, Http, error_response};

/// `GET /.well-known/openid-configuration`, where clients looked before the specification had `auth_metadata`.
pub(super) async fn metadata(State(node): State<NodeHandle>) -> Response {
    answer(Ok(node.accounts.oauth_metadata()), StatusCode::OK)
}

/// `GET /_matrix/client/unstable/org.matrix.msc2965/auth_issuer`
pub(super) async fn issuer(State(node): State<NodeHandle>) -> Response {
    answer(Ok(json!({ "issuer": node.accounts.oauth_metadata()["issuer"] })), StatusCode::OK)
}

/// `POST /oauth2/clients/register`
pub(super) async fn register(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let address = request.extensions().get::<ClientAddr>().map(|address| address.0);
    let Ok(body) = to_bytes(request.into_body(), browser::BODY_MAX).await else { return too_large() };
    answer(node.accounts.register_client(&body, address).await, StatusCode::CREATED)
}

/// `POST /oauth2/token`
pub(super) async fn token(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let address = request.extensions().get::<ClientAddr>().map(|address| address.0);
    let outcome = match form(request).await {
        Ok(form) => node.accounts.oauth_token(&form, address).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, StatusCode::OK)
}

/// `POST /oauth2/revoke`
pub(super) async fn revoke(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let outcome = match form(request).await {
        Ok(form) => node.accounts.revoke(&form).await.map(|()| json!({})),
        Err(refusal) => Err(refusal),
    };
    answer(outcome, StatusCode::OK)
}

/// `POST /oauth2/device/authorize`
pub(super) async fn device(State(node): State<NodeHandle>, request: Request<Body>) -> Response {
    let address = request.extensions().get::<ClientAddr>().map(|address| address.0);
    let outcome = match form(request).await {
        Ok(form) => node.accounts.device_authorization(&form, address).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, StatusCode::OK)
}

async fn form(request: Request<Body>) -> Result<Form, Refusal> {
    let bytes = to_bytes(request.into_body(), browser::BODY_MAX).await;
    browser::form(&bytes.unwrap_or_default()).ok_or_else(|| Refusal::OAuth {
        code: "invalid_request",
        description: "the body is a form, with each parameter once".to_owned(),
    })
}

fn answer(outcome: Result<Value, Refusal>, good: StatusCode) -> Response {
    let (status, json) = match outcome {
        Ok(json) => (good, json),
        Err(Refusal::OAuth { code, description }) => {
            let status = if code == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
            (status, json!({ "error": code, "error_description": description }))
        }
        Err(Refusal::Node(error)) => return error_response(&error),
    };
    let mut response = Http::json(json.to_string()).0;
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn too_large() -> Response {
    let description = format!("the body has at most {} bytes", browser::BODY_MAX);
    answer(Err(Refusal::OAuth { code: "invalid_client_metadata", description }), StatusCode::OK)
}
