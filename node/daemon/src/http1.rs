//! One HTTP request to a node, for the commands and for the demo's clients.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// No request of ours takes longer; the longest ones wait for a peer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request with a JSON body, or none.
pub(crate) fn request(
    method: Method,
    host: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    Ok(request.body(Full::from(body.map(Value::to_string).unwrap_or_default()))?)
}

/// Sends it over a connection of its own. Dropping the future closes the connection.
pub(crate) async fn send(address: &str, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(address).await.context("connecting to the node")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The connection ends when the sender is dropped, so both end together.
        let answer = async move {
            let (head, body) = sender.send_request(request).await.context("asking the node")?.into_parts();
            let bytes = body.collect().await.context("reading the node's answer")?.to_bytes();
            Ok((head.status, bytes))
        };
        tokio::join!(answer, connection).0
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("the node on {address} did not answer within {} s", PATIENCE.as_secs()))
    })
}

/// A part of a path or a query, percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
