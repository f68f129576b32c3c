//! Introductions: two nodes that know only a third get a link of their own.

use millpond_overlay::transport::memory::MemoryNet;
use millpond_overlay::{Error, LinkClass};

use crate::support::{Seed, TestNode, link, soon};

const ROOM: &str = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";

/// C in the middle, A and B linked to it.
async fn triangle() -> (MemoryNet, TestNode, TestNode, TestNode, Seed) {
    let net = MemoryNet::new();
    let b_seed = Seed::new();
    let mut a = Seed::new().start(net.transport(1)).await;
    let mut b = b_seed.start(net.transport(2)).await;
    let mut c = Seed::new().start(net.transport(3)).await;
    a.overlay.listen().await.unwrap();
    b.overlay.listen().await.unwrap();
    link(&mut c, &mut a).await;
    link(&mut c, &mut b).await;
    (net, a, b, c, b_seed)
}

#[tokio::test]
async fn a_member_is_introduced_by_a_member_that_both_know() {
    let (_net, mut a, mut b, c, b_seed) = triangle().await;
    a.overlay.introduce(&c.name, &b_seed.document(1), ROOM, soon()).await.unwrap();
    let (a_name, b_name) = (a.name.clone(), b.name.clone());
    a.established(&b_name).await;
    b.established(&a_name).await;
    assert_eq!(a.echo(&b.name).await, format!("{a_name} Room PUT /echo?x=1"));
    assert_eq!(b.echo(&a.name).await, format!("{b_name} Room PUT /echo?x=1"));
    assert!(a.overlay.links().iter().any(|link| link.class == LinkClass::Room));
}

#[tokio::test]
async fn crossing_introductions_make_one_link() {
    let (_net, mut a, mut b, c, b_seed) = triangle().await;
    let a_document = c.overlay.key_document(&a.name).await.unwrap();
    let b_document = b_seed.document(1);
    let (one, other) = tokio::join!(
        a.overlay.introduce(&c.name, &b_document, ROOM, soon()),
        b.overlay.introduce(&c.name, &a_document, ROOM, soon()),
    );
    one.unwrap();
    other.unwrap();
    let (a_name, b_name) = (a.name.clone(), b.name.clone());
    a.established(&b_name).await;
    b.established(&a_name).await;
    assert!(a.echo(&b_name).await.starts_with(a_name.as_str()));
    assert!(b.echo(&a_name).await.starts_with(b_name.as_str()));
}

#[tokio::test]
async fn an_introduction_by_a_stranger_or_to_a_peer_is_refused() {
    let (_net, a, _b, c, b_seed) = triangle().await;
    let refused = a.overlay.introduce(&b_seed.name(), &b_seed.document(1), ROOM, soon()).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "B is no carrier for A");
    let c_document = a.overlay.key_document(&c.name).await.unwrap();
    let refused = a.overlay.introduce(&c.name, &c_document, ROOM, soon()).await;
    assert!(matches!(refused, Err(Error::Contact { .. })), "there is a link already");
}
