//! First contact through hosts: a box, an answer in a mailbox, and sessions from the first frame on.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use millpond_mailbox::{
    bundle::Bundle,
    contact_link::ContactLink,
    frame::{Frame, Grant},
    item::Item,
    link::{Effect, Link, Own, Phase},
    message::Message,
    pickup::{self, bundle_stamps},
    secrets::Transcript,
    session::{Context, Fault, InEvent, MapRows, Notice, OutEvent, Outcome, Session},
    stamp::Class,
};

use crate::{
    carrier::{ALICE, BOB, HOUR_MS, Side, World},
    world::{NOW, Node, restart},
};

/// Alice has made a contact link and left her box at both hosts; nobody has answered.
struct Offered {
    world: World,
    alice: Link,
    contact: ContactLink,
    sealed_box: Vec<u8>,
}

fn stamps_of(side: &mut Side, small: usize, large: usize) -> Vec<Grant> {
    let ordinary: Vec<usize> = (0..side.mailboxes.len()).filter(|at| !side.mailboxes[*at].own.recovery).collect();
    let mut grants = Vec::new();
    for mailbox in ordinary {
        if small > 0 {
            grants.push(side.issue(mailbox, Class::S, small));
        }
        grants.push(side.issue(mailbox, Class::L, large));
    }
    grants
}

fn offered(seed: u64) -> Offered {
    let mut world = World::new(seed);
    let intro = bundle_stamps(&stamps_of(&mut world.sides[ALICE], 0, 1));
    let node = &mut world.sides[ALICE].node;
    let own = Own { identity: &node.identity, key_document: &node.document, ways: &node.ways, stamps: &intro };
    let (alice, contact) = Link::offer(&own, NOW, &mut node.rng).expect("an offer with ways");
    let (id, sealed_box) = pickup::seal_box(&alice, &mut node.rng).expect("the offer is open");
    assert_eq!(id, pickup::box_id(&contact));
    Offered { world, alice, contact, sealed_box }
}

/// Somebody opens the box with the contact link and answers into Alice's mailbox.
fn answer(
    node: &mut Node,
    world: &mut World,
    contact: &ContactLink,
    sealed_box: &[u8],
    stamps: &[Vec<u8>],
) -> (Link, Session) {
    let mut link = Link::add(contact, &node.identity.public(), NOW).expect("fresh");
    let offer = pickup::open_box(&link, sealed_box).expect("the box of this link");
    let own = Own { identity: &node.identity, key_document: &node.document, ways: &node.ways, stamps };
    link.handle(&own, &offer, NOW, &mut node.rng).expect("a good box");
    let rows = MapRows::default();
    let ctx = Context { now: NOW, identity: &node.identity, mailboxes: &[], rows: &rows };
    let (session, effects) = pickup::answer(&mut link, &node.name(), &ctx, &mut node.rng).expect("it has answered");
    for effect in effects {
        if let OutEvent::Deposit { host, bytes, .. } = effect {
            let host = world.hosts.iter_mut().find(|known| known.key == host).expect("known");
            assert_eq!(bytes.len(), 73_728 + 148, "one L envelope");
            host.put(&bytes);
        }
    }
    (link, session)
}

/// Alice polls; what is an answer is fed to her link.
fn read_answers(world: &mut World, alice: &mut Link) -> Vec<Effect> {
    let mut effects = Vec::new();
    for arrived in world.fetch(ALICE) {
        for message in pickup::open_answer(alice, &arrived).expect("an answer") {
            let node = &mut world.sides[ALICE].node;
            let own = Own { identity: &node.identity, key_document: &node.document, ways: &node.ways, stamps: &[] };
            match alice.handle(&own, &message, NOW, &mut node.rng) {
                Ok(more) => effects.extend(more),
                // After an alarm nothing is read any more.
                Err(_) => assert_eq!(alice.phase(), Phase::Alarmed),
            }
        }
    }
    effects
}

#[test]
fn two_who_are_never_on_together_become_contacts_and_talk() {
    let Offered { mut world, mut alice, contact, sealed_box } = offered(1);
    // 1. Alice is off. Bob pastes the link, opens the box at the host, answers, and goes.
    world.sides[ALICE].awake = false;
    let stamps = bundle_stamps(&stamps_of(&mut world.sides[BOB], 24, 8));
    let mut bob = std::mem::replace(&mut world.sides[BOB].node, Node::new(77));
    let (at_bob, session) = answer(&mut bob, &mut world, &contact, &sealed_box, &stamps);
    assert_eq!(at_bob.phase(), Phase::Pending { by_us: true, by_them: false });
    // 2. Alice comes, sees who it is, says yes, and writes at once. Bob is off.
    restart(&mut alice);
    let effects = read_answers(&mut world, &mut alice);
    assert!(effects.contains(&Effect::AskUser { peer: bob.name() }));
    alice.confirm().expect("he has proven his name");
    let peer_stamps = pickup::intro_stamps(&alice);
    let at_alice = Session::begin(&mut alice, &world.sides[ALICE].node.name(), peer_stamps, NOW).expect("established");
    replace(&mut world, ALICE, alice, at_alice);
    world.sides[BOB].node = bob;
    replace(&mut world, BOB, at_bob, session);
    (world.sides[ALICE].awake, world.sides[BOB].awake) = (true, false);
    world.sides[ALICE].offer(Item::Verdict(b"an invite".to_vec()));
    world.run(HOUR_MS);
    // 3. Bob finds a frame that shows th: now the link is established, and the invite is there.
    (world.sides[ALICE].awake, world.sides[BOB].awake) = (false, true);
    world.sides[BOB].offer(Item::Verdict(b"a join".to_vec()));
    world.run(HOUR_MS);
    assert!(world.sides[BOB].saw(Notice::Established));
    assert_eq!(world.sides[BOB].link.phase(), Phase::Established);
    assert_eq!(world.sides[BOB].bodies(), vec![b"an invite".to_vec()]);
    // 4. And back.
    (world.sides[ALICE].awake, world.sides[BOB].awake) = (true, false);
    world.run(HOUR_MS);
    assert_eq!(world.sides[ALICE].bodies(), vec![b"a join".to_vec()]);
    assert!(world.sides[ALICE].saw(Notice::Delivered));
    // 5. Stamps flow from here on.
    for n in 0..100_u8 {
        world.sides[(n % 2) as usize].offer(Item::Verdict(vec![n]));
        world.sides.iter_mut().for_each(|side| side.awake = true);
        world.run(HOUR_MS);
    }
    assert_eq!(world.sides[ALICE].delivered.len(), 51);
    assert_eq!(world.sides[BOB].delivered.len(), 51);
}

fn replace(world: &mut World, side: usize, link: Link, session: Session) {
    let mailboxes = std::mem::take(&mut world.sides[side].mailboxes);
    let node = std::mem::replace(&mut world.sides[side].node, Node::new(88));
    let mut new = Side::new(node, link, session);
    new.mailboxes = mailboxes;
    new.rebind();
    world.sides[side] = new;
}

#[test]
fn two_valid_answers_raise_the_alarm_and_neither_is_kept() {
    let Offered { mut world, mut alice, contact, sealed_box } = offered(2);
    let (mut bob, mut mallory) = (Node::new(501), Node::new(502));
    answer(&mut mallory, &mut world, &contact, &sealed_box, &[]);
    let effects = read_answers(&mut world, &mut alice);
    assert!(effects.contains(&Effect::AskUser { peer: mallory.name() }), "the user sees another name");
    // Mallory used the one stamp at one host. Bob, who has the box too, hears SPENT there and uses the one at the other.
    let mut link = Link::add(&contact, &bob.identity.public(), NOW).expect("fresh");
    let offer = pickup::open_box(&link, &sealed_box).expect("the box");
    let own = Own { identity: &bob.identity, key_document: &bob.document, ways: &bob.ways, stamps: &[] };
    link.handle(&own, &offer, NOW, &mut bob.rng).expect("a good box");
    let mut rows = MapRows::default();
    let (mut session, mut effects) = {
        let ctx = Context { now: NOW, identity: &bob.identity, mailboxes: &[], rows: &rows };
        pickup::answer(&mut link, &bob.name(), &ctx, &mut bob.rng).expect("answered")
    };
    let mut outcomes = Vec::new();
    while !effects.is_empty() && outcomes.len() < 4 {
        let mut events = vec![InEvent::Slot];
        for effect in std::mem::take(&mut effects) {
            match effect {
                OutEvent::Persist(commit) => rows.apply(&commit),
                OutEvent::Deposit { id, host, bytes } => {
                    let outcome = world.hosts.iter_mut().find(|known| known.key == host).expect("known").put(&bytes);
                    outcomes.push(outcome);
                    events.insert(0, InEvent::Outcome { deposit: id, outcome });
                }
                OutEvent::Notice(_) => {}
            }
        }
        for event in events {
            let before = rows.clone();
            let ctx = Context { now: NOW, identity: &bob.identity, mailboxes: &[], rows: &before };
            effects.extend(session.handle(&ctx, event, &mut bob.rng));
            for effect in &effects {
                if let OutEvent::Persist(commit) = effect {
                    rows.apply(commit);
                }
            }
        }
    }
    assert_eq!(outcomes, vec![Outcome::Spent, Outcome::Stored]);
    let effects = read_answers(&mut world, &mut alice);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Alarm { .. })));
    assert_eq!(alice.phase(), Phase::Alarmed);
    assert!(alice.confirm().is_err());
}

#[test]
fn the_host_cannot_read_the_box_nor_hand_out_another() {
    let Offered { alice, contact, sealed_box, .. } = offered(3);
    assert!(Bundle::open(&sealed_box).is_err());
    let name = alice.peer_ways().len();
    assert_eq!(name, 0);
    let bob = Node::new(601);
    let link = Link::add(&contact, &bob.identity.public(), NOW).expect("fresh");
    for at in [0, 30, 5_000, 73_727] {
        let mut altered = sealed_box.clone();
        altered[at] ^= 1;
        assert!(pickup::open_box(&link, &altered).is_err(), "byte {at}");
    }
    assert!(pickup::open_box(&link, &sealed_box[1..]).is_err());
    let other = offered(4);
    assert!(pickup::open_box(&link, &other.sealed_box).is_err(), "the box of another link");
    // What opens it is a key that only the contact link gives, and nothing that the host is told.
    let open = |key: &[u8; 32]| {
        let (nonce, sealed) = sealed_box.split_first_chunk::<24>().expect("a nonce");
        let payload = Payload { msg: sealed, aad: &contact.s0().box_id() };
        XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(*nonce), payload)
    };
    assert!(open(&contact.s0().box_key()).is_ok());
    assert!(open(&contact.s0().box_id()).is_err());
}

#[test]
fn an_answer_does_not_open_for_another_offer_and_has_its_one_form() {
    let Offered { mut world, mut alice, contact, sealed_box } = offered(5);
    let mut bob = Node::new(701);
    answer(&mut bob, &mut world, &contact, &sealed_box, &[]);
    let arrived = world.fetch(ALICE).remove(0);
    let other = offered(6);
    assert!(pickup::open_answer(&other.alice, &arrived).is_err());
    let [first, second] = pickup::open_answer(&alice, &arrived).expect("an answer");
    assert!(matches!((first, second), (Message::Answer(_), Message::Confirm(_))));
    alice.remove();
    assert!(pickup::open_answer(&alice, &arrived).is_err(), "a removed link has no secret");
}

#[test]
fn nothing_is_taken_from_the_offerer_before_a_frame_shows_the_transcript() {
    // As far as the answer: Alice has said yes, Bob has heard nothing yet.
    let Offered { mut world, mut alice, contact, sealed_box } = offered(7);
    let stamps = bundle_stamps(&stamps_of(&mut world.sides[BOB], 24, 8));
    let mut bob = std::mem::replace(&mut world.sides[BOB].node, Node::new(77));
    let (at_bob, session) = answer(&mut bob, &mut world, &contact, &sealed_box, &stamps);
    read_answers(&mut world, &mut alice);
    alice.confirm().expect("he has proven his name");
    let peer_stamps = pickup::intro_stamps(&alice);
    let at_alice = Session::begin(&mut alice, &world.sides[ALICE].node.name(), peer_stamps, NOW).expect("established");
    replace(&mut world, ALICE, alice, at_alice);
    world.sides[BOB].node = bob;
    replace(&mut world, BOB, at_bob, session);
    // Whoever has stamps, link secret and Olm session, but saw another exchange, cannot say `th`.
    let frame = Frame { items: vec![(0, Item::Verdict(b"unproven".to_vec()))], ..Frame::default() };
    let other = Frame { th: Some(Transcript([7; 32])), ..frame.clone() };
    for frame in [frame, other] {
        let arrived = world.arrived_from(ALICE, &frame.to_bytes());
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
        assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Unproven)));
        assert!(world.sides[BOB].delivered.is_empty());
        assert_eq!(world.sides[BOB].link.established_peer(), None);
    }
    // A frame that shows it does.
    world.sides[ALICE].offer(Item::Verdict(b"proven".to_vec()));
    world.run(HOUR_MS);
    assert_eq!(world.sides[BOB].bodies(), vec![b"proven".to_vec()]);
    assert_eq!(world.sides[BOB].link.established_peer(), Some(&world.sides[ALICE].node.name()));
}
