//! The direct route over real sockets on 127.0.0.1.

use bytes::Bytes;
use millpond_overlay::transport::libp2p::Libp2p;
use millpond_overlay::transport::{Address, Incoming, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{Seed, libp2p, libp2p_with, link};

/// A transport whose inbound streams are echoed.
async fn echoing(transport: &Libp2p, tasks: &mut JoinSet<()>) -> Vec<Address> {
    let (sender, mut incoming) = mpsc::channel::<Incoming>(4);
    transport.start(sender).unwrap();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Some(stream) = incoming.recv().await {
            open.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream.io);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    transport.listen(Vec::new()).await.unwrap()
}

async fn echoes(transport: &Libp2p, address: &Address) -> bool {
    let Ok(mut stream) = transport.dial(address).await else { return false };
    stream.write_all(b"who is there").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 12];
    stream.read_exact(&mut back).await.unwrap();
    back == *b"who is there"
}

fn of_kind<'a>(addresses: &'a [Address], kind: &str) -> &'a Address {
    addresses.iter().find(|address| address.to_string().contains(kind)).unwrap()
}

#[tokio::test]
async fn quic_and_tcp_carry_streams_on_one_port() {
    millpond_overlay::install_crypto_provider();
    let (a, b, mut tasks) = (libp2p(), libp2p(), JoinSet::new());
    let addresses = echoing(&a, &mut tasks).await;
    assert_eq!(addresses.len(), 2, "QUIC first, then TCP");
    echoing(&b, &mut tasks).await;
    assert!(echoes(&b, of_kind(&addresses, "/quic-v1")).await);
    assert!(echoes(&b, of_kind(&addresses, "/tcp/")).await);
    let port = |kind| of_kind(&addresses, kind).to_string().split('/').nth(4).unwrap().to_owned();
    assert_eq!(port("/quic-v1"), port("/tcp/"));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn nothing_listens_before_it_is_asked_to() {
    millpond_overlay::install_crypto_provider();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let a = libp2p_with(|config| config.port = Some(port));
    let (sender, _incoming) = mpsc::channel(4);
    a.start(sender).unwrap();
    assert!(a.local_addresses().is_empty());
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
    a.listen(Vec::new()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    a.stop().await;
}

#[tokio::test]
async fn a_node_that_does_not_listen_is_answered_over_its_own_connection() {
    millpond_overlay::install_crypto_provider();
    let (a, b) = (libp2p(), libp2p());
    let (a_sender, mut a_incoming) = mpsc::channel(4);
    a.start(a_sender).unwrap();
    let (b_sender, mut b_incoming) = mpsc::channel(4);
    b.start(b_sender).unwrap();
    let addresses = a.listen(Vec::new()).await.unwrap();
    let _held = b.dial(&addresses[0]).await.unwrap();
    let back = a_incoming.recv().await.unwrap().back.unwrap();
    let mut stream = a.dial(&back).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    stream.flush().await.unwrap();
    let mut byte = [0];
    b_incoming.recv().await.unwrap().io.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"!");
    b.stop().await;
    a.stop().await;
}

#[tokio::test]
async fn a_busy_reader_loses_no_stream() {
    millpond_overlay::install_crypto_provider();
    let (a, b) = (libp2p(), libp2p());
    let (a_sender, mut a_incoming) = mpsc::channel(1);
    a.start(a_sender).unwrap();
    let (b_sender, _b_incoming) = mpsc::channel(1);
    b.start(b_sender).unwrap();
    let addresses = a.listen(Vec::new()).await.unwrap();
    let mut streams = Vec::new();
    for byte in 0..12 {
        let mut stream = b.dial(&addresses[0]).await.unwrap();
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        streams.push(stream);
    }
    let mut seen = Vec::new();
    for _ in 0..12 {
        let mut byte = [0];
        a_incoming.recv().await.unwrap().io.read_exact(&mut byte).await.unwrap();
        seen.push(byte[0]);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..12).collect::<Vec<u8>>());
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn three_nodes_talk_over_quic_and_tcp() {
    let mut a = Seed::new().start(libp2p()).await;
    let mut b = Seed::new().start(libp2p()).await;
    let mut c = Seed::new().start(libp2p()).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    link(&mut a, &mut c).await;
    assert!(b.echo(&a.name).await.starts_with(b.name.as_str()));
    assert!(a.echo(&b.name).await.starts_with(a.name.as_str()));
    assert!(c.echo(&a.name).await.starts_with(c.name.as_str()));
    assert!(a.echo(&c.name).await.starts_with(a.name.as_str()), "over the connection of C, who does not listen");
    let body = Bytes::from((0..20_usize << 20).map(|index| (index % 251) as u8).collect::<Vec<u8>>());
    let mirrored = c.send(&a.name, "/mirror", body.clone()).await.unwrap();
    assert!(*mirrored.body() == body, "20 MiB come back as they went");
    for node in [a, b, c] {
        node.overlay.shutdown().await;
    }
}
