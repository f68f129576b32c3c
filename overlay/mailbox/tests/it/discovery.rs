//! Keys by which contacts find an onion service that shows itself to nobody else.

use millpond_mailbox::{discovery::DiscoveryKey, item::Item, link::Link, time::UnixMillis};

use crate::{
    carrier::{ALICE, BOB, DAY_MS, World},
    world::{NOW, Node, linked},
};

fn of_offer(link: &Link, now: UnixMillis) -> Option<DiscoveryKey> {
    link.first_contact_discovery(now).map(|secret| secret.public())
}

fn of_link(link: &Link) -> Option<DiscoveryKey> {
    link.discovery().map(|secret| secret.public())
}

#[test]
fn whoever_has_the_contact_link_finds_its_maker_while_it_can_be_answered_and_no_longer() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (at_alice, contact) = alice.offer();
    let at_bob = bob.add(&contact);
    assert!(of_offer(&at_alice, NOW).is_some());
    assert_eq!(of_offer(&at_alice, NOW), of_offer(&at_bob, NOW));
    assert_eq!((of_link(&at_alice), of_link(&at_bob)), (None, None));
    assert_eq!(of_offer(&at_alice, at_alice.expiry()), None);
    let (other, _) = alice.offer();
    assert_ne!(of_offer(&at_alice, NOW), of_offer(&other, NOW));
    let (at_alice, _) = linked(&mut alice, &mut bob);
    assert!(of_offer(&at_alice, NOW).is_some(), "a second answer must be seen");
}

#[test]
fn a_link_has_a_key_of_its_own_that_the_contact_link_does_not_give() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, at_bob) = linked(&mut alice, &mut bob);
    assert!(of_link(&at_alice).is_some());
    assert_eq!(of_link(&at_alice), of_link(&at_bob));
    assert_ne!(of_link(&at_alice), of_offer(&at_alice, NOW));
    at_alice.remove();
    assert_eq!((of_link(&at_alice), of_offer(&at_alice, NOW)), (None, None));
}

#[test]
fn the_key_stays_the_same_when_the_secrets_of_the_link_are_others() {
    let mut world = World::new(1);
    let key = of_link(&world.sides[ALICE].link);
    assert!(key.is_some());
    for _ in 0..8 * 7 {
        for side in [ALICE, BOB] {
            world.sides[side].offer(Item::Verdict(b"so that it steps".to_vec()));
        }
        world.run(DAY_MS);
    }
    for side in &world.sides {
        assert!(side.session.link_secrets().iter().all(|secret| secret.epoch().0 > 0), "the first is gone");
        assert_eq!(Some(side.session.discovery().public()), key);
        assert!(of_link(&side.link).is_none_or(|of_link| Some(of_link) == key));
    }
}
