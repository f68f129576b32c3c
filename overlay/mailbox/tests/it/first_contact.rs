//! The first contact of two honest nodes, with crashes, repetitions and clocks.

use millpond_mailbox::{
    link::{Effect, GRACE, Link, LinkClass, LinkError, Phase, Role, StreamKind, hint_table},
    message::Message,
    secrets::Epoch,
    stream::{EphemeralSeed, accept},
    time::UnixMillis,
};

use crate::world::{DAY_MS, NOW, Node, TestRng, linked, restart, sent};

#[test]
fn both_sides_end_established_with_each_others_names_and_documents() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (at_alice, at_bob) = linked(&mut alice, &mut bob);
    assert_eq!(at_alice.phase(), Phase::Established);
    assert_eq!(at_bob.phase(), Phase::Established);
    assert_eq!(at_alice.established_peer(), Some(&bob.name()));
    assert_eq!(at_bob.established_peer(), Some(&alice.name()));
    assert_eq!(at_alice.peer_key_document(), Some(bob.document.as_bytes()));
    assert_eq!(at_alice.peer_ways(), bob.ways);
    assert_eq!(at_bob.peer_ways(), alice.ways);
    assert_eq!(at_alice.id(), at_bob.id());
    assert_eq!((at_alice.role(), at_bob.role()), (Role::Offerer, Role::Answerer));
    assert_eq!(at_alice.class(), LinkClass::Contact);
    assert!(!at_alice.wants_first_contact(NOW) && !at_bob.wants_first_contact(NOW));
}

#[test]
fn the_user_is_asked_only_after_the_answerer_has_proven_its_name() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    let mut at_bob = bob.add(&contact);
    assert!(at_alice.confirm().is_err());
    let [answer, confirm] =
        sent(&bob.handle(&mut at_bob, &at_alice.opening(false)[0]).expect("good")).try_into().expect("two");
    assert_eq!(alice.handle(&mut at_alice, &answer).expect("good"), [Effect::Persist]);
    assert!(at_alice.confirm().is_err(), "only the answer came: the name is a claim");
    let effects = alice.handle(&mut at_alice, &confirm).expect("good");
    assert_eq!(effects, [Effect::Persist, Effect::AskUser { peer: bob.name() }]);
    assert_eq!(at_alice.established_peer(), None);
    assert_eq!(at_bob.phase(), Phase::Pending { by_us: true, by_them: false });
    at_alice.confirm().expect("now there is something to confirm");
    assert_eq!(at_alice.established_peer(), Some(&bob.name()));
}

#[test]
fn a_crash_after_every_step_loses_nothing() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    restart(&mut at_alice);
    assert_eq!(at_alice.contact_link(&alice.identity.public()).expect("still open").to_uri(), contact.to_uri());
    let mut at_bob = bob.add(&contact);
    restart(&mut at_bob);
    let offer = at_alice.opening(false).remove(0);
    bob.handle(&mut at_bob, &offer).expect("good");
    restart(&mut at_bob);
    // Nothing of what the first stream carried arrived; the next one carries the same bytes.
    let [answer, confirm] = at_bob.opening(true).try_into().expect("answer and confirmation");
    assert_eq!(sent(&bob.handle(&mut at_bob, &offer).expect("again")), [answer.clone(), confirm.clone()]);
    alice.handle(&mut at_alice, &answer).expect("good");
    restart(&mut at_alice);
    assert_eq!(alice.handle(&mut at_alice, &answer).expect("the same answer again"), []);
    alice.handle(&mut at_alice, &confirm).expect("good");
    restart(&mut at_alice);
    assert_eq!(alice.handle(&mut at_alice, &confirm).expect("the same again"), []);
    at_alice.confirm().expect("asked");
    restart(&mut at_alice);
    assert!(at_alice.wants_first_contact(NOW));
    let [yes] = at_alice.opening(true).try_into().expect("the confirmation");
    assert_eq!(sent(&alice.handle(&mut at_alice, &answer).expect("again")), std::slice::from_ref(&yes));
    let done = sent(&bob.handle(&mut at_bob, &yes).expect("good"));
    restart(&mut at_bob);
    assert_eq!(sent(&bob.handle(&mut at_bob, &yes).expect("again")), done);
    alice.handle(&mut at_alice, &done[0]).expect("good");
    assert_eq!(alice.handle(&mut at_alice, &done[0]).expect("again"), []);
    assert!(!at_alice.wants_first_contact(NOW));
}

#[test]
fn request_streams_open_both_ways_once_and_only_once_established() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let seed = || EphemeralSeed::generate(&mut TestRng::new(5));
    let (pending, _) = alice.offer();
    assert!(pending.dial_requests(NOW, seed()).expect("works").is_none());

    let (at_alice, at_bob) = linked(&mut alice, &mut bob);
    for (dialer, listener, expected) in [(&at_alice, &at_bob, alice.name()), (&at_bob, &at_alice, bob.name())] {
        let (state, opening) = dialer.dial_requests(NOW, seed()).expect("works").expect("established");
        let table = hint_table([listener], UnixMillis(NOW.0 + DAY_MS));
        let accepted = accept(&table, &opening, EphemeralSeed::generate(&mut TestRng::new(6))).expect("known");
        assert_eq!(accepted.owner.peer, Some(expected));
        assert_eq!(accepted.owner.kind, StreamKind::Requests(Epoch(0)));
        state.finish(&accepted.reply).expect("the same secret");
    }
}

#[test]
fn a_first_contact_stream_opens_with_nothing_but_the_contact_link() {
    let mut alice = Node::new(1);
    let (at_alice, contact) = alice.offer();
    let at_bob = Node::new(2).add(&contact);
    let (state, opening) =
        at_bob.dial_first_contact(NOW, EphemeralSeed::generate(&mut TestRng::new(5))).expect("works").expect("live");
    let table = hint_table([&at_alice], NOW);
    let accepted = accept(&table, &opening, EphemeralSeed::generate(&mut TestRng::new(6))).expect("known");
    assert_eq!((accepted.owner.peer, accepted.owner.kind), (None, StreamKind::FirstContact));
    state.finish(&accepted.reply).expect("the same secret");
}

#[test]
fn a_removed_link_answers_no_stream_and_keeps_no_secret() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, at_bob) = linked(&mut alice, &mut bob);
    let full = at_alice.to_bytes().len();
    assert_eq!(at_alice.remove(), [Effect::Persist]);
    assert!(hint_table([&at_alice], NOW).is_empty());
    assert!(at_alice.to_bytes().len() < full);
    let (_, opening) =
        at_bob.dial_requests(NOW, EphemeralSeed::generate(&mut TestRng::new(5))).expect("works").expect("established");
    let table = hint_table([&at_alice], NOW);
    assert!(accept(&table, &opening, EphemeralSeed::generate(&mut TestRng::new(6))).is_err());
    assert!(matches!(alice.handle(&mut at_alice, &Message::Answer(vec![])), Err(LinkError::Closed)));
}

#[test]
fn an_unanswered_offer_ends_at_its_expiry_and_its_keys_14_days_later() {
    let mut alice = Node::new(1);
    let (mut at_alice, contact) = alice.offer();
    assert_eq!(contact.expiry(), UnixMillis(NOW.0 + 14 * DAY_MS));
    assert_eq!(hint_table([&at_alice], UnixMillis(contact.expiry().0 - 1)).len(), 1);
    assert!(hint_table([&at_alice], contact.expiry()).is_empty());
    assert_eq!(at_alice.tick(contact.expiry()), []);
    assert_eq!(at_alice.tick(contact.expiry().after(GRACE)), [Effect::Persist, Effect::Expired]);
    assert_eq!(at_alice.phase(), Phase::Removed);
}

#[test]
fn an_established_link_forgets_its_offer_but_not_its_secret() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, _) = linked(&mut alice, &mut bob);
    let late = at_alice.expiry().after(GRACE);
    assert_eq!(hint_table([&at_alice], NOW).len(), 2);
    assert_eq!(at_alice.tick(late), [Effect::Persist]);
    assert_eq!(at_alice.tick(late), []);
    assert_eq!(hint_table([&at_alice], late).len(), 1);
    assert_eq!(at_alice.established_peer(), Some(&bob.name()));
}

#[test]
fn a_request_stream_from_the_other_side_counts_as_its_last_message() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    let mut at_bob = bob.add(&contact);
    assert_eq!(at_alice.note_request_stream(), []);
    for message in sent(&bob.handle(&mut at_bob, &at_alice.opening(false)[0]).expect("good")) {
        alice.handle(&mut at_alice, &message).expect("good");
    }
    at_alice.confirm().expect("asked");
    assert_eq!(at_alice.note_request_stream(), [Effect::Persist]);
    assert!(!at_alice.wants_first_contact(NOW));
}

#[test]
fn a_removed_link_is_remembered_as_long_as_its_offer_could_come_again() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    let mut at_bob = bob.add(&contact);
    assert_eq!(contact.link_id(), at_bob.id());
    let offer = at_alice.opening(false).remove(0);
    bob.handle(&mut at_bob, &offer).expect("good");
    at_bob.remove();
    assert!(matches!(bob.handle(&mut at_bob, &offer), Err(LinkError::Closed)));
    assert_eq!(at_bob.tick(UnixMillis(at_bob.expiry().after(GRACE).0 - 1)), []);
    assert_eq!(at_bob.tick(at_bob.expiry().after(GRACE)), [Effect::Expired]);
    at_alice.remove();
}

#[test]
fn a_row_of_another_version_is_refused() {
    let (link, _) = Node::new(1).offer();
    let mut row = link.to_bytes();
    row[0] = 2;
    assert!(matches!(Link::from_bytes(&row), Err(LinkError::Stored { version: 2 })));
    assert!(matches!(Link::from_bytes(&[]), Err(LinkError::Stored { version: 0 })));
    assert!(matches!(Link::from_bytes(&[1, 0xff]), Err(LinkError::Stored { version: 1 })));
}
