//! The node's error: what a client or a peer is told, in Matrix's words.

use http::StatusCode;
use ruma::api::{client::uiaa::UiaaInfo, error::ErrorKind};

/// Why the node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused: a Matrix error code and what to do about it.
    #[error("{message}")]
    Matrix {
        /// The HTTP status.
        status: StatusCode,
        /// The error code.
        kind: ErrorKind,
        /// A sentence for the person in front of the client.
        message: String,
    },
    /// More authentication is needed (user-interactive authentication).
    #[error("more authentication is needed")]
    Uiaa(Box<UiaaInfo>),
    /// The storage failed; nothing of the request was kept.
    #[error(transparent)]
    Store(#[from] millpond_store::Error),
}

impl Error {
    /// An error with its status.
    pub fn matrix(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Matrix { status, kind, message: message.into() }
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::BAD_REQUEST, ErrorKind::InvalidParam, message)
    }

    /// 400 `M_BAD_JSON`.
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::BAD_REQUEST, ErrorKind::BadJson, message)
    }

    /// 400 `M_UNKNOWN`: for what has no code of its own.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::BAD_REQUEST, ErrorKind::Unknown, message)
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// 429 `M_LIMIT_EXCEEDED` with the time to wait.
    pub fn limit_exceeded(wait: std::time::Duration, message: impl Into<String>) -> Self {
        let mut data = ruma::api::error::LimitExceededErrorData::new();
        data.retry_after = Some(ruma::api::error::RetryAfter::Delay(wait));
        Self::matrix(StatusCode::TOO_MANY_REQUESTS, ErrorKind::LimitExceeded(data), message)
    }

    /// 502 `M_UNKNOWN`: a peer gave no answer that is one.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
    }

    /// 504 `M_UNKNOWN`: a peer could not be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::GATEWAY_TIMEOUT, ErrorKind::Unknown, message)
    }

    /// 500 `M_UNKNOWN`: a bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::matrix(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, message)
    }

    /// The Matrix error code, if it has one.
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Matrix { kind, .. } => Some(kind),
            _ => None,
        }
    }
}

impl From<millpond_store::WriteError<Self>> for Error {
    fn from(error: millpond_store::WriteError<Self>) -> Self {
        match error {
            millpond_store::WriteError::Refused(refusal) => refusal,
            millpond_store::WriteError::Store(error) => Self::Store(error),
        }
    }
}

impl From<millpond_store::WriteError<std::convert::Infallible>> for Error {
    fn from(error: millpond_store::WriteError<std::convert::Infallible>) -> Self {
        match error {
            millpond_store::WriteError::Refused(never) => match never {},
            millpond_store::WriteError::Store(error) => Self::Store(error),
        }
    }
}
