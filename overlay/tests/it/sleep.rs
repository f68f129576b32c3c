//! A device that goes to sleep and wakes.

use millpond_overlay::RouteError;

use crate::support::{Seed, memory_pair};

#[tokio::test]
async fn a_sleeping_node_dials_nobody_and_an_awake_one_is_there_at_once() {
    let (_net, a, b) = memory_pair().await;
    a.echo(&b.name).await;
    a.overlay.suspend().await.unwrap();
    assert!(!a.overlay.connected(&b.name));
    assert_eq!(a.get(&b.name, "/echo").await.unwrap_err(), RouteError::Unreachable);
    // Twice is once.
    a.overlay.suspend().await.unwrap();
    a.overlay.resume().await.unwrap();
    a.echo(&b.name).await;
    b.echo(&a.name).await;
}

#[tokio::test]
async fn a_contact_added_in_sleep_is_called_when_the_node_wakes() {
    let net = millpond_overlay::transport::memory::MemoryNet::new();
    let mut a = Seed::new().start(net.transport(1)).await;
    let mut b = Seed::new().start(net.transport(2)).await;
    let shown = a.overlay.offer().await.unwrap();
    b.overlay.suspend().await.unwrap();
    b.overlay.accept(&shown).await.unwrap();
    b.overlay.resume().await.unwrap();
    let b_name = b.name.clone();
    a.until(|event| matches!(event, millpond_overlay::Event::Pending { peer } if *peer == b_name)).await;
    a.overlay.confirm(&b.name).await.unwrap();
    let a_name = a.name.clone();
    b.established(&a_name).await;
}
