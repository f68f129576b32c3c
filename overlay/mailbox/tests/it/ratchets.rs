//! The link-secret ratchet: a quantum computer that opens everything inside finds another lock every week, and a secret that is
//! gone opens nothing.

use millpond_mailbox::{
    envelope::{EnvelopeSecret, open},
    item::Item,
    secrets::LinkSecret,
    session::Notice,
};

use crate::carrier::{ALICE, BOB, DAY_MS, World};

fn talk(world: &mut World, days: usize) {
    for day in 0..days {
        for side in 0..2 {
            world.sides[side].offer(Item::Verdict(format!("{side} {day}").into_bytes()));
        }
        world.run(DAY_MS);
    }
}

fn newest(world: &World, side: usize) -> LinkSecret {
    world.sides[side].session.link_secrets().remove(0)
}

#[test]
fn a_link_that_talks_has_a_new_secret_every_week_and_the_same_on_both_sides() {
    let mut world = World::new(1);
    let mut seen = vec![*newest(&world, ALICE).as_bytes()];
    for week in 1..=8 {
        talk(&mut world, 7);
        let (alice, bob) = (newest(&world, ALICE), newest(&world, BOB));
        assert!((week - 1..=week).contains(&alice.epoch().0), "epoch {} in week {week}", alice.epoch().0);
        if alice.epoch().0 < week {
            continue;
        }
        assert_eq!((alice.epoch(), alice.as_bytes()), (bob.epoch(), bob.as_bytes()));
        assert!(!seen.contains(alice.as_bytes()));
        seen.push(*alice.as_bytes());
    }
    for side in &world.sides {
        assert!(side.session.link_secrets().len() <= 6, "old ones go");
        assert!(side.saw(Notice::Secrets));
        assert_eq!(side.link.clone().adopt_secrets(side.session.link_secrets()).len(), 1, "its streams have them too");
    }
}

#[test]
fn what_is_sent_after_a_step_does_not_open_with_the_secret_before_it() {
    let mut world = World::new(2);
    let first = newest(&world, ALICE);
    talk(&mut world, 10);
    assert!(newest(&world, ALICE).epoch().0 >= 1);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(Item::Verdict(b"later".to_vec()));
    world.run(1_000);
    // Everything that lies at the hosts, with everything that somebody knows who had the first secret and all stamps.
    let mut found = 0;
    for mailbox in &world.sides[BOB].mailboxes {
        for host in &world.hosts {
            for deposit in host.boxes.get(&mailbox.own.id).into_iter().flatten() {
                let seed = mailbox.seed_of(deposit);
                let opened = |secret: &LinkSecret| {
                    open([&EnvelopeSecret::from(secret)], &seed, deposit.header(), deposit.body()).is_ok()
                };
                assert!(!opened(&first), "the first secret opens what was sent a week later");
                assert!(world.sides[BOB].session.link_secrets().iter().any(opened));
                found += 1;
            }
        }
    }
    assert!(found > 0);
}

#[test]
fn secrets_are_gone_37_days_after_they_were_replaced() {
    let mut world = World::new(3);
    let first = newest(&world, ALICE);
    talk(&mut world, 20);
    let kept = |world: &World| {
        world.sides[ALICE].session.link_secrets().iter().any(|secret| secret.as_bytes() == first.as_bytes())
    };
    assert!(kept(&world));
    world.advance(38 * DAY_MS);
    talk(&mut world, 1);
    assert!(!kept(&world));
}

#[test]
fn steps_come_through_loss_and_kills() {
    for seed in 0..4 {
        let mut world = World::new(40 + seed);
        (world.lose, world.lose_answer, world.repeat) = (200, 200, 200);
        for round in 0..40 {
            talk(&mut world, 1);
            world.sides[round % 2].restart();
        }
        (world.lose, world.lose_answer) = (0, 0);
        talk(&mut world, 3);
        let (alice, bob) = (newest(&world, ALICE), newest(&world, BOB));
        assert!(alice.epoch().0 >= 3, "seed {seed}: only {}", alice.epoch().0);
        assert_eq!(alice.as_bytes(), bob.as_bytes());
        assert_eq!(world.sides[ALICE].delivered.len(), 43, "seed {seed}");
        assert_eq!(world.sides[BOB].delivered.len(), 43, "seed {seed}");
    }
}
