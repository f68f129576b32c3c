//! Errors as responses.

use axum::{body::Body, response::Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use millpond_node::Error;
use ruma::api::{
    OutgoingResponseExt,
    client::uiaa::UiaaResponse,
    error::{
        DeserializationError, Error as MatrixError, ErrorBody, ErrorKind, LimitExceededErrorData, RetryAfter,
        StandardErrorBody,
    },
};

use super::body::not_json;

/// The response that says what was wrong.
pub fn error_response(error: &Error) -> Response {
    let built = match error {
        Error::Matrix { status, kind, message } => standard(*status, kind.clone(), message.clone()),
        Error::Uiaa(info) => {
            UiaaResponse::AuthResponse((**info).clone()).try_into_http_response::<Vec<u8>>().map_err(drop)
        }
        Error::Store(millpond_node::StoreError::DiskFull) => {
            let message = "The homeserver's disk is full; nothing of this request was kept";
            standard(StatusCode::INSUFFICIENT_STORAGE, ErrorKind::Unknown, message.to_owned())
        }
        Error::Store(source) => {
            tracing::error!(error = %source, "the database failed while answering a request");
            let message = "The homeserver's database failed; see its log";
            standard(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, message.to_owned())
        }
    };
    built.map_or_else(|()| last_resort(), |response| response.map(Body::from))
}

fn standard(status: StatusCode, kind: ErrorKind, message: String) -> Result<http::Response<Vec<u8>>, ()> {
    let wait = match &kind {
        ErrorKind::LimitExceeded(LimitExceededErrorData { retry_after: Some(RetryAfter::Delay(wait)), .. }) => {
            Some(*wait)
        }
        _ => None,
    };
    let body = ErrorBody::Standard(StandardErrorBody::new(kind, message));
    let mut response = MatrixError::new(status, body).try_into_http_response::<Vec<u8>>().map_err(drop)?;
    if let Some(wait) = wait {
        // ruma cuts off the part of a second, and who comes back after 0 s is refused again.
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

fn last_resort() -> Response {
    let mut response = Response::new(Body::from(r#"{"errcode":"M_UNKNOWN","error":"The error does not serialise"}"#));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What ruma did not accept, in the specification's codes.
pub(super) fn deserialization(error: &DeserializationError) -> Error {
    let text = error.to_string();
    match error {
        DeserializationError::Utf8(_) => not_json(format!("The request is not UTF-8: {text}")),
        DeserializationError::Json(json) if !json.is_data() => {
            not_json(format!("The request body is not JSON: {text}"))
        }
        _ if text.starts_with("missing field") => {
            let message = format!("The request lacks something: {text}");
            Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::MissingParam, message)
        }
        DeserializationError::Json(_) => Error::bad_json(format!("The request body is not as it should be: {text}")),
        DeserializationError::Header(_) => Error::invalid_param(format!("A header is not as it should be: {text}")),
        _ => Error::invalid_param(format!("The path or query is not as it should be: {text}")),
    }
}
