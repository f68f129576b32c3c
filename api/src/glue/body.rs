//! Reading a JSON body: bounded in size and time, UTF-8, an object.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use millpond_node::Error;
use ruma::api::error::ErrorKind;

/// How long a JSON body may take to arrive: 4 MiB over a very slow line.
const DEADLINE: Duration = Duration::from_secs(60);

/// Reads a body that should be a JSON object. An empty one counts as `{}`: many clients send it so.
///
/// # Errors
/// 413 `M_TOO_LARGE`, 400 `M_NOT_JSON`, 400 `M_BAD_JSON`, 408 when it does not arrive.
pub(super) async fn read_json(body: Body, limit: usize) -> Result<Bytes, Error> {
    let read = tokio::time::timeout(DEADLINE, Limited::new(body, limit).collect()).await;
    let read = read.map_err(|_| {
        Error::matrix(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unknown, "The request body did not arrive in time")
    })?;
    let bytes = match read {
        Ok(collected) => collected.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            return Err(Error::too_large(format!("The request body has more than {limit} bytes")));
        }
        Err(_) => return Err(Error::unknown("The request body broke off")),
    };
    check(&bytes)?;
    Ok(if bytes.trim_ascii().is_empty() { Bytes::from_static(b"{}") } else { bytes })
}

fn check(bytes: &[u8]) -> Result<(), Error> {
    // Fields that nobody reads are skipped by the parser without a look at their bytes, so look here.
    if let Err(e) = std::str::from_utf8(bytes) {
        return Err(not_json(format!("The request body is not UTF-8 (at byte {})", e.valid_up_to())));
    }
    let Some(first) = bytes.trim_ascii().first() else { return Ok(()) };
    // Endpoints that take nothing from the body never parse it, and others stop at the first field that does not fit.
    if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        return Err(not_json(format!("The request body is not JSON: {e}")));
    }
    match first {
        b'{' => Ok(()),
        _ => Err(Error::bad_json("The request body must be a JSON object")),
    }
}

/// 400 `M_NOT_JSON`.
pub(super) fn not_json(message: impl Into<String>) -> Error {
    Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::NotJson, message)
}
