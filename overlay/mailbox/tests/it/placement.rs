//! Retry, placement and credit: what happens when a host is down, full, lying, and when stamps run out.

use millpond_mailbox::{
    item::Item,
    session::{InEvent, Notice, Outcome, Priority},
    time::UnixMillis,
};

use crate::carrier::{ALICE, BOB, DAY_MS, HOUR_MS, MINUTE_MS, World};

fn item(n: usize) -> Item {
    Item::Verdict(format!("item {n}").into_bytes())
}

fn deposits(world: &World, host: usize) -> usize {
    world.hosts[host].boxes.values().map(Vec::len).sum()
}

#[test]
fn without_r1_the_other_mailbox_is_tried_at_once() {
    for broken in 0..2 {
        let mut world = World::new(1);
        world.sides[BOB].awake = false;
        if broken == 0 {
            world.hosts[0].down = true
        } else {
            world.hosts[0].full = true
        }
        let mut sent = 0;
        for n in 0..3 {
            world.sides[ALICE].offer(item(n));
            world.run(MINUTE_MS / 2);
            sent += 1;
        }
        assert_eq!((deposits(&world, 0), deposits(&world, 1)), (0, sent));
        world.sides[BOB].awake = true;
        world.run(HOUR_MS);
        assert_eq!(world.sides[BOB].delivered.len(), 3);
    }
}

#[test]
fn with_both_hosts_down_the_waits_double_up_to_an_hour_and_the_bytes_stay_the_same() {
    let mut world = World::new(2);
    world.sides[BOB].awake = false;
    world.hosts.iter_mut().for_each(|host| host.down = true);
    world.sides[ALICE].offer(item(0));
    let (start, mut tries) = (world.now, Vec::new());
    while world.now.0 < start.0 + DAY_MS {
        if world.turn(ALICE) {
            tries.push(world.now.0 - start.0);
        }
        let next = world.sides[ALICE].session.wants_slot(world.now, &world.sides[ALICE].own()).expect("it goes on");
        world.now = next.max(world.now);
    }
    let waits: Vec<u64> = tries.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).filter(|wait| *wait > 0).collect();
    let expected = [60, 120, 240, 480, 960, 1_920, 3_600, 3_600];
    for (wait, expected) in waits.iter().zip(expected) {
        assert!((expected * 3 / 4..=expected * 5 / 4).contains(wait), "{waits:?}");
    }
    assert!(tries.len() < 40, "at most one try an hour in the end");
    let (small, large) = world.sides[ALICE].session.credit();
    assert_eq!((small, large), (46, 16), "one stamp for each mailbox, however often it was tried");
    world.hosts.iter_mut().for_each(|host| host.down = false);
    world.sides[BOB].awake = true;
    world.run(2 * HOUR_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
}

/// Alice has tried both hosts in vain and waits.
fn waiting(seed: u64) -> World {
    let mut world = World::new(seed);
    world.hosts.iter_mut().for_each(|host| host.down = true);
    world.sides[ALICE].offer(item(0));
    world.run(10 * MINUTE_MS);
    assert!(next_slot(&world) > world.now.0 + 20_000, "the next try is far");
    world
}

fn next_slot(world: &World) -> u64 {
    let side = &world.sides[ALICE];
    side.session.wants_slot(world.now, &side.own()).expect("something is under way").0
}

#[test]
fn a_host_that_answers_again_gets_at_once_what_waited_for_it() {
    let mut world = waiting(11);
    world.hosts.iter_mut().for_each(|host| host.down = false);
    let (first, second) = (world.hosts[0].key, world.hosts[1].key);
    let mut waits_for = world.sides[ALICE].session.waits_for();
    waits_for.sort();
    let mut both = vec![first, second];
    both.sort();
    assert_eq!(waits_for, both);
    world.sides[ALICE].feed(world.now, InEvent::Reachable(first));
    assert!(next_slot(&world) <= world.now.0);
    assert_eq!(world.sides[ALICE].session.waits_for(), [second]);
    world.turn(ALICE);
    world.turn(BOB);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
}

#[test]
fn a_node_that_was_killed_while_a_retry_was_under_way_tries_again_when_it_starts() {
    let mut world = waiting(12);
    world.now = UnixMillis(next_slot(&world));
    world.sides[ALICE].slot(world.now);
    // The deposits have left, no outcome has come.
    world.sides[ALICE].restart();
    assert!(next_slot(&world) <= world.now.0);
}

#[test]
fn acknowledgements_that_were_under_way_in_a_kill_are_made_again() {
    let mut world = World::new(13);
    world.sides[BOB].offer(item(0));
    world.turn(BOB);
    world.poll(ALICE);
    assert_eq!(world.sides[ALICE].delivered.len(), 1);
    world.now = UnixMillis(next_slot(&world));
    world.sides[ALICE].slot(world.now);
    world.sides[ALICE].restart();
    world.run(MINUTE_MS);
    assert_eq!(world.sides[BOB].session.unacknowledged(), 0, "without them Bob would wait for a day");
    world.sides[ALICE].restart();
    let side = &world.sides[ALICE];
    assert_eq!(side.session.wants_slot(world.now, &side.own()), None, "what is at a host is not sent at every start");
}

#[test]
fn acknowledgements_go_by_the_other_host_when_one_is_down_or_closed() {
    for wiped in [false, true] {
        let mut world = World::new(14);
        world.sides[BOB].offer(item(0));
        world.turn(BOB);
        world.poll(ALICE);
        match wiped {
            true => world.hosts[0].boxes.clear(),
            false => world.hosts[0].down = true,
        }
        world.run(30_000);
        assert_eq!(world.sides[BOB].session.unacknowledged(), 0, "wiped: {wiped}");
    }
}

#[test]
fn what_falls_due_while_nothing_could_be_done_about_something_else_does_not_wait_for_it() {
    let mut world = World::new(15);
    world.sides[BOB].offer(item(0));
    world.turn(BOB);
    world.hosts.iter_mut().for_each(|host| host.down = true);
    // Alice's stamps are all used: each item goes to both hosts, in vain.
    for n in 0..32 {
        world.sides[ALICE].offer_as(item(n), Priority::Essential);
        world.turn(ALICE);
        world.turn(ALICE);
    }
    assert_eq!(world.sides[ALICE].session.credit(), (0, 0));
    world.hosts.iter_mut().for_each(|host| host.down = false);
    world.advance(30_000);
    world.poll(ALICE);
    assert_eq!(world.sides[ALICE].delivered.len(), 1);
    world.advance(4_000);
    // The acknowledgement is due, and there is no stamp for it. What the hosts did not take is due within 75 seconds of its first try.
    world.sides[ALICE].slot(world.now);
    assert!(next_slot(&world) < world.now.0 + 45_000, "{} {}", next_slot(&world), world.now.0);
}

#[test]
fn when_the_way_to_the_hosts_is_back_what_waited_goes_at_once() {
    let mut world = World::new(2);
    world.sides[BOB].awake = false;
    world.hosts.iter_mut().for_each(|host| host.down = true);
    world.sides[ALICE].offer(item(0));
    world.run(3 * HOUR_MS);
    world.hosts.iter_mut().for_each(|host| host.down = false);
    let wanted = world.sides[ALICE].session.wants_slot(world.now, &world.sides[ALICE].own()).expect("it waits");
    assert!(wanted.0 > world.now.0 + 10 * MINUTE_MS, "its back-off has grown");
    let now = world.now;
    world.sides[ALICE].feed(now, InEvent::WayBack);
    world.turn(ALICE);
    assert_eq!(deposits(&world, 0) + deposits(&world, 1), 2, "the same bytes at both");
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
}

#[test]
fn what_a_lying_host_swallowed_goes_through_the_other_after_a_day_then_two_four_and_eight() {
    let mut world = World::new(3);
    world.hosts[0].lies = true;
    world.hosts[1].lies = true;
    world.sides[ALICE].offer(item(0));
    let (start, mut puts) = (world.now, Vec::new());
    let mut last = 0;
    while world.now.0 < start.0 + 20 * DAY_MS {
        world.run(HOUR_MS);
        let now: usize = world.hosts.iter().map(|host| host.puts).sum();
        if now != last {
            puts.push((world.now.0 - start.0) / DAY_MS);
            last = now;
        }
    }
    assert_eq!(puts, vec![0, 1, 3, 7, 15], "days on which the same item went to a mailbox");
    let each: Vec<usize> = world.hosts.iter().map(|host| host.puts).collect();
    assert!(each.iter().all(|puts| *puts >= 2), "through either of them: {each:?}");
}

#[test]
fn a_hole_in_the_acknowledgements_is_filled_through_the_other_mailbox_after_an_hour() {
    let mut world = World::new(4);
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    world.sides[ALICE].offer(item(0));
    world.run(MINUTE_MS);
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    world.sides[ALICE].offer(item(1));
    world.run(50 * MINUTE_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1, "the first is lost, the second is there and acknowledged");
    world.run(30 * MINUTE_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 2, "long before a day has passed");
}

#[test]
fn the_two_directions_of_a_link_use_different_hosts_where_they_can() {
    let mut world = World::new(5);
    // Alice keeps hers at the first host only, Bob his at both.
    world.sides[ALICE].mailboxes.retain(|mailbox| mailbox.own.host == world.hosts[0].key);
    world.sides[BOB].awake = false;
    for n in 0..4 {
        world.sides[ALICE].offer(item(n));
        world.run(MINUTE_MS);
    }
    assert_eq!((deposits(&world, 0), deposits(&world, 1)), (0, 4));
}

#[test]
fn a_peer_that_is_away_gets_no_more_than_its_stamps_allow_and_the_last_eight_are_for_keys() {
    let mut world = World::new(6);
    world.sides[BOB].awake = false;
    for n in 0..200 {
        world.sides[ALICE].offer(Item::Verdict(
            vec![n as u8; 3_500].iter().enumerate().map(|(at, byte)| byte ^ (at * 37 % 251) as u8).collect(),
        ));
        world.run(MINUTE_MS);
    }
    let small = |world: &World| world.sides[ALICE].session.credit().0;
    assert!(world.sides[ALICE].session.unacknowledged() <= 40, "vodozemac keeps 40 skipped keys");
    assert_eq!(small(&world), 16, "eight for each host are left");
    world.sides[ALICE].offer_as(Item::ToDevice { order: 0, body: b"key".to_vec() }, Priority::Essential);
    world.run(MINUTE_MS);
    assert!(small(&world) < 16 || world.sides[ALICE].session.unacknowledged() == 40);
    world.sides[BOB].awake = true;
    world.run(2 * DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 201);
}

#[test]
fn stamps_come_back_as_they_are_used() {
    let mut world = World::new(7);
    for n in 0..300 {
        world.sides[ALICE].offer(item(n));
        world.run(10 * MINUTE_MS);
    }
    assert_eq!(world.sides[BOB].delivered.len(), 300);
    let (small, _) = world.sides[ALICE].session.credit();
    assert!(small >= 30, "{small} are left of 48");
    assert!(world.sides[BOB].session.credit().0 >= 30);
}

#[test]
fn after_thirty_days_of_silence_the_link_sleeps_and_a_word_from_the_peer_wakes_it() {
    let mut world = World::new(8);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(item(0));
    world.run(31 * DAY_MS);
    assert!(world.sides[ALICE].session.is_dormant());
    assert!(world.sides[ALICE].saw(Notice::Dormant));
    let puts: usize = world.hosts.iter().map(|host| host.puts).sum();
    world.sides[ALICE].offer(item(1));
    world.run(5 * DAY_MS);
    assert_eq!(world.hosts.iter().map(|host| host.puts).sum::<usize>(), puts, "no traffic");
    assert_eq!(world.sides[ALICE].outbox.len(), 2, "the rows stay");
    world.sides[BOB].awake = true;
    world.run(2 * DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 2);
    assert!(!world.sides[ALICE].session.is_dormant());
}

#[test]
fn a_mailbox_that_moves_is_filled_through_stamps_for_the_new_one() {
    let mut world = World::new(9);
    for week in 0..6 {
        for n in 0..5 {
            world.sides[ALICE].offer(item(week * 10 + n));
            world.sides[BOB].offer(item(week * 10 + n));
            world.run(DAY_MS);
        }
        for side in 0..2 {
            for host in 0..2 {
                let key = world.hosts[host].key;
                let before = world.sides[side].mailboxes.iter_mut();
                before
                    .filter(|mailbox| mailbox.own.host == key && !mailbox.own.recovery)
                    .for_each(|mailbox| mailbox.own.draining = true);
                world.sides[side].open_mailbox(&mut world.hosts[host], false);
            }
        }
        // The ones from five weeks ago close.
        for side in 0..2 {
            let closed: Vec<_> = world.sides[side]
                .mailboxes
                .iter()
                .filter(|mailbox| !mailbox.own.recovery)
                .map(|mailbox| mailbox.own.id)
                .collect();
            if closed.len() > 10 {
                world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&closed[0])));
                world.sides[side].mailboxes.retain(|mailbox| mailbox.own.id != closed[0]);
            }
        }
        world.run(2 * DAY_MS);
    }
    for side in &world.sides {
        assert_eq!(side.delivered.len(), 30);
        assert!(!side.saw(Notice::Restoring), "no HELLO was needed");
    }
}

#[test]
fn large_stamps_are_taken_for_what_does_not_fit_a_small_envelope() {
    let mut world = World::new(10);
    let mut body = vec![0; 20_000];
    millpond_mailbox::rand_core::Rng::fill_bytes(&mut world.rng, &mut body);
    world.sides[ALICE].offer(Item::Verdict(body));
    let now = world.now;
    world.sides[ALICE].slot(now);
    assert_eq!(world.sides[ALICE].session.credit(), (48, 15));
}

#[test]
fn after_days_in_which_both_hosts_refuse_good_stamps_everything_goes_through() {
    for (seed, days) in [(11, 1), (12, 5), (13, 12)] {
        let mut world = World::new(seed);
        world.hosts.iter_mut().for_each(|host| host.says = Some(Outcome::Refused));
        for n in 0..days * 4 {
            world.sides[ALICE].offer(item(n));
            world.sides[BOB].offer(item(n));
            world.run(DAY_MS / 4);
        }
        world.hosts.iter_mut().for_each(|host| host.says = None);
        world.run(4 * DAY_MS);
        for side in [ALICE, BOB] {
            let left = world.sides[side].outbox.len();
            assert_eq!(left, 0, "{left} of {} are left after {days} days of refusals", days * 4);
            // What was not acknowledged goes again after a HELLO: the node knows it by its id.
            let arrived: std::collections::BTreeSet<_> = world.sides[1 - side].bodies().into_iter().collect();
            assert_eq!(arrived.len(), days * 4);
        }
    }
}

#[test]
fn a_mailbox_that_refuses_costs_a_stamp_a_day_and_the_other_one_carries() {
    let mut world = World::new(14);
    world.hosts[0].says = Some(Outcome::Refused);
    for n in 0..20 {
        world.sides[ALICE].offer(item(n));
        world.run(DAY_MS / 2);
    }
    assert_eq!(world.sides[BOB].delivered.len(), 20);
    let refused = world.hosts[0].puts;
    // Without the pause each of the twenty items and acknowledgements would try there first.
    assert!((20..60).contains(&refused), "{refused} deposits were refused in ten days");
    assert!(!world.sides[ALICE].saw(Notice::Restoring), "no HELLO while there is another way");
}

#[test]
fn what_was_swallowed_five_times_goes_again_as_long_as_the_peer_is_heard() {
    let mut world = World::new(16);
    let of_bob: Vec<_> = world.sides[BOB].own().iter().map(|own| own.id).collect();
    world.hosts.iter_mut().for_each(|host| host.swallows.extend(&of_bob));
    world.sides[ALICE].offer(item(0));
    for n in 0..17 {
        world.sides[BOB].offer(item(n));
        world.run(DAY_MS);
    }
    assert!(world.sides[BOB].delivered.is_empty() && !world.sides[ALICE].session.is_dormant());
    world.hosts.iter_mut().for_each(|host| host.swallows.clear());
    world.run(10 * DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
    assert!(world.sides.iter().all(|side| side.outbox.is_empty()));
}

#[test]
fn what_one_host_swallowed_and_the_other_refused_is_sealed_again() {
    let mut world = World::new(17);
    world.sides[BOB].awake = false;
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    world.sides[ALICE].offer(item(0));
    world.turn(ALICE);
    // A day later the second envelope is due, and the other host refuses whatever comes.
    let swallowed = usize::from(world.hosts[1].puts > 0);
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    world.hosts[1 - swallowed].says = Some(Outcome::Refused);
    world.run(2 * DAY_MS);
    assert!(world.hosts[1 - swallowed].puts > 0, "it was refused");
    world.sides[BOB].awake = true;
    world.run(DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
    assert!(world.sides[ALICE].outbox.is_empty() && !world.sides[ALICE].saw(Notice::Restoring));
}

#[test]
fn what_was_swallowed_five_times_goes_again_without_a_later_frame_that_shows_the_hole() {
    let mut world = World::new(18);
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    world.sides[ALICE].offer(item(0));
    world.run(17 * DAY_MS);
    assert_eq!(world.hosts.iter().map(|host| host.puts).sum::<usize>(), 5);
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    world.run(10 * DAY_MS);
    assert_eq!(world.sides[BOB].delivered.len(), 1);
}
