//! Requests that are not what they say.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use ruma::{owned_server_name, server_name};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{Stranger, answer, refused, tls::Authority};
use crate::harness::{NOW_MS, TestNode};

const PATH: &str = "/_matrix/federation/v1/publicRooms";

#[tokio::test]
async fn a_signed_request_gets_in_and_an_unsigned_one_does_not() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::known_to(&node, "other.example").await;
    let (status, json) = other.get(&node, PATH).await;
    assert_eq!((status, &json["chunk"]), (StatusCode::OK, &json!([])), "{json}");
    let bare = Request::get(PATH).body(String::new()).unwrap();
    refused(answer(&node, bare).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    for header in [
        "X-Matrix",
        "X-Matrix origin=other.example",
        "Bearer token",
        "X-Matrix origin=a,origin=b,key=\"ed25519:1\",sig=\"\"",
    ] {
        let request = Request::get(PATH).header(header::AUTHORIZATION, header).body(String::new()).unwrap();
        refused(answer(&node, request).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_forged_origin_is_refused() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::known_to(&node, "other.example").await;
    let mut liar = Stranger::new("liar.example");
    liar.name = other.name.clone();
    refused(liar.get(&node, PATH).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    // Nobody is this node but itself, and names made of keys come over links only.
    for name in [owned_server_name!("pond.example"), owned_server_name!("abc.onion")] {
        liar.name = name;
        refused(liar.get(&node, PATH).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_request_for_another_destination_is_refused() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::known_to(&node, "other.example").await;
    let request = other.request(server_name!("third.example"), Method::GET, PATH, "");
    refused(answer(&node, request).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    // Without the header's word for it the signature still covers it.
    let mut request = other.request(server_name!("third.example"), Method::GET, PATH, "");
    let header = request.headers()[header::AUTHORIZATION].to_str().unwrap();
    let header = header.replace("destination=third.example,", "");
    assert!(!header.contains("destination"));
    request.headers_mut().insert(header::AUTHORIZATION, header.parse().unwrap());
    refused(answer(&node, request).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn a_signature_holds_for_one_method_uri_and_body() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::known_to(&node, "other.example").await;
    let us = node.node.core.identity().server_name().to_owned();
    let mut moved = other.request(&us, Method::GET, PATH, "");
    *moved.uri_mut() = format!("{PATH}?limit=1").parse().unwrap();
    refused(answer(&node, moved).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    let mut changed = other.request(&us, Method::POST, PATH, "{\"limit\":1}");
    *changed.body_mut() = "{\"limit\":2}".to_owned();
    refused(answer(&node, changed).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    let mut posted = other.request(&us, Method::GET, PATH, "");
    *posted.method_mut() = Method::POST;
    refused(answer(&node, posted).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn a_key_that_has_run_out_does_not_count() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::new("other.example");
    other.introduce(&node, NOW_MS - 1).await;
    refused(other.get(&node, PATH).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn a_server_that_the_owner_blocks_is_not_answered() {
    let node = TestNode::with(|config| {
        config.classic = Some(millpond_node::config::Classic::new(owned_server_name!("pond.example")));
        config.blocked = std::iter::once("*.spam.example".parse().unwrap()).collect();
    });
    for (name, status) in [("a.spam.example", 403), ("good.example", 200)] {
        let other = Stranger::known_to(&node, name).await;
        let (found, json) = other.get(&node, PATH).await;
        assert_eq!(found.as_u16(), status, "{name}: {json}");
    }
}

#[tokio::test]
async fn a_transaction_for_another_origin_or_of_too_much_is_refused() {
    let node = TestNode::named(server_name!("pond.example"));
    let other = Stranger::known_to(&node, "other.example").await;
    let send = "/_matrix/federation/v1/send/1";
    let body = |origin: &str, pdus: usize| json!({ "origin": origin, "origin_server_ts": 1, "pdus": vec![json!({}); pdus], "edus": [] });
    let put = |body| other.ask(&node, Method::PUT, send, body);
    refused(put(body("third.example", 0)).await, StatusCode::FORBIDDEN, "M_FORBIDDEN");
    refused(put(body("other.example", 51)).await, StatusCode::BAD_REQUEST, "M_BAD_JSON");
    let (status, json) = put(body("other.example", 50)).await;
    assert_eq!((status, json), (StatusCode::OK, json!({ "pdus": {} })));
    let request = other.request(node.node.core.identity().server_name(), Method::PUT, send, "{\"pdus\": 1}");
    let (mut head, _) = request.into_parts();
    head.headers.insert(header::CONTENT_LENGTH, "99999999".parse().unwrap());
    refused(
        answer(&node, Request::from_parts(head, String::new())).await,
        StatusCode::PAYLOAD_TOO_LARGE,
        "M_TOO_LARGE",
    );
}

#[tokio::test]
async fn who_cannot_be_proven_yet_is_shown_the_keys_all_the_same() {
    let node = TestNode::named(server_name!("pond.example"));
    let unknown = Stranger::new("unknown.example");
    refused(unknown.get(&node, PATH).await, StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED");
    for path in ["/_matrix/key/v2/server", "/_matrix/key/v2/query/pond.example", "/_matrix/federation/v1/version"] {
        let (status, answer) = unknown.get(&node, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
}

#[tokio::test]
async fn key_documents_are_for_everybody_and_proven() {
    let node = TestNode::named(server_name!("pond.example"));
    let (status, document) = answer(&node, Request::get("/_matrix/key/v2/server").body(String::new()).unwrap()).await;
    assert_eq!((status, &document["server_name"]), (StatusCode::OK, &json!("pond.example")));
    let identity = node.node.core.identity();
    assert_eq!(document["org.millpond.identity"]["key"].as_str().map(str::len), Some(43));
    let keys = [(
        format!("ed25519:{}", identity.signing_key().version()),
        ruma::serde::Base64::new(identity.signing_key().public_key().to_vec()),
    )];
    let keys = millpond_matrix::signing::PublicKeyMap::from([("pond.example".to_owned(), keys.into())]);
    let object = serde_json::from_value(document).unwrap();
    millpond_matrix::signing::verify_json(&keys, &object).unwrap();
    let asked = Request::get("/_matrix/key/v2/query/pond.example").body(String::new()).unwrap();
    let (status, answer) = answer(&node, asked).await;
    assert_eq!((status, answer["server_keys"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_connections_of_one_address_do_not_shut_out_others() {
    let authority = Authority::new();
    let place = authority.place().await;
    let name = place.name.clone();
    let node = TestNode::with(|config| authority.named(config, &name));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(millpond_api::serve(node.node.clone(), vec![place.door()], stop.clone()));
    // Each says the beginning of a handshake and then nothing: after the 64th, those of the same address are closed.
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(name.as_str()).await.unwrap();
        stream.write_all(&[0x16, 3, 1]).await.unwrap();
        slow.push(stream);
    }
    let closed = async {
        let mut stream = TcpStream::connect(name.as_str()).await.unwrap();
        stream.read(&mut [0; 1]).await.unwrap_or(0) == 0
    };
    // At once, not when the time for a handshake is over.
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), closed).await, Ok(true));
    // Another address is answered.
    let address: std::net::SocketAddr = name.as_str().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(address.ip().into(), stream).await.unwrap();
    stream.write_all(b"GET /_matrix/federation/v1/version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stop.cancel();
    serving.await.unwrap().unwrap();
}
