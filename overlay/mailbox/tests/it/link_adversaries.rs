//! What the threat model says that contacts, hosts, thieves of backups and quantum computers cannot do to a link over mailboxes.
//! Each test fails when the protection is taken out.

use millpond_mailbox::{
    deposit::Deposit,
    envelope::{EnvelopeError, EnvelopeSecret, Kind, open, seal},
    frame::Frame,
    item::{Fragment, Item},
    secrets::{Epoch, LinkSecret},
    session::{Arrived, Fault, InEvent, Notice, RowKey},
    stamp::Class,
};

use proptest::prelude::*;

use crate::{
    carrier::{ALICE, BOB, DAY_MS, HOUR_MS, World},
    world::TestRng,
};

fn item(text: &str) -> Item {
    Item::Verdict(text.as_bytes().to_vec())
}

/// Alice has sent one frame, which lies in one of Bob's mailboxes.
fn one_lying() -> (World, usize, Deposit) {
    let mut world = World::new(1);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(item("a secret between the two"));
    world.run(1_000);
    for at in 0..world.sides[BOB].mailboxes.len() {
        let id = world.sides[BOB].mailboxes[at].own.id;
        let found = world.hosts.iter().find_map(|host| host.boxes.get(&id)?.first().cloned());
        if let Some(deposit) = found {
            return (world, at, deposit);
        }
    }
    panic!("nothing lies anywhere");
}

#[test]
fn a_host_that_alters_an_envelope_alters_nothing_that_is_taken() {
    let (world, at, deposit) = one_lying();
    let seed = world.sides[BOB].mailboxes[at].seed_of(&deposit);
    let secrets: Vec<EnvelopeSecret> = world.sides[BOB].session.link_secrets().iter().map(Into::into).collect();
    assert!(open(&secrets, &seed, deposit.header(), deposit.body()).is_ok());
    for position in [0, 23, 24, 25, 29, 100, 4_079, 4_095] {
        let mut body = deposit.body().to_vec();
        body[position] ^= 1;
        assert_eq!(
            open(&secrets, &seed, deposit.header(), &body).err(),
            Some(EnvelopeError::DoesNotOpen),
            "byte {position}"
        );
    }
}

#[test]
fn an_envelope_is_bound_to_its_stamp() {
    // The contact cannot pass an envelope off under another stamp, nor a host move it: the header is authenticated.
    let (mut world, at, deposit) = one_lying();
    let seed = world.sides[BOB].mailboxes[at].seed_of(&deposit);
    let secrets: Vec<EnvelopeSecret> = world.sides[BOB].session.link_secrets().iter().map(Into::into).collect();
    let other = world.sides[BOB].issue(at, Class::S, 1);
    let stamp = other.batch.stamps(other.host).remove(0);
    assert!(open(&secrets, &seed, &stamp.header(), deposit.body()).is_err());
    assert!(open(&secrets, &stamp.seed, deposit.header(), deposit.body()).is_err());
}

#[test]
fn a_quantum_computer_that_has_broken_x25519_still_needs_the_link_secret() {
    // It knows every stamp's seed (say, from a host and a thief) and whatever Olm holds; the envelope opens with LS only, which comes
    // from X-Wing. Without the salt, HKDF gives another key.
    let (world, at, deposit) = one_lying();
    let seed = world.sides[BOB].mailboxes[at].seed_of(&deposit);
    let guess = EnvelopeSecret::from(&LinkSecret::from_bytes(Epoch(0), [0; 32]));
    assert!(open([&guess], &seed, deposit.header(), deposit.body()).is_err());
}

#[test]
fn whoever_has_the_link_secret_and_the_stamps_but_not_olm_puts_nothing_in() {
    // A host that colludes with a thief of an old link secret: its frame opens outside, and not inside.
    let (mut world, at, _) = one_lying();
    let secret = EnvelopeSecret::from(&world.sides[ALICE].session.link_secrets()[0]);
    let grant = world.sides[BOB].issue(at, Class::S, 1);
    let stamp = grant.batch.stamps(grant.host).remove(0);
    let mut rng = TestRng::new(4);
    let frame = Frame { items: vec![(0, item("forged"))], ..Frame::default() };
    let body = seal(&secret, &stamp.seed, &stamp.header(), Kind::Frame, 1, &frame.to_bytes(), &mut rng).expect("fits");
    let arrived = Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.into() };
    let now = world.now;
    world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
    assert!(world.sides[BOB].delivered.is_empty());
    // The link goes on: the false frame is listed in nak, and means nothing to Alice.
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    world.sides[ALICE].offer(item("and another"));
    world.run(DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 2);
}

#[test]
fn a_restored_backup_reads_nothing_of_what_was_said_before() {
    let (world, at, deposit) = one_lying();
    // The thief has the passphrase, so everything that the backup says; the stamp's seed he has from a host that colludes.
    let backup = world.sides[BOB].session.backup();
    let bytes = backup.to_bytes();
    for secret in world.sides[BOB].session.link_secrets() {
        let found = bytes.windows(32).any(|window| window == secret.as_bytes());
        assert!(!found, "a link secret is in the backup");
    }
    let seed = world.sides[BOB].mailboxes[at].seed_of(&deposit);
    let restore = world.sides[BOB].session.link_secrets().last().expect("the first").restore_key();
    assert!(bytes.windows(32).any(|window| window == restore.as_bytes()), "the key for a HELLO is");
    assert!(open([&restore.envelope_secret()], &seed, deposit.header(), deposit.body()).is_err());
}

#[test]
fn a_hello_of_anybody_but_the_pinned_identity_is_refused() {
    // A thief of RK and a stamp, without the identity key.
    let (mut world, at, _) = one_lying();
    let rk = world.sides[ALICE].session.link_secrets().last().expect("the first").restore_key();
    let mut world_of_thief = World::new(66);
    let thief = world_of_thief.sides[ALICE].session.backup();
    world_of_thief.sides[ALICE].session = millpond_mailbox::session::Session::from_backup(thief);
    let now = world.now;
    world_of_thief.now = now;
    world_of_thief.sides[ALICE].slot(now);
    // His HELLO, well made, but of another identity: taken out of its envelope and sealed anew for Bob.
    let hello = world_of_thief.hello_payload(ALICE).expect("he said hello");
    let grant = world.sides[BOB].issue(at, Class::S, 1);
    let stamp = grant.batch.stamps(grant.host).remove(0);
    let mut rng = TestRng::new(4);
    let body =
        seal(&rk.envelope_secret(), &stamp.seed, &stamp.header(), Kind::Hello, 0, &hello, &mut rng).expect("fits");
    let arrived = Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.into() };
    world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
    assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Hello)));
    assert!(!world.sides[BOB].saw(Notice::Restoring));
}

#[test]
fn a_contact_cannot_fill_the_node_with_parts_of_items_that_never_become_whole() {
    let mut world = World::new(3);
    for of in 0..20 {
        world.sides[ALICE].offer(Item::Fragment(Fragment { of, index: 0, count: 16, part: vec![of as u8; 30_000] }));
    }
    world.run(3 * DAY_MS);
    let parts = world.sides[BOB]
        .rows
        .0
        .keys()
        .filter(|key| matches!(key, millpond_mailbox::session::RowKey::Fragment(..)))
        .count();
    assert!(parts <= 4, "{parts} parts are kept");
    assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Beyond)));
}

#[test]
fn a_contact_cannot_make_the_node_hold_messages_that_wait_for_one_that_never_comes() {
    let mut world = World::new(4);
    for first in (0..5_000_u64).step_by(50) {
        // The message with the number 0 is missing, and the contact says that nothing below these items comes any more.
        let held = |n: u64| (n, Item::ToDevice { order: n + 1, body: b"x".to_vec() });
        let frame = Frame { items: (first..first + 50).map(held).collect(), item_floor: first, ..Frame::default() };
        let arrived = world.arrived_from(ALICE, &frame.to_bytes());
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
    }
    let held = world.sides[BOB].rows.0.keys().filter(|key| matches!(key, RowKey::Held(_))).count();
    assert_eq!(held, 4_096);
    assert!(world.sides[BOB].delivered.is_empty() && world.sides[BOB].saw(Notice::Misbehaved(Fault::Beyond)));
}

#[test]
fn nor_many_bytes_of_them() {
    let mut world = World::new(6);
    for n in 0..40_u64 {
        let held = Item::ToDevice { order: n + 1, body: vec![0; 1_000_000] };
        let frame = Frame { items: vec![(n, held)], item_floor: n, ..Frame::default() };
        let arrived = world.arrived_from(ALICE, &frame.to_bytes());
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
    }
    let held = world.sides[BOB].rows.0.iter().filter(|(key, _)| matches!(key, RowKey::Held(_)));
    let bytes: usize = held.map(|(_, row)| row.len()).sum();
    assert_eq!(bytes, 16_000_000, "as many as fit 16 MiB");
    assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Beyond)));
}

#[test]
fn the_record_of_a_busy_link_stays_small() {
    let mut world = World::new(5);
    world.sides[BOB].awake = false;
    for n in 0..400_u32 {
        world.sides[ALICE].offer(Item::Verdict(n.to_be_bytes().repeat(200)));
        world.run(1_000);
    }
    let record = &world.sides[ALICE].rows.0[&RowKey::Record];
    assert!(record.len() < 24 << 10, "{} bytes", record.len());
}

#[test]
fn an_item_that_comes_in_two_frames_is_taken_once() {
    let mut world = World::new(6);
    let frame = Frame { items: vec![(0, item("twice"))], ..Frame::default() };
    for _ in 0..2 {
        let arrived = world.arrived_from(ALICE, &frame.to_bytes());
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
    }
    assert_eq!(world.sides[BOB].delivered.len(), 1);
}

#[test]
fn the_same_hello_in_another_envelope_is_not_taken_again() {
    let mut world = World::new(8);
    world.run(HOUR_MS);
    let rk = world.sides[ALICE].session.link_secrets().last().expect("the first").restore_key();
    let backup = world.sides[ALICE].session.backup();
    world.sides[ALICE].session = millpond_mailbox::session::Session::from_backup(backup);
    let now = world.now;
    world.sides[ALICE].slot(now);
    let hello = world.hello_payload(ALICE).expect("she said hello");
    for round in 0..3 {
        let grant = world.sides[BOB].issue(0, Class::S, 1);
        let stamp = grant.batch.stamps(grant.host).remove(0);
        let mut rng = TestRng::new(round);
        let sealed = seal(&rk.envelope_secret(), &stamp.seed, &stamp.header(), Kind::Hello, 0, &hello, &mut rng);
        let arrived = Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: sealed.expect("fits").into() };
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
        world.turn(BOB);
        world.advance(2 * DAY_MS);
    }
    let made_anew = world.sides[BOB].notices.iter().filter(|notice| **notice == Notice::Restored).count();
    assert_eq!(made_anew, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_hello_or_answer_that_is_none_is_dropped_and_the_link_goes_on(
        bytes in prop::collection::vec(any::<u8>(), 0..1_500),
        answer in any::<bool>(),
    ) {
        let mut world = World::new(10);
        let rk = world.sides[ALICE].session.link_secrets().last().expect("the first").restore_key();
        let grant = world.sides[BOB].issue(0, Class::S, 1);
        let stamp = grant.batch.stamps(grant.host).remove(0);
        let kind = if answer { Kind::HelloAnswer } else { Kind::Hello };
        let body = seal(&rk.envelope_secret(), &stamp.seed, &stamp.header(), kind, 0, &bytes, &mut TestRng::new(1));
        let arrived = Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.expect("fits").into() };
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
        prop_assert!(!world.sides[BOB].saw(Notice::Restoring));
        world.sides[ALICE].offer(item("on"));
        world.run(HOUR_MS);
        prop_assert_eq!(world.sides[BOB].delivered.len(), 1);
    }
}
