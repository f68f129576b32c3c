//! The classic door: who gets in, and that overlay rooms do not exist behind it.

mod conformance;
mod doors;
mod egress;
mod evil;
mod evil_server;
mod files;
mod hostile;
pub mod named;
mod partial;
mod policy;
mod policy_lists;
mod recommended;
mod refused;
pub mod tls;

use std::collections::BTreeMap;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use millpond_api::App;
use millpond_matrix::signing::Ed25519KeyPair;
use millpond_store::{
    job,
    rows::{ServerKey, ServerKeys},
    tables,
};
use ruma::{
    OwnedServerName, ServerName,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    serde::Base64,
};
use serde_json::Value;

use crate::harness::{Answered, NOW_MS, TestNode};

/// A homeserver that is nothing but its name and its key.
pub struct Stranger {
    pub name: OwnedServerName,
    key: Ed25519KeyPair,
}

impl Stranger {
    /// A server of this name.
    pub fn new(name: &str) -> Self {
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        Self { name: name.try_into().unwrap(), key }
    }

    /// A server whose key a node holds.
    pub async fn known_to(node: &TestNode, name: &str) -> Self {
        let stranger = Self::new(name);
        stranger.introduce(node, NOW_MS + 1_000_000).await;
        stranger
    }

    /// Gives a node the key, good until then.
    pub async fn introduce(&self, node: &TestNode, until_ms: u64) {
        let public: Base64 = Base64::new(self.key.public_key().to_vec());
        let key = ServerKey { key: public.encode(), until_ms, expired: false };
        let keys = BTreeMap::from([("ed25519:1".to_owned(), key)]);
        let row = ServerKeys { keys, fetched_at_ms: NOW_MS, valid_until_ms: until_ms, ..ServerKeys::default() };
        let name = self.name.clone();
        let write =
            job(|_| Ok::<_, millpond_node::Error>(()), move |(), txn| txn.put(tables::SERVER_KEYS, &*name, &row));
        node.node.core.write(write).await.unwrap();
    }

    /// A user of it.
    pub fn user(&self, name: &str) -> String {
        format!("@{name}:{}", self.name)
    }

    /// A signed request.
    pub fn request(&self, to: &ServerName, method: Method, path: &str, body: &str) -> Request<String> {
        let mut request = Request::builder().method(method).uri(path).body(body.to_owned()).unwrap();
        let input = XMatrixSigningInput::new(self.name.clone(), to.to_owned(), &self.key);
        let signed = XMatrix::sign_http_request(&request, input).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, (&signed).into());
        request
    }

    /// Asks a node through its classic door.
    pub async fn ask(&self, node: &TestNode, method: Method, path: &str, body: Value) -> Answered {
        let body = if method == Method::GET { String::new() } else { body.to_string() };
        answer(node, self.request(node.node.core.identity().server_name(), method, path, &body)).await
    }

    /// Asks for something.
    pub async fn get(&self, node: &TestNode, path: &str) -> Answered {
        self.ask(node, Method::GET, path, Value::Null).await
    }
}

/// What a node answers through its classic door.
pub async fn answer(node: &TestNode, request: Request<String>) -> Answered {
    let response = App::for_classic(node.node.clone()).answer(request.map(Body::from)).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Expects an error.
pub fn refused((found, json): Answered, status: StatusCode, errcode: &str) {
    assert_eq!((found, json["errcode"].as_str()), (status, Some(errcode)), "{json}");
}
