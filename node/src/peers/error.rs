//! Why another homeserver gave no answer, and what a client is told of that.

use millpond_overlay::RouteError;

use crate::{Error, classic::ClassicError};

/// Why a peer gave no answer that we can use.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Not reached by the classic route.
    #[error("the server cannot be reached: {0}")]
    Classic(#[from] ClassicError),
    /// An event of an overlay room, for a server that is reached by the classic route only.
    #[error("events of that room travel over links only, and there is none with this server")]
    NotForClassic,
    /// No stream to it.
    #[error("the server cannot be reached: {0}")]
    Route(#[from] RouteError),
    /// It sleeps, and was asked over mailboxes: the same question finds the answer when it is there.
    #[error("the other node is not there: it is asked over its mailboxes, and the answer comes when it is back")]
    Later,
    /// It answered with an error.
    #[error("the server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The Matrix error code, if it gave one.
        code: Option<String>,
        /// What it said.
        message: String,
    },
    /// Its answer, or our question, is not of the form that the spec says.
    #[error("the server's answer is malformed: {0}")]
    Malformed(String),
}

impl PeerError {
    /// Whether the same question may be answered later: it was not understood and refused, it did not arrive.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Route(_) | Self::Classic(_) | Self::Later => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Malformed(_) | Self::NotForClassic => false,
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Route(RouteError::NoLink) => Self::unreachable(
                "there is no link with that server: exchange contact links with its user first (`millpond contact`)",
            ),
            error @ PeerError::NotForClassic => Self::forbidden(error.to_string()),
            PeerError::Refused { status, code, message } if (400..500).contains(&status) => {
                let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
                let kind = match code.as_deref() {
                    Some("M_FORBIDDEN") => ruma::api::error::ErrorKind::Forbidden,
                    Some("M_NOT_FOUND") => ruma::api::error::ErrorKind::NotFound,
                    Some("M_UNABLE_TO_AUTHORISE_JOIN") => ruma::api::error::ErrorKind::UnableToAuthorizeJoin,
                    _ => ruma::api::error::ErrorKind::Unknown,
                };
                Self::matrix(status, kind, format!("the other server says: {message}"))
            }
            other => Self::unreachable(other.to_string()),
        }
    }
}
