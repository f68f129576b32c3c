//! What a handler may return.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};
use millpond_node::Error;
use ruma::api::{OutgoingResponse, OutgoingResponseExt};

/// Something that becomes an HTTP response.
pub trait Answer: Send {
    /// The response.
    ///
    /// # Errors
    /// A response that does not serialise: a bug.
    fn into_http(self) -> Result<Response, Error>;
}

impl<T: OutgoingResponse + Send> Answer for T {
    fn into_http(self) -> Result<Response, Error> {
        let response = self.try_into_http_response::<Vec<u8>>();
        let response = response.map_err(|e| Error::internal(format!("the answer does not serialise: {e}")))?;
        Ok(response.map(Body::from))
    }
}

/// A response that a handler has built itself.
pub struct Http(pub Response);

impl Http {
    /// 200 with JSON that is already serialised.
    pub fn json(body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Body::from(body.into()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self(response)
    }
}

impl Http {
    /// 200 with a value as JSON: for answers that ruma's types cannot say.
    ///
    /// # Errors
    /// A value that does not serialise: a bug.
    pub fn of(value: &impl serde::Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(value);
        body.map(Self::json).map_err(|e| Error::internal(format!("the answer does not serialise: {e}")))
    }
}

impl Answer for Http {
    fn into_http(self) -> Result<Response, Error> {
        Ok(self.0)
    }
}
