//! Many requests, large ones, and those that must end in a clear error.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode};
use millpond_overlay::transport::memory::MemoryNet;
use millpond_overlay::{Limits, RouteError};
use tokio::time::Instant;

use crate::support::{Seed, TestNode, link, memory_pair};

async fn pair_with(limits: Limits) -> (TestNode, TestNode) {
    let net = MemoryNet::new();
    let (mut first, mut second) = (Seed::new(), Seed::new());
    (first.limits, second.limits) = (limits.clone(), limits);
    let mut a = first.start(net.transport(1)).await;
    let mut b = second.start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    (a, b)
}

#[tokio::test]
async fn a_hundred_requests_share_one_stream() {
    let (_net, a, b) = memory_pair().await;
    let answers = join_all((0..100).map(|_| b.echo(&a.name))).await;
    assert!(answers.iter().all(|answer| answer.starts_with(b.name.as_str())));
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_once() {
    let (_net, a, b) = memory_pair().await;
    let body = Bytes::from(vec![1; 20 << 20]);
    let (up, down) = tokio::join!(b.send(&a.name, "/size", body), a.get(&b.name, "/big"));
    assert_eq!(up.unwrap().into_body(), Bytes::from((20 << 20).to_string()));
    assert_eq!(down.unwrap().into_body().len(), 20 << 20);
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_by_sender_and_receiver() {
    let (a, b) = pair_with(Limits { max_body: 1 << 20, ..Limits::default() }).await;
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let refused = b.send(&a.name, "/size", large).await.unwrap_err();
    assert_eq!(refused, RouteError::TooLarge { what: "request", limit: 1 << 20 });
    let answer = b.get(&a.name, "/big").await.unwrap_err();
    assert_eq!(answer, RouteError::TooLarge { what: "response", limit: 1 << 20 });
    assert_eq!(b.send(&a.name, "/size", Bytes::from(vec![0; 1 << 20])).await.unwrap().body(), "1048576");
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_all_of_them_get_503() {
    let (a, b) = pair_with(Limits { body_budget: 1 << 20, ..Limits::default() }).await;
    let response = b.send(&a.name, "/size", Bytes::from(vec![0; 2 << 20])).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let response = b.send(&a.name, "/size", Bytes::from(vec![0; 1 << 19])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "the memory was given back");
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_with_the_deadline_and_blocks_nobody() {
    let (_net, a, b) = memory_pair().await;
    let request = Request::builder().uri("/never").body(Bytes::new()).unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(b.overlay.request(&a.name, request, soon).await.unwrap_err(), RouteError::Timeout);
    assert!(b.echo(&a.name).await.starts_with(b.name.as_str()));
}

#[tokio::test]
async fn a_node_without_a_link_is_no_link() {
    let (_net, a, _b) = memory_pair().await;
    assert_eq!(a.get(&Seed::new().name(), "/echo").await.unwrap_err(), RouteError::NoLink);
}

#[tokio::test]
async fn shutdown_ends_within_two_seconds_with_a_request_open() {
    let (_net, a, b) = memory_pair().await;
    let request = Request::builder().uri("/never").body(Bytes::new()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let open = b.overlay.request(&a.name, request, deadline);
    let stop = async {
        b.echo(&a.name).await;
        let began = Instant::now();
        b.overlay.shutdown().await;
        a.overlay.shutdown().await;
        began.elapsed()
    };
    let (answer, took) = tokio::join!(open, stop);
    assert_eq!(answer.unwrap_err(), RouteError::Closed);
    assert!(took < Duration::from_secs(4), "two shutdowns took {took:?}");
    assert_eq!(b.get(&a.name, "/echo").await.unwrap_err(), RouteError::Closed);
}
