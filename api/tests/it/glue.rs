//! What every endpoint has in common: tokens, JSON, paths, CORS, the Host check.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::harness::TestNode;

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const DEVICES: &str = "/_matrix/client/v3/devices";

#[tokio::test]
async fn a_token_is_taken_from_the_header_or_the_query() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let json = node.ok(node.get(&alice, WHOAMI)).await;
    assert_eq!(json["user_id"], alice.id.as_str());
    assert_eq!(json["device_id"], alice.device_id.as_str());
    node.ok(node.get("", &format!("{WHOAMI}?access_token={}", alice.token))).await;
}

#[tokio::test]
async fn a_missing_or_unknown_token_is_401() {
    let node = TestNode::new();
    node.fails(node.get("", WHOAMI), 401, "M_MISSING_TOKEN").await;
    let json = node.fails(node.get("nonsense", WHOAMI), 401, "M_UNKNOWN_TOKEN").await;
    assert!(json.get("soft_logout").is_none_or(|soft| soft == false));
}

#[tokio::test]
async fn r0_and_v3_are_the_same() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    for version in ["r0", "v3"] {
        node.ok(node.get(&alice, &format!("/_matrix/client/{version}/account/whoami"))).await;
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_unrecognised() {
    let node = TestNode::new();
    node.fails(node.get("", "/_matrix/client/v3/nothing"), 404, "M_UNRECOGNIZED").await;
    node.fails(node.get("", "/"), 404, "M_UNRECOGNIZED").await;
    node.fails(node.post("", WHOAMI, json!({})), 405, "M_UNRECOGNIZED").await;
}

#[tokio::test]
async fn bad_bodies_get_the_code_that_says_what_is_wrong() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let device = format!("{DEVICES}/{}", alice.device_id);
    let put = |body: &'static [u8]| node.raw(Method::PUT, &alice, &device, body);
    node.fails(put(b"{\"display_name\": \"x\""), 400, "M_NOT_JSON").await;
    node.fails(put(b"nonsense"), 400, "M_NOT_JSON").await;
    node.fails(put(b"{\"display_name\": \"\xff\"}"), 400, "M_NOT_JSON").await;
    node.fails(put(b"{\"display_name\": \"x\", \"other\": \"\xff\"}"), 400, "M_NOT_JSON").await;
    node.fails(put(b"{\"display_name\": 7}"), 400, "M_BAD_JSON").await;
    node.fails(put(b"[\"x\"]"), 400, "M_BAD_JSON").await;
    node.fails(put(b"7"), 400, "M_BAD_JSON").await;
    let deep = "[".repeat(100_000);
    let body = format!("{{\"other\": {deep}}}");
    node.fails(node.raw(Method::PUT, &alice, &device, body), 400, "M_NOT_JSON").await;
    let missing = node.raw(Method::POST, &alice, "/_matrix/client/v3/delete_devices", "{}");
    let json = node.fails(missing, 400, "M_MISSING_PARAM").await;
    assert!(json["error"].as_str().unwrap().contains("devices"), "{json}");
}

#[tokio::test]
async fn an_empty_body_counts_as_an_empty_object() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let device = format!("{DEVICES}/{}", alice.device_id);
    node.ok(node.raw(Method::PUT, &alice, &device, "")).await;
    node.ok(node.raw(Method::PUT, &alice, &device, " \n")).await;
}

#[tokio::test]
async fn an_oversized_body_is_too_large() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let body = format!("{{\"display_name\": \"{}\"}}", "x".repeat(5 << 20));
    let device = format!("{DEVICES}/{}", alice.device_id);
    node.fails(node.raw(Method::PUT, &alice, &device, body), 413, "M_TOO_LARGE").await;
}

#[tokio::test]
async fn path_arguments_are_percent_decoded() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let name = millpond_node::accounts::NewDevice { device_id: Some("a/b c".into()), ..Default::default() };
    node.node.accounts.open_session(&alice.id, name).await.unwrap();
    let json = node.ok(node.get(&alice, &format!("{DEVICES}/a%2Fb%20c"))).await;
    assert_eq!(json["device_id"], "a/b c");
    node.fails(node.get(&alice, &format!("{DEVICES}/%ff")), 400, "M_INVALID_PARAM").await;
}

fn cors(headers: &http::HeaderMap) -> Vec<Option<&str>> {
    ["origin", "methods", "headers"]
        .map(|name| headers.get(format!("access-control-allow-{name}")).map(|v| v.to_str().unwrap()))
        .to_vec()
}

#[tokio::test]
async fn cors_headers_are_on_every_answer_but_those_of_the_nodes_own_api() {
    let node = TestNode::new();
    let expected =
        vec![Some("*"), Some("GET, POST, PUT, DELETE, OPTIONS"), Some("X-Requested-With, Content-Type, Authorization")];
    for (method, path) in [
        (Method::GET, "/_matrix/client/versions"),
        (Method::GET, WHOAMI),
        (Method::GET, "/nothing"),
        (Method::OPTIONS, WHOAMI),
        (Method::OPTIONS, "/_matrix/media/v3/upload"),
        (Method::PATCH, WHOAMI),
    ] {
        let request = Request::builder().method(&method).uri(path).body(Body::empty()).unwrap();
        let response = node.answer(request).await;
        assert_eq!(cors(response.headers()), expected, "{method} {path}");
        assert!(method != Method::OPTIONS || response.status() == StatusCode::NO_CONTENT);
    }
    for method in [Method::GET, Method::OPTIONS] {
        let request = Request::builder().method(method).uri("/_millpond/v1/status").body(Body::empty()).unwrap();
        assert_eq!(cors(node.answer(request).await.headers()), [None; 3]);
    }
}

#[tokio::test]
async fn a_request_for_another_host_name_is_refused() {
    let node = TestNode::new();
    let request = Request::builder().uri("/_matrix/client/versions").header("host", "evil.example:8008");
    let response = node.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(cors(response.headers()), [None; 3]);
}
