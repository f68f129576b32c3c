//! HELLO: a side that was set back, or both without stamps, make the link anew, and nothing is lost.

use millpond_mailbox::{
    item::Item,
    session::{Backup, Fault, InEvent, MapRows, Notice, Outcome, Session},
};

use crate::carrier::{ALICE, BOB, DAY_MS, HOUR_MS, Side, World};

fn item(text: &str) -> Item {
    Item::Verdict(text.as_bytes().to_vec())
}

fn has(world: &World, side: usize, text: &str) -> usize {
    world.sides[side].bodies().iter().filter(|body| body.as_slice() == text.as_bytes()).count()
}

/// The side loses everything but its backup and its outbox; its recovery mailboxes are in the backup, the others are made anew.
pub fn restore(world: &mut World, side: usize, backup: Backup) {
    let old = &mut world.sides[side];
    let session = Session::from_backup(backup);
    let node = std::mem::replace(&mut old.node, crate::world::Node::new(99));
    let mut new = Side::new(node, old.link.clone(), session);
    new.mailboxes = old.mailboxes.drain(..).filter(|mailbox| mailbox.own.recovery).collect();
    new.outbox = std::mem::take(&mut old.outbox);
    new.next_handle = old.next_handle;
    new.delivered = std::mem::take(&mut old.delivered);
    world.sides[side] = new;
    for host in 0..2 {
        world.sides[side].open_mailbox(&mut world.hosts[host], false);
    }
}

#[test]
fn a_restored_node_finds_its_contact_again_and_both_get_what_waited() {
    for side in 0..2 {
        let mut world = World::new(10 + side as u64);
        world.sides[ALICE].offer(item("early"));
        world.run(DAY_MS);
        let backup = Backup::from_bytes(&world.sides[side].session.backup().to_bytes()).expect("as written");
        world.sides[1 - side].offer(item("on the way while it happened"));
        let other = 1 - side;
        world.turn(other);
        restore(&mut world, side, backup);
        world.sides[side].offer(item("from the restored one"));
        world.run(3 * DAY_MS);
        assert_eq!(has(&world, side, "on the way while it happened"), 1);
        assert_eq!(has(&world, other, "from the restored one"), 1);
        assert!(world.sides.iter().all(|side| side.saw(Notice::Restored) && side.outbox.is_empty()));
        // And it goes on as ever, for weeks.
        for week in 0..3 {
            world.sides[side].offer(item(&format!("week {week}")));
            world.run(7 * DAY_MS);
            assert_eq!(has(&world, other, &format!("week {week}")), 1);
        }
    }
}

#[test]
fn what_comes_beside_the_answer_to_a_hello_or_before_it_is_not_lost() {
    for before in [false, true] {
        let mut world = World::new(15);
        world.run(DAY_MS);
        let backup = world.sides[ALICE].session.backup();
        world.sides[BOB].offer(item("on the way while it happened"));
        world.turn(BOB);
        restore(&mut world, ALICE, backup);
        // Alice says HELLO; Bob answers and sends again, all of which lies there when she looks.
        world.turn(ALICE);
        world.turn(BOB);
        let mut arrived = world.fetch(ALICE);
        assert!(arrived.len() >= 2, "{}", arrived.len());
        let now = world.now;
        if before {
            // In every order in which polls of several mailboxes bring them.
            let last = arrived.len() - 1;
            arrived.swap(0, last);
            arrived.into_iter().for_each(|one| world.sides[ALICE].feed(now, InEvent::Arrived(vec![one])));
        } else {
            world.sides[ALICE].feed(now, InEvent::Arrived(arrived));
        }
        assert_eq!(has(&world, ALICE, "on the way while it happened"), 1, "one by one: {before}");
        assert!(!world.sides[ALICE].saw(Notice::Misbehaved(Fault::Unopened)));
    }
}

#[test]
fn an_old_backup_does_and_so_does_a_second_restoration_from_a_newer_one() {
    let mut world = World::new(20);
    let old = world.sides[ALICE].session.backup();
    for week in 0..4 {
        world.sides[ALICE].offer(item(&format!("a {week}")));
        world.sides[BOB].offer(item(&format!("b {week}")));
        world.run(7 * DAY_MS);
    }
    restore(&mut world, ALICE, old);
    world.sides[BOB].offer(item("welcome back"));
    world.run(3 * DAY_MS);
    assert_eq!(has(&world, ALICE, "welcome back"), 1);
    let newer = world.sides[ALICE].session.backup();
    world.run(2 * DAY_MS);
    restore(&mut world, ALICE, newer);
    world.sides[BOB].offer(item("welcome back again"));
    world.run(3 * DAY_MS);
    assert_eq!(has(&world, ALICE, "welcome back again"), 1);
}

/// Its own stamps are spent, and the contact's were issued after the backup: by their keys alone they are known.
#[test]
fn whoever_is_set_up_from_a_backup_older_than_several_hellos_is_reached_by_the_contacts_hello() {
    let mut world = World::new(21);
    let backups = [(); 3].map(|()| world.sides[ALICE].session.backup());
    for (time, backup) in backups.into_iter().enumerate() {
        restore(&mut world, ALICE, backup);
        world.sides[ALICE].mailboxes.iter_mut().for_each(|mailbox| mailbox.issued.clear());
        let (here, back) = (format!("here {time}"), format!("welcome back {time}"));
        world.sides[ALICE].offer(item(&here));
        world.sides[BOB].offer(item(&back));
        world.run(60 * DAY_MS);
        assert_eq!((has(&world, ALICE, &back), has(&world, BOB, &here)), (1, 1), "{time}");
    }
}

#[test]
fn a_database_that_was_set_back_is_noticed_and_the_link_is_made_anew() {
    for seed in 0..4 {
        let mut world = World::new(30 + seed);
        world.sides[ALICE].offer(item("one"));
        world.run(DAY_MS);
        let rows: MapRows = world.sides[ALICE].rows.clone();
        for n in 0..5 {
            world.sides[ALICE].offer(item(&format!("lost in the snapshot {n}")));
            world.sides[BOB].offer(item(&format!("heard before {n}")));
            world.run(DAY_MS / 2);
        }
        world.sides[ALICE].rows = rows;
        world.sides[ALICE].restart();
        world.sides[ALICE].offer(item("after"));
        world.sides[BOB].offer(item("to the one set back"));
        world.run(12 * DAY_MS);
        assert_eq!(has(&world, BOB, "after"), 1, "seed {seed}");
        assert_eq!(has(&world, ALICE, "to the one set back"), 1, "seed {seed}");
        assert!(world.sides[ALICE].saw(Notice::Restored));
    }
}

#[test]
fn both_restored_at_once_say_hello_at_once_and_the_smaller_key_is_the_offerer() {
    let mut world = World::new(40);
    world.run(DAY_MS);
    let (a, b) = (world.sides[ALICE].session.backup(), world.sides[BOB].session.backup());
    restore(&mut world, ALICE, a);
    restore(&mut world, BOB, b);
    world.sides[ALICE].offer(item("from alice"));
    world.sides[BOB].offer(item("from bob"));
    // Both hellos are out before either is read.
    let now = world.now;
    for side in 0..2 {
        world.sides[side].slot(now);
    }
    for side in 0..2 {
        world.deliver(side);
    }
    world.run(2 * DAY_MS);
    assert_eq!(has(&world, BOB, "from alice"), 1);
    assert_eq!(has(&world, ALICE, "from bob"), 1);
    assert!(world.sides.iter().all(|side| side.saw(Notice::Restored)));
}

#[test]
fn after_sixty_days_away_with_every_mailbox_closed_the_link_comes_back() {
    let mut world = World::new(50);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(item("while you were away"));
    // Alice moves to new mailboxes; all of the old ones close.
    world.run(60 * DAY_MS);
    for side in 0..2 {
        for mailbox in world.sides[side].mailboxes.iter().filter(|mailbox| !mailbox.own.recovery) {
            world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
        }
        world.sides[side].mailboxes.retain(|mailbox| mailbox.own.recovery);
        for host in 0..2 {
            world.sides[side].open_mailbox(&mut world.hosts[host], false);
        }
    }
    world.sides[BOB].awake = true;
    world.sides[BOB].offer(item("I am back"));
    world.run(4 * DAY_MS);
    assert_eq!(has(&world, ALICE, "I am back"), 1);
    assert_eq!(has(&world, BOB, "while you were away"), 1);
}

#[test]
fn both_without_a_stamp_say_hello() {
    let mut world = World::new(60);
    // Everything that either has is lost by the hosts, over and over.
    for side in 0..2 {
        for n in 0..30 {
            world.sides[side].offer_as(item(&format!("{side} {n}")), millpond_mailbox::session::Priority::Essential);
        }
    }
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    for _ in 0..9 {
        for side in 0..2 {
            let next = world.sides[side].next_handle;
            world.sides[side].offer_as(item(&format!("{side} {next}")), millpond_mailbox::session::Priority::Essential);
        }
        world.run(DAY_MS);
    }
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    world.run(12 * DAY_MS);
    for side in 0..2 {
        assert!(world.sides[side].outbox.is_empty(), "{} left", world.sides[side].outbox.len());
        assert_eq!(world.sides[1 - side].delivered.len(), 39);
    }
}

#[test]
fn a_hello_that_is_replayed_or_older_changes_nothing() {
    let mut world = World::new(70);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    let again = backup.clone();
    restore(&mut world, ALICE, backup);
    world.run(2 * DAY_MS);
    world.sides[ALICE].offer(item("on the new line"));
    world.run(DAY_MS);
    assert_eq!(has(&world, BOB, "on the new line"), 1);
    // The same backup once more: its stamps are used, the host says SPENT, and Bob hears nothing of it.
    let heard = world.sides[BOB].notices.len();
    let own: Vec<_> = world.sides[ALICE].own();
    let ordinary = own.iter().position(|mailbox| !mailbox.recovery).expect("there is one");
    let stamps = world.sides[ALICE].issue(ordinary, millpond_mailbox::stamp::Class::S, 1);
    let mut thief = Session::from_backup(again);
    let rows = MapRows::default();
    let ctx = millpond_mailbox::session::Context {
        now: world.now,
        identity: &world.sides[ALICE].node.identity,
        mailboxes: &own,
        rows: &rows,
    };
    let mut outcomes = Vec::new();
    thief.handle(&ctx, millpond_mailbox::session::InEvent::Granted(vec![stamps]), &mut world.rng);
    for effect in thief.handle(&ctx, millpond_mailbox::session::InEvent::Slot, &mut world.rng) {
        if let millpond_mailbox::session::OutEvent::Deposit { host, bytes, .. } = effect {
            let host = world.hosts.iter_mut().find(|known| known.key == host).expect("known");
            outcomes.push(host.put(&bytes));
        }
    }
    assert_eq!(outcomes, vec![millpond_mailbox::session::Outcome::Spent]);
    world.run(HOUR_MS);
    assert_eq!(world.sides[BOB].notices.len(), heard);
    assert!(!world.sides[BOB].saw(Notice::Misbehaved(Fault::Hello)));
}

#[test]
fn at_most_one_hello_a_day_is_made() {
    let mut world = World::new(80);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.sides[BOB].awake = false;
    let before: usize = world.hosts.iter().map(|host| host.puts).sum();
    world.run(DAY_MS - HOUR_MS);
    let puts: usize = world.hosts.iter().map(|host| host.puts).sum();
    assert_eq!(puts, before + 1);
    world.run(20 * DAY_MS);
    let puts: usize = world.hosts.iter().map(|host| host.puts).sum();
    assert!(puts <= before + 2, "the same HELLO once more, through the other recovery mailbox");
}

#[test]
fn a_second_hello_within_a_day_is_not_taken_and_the_next_day_it_is() {
    let mut world = World::new(81);
    world.run(DAY_MS);
    let restored =
        |world: &World| world.sides[BOB].notices.iter().filter(|notice| **notice == Notice::Restored).count();
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.run(2 * HOUR_MS);
    assert_eq!(restored(&world), 1);
    let newer = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, newer);
    world.run(6 * HOUR_MS);
    assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Hello)));
    assert_eq!(restored(&world), 1, "one a day");
    world.run(2 * DAY_MS);
    assert_eq!(restored(&world), 2);
}

#[test]
fn whoever_was_set_back_twice_in_a_day_says_its_second_hello_on_the_next() {
    let mut world = World::new(82);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.run(2 * HOUR_MS);
    let said = |world: &World| world.sides[ALICE].notices.iter().filter(|notice| **notice == Notice::Restoring).count();
    assert_eq!(said(&world), 1);
    // The next stamp is one that was used before: a sign that the database was set back.
    world.hosts.iter_mut().for_each(|host| host.says = Some(Outcome::Spent));
    world.sides[ALICE].offer(item("under a used stamp"));
    let now = world.now;
    world.sides[ALICE].slot(now);
    world.deliver(ALICE);
    world.hosts.iter_mut().for_each(|host| host.says = None);
    world.run(20 * HOUR_MS);
    assert_eq!(said(&world), 1, "the day is not over");
    world.run(DAY_MS);
    assert_eq!(said(&world), 2);
    assert_eq!(has(&world, BOB, "under a used stamp"), 1);
}

#[test]
fn whoever_comes_back_after_sixty_days_with_something_unacknowledged_does_not_fall_asleep_over_it() {
    let mut world = World::new(83);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    // Both have something under way that hosts have swallowed when Bob goes away.
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    world.sides[BOB].offer(item("from bob, long ago"));
    world.turn(BOB);
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(item("to bob, long ago"));
    world.run(60 * DAY_MS);
    assert!(world.sides[ALICE].session.is_dormant());
    for side in 0..2 {
        for mailbox in world.sides[side].mailboxes.iter().filter(|mailbox| !mailbox.own.recovery) {
            world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
        }
        world.sides[side].mailboxes.retain(|mailbox| mailbox.own.recovery);
        for host in 0..2 {
            world.sides[side].open_mailbox(&mut world.hosts[host], false);
        }
    }
    world.sides[BOB].awake = true;
    world.run(4 * DAY_MS);
    assert_eq!(has(&world, ALICE, "from bob, long ago"), 1);
    assert_eq!(has(&world, BOB, "to bob, long ago"), 1);
}

/// Everything but the recovery mailboxes of a side has closed; it has others.
fn move_mailboxes(world: &mut World, side: usize) {
    for mailbox in world.sides[side].mailboxes.iter().filter(|mailbox| !mailbox.own.recovery) {
        world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
    }
    world.sides[side].mailboxes.retain(|mailbox| mailbox.own.recovery);
    for host in 0..2 {
        world.sides[side].open_mailbox(&mut world.hosts[host], false);
    }
}

/// He reads the HELLO together with what she had said before she was set up again, and the stamps in that are for mailboxes that nobody
/// reads any more.
#[test]
fn a_hello_is_answered_into_mailboxes_that_are_read() {
    let mut world = World::new(25);
    world.sides[ALICE].offer(item("early"));
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    world.sides[BOB].awake = false;
    move_mailboxes(&mut world, ALICE);
    for n in 0..4 {
        world.sides[ALICE].offer(item(&format!("unread {n}")));
        world.run(HOUR_MS);
    }
    restore(&mut world, ALICE, backup);
    world.sides[ALICE].offer(item("here"));
    world.run(2 * DAY_MS);
    world.sides[BOB].offer(item("an answer"));
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    assert_eq!((has(&world, ALICE, "an answer"), has(&world, BOB, "here")), (1, 1));
    assert!(has(&world, BOB, "unread 3") > 0);
}

#[test]
fn whoever_comes_back_after_sixty_days_with_nothing_to_say_wakes_the_links_of_his_contacts() {
    let mut world = World::new(88);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(item("while you were away"));
    world.run(60 * DAY_MS);
    assert!(world.sides[ALICE].session.is_dormant());
    move_mailboxes(&mut world, ALICE);
    move_mailboxes(&mut world, BOB);
    world.sides[BOB].restart();
    world.sides[BOB].awake = true;
    world.run(4 * DAY_MS);
    assert_eq!(has(&world, BOB, "while you were away"), 1);
    assert!(world.sides.iter().all(|side| side.saw(Notice::Restored)), "by a HELLO: there were no stamps left");
}

#[test]
fn whoever_comes_back_after_thirty_days_with_stamps_that_are_good_needs_no_hello_to_be_heard() {
    let mut world = World::new(89);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    world.sides[BOB].awake = false;
    // A host swallows it, again and again.
    world.hosts.iter_mut().for_each(|host| host.lies = true);
    world.sides[ALICE].offer(item("swallowed"));
    world.run(31 * DAY_MS);
    world.hosts.iter_mut().for_each(|host| host.lies = false);
    assert!(world.sides[ALICE].session.is_dormant());
    // The device slept; the program did not end.
    world.sides[BOB].session.woken();
    world.sides[BOB].awake = true;
    world.run(4 * DAY_MS);
    assert_eq!(has(&world, BOB, "swallowed"), 1);
    assert!(!world.sides.iter().any(|side| side.saw(Notice::Restored)));
}

#[test]
fn a_start_after_a_few_days_is_no_return_and_sends_nothing() {
    let mut world = World::new(90);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    world.advance(20 * DAY_MS);
    for side in &mut world.sides {
        side.restart();
        assert_eq!(side.session.wants_slot(world.now, &side.own()), None);
    }
}

#[test]
fn a_hello_that_hosts_refused_falsely_goes_again_the_next_days() {
    let mut world = World::new(84);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.sides[ALICE].offer(item("from the restored one"));
    world.sides[BOB].offer(item("to the restored one"));
    world.hosts.iter_mut().for_each(|host| host.says = Some(Outcome::Refused));
    world.run(3 * DAY_MS);
    world.hosts.iter_mut().for_each(|host| host.says = None);
    world.run(3 * DAY_MS);
    assert_eq!(has(&world, BOB, "from the restored one"), 1);
    assert_eq!(has(&world, ALICE, "to the restored one"), 1);
}

#[test]
fn an_answer_whose_stamps_are_for_mailboxes_that_have_closed_since_makes_another_hello() {
    let mut world = World::new(85);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.sides[BOB].awake = false;
    world.turn(ALICE);
    assert!(world.sides[ALICE].saw(Notice::Restoring));
    // Alice goes to sleep for weeks; when she is back, Bob has answered into mailboxes that are closed.
    world.sides[ALICE].awake = false;
    world.advance(40 * DAY_MS);
    for mailbox in world.sides[ALICE].mailboxes.iter().filter(|mailbox| !mailbox.own.recovery) {
        world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
    }
    world.sides[ALICE].mailboxes.retain(|mailbox| mailbox.own.recovery);
    for host in 0..2 {
        world.sides[ALICE].open_mailbox(&mut world.hosts[host], false);
    }
    world.sides[BOB].awake = true;
    world.sides[BOB].offer(item("after the answer"));
    world.run(2 * DAY_MS);
    world.sides[ALICE].awake = true;
    world.sides[ALICE].offer(item("back after weeks"));
    world.run(5 * DAY_MS);
    assert_eq!(has(&world, ALICE, "after the answer"), 1);
    assert_eq!(has(&world, BOB, "back after weeks"), 1);
}

#[test]
fn a_hello_is_answered_with_stamps_under_which_something_can_be_said() {
    let mut world = World::new(86);
    world.run(DAY_MS);
    let backup = world.sides[ALICE].session.backup();
    restore(&mut world, ALICE, backup);
    world.turn(ALICE);
    world.poll(BOB);
    let own = world.sides[BOB].own();
    let grant = |world: &mut World, recovery: bool| {
        let at = own.iter().position(|mailbox| mailbox.recovery == recovery).expect("there is one");
        let grant = world.sides[BOB].issue(at, millpond_mailbox::stamp::Class::S, 1);
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Granted(vec![grant]));
        world.sides[BOB].feed(now, InEvent::Slot);
        world.deliver(BOB)
    };
    assert!(!grant(&mut world, true), "under the stamp of a recovery mailbox nothing but a HELLO goes");
    assert!(grant(&mut world, false), "it is answered");
}

#[test]
fn whoever_was_away_longer_than_mailboxes_live_says_hello_whatever_a_host_makes_of_old_stamps() {
    let mut world = World::new(87);
    world.sides[ALICE].offer(item("before"));
    world.run(DAY_MS);
    world.sides[ALICE].awake = false;
    world.run(60 * DAY_MS);
    for mailbox in world.sides[BOB].mailboxes.iter().filter(|mailbox| !mailbox.own.recovery) {
        world.hosts.iter_mut().for_each(|host| drop(host.boxes.remove(&mailbox.own.id)));
    }
    world.sides[BOB].mailboxes.retain(|mailbox| mailbox.own.recovery);
    for host in 0..2 {
        world.sides[BOB].open_mailbox(&mut world.hosts[host], false);
    }
    // One host says STORED to everything and keeps nothing.
    world.hosts[0].says = Some(Outcome::Stored);
    world.sides[ALICE].awake = true;
    world.sides[ALICE].offer(item("I am back"));
    world.run(4 * DAY_MS);
    assert_eq!(has(&world, BOB, "I am back"), 1);
}
