//! What the threat model says that nobody can do. Each test fails when the protection is taken out.

use millpond_mailbox::{
    bundle::{Bundle, BundleError},
    contact_link::ContactLink,
    exchange::{open_answer, seal_answer},
    link::{Effect, Link, LinkError, Own, Phase, hint_table},
    message::Message,
    secrets::S0,
    stream::{Dialer, EphemeralSeed, accept},
    xwing::XWingSecret,
};
use serde_cbor::Value;

use crate::world::{NOW, Node, TestRng, linked, sent};

/// Bob's side up to the messages that he would send.
fn answered(bob: &mut Node, contact: &ContactLink, offer: &Message) -> (Link, Message, Message) {
    let mut at_bob = bob.add(contact);
    let [answer, confirm] = sent(&bob.handle(&mut at_bob, offer).expect("good")).try_into().expect("two");
    (at_bob, answer, confirm)
}

#[test]
fn an_interceptor_who_answers_as_himself_is_visible_by_name() {
    let (mut alice, mut mallory) = (Node::new(1), Node::new(66));
    let (mut at_alice, contact) = alice.offer();
    let (_, answer, confirm) = answered(&mut mallory, &contact, &at_alice.opening(false)[0]);
    alice.handle(&mut at_alice, &answer).expect("he holds s0");
    let effects = alice.handle(&mut at_alice, &confirm).expect("with his own key");
    assert!(effects.contains(&Effect::AskUser { peer: mallory.name() }));
}

#[test]
fn a_second_answer_raises_the_alarm_and_neither_is_kept() {
    for user_said_yes in [false, true] {
        let (mut alice, mut bob, mut mallory) = (Node::new(1), Node::new(2), Node::new(66));
        let (mut at_alice, contact) = alice.offer();
        let offer = at_alice.opening(false).remove(0);
        let (_, first, confirm) = answered(&mut mallory, &contact, &offer);
        let (_, second, _) = answered(&mut bob, &contact, &offer);
        alice.handle(&mut at_alice, &first).expect("the first");
        alice.handle(&mut at_alice, &confirm).expect("the first");
        if user_said_yes {
            at_alice.confirm().expect("asked");
        }
        let effects = alice.handle(&mut at_alice, &second).expect("the second");
        assert_eq!(effects, [Effect::Persist, Effect::Alarm { first: mallory.name(), second: bob.name() }]);
        assert_eq!(at_alice.phase(), Phase::Alarmed);
        assert_eq!(at_alice.established_peer(), None);
        assert!(hint_table([&at_alice], NOW).is_empty(), "neither is kept");
        assert!(at_alice.confirm().is_err());
    }
}

#[test]
fn an_invalid_second_answer_changes_nothing() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    let offer = at_alice.opening(false).remove(0);
    let (_, answer, confirm) = answered(&mut bob, &contact, &offer);
    alice.handle(&mut at_alice, &answer).expect("good");
    let Message::Answer(mut junk) = answer else { panic!("an answer") };
    *junk.last_mut().expect("not empty") ^= 1;
    assert!(matches!(alice.handle(&mut at_alice, &Message::Answer(junk)), Err(LinkError::Answer { .. })));
    alice.handle(&mut at_alice, &confirm).expect("the first answer still stands");
}

/// The heart of the matter: Mallory holds the contact link and a bundle that Bob once gave him.
#[test]
fn somebody_elses_bundle_cannot_be_presented() {
    let (mut alice, mut bob, mut mallory) = (Node::new(1), Node::new(2), Node::new(66));
    // 1. Mallory has an exchange of his own with Bob, so he knows a bundle with Bob's valid certificate.
    let (at_mallory, bobs_contact) = mallory.offer();
    let mallorys_box = at_mallory.opening(false).remove(0);
    let (_, bobs_answer, bobs_confirm) = answered(&mut bob, &bobs_contact, &mallorys_box);
    let stolen = opened_bundle(&at_mallory, &bobs_contact, &bobs_answer);
    assert_eq!(Bundle::open(&stolen).expect("it is genuine").name(), &bob.name());

    // 2. He answers Alice's contact link with it.
    let (mut at_alice, contact) = alice.offer();
    let Message::Box(plaintext) = at_alice.opening(false).remove(0) else { panic!("a box") };
    let to = Bundle::open(&plaintext).expect("Alice's").xwing;
    let sealed = seal_answer(contact.s0(), &plaintext, &to, &stolen, &mut TestRng::new(9));
    alice.handle(&mut at_alice, &Message::Answer(sealed.bytes)).expect("it opens and its certificate holds");

    // 3. He can neither replay Bob's confirmation nor make one with his own key.
    assert!(matches!(alice.handle(&mut at_alice, &bobs_confirm), Err(LinkError::Olm { .. })));
    let (_, _, mallorys_confirm) = answered(&mut mallory, &contact, &Message::Box(plaintext));
    assert!(matches!(alice.handle(&mut at_alice, &mallorys_confirm), Err(LinkError::Olm { .. })));
    assert_eq!(at_alice.phase(), Phase::Pending { by_us: false, by_them: false });
    assert!(at_alice.confirm().is_err(), "the user is never asked about Bob");
}

/// Mallory sits between: he passes Bob's genuine Olm message on, but seals the bundle to Alice himself, because he wants to
/// know LS[0].
#[test]
fn a_relayed_confirmation_is_about_another_exchange() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (mut at_alice, contact) = alice.offer();
    let Message::Box(plaintext) = at_alice.opening(false).remove(0) else { panic!("a box") };
    let (mut at_bob, answer, confirm) = answered(&mut bob, &contact, &Message::Box(plaintext.clone()));
    // Give him even what he cannot have: the plaintext of Bob's answer.
    let bundle = opened_bundle(&at_alice, &contact, &answer);
    let to = Bundle::open(&plaintext).expect("Alice's").xwing;
    let his = seal_answer(contact.s0(), &plaintext, &to, &bundle, &mut TestRng::new(9));
    alice.handle(&mut at_alice, &Message::Answer(his.bytes)).expect("it opens");
    assert!(matches!(alice.handle(&mut at_alice, &confirm), Err(LinkError::OtherTranscript)));
    assert!(bob.handle(&mut at_bob, &confirm).is_err(), "nor does it work as a reflection");
}

#[test]
fn keys_without_the_owners_certificate_are_refused() {
    let (mut alice, bob) = (Node::new(1), Node::new(2));
    let (at_alice, _) = alice.offer();
    let Message::Box(plaintext) = at_alice.opening(false).remove(0) else { panic!("a box") };
    let field = |index: usize, value: Value| {
        let Value::Array(mut fields) = serde_cbor::from_slice(&plaintext).expect("CBOR") else { panic!("an array") };
        fields[index] = value;
        Bundle::open(&serde_cbor::to_vec(&fields).expect("CBOR")).expect_err("altered")
    };
    assert!(matches!(field(3, Value::Bytes(vec![5; 32])), BundleError::Certificate));
    let other_xwing = XWingSecret::from_bytes([5; 32]).public().to_bytes();
    assert!(matches!(field(6, Value::Bytes(other_xwing)), BundleError::Certificate));
    assert!(matches!(field(7, Value::Bytes(vec![0; 64])), BundleError::Certificate));
    assert!(matches!(field(1, Value::Text(bob.name().to_string())), BundleError::KeyDocument { .. }));
    let bobs_document = Value::Bytes(bob.document.as_bytes().to_vec());
    assert!(matches!(field(2, bobs_document), BundleError::KeyDocument { .. }));
    assert!(matches!(field(0, Value::Integer(2)), BundleError::Version { version: 2 }));
}

#[test]
fn a_box_of_another_node_than_the_contact_link_says_is_refused() {
    let (mut alice, mut bob, mut mallory) = (Node::new(1), Node::new(2), Node::new(66));
    let (_, contact) = alice.offer();
    let (at_mallory, _) = mallory.offer();
    let mut at_bob = bob.add(&contact);
    let refused = bob.handle(&mut at_bob, &at_mallory.opening(false)[0]);
    assert!(matches!(refused, Err(LinkError::OtherNode { found }) if found == mallory.name()));
    assert_eq!(at_bob.phase(), Phase::Added);
}

#[test]
fn a_second_box_for_one_contact_link_is_refused() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (at_alice, contact) = alice.offer();
    let (other, _) = alice.offer();
    let (mut at_bob, ..) = answered(&mut bob, &contact, &at_alice.opening(false)[0]);
    assert!(matches!(bob.handle(&mut at_bob, &other.opening(false)[0]), Err(LinkError::OtherBox)));
}

#[test]
fn an_answer_opens_only_with_its_own_psk_box_and_key() {
    let (key, other_key) = (XWingSecret::from_bytes([1; 32]), XWingSecret::from_bytes([2; 32]));
    let (s0, other_s0) = (S0::from_bytes([3; 32]), S0::from_bytes([4; 32]));
    let sealed = seal_answer(&s0, b"box", &key.public(), b"bundle", &mut TestRng::new(1));
    let opened = open_answer(&s0, b"box", &key, &sealed.bytes).expect("the right ones");
    assert_eq!(opened.plaintext, b"bundle");
    assert_eq!(opened.th, sealed.th);
    assert_eq!(opened.secret.as_bytes(), sealed.secret.as_bytes());
    assert!(open_answer(&other_s0, b"box", &key, &sealed.bytes).is_err());
    assert!(open_answer(&s0, b"xob", &key, &sealed.bytes).is_err());
    assert!(open_answer(&s0, b"box", &other_key, &sealed.bytes).is_err());
    for position in [0, 1_119, 1_120, sealed.bytes.len() - 1] {
        let mut bad = sealed.bytes.clone();
        bad[position] ^= 1;
        assert!(open_answer(&s0, b"box", &key, &bad).is_err());
    }
    assert!(open_answer(&s0, b"box", &key, &sealed.bytes[..1_119]).is_err());
}

#[test]
fn a_stranger_who_knows_the_address_is_refused_without_an_answer() {
    let (mut alice, mut bob, mut mallory) = (Node::new(1), Node::new(2), Node::new(66));
    let (at_alice, at_bob) = linked(&mut alice, &mut bob);
    let (at_mallory, _) = linked(&mut mallory, &mut Node::new(3));
    let table = hint_table([&at_alice], NOW);
    let seed = |n| EphemeralSeed::generate(&mut TestRng::new(n));
    let (_, opening) = at_mallory.dial_requests(NOW, seed(1)).expect("works").expect("established");
    assert!(accept(&table, &opening, seed(2)).is_err());

    // A hint that he has seen does not help him: he lacks the psk.
    let (_, seen) = at_bob.dial_requests(NOW, seed(1)).expect("works").expect("established");
    let mut forged = opening;
    forged[..16].copy_from_slice(&seen[..16]);
    assert!(accept(&table, &forged, seed(2)).is_err());
    for position in 0..seen.len() {
        let mut altered = seen;
        altered[position] ^= 1;
        assert!(accept(&table, &altered, seed(2)).is_err(), "byte {position}");
    }
    assert!(accept(&table, &seen, seed(2)).is_ok());
}

#[test]
fn our_own_opening_sent_back_to_us_is_refused() {
    let (mut alice, mut bob) = (Node::new(1), Node::new(2));
    let (at_alice, _) = linked(&mut alice, &mut bob);
    let seed = |n| EphemeralSeed::generate(&mut TestRng::new(n));
    let (_, opening) = at_alice.dial_requests(NOW, seed(1)).expect("works").expect("established");
    assert!(accept(&hint_table([&at_alice], NOW), &opening, seed(2)).is_err());
}

#[test]
fn a_listener_without_the_psk_cannot_answer() {
    let (keys, role) = (S0::from_bytes([1; 32]).stream_keys(), millpond_mailbox::link::Role::Answerer);
    let (state, _) =
        Dialer::open(&keys, role, NOW.day(), EphemeralSeed::generate(&mut TestRng::new(1))).expect("works");
    assert!(state.finish(&[9; 48]).is_err());
}

#[test]
fn an_answer_in_ones_own_name_is_refused() {
    let mut alice = Node::new(1);
    let (mut at_alice, contact) = alice.offer();
    let Message::Box(plaintext) = at_alice.opening(false).remove(0) else { panic!("a box") };
    let bundle = Bundle::open(&plaintext).expect("Alice's");
    let sealed = seal_answer(contact.s0(), &plaintext, &bundle.xwing, &plaintext, &mut TestRng::new(9));
    let refused = alice.handle(&mut at_alice, &Message::Answer(sealed.bytes));
    assert!(matches!(refused, Err(LinkError::OtherNode { found }) if found == alice.name()));
}

/// What the receiver of an answer reads in it, by way of the offerer's stored row.
fn opened_bundle(at_offerer: &Link, contact: &ContactLink, answer: &Message) -> Vec<u8> {
    let (Message::Answer(answer), Message::Box(plaintext)) = (answer, at_offerer.opening(false).remove(0)) else {
        panic!("an answer and a box")
    };
    let row = at_offerer.to_bytes();
    let Value::Map(row) = serde_cbor::from_slice(&row[1..]).expect("CBOR") else { panic!("a map") };
    let Some(Value::Bytes(key)) = row.get(&Value::Text("xwing".to_owned())) else { panic!("the offer's key") };
    let key = XWingSecret::from_bytes(key.as_slice().try_into().expect("32 bytes"));
    open_answer(contact.s0(), &plaintext, &key, answer).expect("it is for this offer").plaintext
}

#[test]
fn a_node_does_not_link_with_itself_over_an_introduction() {
    let alice = Node::new(1);
    let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &alice.ways, stamps: &[] };
    let link = Link::introduce(&own, &alice.name(), NOW, &mut TestRng::new(1));
    let offer = link.intro_offer().expect("open");
    let refused = Link::answer_introduction(&own, &offer, NOW, &mut TestRng::new(2));
    assert!(matches!(refused, Err(LinkError::OtherNode { .. })));
}
