//! What polling costs, and that it does not depend on who one knows.

use millpond_mailbox::{
    rand_core::Rng,
    schedule::{
        CONNECTION_LIFE, EMPTY_FETCH_LEN, MailboxKind, Mode, OPENING_LEN, next_poll, next_slot, poll_len, put_len,
        slot_for,
    },
    stamp::Class,
    time::UnixMillis,
};

use crate::{
    carrier::{ALICE, DAY_MS, World},
    world::{NOW, TestRng},
};

const BATTERY: Mode = Mode::Paced { mains: false };
const MAINS: Mode = Mode::Paced { mains: true };

/// Wake-ups and bytes of a day of polls without messages: two mailboxes, two recovery mailboxes, each on its own.
fn day_of_polls(mode: Mode, rng: &mut TestRng) -> (usize, usize) {
    let kinds = [MailboxKind::Ordinary, MailboxKind::Ordinary, MailboxKind::Recovery, MailboxKind::Recovery];
    let (end, mut wakes, mut bytes) = (NOW.0 + DAY_MS, 0, 0);
    for kind in kinds {
        let (mut at, mut opened) = (next_poll(mode, kind, NOW, rng), UnixMillis(0));
        while at.0 < end {
            wakes += 1;
            if at >= opened.after(CONNECTION_LIFE) {
                bytes += OPENING_LEN;
                opened = at;
            }
            bytes += EMPTY_FETCH_LEN;
            at = next_poll(mode, kind, at, rng);
        }
    }
    (wakes, bytes)
}

#[test]
fn a_paced_day_without_messages_is_under_a_mebibyte_on_battery_and_on_mains() {
    for seed in 0..20 {
        let mut rng = TestRng::new(seed);
        let (wakes, bytes) = day_of_polls(BATTERY, &mut rng);
        assert!((130..260).contains(&wakes), "{wakes} wake-ups");
        assert!(bytes < 128 << 10, "{bytes} bytes");
        let (_, bytes) = day_of_polls(MAINS, &mut rng);
        assert!(bytes < 1 << 20, "{bytes} bytes on mains");
    }
}

/// Bytes and wake-ups of a paced day in which so many links are idle: what each wants is asked of real sessions.
fn paced_day(contacts: usize) -> (usize, usize) {
    let mut rng = TestRng::new(7);
    let (mut wakes, mut bytes) = day_of_polls(BATTERY, &mut rng);
    let mut world = World::new(1);
    world.sides[ALICE].offer(millpond_mailbox::item::Item::Verdict(b"once".to_vec()));
    world.run(DAY_MS);
    // All of them are like this one: the session is the same value whoever is at the other end.
    let (side, end) = (&world.sides[ALICE], world.now.0 + DAY_MS);
    let own = side.own();
    let mut slot = next_slot(BATTERY, world.now, &mut rng);
    while slot.0 < end {
        let wants = (0..contacts).filter(|_| side.session.wants_slot(slot, &own).is_some_and(|at| at <= slot)).count();
        if wants > 0 {
            wakes += 1;
            bytes += OPENING_LEN + wants * put_len(Class::S);
        }
        slot = next_slot(BATTERY, slot, &mut rng);
    }
    (wakes, bytes)
}

#[test]
fn ten_contacts_and_a_thousand_cost_the_same_day() {
    let (ten, thousand) = (paced_day(10), paced_day(1_000));
    let within = |a: usize, b: usize| a.abs_diff(b) * 20 <= a;
    assert!(within(ten.0, thousand.0), "wake-ups {ten:?} {thousand:?}");
    assert!(within(ten.1, thousand.1), "bytes {ten:?} {thousand:?}");
}

#[test]
fn polls_are_a_poisson_process_with_the_mean_of_the_mode() {
    for (mode, mean_s) in [(BATTERY, 900.0), (MAINS, 60.0)] {
        let mut rng = TestRng::new(3);
        let waits: Vec<f64> = (0..20_000)
            .map(|_| (next_poll(mode, MailboxKind::Ordinary, NOW, &mut rng).0 - NOW.0) as f64 / 1_000.0)
            .collect();
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        assert!((mean / mean_s - 1.0).abs() < 0.03, "mean {mean}");
        // Of an exponential distribution 1/e lies above the mean, and the spread is the mean.
        let above = waits.iter().filter(|wait| **wait > mean_s).count() as f64 / waits.len() as f64;
        assert!((above - 0.3679).abs() < 0.02, "{above} above the mean");
        let variance = waits.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>() / waits.len() as f64;
        assert!((variance.sqrt() / mean_s - 1.0).abs() < 0.05);
    }
}

#[test]
fn the_recovery_mailbox_is_polled_about_once_a_day_in_every_mode() {
    let mut rng = TestRng::new(4);
    for mode in [BATTERY, MAINS, Mode::Instant] {
        for _ in 0..1_000 {
            let wait = next_poll(mode, MailboxKind::Recovery, NOW, &mut rng).0 - NOW.0;
            assert!((DAY_MS * 3 / 4..DAY_MS * 5 / 4).contains(&wait));
        }
    }
}

#[test]
fn paced_sends_wait_for_the_slot_and_instant_ones_do_not() {
    let (due, slot) = (UnixMillis(NOW.0 + 5), UnixMillis(NOW.0 + 900_000));
    assert_eq!(slot_for(BATTERY, due, slot), slot);
    assert_eq!(slot_for(Mode::Instant, due, slot), due);
    assert_eq!(slot_for(BATTERY, UnixMillis(slot.0 + 1), slot), UnixMillis(slot.0 + 1));
}

#[test]
fn when_a_node_polls_says_nothing_about_what_it_received_or_sent() {
    // The next poll is drawn from the last one alone: the same draws give the same times, whatever happened in between.
    let times = |noise: u32| -> Vec<UnixMillis> {
        let (mut rng, mut other) = (TestRng::new(5), TestRng::new(6));
        let mut at = NOW;
        (0..50)
            .map(|_| {
                (0..noise).for_each(|_| other.fill_bytes(&mut [0; 8]));
                at = next_poll(BATTERY, MailboxKind::Ordinary, at, &mut rng);
                at
            })
            .collect()
    };
    assert_eq!(times(0), times(9));
    assert!(poll_len(1, 0) > EMPTY_FETCH_LEN);
}
