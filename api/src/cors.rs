//! CORS, so that clients may run in a browser: client-server API, "Web Browser Clients".

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN},
};

/// Whether a path is for browsers of other origins: the node's own API is not, nor are pages with forms.
pub(crate) fn applies(path: &str) -> bool {
    !path.starts_with("/_millpond") && !crate::oauth::is_page(path)
}

/// The answer to `OPTIONS`: headers only, no logic of the endpoint.
pub(crate) fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    add_headers(response.headers_mut());
    response
}

/// Adds the headers that the specification recommends.
pub(crate) fn add_headers(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
}
