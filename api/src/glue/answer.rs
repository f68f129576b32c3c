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

impl Answer for Http {
    fn into_http(self) -> Result<Response, Error> {
        Ok(self.0)
    }
}
