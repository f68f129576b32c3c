//! Mailboxes that are gone while acknowledgements do not come back: stamps for those in their place have to reach the peer all the
//! same, and a link over which something still comes must not fall asleep. Found by seeds 40333, 40411 and 40973 of the simulator.

use millpond_mailbox::{item::Item, session::Notice, stamp::MailboxId};

use crate::carrier::{ALICE, BOB, DAY_MS, HOUR_MS, World};

fn item(n: u8) -> Item {
    Item::Verdict(vec![n])
}

/// Bob's hosts lose his mailboxes; he makes new ones, and reads the old ones on in vain. Gives back the new ones, by host.
fn lose_mailboxes(world: &mut World) -> Vec<MailboxId> {
    for mailbox in world.sides[BOB].mailboxes.iter_mut().filter(|mailbox| !mailbox.own.recovery) {
        mailbox.own.draining = true;
        world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
    }
    let open = |host: usize| {
        let index = world.sides[BOB].open_mailbox(&mut world.hosts[host], false);
        world.sides[BOB].mailboxes[index].own.id
    };
    (0..2).map(open).collect()
}

#[test]
fn one_frame_brings_stamps_for_the_new_mailboxes_at_both_hosts() {
    for lying in 0..2 {
        let mut world = World::new(40);
        let new = lose_mailboxes(&mut world);
        world.hosts[lying].swallows.insert(new[lying]);
        world.sides[BOB].offer(item(0));
        world.run(24 * DAY_MS);
        assert_eq!(world.sides[ALICE].delivered.len(), 1);
        assert!(world.sides[BOB].outbox.is_empty(), "host {lying} swallows, and nothing goes through the other");
        assert!(world.sides.iter().all(|side| !side.saw(Notice::Restoring)), "no HELLO was needed");
    }
}

#[test]
fn stamps_for_mailboxes_that_only_drain_do_not_keep_those_for_their_successors_waiting() {
    let mut world = World::new(41);
    let swallowed = lose_mailboxes(&mut world);
    world.hosts.iter_mut().for_each(|host| host.swallows.extend(&swallowed));
    world.sides[BOB].offer(item(0));
    world.run(HOUR_MS);
    assert_eq!(world.sides[ALICE].delivered.len(), 1, "his word arrives, and her acknowledgement is swallowed");
    lose_mailboxes(&mut world);
    world.sides[BOB].offer(item(1));
    world.run(HOUR_MS);
    assert_eq!(world.sides[ALICE].delivered.len(), 2);
    assert!(world.sides[BOB].outbox.is_empty());
}

#[test]
fn whoever_hears_the_same_again_and_again_does_not_fall_asleep() {
    let mut world = World::new(42);
    let of_bob: Vec<MailboxId> = world.sides[BOB].own().iter().map(|own| own.id).collect();
    world.hosts.iter_mut().for_each(|host| host.swallows.extend(&of_bob));
    world.sides[BOB].offer(item(0));
    world.sides[ALICE].offer(item(1));
    world.run(31 * DAY_MS);
    assert!(world.sides[BOB].session.is_dormant(), "he has heard nothing");
    assert!(!world.sides[ALICE].session.is_dormant(), "she has heard him say the same five times");
    world.hosts.iter_mut().for_each(|host| host.swallows.clear());
    world.run(10 * DAY_MS);
    assert!(world.sides.iter().all(|side| side.delivered.len() == 1 && side.outbox.is_empty()));
}

#[test]
fn acknowledgements_that_no_host_takes_cost_few_stamps() {
    let mut world = World::new(43);
    world.sides[ALICE].offer(item(0));
    world.turn(ALICE);
    world.poll(BOB);
    world.hosts.iter_mut().for_each(|host| host.down = true);
    world.run(10 * HOUR_MS);
    let (small, _) = world.sides[BOB].session.credit();
    assert!((24..47).contains(&small), "{small} of 48 are left after ten hours");
    world.hosts.iter_mut().for_each(|host| host.down = false);
    world.run(2 * HOUR_MS);
    assert!(world.sides[ALICE].outbox.is_empty());
}
