//! Introductions: a link of class room through a carrier who sees nothing.

use millpond_mailbox::{
    introduction::{IntroBody, IntroError, Introduction, own_offer_counts},
    link::{Effect, Link, LinkClass, LinkError, Own, Phase},
    message::Message,
};

use crate::world::{NOW, Node, TestRng, document, sent};

const ROOM: &str = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";

fn own(node: &Node) -> Own<'_> {
    Own { identity: &node.identity, key_document: &node.document, ways: &node.ways, stamps: &[] }
}

/// Through the carrier as bytes.
fn carry(from: &mut Node, to: &Node, body: &IntroBody) -> IntroBody {
    let sealed = Introduction::seal(&to.document, ROOM, body, &mut from.rng).expect("sealed");
    let carried = Introduction::from_bytes(&sealed.to_bytes()).expect("our own");
    assert_eq!((carried.to(), carried.room_id()), (&to.name(), ROOM));
    carried.open(&to.name(), &to.intro).expect("for him")
}

fn message(body: IntroBody) -> Message {
    match body {
        IntroBody::Message { message, .. } => message,
        IntroBody::Offer(_) => panic!("a message"),
    }
}

#[test]
fn two_members_get_a_room_link_without_asking_anybody() {
    let (mut anna, mut carl) = (Node::new(1), Node::new(3));
    let mut rng = TestRng::new(100);
    let mut at_anna = Link::introduce(&own(&anna), &carl.name(), NOW, &mut rng);
    let offer = IntroBody::Offer(at_anna.intro_offer().expect("open"));
    let IntroBody::Offer(offer) = carry(&mut anna, &carl, &offer) else { panic!("an offer") };
    assert_eq!(offer.peer().expect("checked"), anna.name());
    let (mut at_carl, effects) = Link::answer_introduction(&own(&carl), &offer, NOW, &mut rng).expect("good");
    assert_eq!((offer.link_id(), at_carl.id()), (at_anna.id(), at_anna.id()));

    let mut last = Vec::new();
    for reply in sent(&effects) {
        let body = IntroBody::Message { link: at_carl.id(), message: reply };
        let reply = message(carry(&mut carl, &anna, &body));
        last = anna.handle(&mut at_anna, &reply).expect("good");
    }
    assert_eq!(last.last(), Some(&Effect::Established { peer: carl.name() }));
    let body = IntroBody::Message { link: at_anna.id(), message: sent(&last).remove(0) };
    let yes = message(carry(&mut anna, &carl, &body));
    let done = sent(&carl.handle(&mut at_carl, &yes).expect("good")).remove(0);
    anna.handle(&mut at_anna, &done).expect("good");
    assert_eq!(at_carl.established_peer(), Some(&anna.name()));
    assert_eq!((at_anna.class(), at_carl.class()), (LinkClass::Room, LinkClass::Room));
    assert!(at_anna.contact_link(&anna.identity.public()).is_err());
}

#[test]
fn an_offer_that_comes_again_gets_the_same_answer() {
    let (mut anna, mut carl) = (Node::new(1), Node::new(3));
    let mut rng = TestRng::new(100);
    let mut at_anna = Link::introduce(&own(&anna), &carl.name(), NOW, &mut rng);
    let offer = at_anna.intro_offer().expect("open");
    let (mut at_carl, effects) = Link::answer_introduction(&own(&carl), &offer, NOW, &mut rng).expect("good");
    let again = carl.handle(&mut at_carl, &offer.to_message()).expect("the same");
    assert_eq!(sent(&again), sent(&effects));
    for message in sent(&effects).iter().chain(&sent(&again)) {
        anna.handle(&mut at_anna, message).expect("no alarm");
    }
    assert_eq!(at_anna.phase(), Phase::Established);
}

#[test]
fn the_carrier_cannot_read_redirect_or_alter() {
    let (mut anna, carl, carrier) = (Node::new(1), Node::new(3), Node::new(2));
    let at_anna = Link::introduce(&own(&anna), &carl.name(), NOW, &mut TestRng::new(100));
    let body = IntroBody::Offer(at_anna.intro_offer().expect("open"));
    let sealed = Introduction::seal(&carl.document, ROOM, &body, &mut anna.rng).expect("sealed");
    let bytes = sealed.to_bytes();
    let name = anna.name();
    assert!(!bytes.windows(16).any(|window| window == &name.as_str().as_bytes()[..16]), "nor see who sends it");

    assert!(matches!(sealed.open(&carl.name(), &carrier.intro), Err(IntroError::Open { .. })));
    assert!(matches!(sealed.open(&carrier.name(), &carrier.intro), Err(IntroError::NotForUs)));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = text.find(ROOM).expect("the room id is not sealed");
    let mut other_room = bytes.clone();
    other_room[at + 3] ^= 1;
    let other_room = Introduction::from_bytes(&other_room).expect("well formed");
    assert!(matches!(other_room.open(&carl.name(), &carl.intro), Err(IntroError::Open { .. })));
    let mut altered = bytes;
    *altered.last_mut().expect("not empty") ^= 1;
    let altered = Introduction::from_bytes(&altered).expect("well formed");
    assert!(matches!(altered.open(&carl.name(), &carl.intro), Err(IntroError::Open { .. })));
}

#[test]
fn an_introduction_is_answered_only_by_the_member_that_it_was_for() {
    let (mut anna, carl, dora) = (Node::new(1), Node::new(3), Node::new(4));
    let mut rng = TestRng::new(100);
    let mut at_anna = Link::introduce(&own(&anna), &carl.name(), NOW, &mut rng);
    // Carl hands the offer on to Dora, who answers in her own name.
    let offer = at_anna.intro_offer().expect("open");
    let (_, effects) = Link::answer_introduction(&own(&dora), &offer, NOW, &mut rng).expect("she can");
    let refused = anna.handle(&mut at_anna, &sent(&effects)[0]);
    assert!(matches!(refused, Err(LinkError::OtherNode { found }) if found == dora.name()));
    assert_eq!(at_anna.phase(), Phase::Offered);
}

#[test]
fn a_node_without_an_intro_key_cannot_be_introduced() {
    let (anna, carl) = (Node::new(1), Node::new(3));
    let mut rng = TestRng::new(100);
    let signing =
        millpond_mailbox::signing_key::SigningKey::generate(millpond_mailbox::signing_key::Generation(2), &mut rng);
    let without = document(&carl.identity, &signing, None, millpond_mailbox::signing_key::Generation(2));
    let link = Link::introduce(&own(&anna), &carl.name(), NOW, &mut rng);
    let body = IntroBody::Offer(link.intro_offer().expect("open"));
    let refused = Introduction::seal(&without, ROOM, &body, &mut rng);
    assert!(matches!(refused, Err(IntroError::NoIntroKey { name }) if name == carl.name()));
}

#[test]
fn of_two_crossing_offers_exactly_one_counts() {
    let (anna, carl) = (Node::new(1).name(), Node::new(3).name());
    assert_ne!(own_offer_counts(&anna, &carl), own_offer_counts(&carl, &anna));
}
