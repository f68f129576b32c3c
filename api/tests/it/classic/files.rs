//! Files of classic servers that do not come, or not yet, over sockets on both sides: what a client is told of downloads and
//! thumbnails (client-server spec, "Content repository": 502, 504).

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use ruma::OwnedServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    evil_server::{Server, plain},
    tls::Authority,
};
use crate::{
    conformance::wire::{Got, Wire},
    errors::HUGE,
    harness::{TestNode, TestUser},
    nodes::encoded,
};

/// A node that keeps files of a MiB at most, a user of it, and her connection.
struct World {
    node: TestNode,
    alice: TestUser,
    wire: Wire,
}

impl World {
    async fn new(authority: &Authority) -> Self {
        let here = authority.place().await;
        let node = TestNode::with(|config| {
            authority.named(config, &here.name);
            config.max_upload_bytes = 1 << 20;
        });
        node.node.media.use_source(Arc::new(node.node.peers.clone()));
        let (alice, wire) = (node.user("alice").await, Wire::to(&node).await);
        Self { node, alice, wire }
    }

    async fn ask(&self, what: &str, file: &str) -> Got {
        let (what, name) = what.split_once(' ').unwrap_or((what, ""));
        let path = format!("/_matrix/client/v1/media/{what}/{file}{name}?width=32&height=32&timeout_ms=0");
        self.wire.ask(&Method::GET, &path, Some(&self.alice.token), "").await
    }

    /// That download, download as another name and thumbnail are refused alike.
    async fn is_refused(&self, file: &str, status: u16, errcode: &str) {
        for what in ["download", "download /name.png", "thumbnail"] {
            refused(&self.ask(what, file).await, status, errcode, &format!("{what} of {file}"));
        }
    }
}

fn refused(got: &Got, status: u16, errcode: &str, what: &str) {
    assert_eq!((got.status, got.json["errcode"].as_str()), (status, Some(errcode)), "{what}: {got:?}");
    assert!(got.json["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {got:?}");
}

fn at(server: &OwnedServerName, id: &str) -> String {
    format!("{}/{id}", encoded(server.as_str()))
}

/// The answer that carries a file.
fn carrying(file: &[u8]) -> Response<Bytes> {
    let head = "--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: image/png\r\n\r\n";
    let body = [head.as_bytes(), file, b"\r\n--b--\r\n"].concat();
    Response::builder().header("content-type", "multipart/mixed; boundary=b").body(body.into()).unwrap()
}

fn error(status: u16, errcode: &str) -> Response<Bytes> {
    plain(StatusCode::from_u16(status).unwrap(), json!({ "errcode": errcode, "error": "no" }).to_string())
}

fn one_that_gives(_: &Server, path: &str, _: &Value) -> Option<Response<Bytes>> {
    Some(match path.strip_prefix("/_matrix/federation/v1/media/download/")? {
        "html" => plain(StatusCode::OK, "<html>hello</html>"),
        "broken" => error(500, "M_UNKNOWN"),
        "busy" => error(429, "M_LIMIT_EXCEEDED"),
        "later" => error(504, "M_NOT_YET_UPLOADED"),
        "over" => error(502, "M_TOO_LARGE"),
        "secret" => error(403, "M_FORBIDDEN"),
        "large" => carrying(&vec![b'x'; (1 << 20) + 1]),
        "larger" => carrying(&vec![b'x'; 2 << 20]),
        "wide" => carrying(HUGE),
        "text" => carrying(b"no image"),
        _ => error(404, "M_NOT_FOUND"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_gives_instead_of_a_file_is_told_as_the_specification_has_it() {
    let authority = Authority::new();
    let (world, server) = (World::new(&authority).await, Server::start(&authority, one_that_gives).await);
    let file = |id: &str| at(&server.stranger.name, id);
    for (id, status, errcode) in [
        ("html", 502, "M_UNKNOWN"),
        ("broken", 502, "M_UNKNOWN"),
        ("busy", 502, "M_UNKNOWN"),
        ("later", 504, "M_NOT_YET_UPLOADED"),
        ("over", 502, "M_TOO_LARGE"),
        ("large", 502, "M_TOO_LARGE"),
        ("larger", 502, "M_TOO_LARGE"),
        ("secret", 403, "M_FORBIDDEN"),
        ("none", 404, "M_NOT_FOUND"),
    ] {
        world.is_refused(&file(id), status, errcode).await;
    }
    let snapshot = world.node.node.core.snapshot().unwrap();
    let wanted = snapshot.view().scan(millpond_store::tables::MEDIA_WANTED, ()).unwrap().count();
    assert_eq!(wanted, 0, "a classic server does not tell when it has the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_picture_with_too_many_pixels_and_of_what_is_none_there_is_no_thumbnail_but_the_file() {
    let authority = Authority::new();
    let (world, server) = (World::new(&authority).await, Server::start(&authority, one_that_gives).await);
    for (id, status, errcode) in [("wide", 502, "M_TOO_LARGE"), ("text", 400, "M_UNKNOWN")] {
        let file = at(&server.stranger.name, id);
        refused(&world.ask("thumbnail", &file).await, status, errcode, id);
        assert_eq!(world.ask("download", &file).await.status, 200, "it may be had as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_502() {
    let authority = Authority::new();
    let world = World::new(&authority).await;
    let gone = authority.place().await.name;
    world.is_refused(&at(&gone, "file"), 502, "M_UNKNOWN").await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_504() {
    let authority = Authority::new();
    let world = World::new(&authority).await;
    let place = authority.place().await;
    let file = at(&place.name, "file");
    let (listener, acceptor) = place.bare();
    for what in ["download", "thumbnail"] {
        let silent = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0, "it was asked");
            // From here on nobody does anything but wait.
            tokio::time::pause();
            let rest = stream.read_to_end(&mut Vec::new()).await;
            tokio::time::resume();
            rest
        };
        let (got, _) = tokio::join!(world.ask(what, &file), silent);
        refused(&got, 504, "M_UNKNOWN", what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_kept_elsewhere_and_breaks_off_is_502_and_not_kept() {
    let authority = Authority::new();
    let world = World::new(&authority).await;
    let store = authority.place().await;
    let place = format!("https://{}/file", store.name);
    let (listener, acceptor) = store.bare();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let server = Server::start(&authority, move |_, path, _| {
        let body = format!(
            "--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\nLocation: {place}\r\n\r\n\r\n--b--\r\n"
        );
        let answer = Response::builder().header("content-type", "multipart/mixed; boundary=b");
        path.contains("/media/").then(|| answer.body(body.into()).unwrap())
    })
    .await;
    for _ in 0..2 {
        world.is_refused(&at(&server.stranger.name, "file"), 502, "M_UNKNOWN").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_uploaded_yet_is_504_and_comes_to_who_waits_for_it() {
    let authority = Authority::new();
    let world = World::new(&authority).await;
    let token = Some(&*world.alice.token);
    for what in ["download", "thumbnail"] {
        let made = world.wire.ask(&Method::POST, "/_matrix/media/v1/create", token, "{}").await.json;
        let file = made["content_uri"].as_str().unwrap().replace("mxc://", "");
        world.is_refused(&file, 504, "M_NOT_YET_UPLOADED").await;
        let waiting = Wire::to(&world.node).await;
        let path = format!("/_matrix/client/v1/media/{what}/{file}?width=32&height=32&timeout_ms=50000");
        let uploading = async {
            let upload = format!("/_matrix/media/v3/upload/{file}");
            world.wire.ask(&Method::PUT, &upload, token, DOT).await
        };
        let (got, uploaded) = tokio::join!(waiting.ask(&Method::GET, &path, token, ""), uploading);
        assert_eq!((got.status, uploaded.status), (200, 200), "{what}: {got:?} {uploaded:?}");
    }
}

/// A GIF of one pixel.
const DOT: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
