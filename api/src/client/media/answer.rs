//! A media file as an HTTP response: streamed, cacheable, in parts if asked for, and harmless in a browser.

use std::ops::Range;

use axum::{body::Body, response::Response};
use http::{
    HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, ETAG, HeaderName, X_CONTENT_TYPE_OPTIONS,
    },
};
use millpond_node::{Error, media::Download};

use crate::glue::{Http, Part};

/// The response that sends a file, or the part of it that the client asks for.
pub(super) fn file(found: &Download, filename: Option<String>, part: &Part) -> Result<Http, Error> {
    let tag = format!("\"{}\"", found.tag());
    if part.has(&tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        set(&mut response, ETAG, &tag)?;
        return Ok(Http(response));
    }
    let (status, range) = match part.of(found.len()) {
        None => (StatusCode::OK, 0..found.len()),
        Some(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(None) => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut response = Response::new(Body::from_stream(found.bytes(range.clone())));
    *response.status_mut() = status;
    if status != StatusCode::OK {
        set(&mut response, CONTENT_RANGE, &content_range(status, &range, found.len()))?;
    }
    set(&mut response, CONTENT_LENGTH, &(range.end - range.start).to_string())?;
    set(&mut response, ETAG, &tag)?;
    let headers = response.headers_mut();
    // A content type that is no header value says nothing.
    let content_type = HeaderValue::from_str(found.content_type());
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    let disposition = HeaderValue::from_str(&found.disposition(filename).to_string());
    headers.insert(CONTENT_DISPOSITION, disposition.unwrap_or(HeaderValue::from_static("attachment")));
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(Http(response))
}

fn content_range(status: StatusCode, range: &Range<u64>, len: u64) -> String {
    match status {
        StatusCode::PARTIAL_CONTENT => format!("bytes {}-{}/{len}", range.start, range.end - 1),
        _ => format!("bytes */{len}"),
    }
}

fn set(response: &mut Response, name: HeaderName, value: &str) -> Result<(), Error> {
    let value = HeaderValue::from_str(value).map_err(|e| Error::internal(format!("a header is not valid: {e}")))?;
    response.headers_mut().insert(name, value);
    Ok(())
}

/// The policy that the specification recommends, and what makes browsers keep to the content type. A media id never
/// changes its content, so clients may keep it for ever.
const FIXED: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; \
         object-src 'self';",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (ACCEPT_RANGES, "bytes"),
    (CACHE_CONTROL, "private, max-age=31536000, immutable"),
];
