//! The accept loop, over a real socket of the loopback.

use std::time::Duration;

use millpond_api::{Listener, serve};
use millpond_node::links::{Arrival, LinkClass};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::harness::TestNode;

#[tokio::test]
async fn requests_are_answered_until_stop_and_idle_connections_do_not_hold_it_up() {
    let node = TestNode::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(node.node.clone(), vec![Listener::Client(listener)], stop.clone()));

    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = vec![0; 64 << 10];
        while !String::from_utf8_lossy(&rest).contains("}") {
            assert_ne!(stream.read(&mut rest).await.unwrap(), 0);
        }
    }
    stop.cancel();
    timeout(Duration::from_secs(10), serving).await.expect("serve ends").unwrap().unwrap();
    let mut left = Vec::new();
    idle.read_to_end(&mut left).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn peers_reach_the_federation_router_and_nothing_else() {
    let node = TestNode::new();
    let (arrivals, listener) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(node.node.clone(), vec![Listener::Peers(listener)], stop.clone()));
    for (path, status) in
        [("/_matrix/federation/v1/version", 200), ("/_matrix/client/versions", 404), ("/_millpond/v1/status", 404)]
    {
        let (reply, answered) = oneshot::channel();
        let request = http::Request::builder().uri(path).body(bytes::Bytes::new()).unwrap();
        let peer = node.node.core.identity().node_name().clone();
        arrivals.send(Arrival::Request { peer, class: LinkClass::Room, request, reply }).await.unwrap();
        assert_eq!(answered.await.unwrap().status(), status, "{path}");
    }
    stop.cancel();
    timeout(Duration::from_secs(10), serving).await.expect("serve ends").unwrap().unwrap();
}
