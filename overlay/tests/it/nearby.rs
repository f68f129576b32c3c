//! Contacts on the local network, found by those who chose to be visible there.

use millpond_overlay::transport::memory::MemoryNet;
use millpond_overlay::{Event, LinkState};

use crate::support::{Seed, TestNode, link};

/// A at 1 and B, who has moved from 2 to 22 and has told nobody.
async fn after_a_move(net: &MemoryNet) -> (TestNode, TestNode) {
    let (a_seed, b_seed) = (Seed::new(), Seed::new());
    let mut a = a_seed.start(net.transport(1)).await;
    let mut b = b_seed.start(net.transport(2)).await;
    b.overlay.listen().await.unwrap();
    link(&mut a, &mut b).await;
    a.overlay.shutdown().await;
    b.overlay.shutdown().await;
    let b = b_seed.start(net.transport(22)).await;
    b.overlay.listen().await.unwrap();
    (a_seed.start(net.transport(1)).await, b)
}

async fn up(node: &mut TestNode, with: &TestNode) {
    node.until(|event| matches!(event, Event::LinkUp { peer } if *peer == with.name)).await;
}

#[tokio::test]
async fn a_contact_that_shows_up_nearby_is_connected_to_without_being_asked_for() {
    let net = MemoryNet::new();
    let (mut a, b) = after_a_move(&net).await;
    net.show(1, 22);
    up(&mut a, &b).await;
    assert!(a.echo(&b.name).await.starts_with(a.name.as_str()));
}

#[tokio::test]
async fn a_contact_that_shows_up_while_its_old_addresses_are_tried_is_tried_next() {
    let net = MemoryNet::new();
    let (mut a, b) = after_a_move(&net).await;
    let mut old_address = net.occupy(2);
    let asked = {
        let (overlay, to) = (a.overlay.clone(), b.name.clone());
        tokio::spawn(async move { overlay.connect(&to, crate::support::soon()).await })
    };
    let dialled = old_address.recv().await.unwrap();
    net.show(1, 22);
    drop((dialled, old_address));
    up(&mut a, &b).await;
    asked.await.unwrap().expect("who waited for the old attempt has the new one's stream");
}

#[tokio::test]
async fn strangers_nearby_are_no_contacts() {
    let net = MemoryNet::new();
    let (mut a, b) = after_a_move(&net).await;
    let stranger = Seed::new().start(net.transport(33)).await;
    stranger.overlay.listen().await.unwrap();
    net.show(1, 33);
    net.show(1, 22);
    up(&mut a, &b).await;
    assert!(stranger.overlay.links().is_empty());
    assert_eq!(a.overlay.links().iter().filter(|link| link.state == LinkState::Established).count(), 1);
}
