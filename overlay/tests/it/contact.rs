//! First contact: from a contact link to requests both ways, and what ends a link.

use millpond_overlay::{Event, LinkState, RouteError};

use crate::support::{Seed, link, memory_pair};
use millpond_overlay::transport::memory::MemoryNet;

#[tokio::test]
async fn a_contact_link_makes_a_link_that_carries_requests_both_ways() {
    let (_net, a, b) = memory_pair().await;
    assert_eq!(b.echo(&a.name).await, format!("{} Contact PUT /echo?x=1", b.name));
    assert_eq!(a.echo(&b.name).await, format!("{} Contact PUT /echo?x=1", a.name));
    assert!(a.overlay.connected(&b.name));
    assert!(b.overlay.connected(&a.name));
}

#[tokio::test]
async fn nothing_goes_over_a_link_before_the_offerer_confirms() {
    let net = MemoryNet::new();
    let mut a = Seed::new().start(net.transport(1)).await;
    let mut b = Seed::new().start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    let shown = a.overlay.offer().await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    a.until(|event| matches!(event, Event::Pending { .. })).await;
    assert_eq!(b.get(&a.name, "/echo").await.unwrap_err(), RouteError::NoLink);
    assert_eq!(a.get(&b.name, "/echo").await.unwrap_err(), RouteError::NoLink);
    assert_eq!(a.overlay.links()[0].state, LinkState::AwaitsUs);
    assert_eq!(b.overlay.links()[0].state, LinkState::AwaitsPeer);
    a.overlay.confirm(&b.name).await.unwrap();
    let name = a.name.clone();
    b.established(&name).await;
    assert_eq!(a.echo(&b.name).await, format!("{} Contact PUT /echo?x=1", a.name));
}

#[tokio::test]
async fn a_removed_peer_is_cut_off_and_refused() {
    let (_net, mut a, mut b) = memory_pair().await;
    b.echo(&a.name).await;
    a.overlay.remove(&b.name).await.unwrap();
    let (a_name, b_name) = (a.name.clone(), b.name.clone());
    a.until(|event| matches!(event, Event::LinkDown { peer } if *peer == b_name)).await;
    b.until(|event| matches!(event, Event::LinkDown { peer } if *peer == a_name)).await;
    assert_eq!(b.get(&a_name, "/echo").await.unwrap_err(), RouteError::Refused);
    assert_eq!(a.get(&b_name, "/echo").await.unwrap_err(), RouteError::NoLink);
    link(&mut a, &mut b).await;
    assert!(b.echo(&a_name).await.starts_with(b_name.as_str()));
}
