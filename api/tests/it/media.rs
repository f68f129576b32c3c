//! Uploads, downloads, thumbnails.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::harness::{TestNode, TestUser};

async fn send(
    node: &TestNode,
    method: Method,
    user: &TestUser,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("authorization", format!("Bearer {}", user.token));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    node.answer(request.body(body.into()).unwrap()).await
}

async fn bytes(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Uploads and gives `server/media_id`.
async fn upload(node: &TestNode, user: &TestUser, content_type: &str, body: impl Into<Body>) -> String {
    let path = "/_matrix/media/v3/upload?filename=a%20file.txt";
    let response = send(node, Method::POST, user, path, &[("content-type", content_type)], body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let json: serde_json::Value = serde_json::from_slice(&bytes(response).await).unwrap();
    json["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
}

#[tokio::test]
async fn a_download_is_the_upload_with_headers_that_keep_browsers_safe() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let id = upload(&node, &alice, "text/plain", "hello").await;
    let path = format!("/_matrix/client/v1/media/download/{id}");
    let response = send(&node, Method::GET, &alice, &path, &[], Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain");
    assert_eq!(header("content-disposition"), "inline; filename=\"a file.txt\"");
    assert_eq!(header("content-length"), "5");
    assert_eq!(header("cross-origin-resource-policy"), "cross-origin");
    assert!(header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert_eq!(bytes(response).await, "hello");
    let named = send(&node, Method::GET, &alice, &format!("{path}/other.txt"), &[], Body::empty()).await;
    assert_eq!(named.headers()["content-disposition"], "inline; filename=other.txt");
    let page = upload(&node, &alice, "text/html", "<script>").await;
    let path = format!("/_matrix/client/v1/media/download/{page}");
    let page = send(&node, Method::GET, &alice, &path, &[], Body::empty()).await;
    assert!(page.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
}

#[tokio::test]
async fn a_part_of_a_file_and_a_known_file_are_answered_as_such() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let id = upload(&node, &alice, "video/mp4", "0123456789").await;
    let path = format!("/_matrix/client/v1/media/download/{id}");
    let get = async |header: (&str, &str)| send(&node, Method::GET, &alice, &path, &[header], Body::empty()).await;
    let part = get(("range", "bytes=2-4")).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    let tag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(bytes(part).await, "234");
    let beyond = get(("range", "bytes=10-")).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()["content-range"], "bytes */10");
    assert_eq!(get(("if-none-match", &tag)).await.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn media_need_a_token_and_the_old_downloads_are_frozen() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let id = upload(&node, &alice, "text/plain", "secret").await;
    node.fails(node.get("", &format!("/_matrix/client/v1/media/download/{id}")), 401, "M_MISSING_TOKEN").await;
    node.fails(node.raw(Method::POST, "", "/_matrix/media/v3/upload", "x"), 401, "M_MISSING_TOKEN").await;
    for old in ["v3/download", "r0/download"] {
        node.fails(node.get("", &format!("/_matrix/media/{old}/{id}")), 404, "M_NOT_FOUND").await;
    }
    let thumbnail = format!("/_matrix/media/v3/thumbnail/{id}?width=32&height=32");
    node.fails(node.get("", &thumbnail), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn the_upload_limit_is_told_and_kept() {
    let node = TestNode::with(|config| config.max_upload_bytes = 1000);
    let alice = node.user("alice").await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(node.ok(node.get(&alice, path)).await, json!({ "m.upload.size": 1000 }));
    }
    upload(&node, &alice, "text/plain", "x".repeat(1000)).await;
    let large = node.raw(Method::POST, &alice, "/_matrix/media/v3/upload", "x".repeat(1001));
    node.fails(large, 413, "M_TOO_LARGE").await;
    let made = node.ok(node.post(&alice, "/_matrix/media/v1/create", json!({}))).await;
    let reserved = made["content_uri"].as_str().unwrap().replace("mxc://", "/_matrix/media/v3/upload/");
    node.fails(node.raw(Method::PUT, &alice, &reserved, "x".repeat(1001)), 413, "M_TOO_LARGE").await;
    node.ok(node.raw(Method::PUT, &alice, &reserved, "x")).await;
    let unannounced = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from("x".repeat(100)))));
    let path = "/_matrix/media/v3/upload";
    let response = send(&node, Method::POST, &alice, path, &[], Body::from_stream(unannounced)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_reserved_uri_is_uploaded_to_once() {
    let node = TestNode::new();
    let (alice, eve) = (node.user("alice").await, node.user("eve").await);
    let made = node.ok(node.post(&alice, "/_matrix/media/v1/create", json!({}))).await;
    assert!(made["unused_expires_at"].as_u64().unwrap() > crate::harness::NOW_MS);
    let id = made["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let download = format!("/_matrix/client/v1/media/download/{id}?timeout_ms=0");
    node.fails(node.get(&alice, &download), 504, "M_NOT_YET_UPLOADED").await;
    let upload = format!("/_matrix/media/v3/upload/{id}");
    node.fails(node.raw(Method::PUT, &eve, &upload, "x"), 403, "M_FORBIDDEN").await;
    node.ok(node.raw(Method::PUT, &alice, &upload, "content")).await;
    node.fails(node.raw(Method::PUT, &alice, &upload, "again"), 409, "M_CANNOT_OVERWRITE_MEDIA").await;
    let response = send(&node, Method::GET, &alice, &download, &[], Body::empty()).await;
    assert_eq!(bytes(response).await, "content");
    let late = node.ok(node.post(&alice, "/_matrix/media/v1/create", json!({}))).await;
    node.pass(std::time::Duration::from_secs(25 * 60 * 60));
    let late = late["content_uri"].as_str().unwrap().replace("mxc://", "/_matrix/media/v3/upload/");
    node.fails(node.raw(Method::PUT, &alice, &late, "x"), 404, "M_NOT_FOUND").await;
}

#[tokio::test]
async fn a_thumbnail_has_the_size_asked_for_and_bad_requests_say_why() {
    let node = TestNode::new();
    let alice = node.user("alice").await;
    let id = upload(&node, &alice, "image/png", PNG).await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{id}");
    let crop = format!("{path}?width=96&height=96&method=crop");
    let whole = send(&node, Method::GET, &alice, &crop, &[], Body::empty()).await;
    assert_eq!(whole.headers()["content-type"], "image/png");
    assert_eq!(bytes(whole).await, PNG, "an image that is smaller is given as it is");
    for query in
        ["width=0&height=1", "width=1&height=1&method=stretch", "width=-1&height=1", "width=x&height=1", "width=1"]
    {
        let (status, json) = node.get(&alice, &format!("{path}?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {json}");
    }
    let text = upload(&node, &alice, "image/png", "no image at all").await;
    let path = format!("/_matrix/client/v1/media/thumbnail/{text}?width=32&height=32");
    node.fails(node.get(&alice, &path), 400, "M_UNKNOWN").await;
}

/// One transparent pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\
\xfc\xcf\xc0P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82";
