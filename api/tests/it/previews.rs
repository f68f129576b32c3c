//! URL previews: off by default, fetched once, their picture a file of ours, nothing from inside.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{harness::TestNode, room::escape};

/// A web server on loopback with a page, its picture and a text; counts the requests.
struct Web {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Web {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.unwrap_or(b'\n'));
                }
                count.fetch_add(1, Ordering::Relaxed);
                let head = String::from_utf8(head).unwrap();
                let (status, kind, body): (_, _, &[u8]) = match head.split(' ').nth(1).unwrap() {
                    "/page" => (200, "text/html; charset=utf-8", PAGE),
                    "/picture.png" => (200, "image/png", PNG),
                    "/text" => (200, "text/plain", b"text"),
                    _ => (404, "text/html", b""),
                };
                let head = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all(head.as_bytes()).await;
                let _ = socket.write_all(body).await;
            }
        });
        Self { address, asked }
    }

    fn ask(&self, spelling: &str, page: &str) -> String {
        format!("{spelling}?url={}", escape(&format!("http://{}{page}", self.address)))
    }
}

const V1: &str = "/_matrix/client/v1/media/preview_url";
const V3: &str = "/_matrix/media/v3/preview_url";

fn with_previews() -> TestNode {
    TestNode::with(|config| {
        config.url_previews = true;
        config.egress.allow = vec!["127.0.0.1".parse().unwrap()];
    })
}

#[tokio::test]
async fn a_page_is_asked_once_and_its_picture_becomes_a_file_of_ours() {
    let (node, web) = (with_previews(), Web::new().await);
    let alice = node.user("alice").await;
    let preview = node.ok(node.get(&alice, web.ask(V1, "/page#part"))).await;
    assert_eq!((&preview["og:title"], &preview["og:description"]), (&json!("Ponds"), &json!("All about them")));
    assert_eq!((&preview["og:image:width"], &preview["matrix:image:size"]), (&json!(1), &json!(PNG.len())));
    let picture = preview["og:image"].as_str().unwrap().strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/download/{picture}");
    let download = || {
        let request = Request::get(&path).header("authorization", format!("Bearer {}", alice.token));
        node.answer(request.body(Body::empty()).unwrap())
    };
    assert_eq!(download().await.into_body().collect().await.unwrap().to_bytes(), PNG);
    assert_eq!(node.ok(node.get(&alice, web.ask(V3, "/page"))).await, preview);
    assert_eq!(web.asked.load(Ordering::Relaxed), 2, "the page and its picture, once");
    assert_eq!(node.ok(node.get(&alice, web.ask(V1, "/text"))).await, json!({}));
    let picture = node.ok(node.get(&alice, web.ask(V1, "/picture.png"))).await;
    assert_eq!(picture["og:image:type"], "image/png");
    node.pass(Duration::from_secs(3 * 24 * 3600));
    node.node.previews.forget_old().await.unwrap();
    assert_eq!(download().await.status(), 404);
}

#[tokio::test]
async fn what_cannot_be_shown_says_why() {
    let (node, web) = (with_previews(), Web::new().await);
    let alice = node.user("alice").await;
    node.fails(node.get(&alice, web.ask(V1, "/gone")), 502, "M_UNKNOWN").await;
    node.fails(node.get("", web.ask(V1, "/page")), 401, "M_MISSING_TOKEN").await;
    for url in ["ftp://a.b/", "page", "http://", "http://me:secret@a.b/", ""] {
        node.fails(node.get(&alice, format!("{V1}?url={}", escape(url))), 400, "M_INVALID_PARAM").await;
    }
}

#[tokio::test]
async fn previews_are_off_by_default_and_never_of_addresses_inside() {
    let web = Web::new().await;
    let off = TestNode::new();
    let alice = off.user("alice").await;
    for spelling in [V1, V3] {
        off.fails(off.get(&alice, web.ask(spelling, "/page")), 403, "M_FORBIDDEN").await;
    }
    let on = TestNode::with(|config| config.url_previews = true);
    let alice = on.user("alice").await;
    on.fails(on.get(&alice, web.ask(V1, "/page")), 403, "M_FORBIDDEN").await;
    assert_eq!(web.asked.load(Ordering::Relaxed), 0);
}

const PAGE: &[u8] =
    b"<html><head><meta property='og:title' content='Ponds'><meta name=description content='All about them'>\
    <meta property='og:image' content='/picture.png'></head><body></body></html>";

/// One transparent pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\
\xfc\xcf\xc0P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82";
