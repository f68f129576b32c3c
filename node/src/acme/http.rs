//! The way to the ACME server: through the one door for outgoing HTTP.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::egress::{Egress, Limits};

/// Answers are JSON of a few KiB, and certificates.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), body: 1 << 20, redirects: 0, https_only: true };

pub(super) struct Client(pub(super) Egress);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let egress = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let answer = egress.send(Request::from_parts(head, body), LIMITS).await;
            let answer: Response<Bytes> = answer.map_err(|e| Error::Other(Box::new(e)))?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}
