//! Strangers at the address: whatever they send, not one byte comes back.

use std::time::Duration;

use millpond_overlay::transport::Transport;
use millpond_overlay::transport::memory::MemoryNet;
use millpond_overlay::{Alarm, Event, Limits, LinkState, RouteError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{PATIENCE, Seed, libp2p, link, memory_pair};

/// Everything that comes back until the stream ends.
async fn all_answers(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the stream is closed");
    answer
}

#[tokio::test]
async fn a_stranger_gets_no_byte_of_an_answer() {
    let (net, _a, _b) = memory_pair().await;
    for opening in [vec![0; 64], vec![0xff; 64], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".repeat(4)] {
        let mut stream = net.dial(1, "a stranger").await.unwrap();
        let _ = stream.write_all(&opening).await;
        assert_eq!(all_answers(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn an_unlinked_node_gets_no_byte_of_an_answer_over_libp2p() {
    let mut a = Seed::new().start(libp2p()).await;
    let mut b = Seed::new().start(libp2p()).await;
    link(&mut a, &mut b).await;
    let address = a.overlay.listen().await.unwrap().remove(0);
    let stranger = libp2p();
    let (sender, _incoming) = mpsc::channel(1);
    stranger.start(sender).unwrap();
    let mut stream = stranger.dial(&address).await.unwrap();
    stream.write_all(&[7; 64]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(all_answers(&mut stream).await, b"");
    stranger.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_says_nothing_is_closed_after_the_handshake_time() {
    let (net, _a, _b) = memory_pair().await;
    let began = tokio::time::Instant::now();
    let mut stream = net.dial(1, "a stranger").await.unwrap();
    assert_eq!(all_answers(&mut stream).await, b"");
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&began.elapsed()));
}

#[tokio::test]
async fn a_contact_link_that_was_taken_back_opens_nothing() {
    let net = MemoryNet::new();
    let a = Seed::new().start(net.transport(1)).await;
    let mut b = Seed::new().start(net.transport(2)).await;
    let shown = a.overlay.offer().await.unwrap();
    a.overlay.forget(a.overlay.links()[0].id).await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    b.until(|event| matches!(event, Event::ContactFailed { .. })).await;
    assert_eq!(b.overlay.links()[0].state, LinkState::Dialling);
    assert!(a.overlay.links().is_empty());
}

#[tokio::test]
async fn two_answers_to_one_contact_link_raise_the_alarm_and_keep_neither() {
    let net = MemoryNet::new();
    let mut a = Seed::new().start(net.transport(1)).await;
    let b = Seed::new().start(net.transport(2)).await;
    let c = Seed::new().start(net.transport(3)).await;
    let shown = a.overlay.offer().await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    a.until(|event| matches!(event, Event::Pending { .. })).await;
    c.overlay.accept(&shown).await.unwrap();
    let (first, second) = (b.name.clone(), c.name.clone());
    let alarm = Event::Alarm { alarm: Alarm::TwoAnswers { first, second } };
    a.until(|event| *event == alarm).await;
    assert!(a.overlay.confirm(&b.name).await.is_err());
    assert_eq!(a.overlay.links()[0].state, LinkState::Closed);
    assert_eq!(a.get(&b.name, "/echo").await.unwrap_err(), RouteError::NoLink);
}

#[tokio::test]
async fn unproven_streams_are_bounded_for_each_source_and_for_all() {
    let net = MemoryNet::new();
    let mut seed = Seed::new();
    seed.limits = Limits { unauthenticated_streams: 3, unauthenticated_per_source: 2, ..Limits::default() };
    let a = seed.start(net.transport(1)).await;
    a.overlay.listen().await.unwrap();
    let mut open = Vec::new();
    for source in ["x", "x", "y"] {
        open.push(net.dial(1, source).await.unwrap());
    }
    for source in ["x", "y", "z"] {
        let mut surplus = net.dial(1, source).await.unwrap();
        let closed = timeout(Duration::from_secs(5), all_answers(&mut surplus)).await;
        assert_eq!(closed.expect("closed at once, not after the handshake time"), b"");
    }
    // A stranger who is shown out leaves room for the next.
    let mut first = open.remove(0);
    first.write_all(&[0; 64]).await.unwrap();
    assert_eq!(all_answers(&mut first).await, b"");
}

#[tokio::test]
async fn a_contact_link_is_answered_at_most_twenty_times_an_hour() {
    let net = MemoryNet::new();
    let mut seed = Seed::new();
    seed.limits.first_contacts_per_hour = 1;
    let a = seed.start(net.transport(1)).await;
    let shown = a.overlay.offer().await.unwrap();
    let mut answered = 0;
    // After a second answer the alarm alone would shut the others out.
    for number in 2..4 {
        let b = Seed::new().start(net.transport(number)).await;
        b.overlay.accept(&shown).await.unwrap();
        // The offerer's box shows a name to the answerer; without it the stream was closed.
        let name = a.name.clone();
        let mut links = b.overlay.watch();
        let seen = links.wait_for(|links| links[0].peer.as_ref() == Some(&name));
        answered += usize::from(timeout(Duration::from_secs(2), seen).await.is_ok());
    }
    assert_eq!(answered, 1);
}
