//! One connection over a real socket to a node.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use millpond_api::{Listener, serve};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::TestNode;

/// The connection. The node stops answering when it is dropped.
pub struct Wire {
    sender: Mutex<SendRequest<Full<Bytes>>>,
    _stop: DropGuard,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    /// The status.
    pub status: u16,
    /// The body; null if it is not JSON.
    pub json: Value,
}

impl Wire {
    /// Makes a node answer at a port of the loopback, and connects.
    pub async fn to(node: &TestNode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(node.node.clone(), vec![Listener::Client(listener)], stop.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender: Mutex::new(sender), _stop: stop.drop_guard() }
    }

    /// Asks.
    pub async fn ask(&self, method: &Method, path: &str, token: Option<&str>, body: impl Into<Bytes>) -> Got {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let mut sender = self.sender.lock().await;
        sender.ready().await.unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Got { status: head.status.as_u16(), json: serde_json::from_slice(&bytes).unwrap_or_default() }
    }
}
