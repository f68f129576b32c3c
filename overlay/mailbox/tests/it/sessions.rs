//! Sessions over hosts that lose, repeat and reorder, with nodes that are killed: everything arrives, once.

use std::collections::BTreeMap;

use millpond_mailbox::{
    deposit::Deposit,
    item::Item,
    key_pack::KeyPack,
    rand_core::Rng,
    session::{InEvent, Notice, Priority},
    stamp::MailboxId,
};
use proptest::prelude::*;

use crate::carrier::{ALICE, BOB, DAY_MS, HOUR_MS, MINUTE_MS, World};

fn transaction(text: &str) -> Item {
    Item::Transaction { via: Vec::new(), body: text.as_bytes().to_vec() }
}

fn counted(bodies: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut count = BTreeMap::new();
    bodies.into_iter().for_each(|body| *count.entry(body).or_default() += 1);
    count
}

/// Each of these was delivered exactly once, and nothing else.
fn assert_once(world: &World, side: usize, expected: &[Item]) {
    let seen = counted(world.sides[side].bodies());
    for item in expected {
        let times = seen.get(&item.body()).copied().unwrap_or(0);
        // What was not acknowledged is sent again after a HELLO, and then the node knows it by its id.
        let again = world.sides[side].saw(Notice::Restored);
        let state =
            (world.now, &world.sides[side].notices, world.sides[0].session.credit(), world.sides[1].session.credit());
        assert!(times == 1 || times > 1 && again, "an item arrived {times} times {state:?}");
    }
    assert_eq!(seen.len(), expected.len(), "something arrived that was never sent");
}

#[test]
fn items_arrive_once_in_both_directions_and_their_rows_go() {
    let mut world = World::new(1);
    let (to_bob, to_alice): (Vec<Item>, Vec<Item>) =
        (0..30).map(|n| (transaction(&format!("to bob {n}")), transaction(&format!("to alice {n}")))).unzip();
    for item in &to_bob {
        world.sides[ALICE].offer(item.clone());
    }
    for item in &to_alice {
        world.sides[BOB].offer(item.clone());
    }
    world.run(HOUR_MS);
    assert_once(&world, BOB, &to_bob);
    assert_once(&world, ALICE, &to_alice);
    for side in &world.sides {
        assert!(side.outbox.is_empty(), "R2 has come for everything");
        assert_eq!(side.session.unacknowledged(), 0);
        assert_eq!(side.rows.0.len(), 1, "only the record stays");
    }
}

#[test]
fn two_who_are_never_on_together_talk_all_the_same() {
    let mut world = World::new(2);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(transaction("are you there?"));
    world.run(HOUR_MS);
    world.sides[ALICE].awake = false;
    world.sides[BOB].awake = true;
    world.advance(8 * HOUR_MS);
    world.sides[BOB].offer(transaction("yes"));
    world.run(HOUR_MS);
    assert_once(&world, BOB, &[transaction("are you there?")]);
    world.sides[BOB].awake = false;
    world.sides[ALICE].awake = true;
    world.advance(8 * HOUR_MS);
    world.run(HOUR_MS);
    assert_once(&world, ALICE, &[transaction("yes")]);
    assert!(world.sides[ALICE].outbox.is_empty());
}

#[test]
fn an_idle_link_wants_no_slot_for_months() {
    let mut world = World::new(3);
    world.sides[ALICE].offer(transaction("hello"));
    world.run(DAY_MS);
    world.advance(8 * DAY_MS);
    for day in 0..120_usize {
        world.advance(DAY_MS);
        if day.is_multiple_of(7) {
            // The mailboxes move: the peer has no stamp for the new ones, and gets none before there is something to say.
            for side in 0..2 {
                let before = world.sides[side].mailboxes.iter_mut().filter(|mailbox| !mailbox.own.recovery);
                before.for_each(|mailbox| mailbox.own.draining = true);
                world.sides[side].open_mailbox(&mut world.hosts[day / 7 % 2], false);
            }
        }
        for side in &world.sides {
            assert_eq!(side.session.wants_slot(world.now, &side.own()), None, "day {day}");
        }
    }
}

/// Random faults and kills; in the end everything is there once.
fn chaos(seed: u64) {
    let mut world = World::new(seed);
    (world.lose, world.lose_answer, world.repeat) = (150, 150, 300);
    let mut expected: [Vec<Item>; 2] = [Vec::new(), Vec::new()];
    for round in 0..60 {
        let from = (world.rng.next_u32() % 2) as usize;
        for n in 0..world.rng.next_u32() % 4 {
            let item =
                transaction(&format!("{from} {round} {n} {}", "x".repeat((world.rng.next_u32() % 2_000) as usize)));
            world.sides[from].offer(item.clone());
            expected[1 - from].push(item);
        }
        for side in 0..2 {
            world.sides[side].awake = !world.rng.next_u32().is_multiple_of(3);
            if world.rng.next_u32().is_multiple_of(3) {
                world.sides[side].restart();
            }
        }
        world.hosts[0].down = world.rng.next_u32().is_multiple_of(5);
        world.hosts[1].full = world.rng.next_u32().is_multiple_of(5);
        let span = u64::from(world.rng.next_u32() % 600) * MINUTE_MS;
        let turns = world.rng.next_u32() % 3;
        for _ in 0..turns {
            let side = (world.rng.next_u32() % 2) as usize;
            world.turn(side);
        }
        world.run(span);
    }
    (world.lose, world.lose_answer, world.repeat) = (0, 0, 0);
    for host in &mut world.hosts {
        (host.down, host.full) = (false, false);
    }
    world.sides.iter_mut().for_each(|side| side.awake = true);
    world.run(20 * DAY_MS);
    for (side, expected) in expected.iter().enumerate() {
        assert_once(&world, side, expected);
        let session = &world.sides[side].session;
        let (left, credit, wants) = (session.unacknowledged(), session.credit(), session.wants_slot(world.now, &[]));
        let state = format!(
            "seed {seed}, side {side}: {left} unacknowledged, credit {credit:?}, wants {wants:?} at {:?}",
            world.now
        );
        assert!(
            world.sides[side].outbox.is_empty(),
            "R2 has come for everything; {state} {:?}",
            world.sides[side].notices
        );
    }
}

#[test]
fn nothing_is_lost_or_doubled_under_loss_repetition_disorder_and_kills() {
    for seed in 100..112 {
        chaos(seed);
    }
}

#[test]
fn a_mebibyte_goes_in_parts_and_arrives_whole() {
    let mut world = World::new(4);
    let mut body = vec![0; 1 << 20];
    world.rng.fill_bytes(&mut body);
    let large = Item::Verdict(body);
    world.sides[ALICE].offer_as(large.clone(), Priority::Bulk);
    world.sides[ALICE].offer(transaction("small"));
    world.run(HOUR_MS);
    for side in 0..2 {
        world.sides[side].restart();
    }
    world.run(2 * DAY_MS);
    assert_once(&world, BOB, &[large, transaction("small")]);
    assert!(world.sides[ALICE].outbox.is_empty());
    assert_eq!(world.sides[BOB].rows.0.len(), 1, "the parts are out of their rows");
}

#[test]
fn what_is_too_large_for_a_link_is_said_so() {
    let mut world = World::new(5);
    let handle = world.sides[ALICE].offer(Item::Verdict(vec![7; (1 << 20) + (33 << 10)]));
    world.run(MINUTE_MS);
    assert!(world.sides[ALICE].saw(Notice::TooLarge(handle)));
}

#[test]
fn to_device_messages_come_in_their_order_whatever_the_hosts_do() {
    for seed in 0..8 {
        let mut world = World::new(200 + seed);
        (world.lose, world.repeat) = (400, 300);
        for n in 0..40_u8 {
            world.sides[ALICE].offer_as(Item::ToDevice { order: 0, body: vec![n] }, Priority::Essential);
            if n.is_multiple_of(3) {
                world.turn(ALICE);
                world.advance(MINUTE_MS / 2);
            }
            if n.is_multiple_of(7) {
                world.turn(BOB);
            }
        }
        world.lose = 0;
        world.run(10 * DAY_MS);
        let order: Vec<u8> = world.sides[BOB]
            .delivered
            .iter()
            .filter_map(|delivered| match &delivered.item {
                Item::ToDevice { body, .. } => body.first().copied(),
                _ => None,
            })
            .collect();
        assert_eq!(order, (0..40).collect::<Vec<u8>>(), "seed {seed}");
    }
}

#[test]
fn key_packs_go_before_everything_that_was_offered_earlier() {
    let mut world = World::new(6);
    for n in 0..40 {
        world.sides[ALICE].offer(Item::Verdict(vec![n; 3_000]));
    }
    let pack = Item::KeyPack(KeyPack { version: 1, pack: vec![9; 500] });
    world.sides[ALICE].offer_as(pack.clone(), Priority::KeyPack);
    let now = world.now;
    world.sides[ALICE].slot(now);
    // One envelope gets through.
    world.deliver(ALICE);
    world.run(HOUR_MS);
    let first = world.sides[BOB].delivered.iter().map(|delivered| (delivered.seq, delivered.item.body())).min();
    assert_eq!(first.map(|(_, body)| body), Some(pack.body()), "it has the first number");
}

#[test]
fn a_request_whose_deadline_passed_is_not_sent() {
    let mut world = World::new(7);
    world.hosts.iter_mut().for_each(|host| host.down = true);
    let handle = world.sides[ALICE].offer(transaction("too late"));
    world.sides[ALICE].outbox.get_mut(&handle).unwrap().deadline = Some(world.now);
    world.sides[ALICE].offer(transaction("in time"));
    world.run(MINUTE_MS);
    world.hosts.iter_mut().for_each(|host| host.down = false);
    world.run(DAY_MS);
    assert_once(&world, BOB, &[transaction("in time")]);
    assert!(world.sides[ALICE].outbox.is_empty(), "it is reported as done");
}

#[test]
fn the_first_frames_show_the_transcript_and_tell_the_offerer_that_they_arrived() {
    let mut world = World::new(8);
    world.sides[ALICE].offer(transaction("one"));
    world.run(HOUR_MS);
    assert!(world.sides[ALICE].saw(Notice::Delivered));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_order_of_turns_and_restarts_delivers_everything_once(
        steps in prop::collection::vec((0_u8..6, 0_u16..2_000), 1..60),
        seed in 1_000_u64..2_000,
    ) {
        let mut world = World::new(seed);
        let mut expected: [Vec<Item>; 2] = [Vec::new(), Vec::new()];
        for (at, (step, size)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let from = usize::from(step);
                    let item = transaction(&format!("{at} {}", "y".repeat(usize::from(size))));
                    world.sides[from].offer(item.clone());
                    expected[1 - from].push(item);
                }
                2 | 3 => {
                    world.turn(usize::from(step - 2));
                }
                4 => world.sides[usize::from(size % 2)].restart(),
                _ => world.advance(u64::from(size) * MINUTE_MS),
            }
        }
        world.run(2 * DAY_MS);
        for (side, expected) in expected.iter().enumerate() {
            assert_once(&world, side, expected);
        }
    }
}

#[test]
fn a_revoked_peer_sees_stored_and_nothing_more() {
    let mut world = World::new(9);
    world.sides[ALICE].offer(transaction("before"));
    world.run(HOUR_MS);
    let now = world.now;
    world.sides[BOB].feed(now, InEvent::Revoke);
    world.sides[ALICE].offer(transaction("after"));
    world.run(HOUR_MS);
    assert_once(&world, BOB, &[transaction("before")]);
    assert!(world.sides[BOB].session.is_revoked());
    assert!(world.hosts.iter().map(|host| host.puts).sum::<usize>() >= 2, "the host said STORED");
    assert_eq!(world.sides[BOB].rows.0.len(), 1, "no secret of the link stays but that it was revoked");
    world.sides[BOB].restart();
    world.run(40 * DAY_MS);
    assert_once(&world, BOB, &[transaction("before")]);
    assert!(world.sides[ALICE].session.is_dormant(), "to the peer it looks like silence");
}

#[test]
fn a_frame_that_comes_twice_is_known_before_it_is_opened_and_is_not_asked_for_again() {
    let mut world = World::new(30);
    world.sides[BOB].awake = false;
    // Stored and not confirmed: each frame goes to both hosts.
    world.lose_answer = 1_000;
    for n in 0..6 {
        world.sides[ALICE].offer(transaction(&format!("twice {n}")));
        world.run(2 * MINUTE_MS);
    }
    let lying: usize = world.hosts.iter().flat_map(|host| host.boxes.values()).map(Vec::len).sum();
    assert_eq!(lying, 12);
    world.lose_answer = 0;
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    let before: usize = world.hosts.iter().map(|host| host.puts).sum();
    world.run(2 * DAY_MS);
    let after: usize = world.hosts.iter().map(|host| host.puts).sum();
    assert_eq!(world.sides[BOB].delivered.len(), 6);
    assert_eq!(world.sides[ALICE].session.unacknowledged(), 0);
    assert_eq!(world.sides[ALICE].session.frames(), 6, "nothing was encrypted anew");
    assert_eq!(before, after, "and nothing goes to hosts any more");
}

#[test]
fn envelopes_that_were_read_before_their_depositor_was_killed_are_not_taken_for_refused_stamps() {
    let mut world = World::new(31);
    world.sides[BOB].awake = false;
    world.lose_answer = 1_000;
    for n in 0..10 {
        world.sides[ALICE].offer(transaction(&format!("read {n}")));
        let now = world.now;
        world.sides[ALICE].slot(now);
        world.deliver(ALICE);
    }
    // Bob reads them, and his hosts delete them; before he acknowledges, Alice is killed, starts, and tries every one again.
    world.poll(BOB);
    world.lose_answer = 0;
    world.sides[ALICE].restart();
    let stamps = world.sides[ALICE].session.credit();
    for _ in 0..5 {
        world.turn(ALICE);
        world.advance(HOUR_MS);
    }
    assert!(!world.sides[ALICE].saw(Notice::Restoring));
    // After an hour without an acknowledgement each goes once more; none is tried again and again, no mailbox is left alone.
    let (small, large) = world.sides[ALICE].session.credit();
    assert!(small + large + 12 >= stamps.0 + stamps.1, "{stamps:?} became {:?}", (small, large));
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    assert_eq!((world.sides[BOB].delivered.len(), world.sides[ALICE].session.unacknowledged()), (10, 0));
}

/// Takes what lies in the mailboxes of a side out of them, as if they could not be read.
fn take_out(world: &mut World, side: usize) -> Vec<(usize, MailboxId, Vec<Deposit>)> {
    let own: Vec<_> = world.sides[side].mailboxes.iter().map(|mailbox| mailbox.own).collect();
    let mut taken = Vec::new();
    for own in own {
        for (at, host) in world.hosts.iter_mut().enumerate().filter(|(_, host)| host.key == own.host) {
            taken.extend(host.boxes.get_mut(&own.id).map(|lying| (at, own.id, std::mem::take(lying))));
        }
    }
    taken
}

fn put_back(world: &mut World, taken: Vec<(usize, MailboxId, Vec<Deposit>)>) {
    for (at, mailbox, deposits) in taken {
        world.hosts[at].boxes.entry(mailbox).or_default().extend(deposits);
    }
}

/// A conversation in which each says something in a frame of its own, and both read at once.
fn converse(world: &mut World, name: &str, turns: usize) -> Vec<Item> {
    let mut said = Vec::new();
    for turn in 0..turns {
        let item = transaction(&format!("{name} {turn}"));
        world.sides[turn % 2].offer(item.clone());
        world.turn(turn % 2);
        world.turn(1 - turn % 2);
        world.advance(5_000);
        said.push(item);
    }
    said
}

#[test]
fn a_mailbox_that_is_read_much_later_than_the_other_is_no_reason_to_make_the_link_anew() {
    let mut world = World::new(21);
    world.run(HOUR_MS);
    let mut said = Vec::new();
    let mut late = Vec::new();
    for n in 0..6 {
        let item = transaction(&format!("late {n}"));
        world.sides[ALICE].offer(item.clone());
        world.turn(ALICE);
        late.extend(take_out(&mut world, BOB));
        said.push(item);
    }
    let meanwhile = converse(&mut world, "meanwhile", 24);
    said.extend(meanwhile.iter().step_by(2).cloned());
    put_back(&mut world, late);
    world.run(HOUR_MS);
    assert_once(&world, BOB, &said);
    let anew = |side: usize| world.sides[side].saw(Notice::Restoring) || world.sides[side].saw(Notice::Restored);
    assert!(!anew(ALICE) && !anew(BOB));
}

#[test]
fn to_device_messages_in_parts_have_their_place_in_the_order() {
    for first in [0, 1] {
        let mut world = World::new(22);
        let mut large = vec![0; 200_000];
        world.rng.fill_bytes(&mut large);
        let bodies: Vec<Vec<u8>> = (0..5).map(|n| if n == first { large.clone() } else { vec![n; 10] }).collect();
        for body in &bodies {
            world.sides[ALICE].offer_as(Item::ToDevice { order: 0, body: body.clone() }, Priority::Essential);
        }
        world.run(2 * DAY_MS);
        let came = world.sides[BOB].delivered.iter().filter_map(|delivered| match &delivered.item {
            Item::ToDevice { body, .. } => Some(body.clone()),
            _ => None,
        });
        assert!(came.collect::<Vec<_>>() == bodies, "the large one is number {first}");
        assert!(world.sides[ALICE].outbox.is_empty());
    }
}

#[test]
fn large_items_are_not_lost_when_many_are_under_way_through_a_host_that_swallows_some() {
    let mut world = World::new(23);
    let large: Vec<Item> = (0..10)
        .map(|_| {
            let mut body = vec![0; 100_000];
            world.rng.fill_bytes(&mut body);
            Item::Verdict(body)
        })
        .collect();
    world.hosts[0].lies = true;
    for item in &large {
        world.sides[ALICE].offer_as(item.clone(), Priority::Bulk);
    }
    world.run(HOUR_MS);
    world.hosts[0].lies = false;
    world.run(20 * DAY_MS);
    assert_once(&world, BOB, &large);
    assert!(world.sides[ALICE].outbox.is_empty());
}
