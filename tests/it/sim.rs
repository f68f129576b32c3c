//! Some seeds of the simulator. A seed that fails is kept here, with what was wrong.

use millpond_tests::sim::{
    plan::{Faults, HOUR, MINUTE, Plan, SECOND},
    run::run,
    stats::Stats,
};

fn holds(plan: Plan) -> Stats {
    let report = run(plan, false);
    assert!(report.faults.is_empty(), "seed {}: {:#?}\n{:?}", report.seed, report.faults, report.stats);
    report.stats
}

/// Six nodes with these faults and no others.
fn with(seed: u64, faults: Faults) -> Plan {
    Plan { faults: Faults { delay: 2 * SECOND, ..faults }, days: 8, bursts: 3, ..Plan::of_seed(seed, 6, 3) }
}

#[test]
fn everything_accepted_is_everywhere_once_after_the_network_heals() {
    for seed in 0..4 {
        holds(Plan::of_seed(seed, 6, 3));
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    let digest = |seed| run(Plan::of_seed(seed, 5, 3), false).digest;
    let first = digest(100);
    assert_eq!(first, digest(100));
    assert_ne!(first, digest(101));
}

#[test]
fn a_flood_of_events_with_kills_at_random_loses_and_doubles_none() {
    holds(Plan::flood(1, 400));
}

#[test]
fn a_byzantine_host_costs_nothing_while_the_other_one_lives() {
    for seed in 200..202 {
        holds(with(seed, Faults { byzantine_host: true, ..Faults::default() }));
    }
}

#[test]
fn a_byzantine_member_who_passes_nothing_on_and_lies_about_the_room_is_put_right_by_the_others() {
    for seed in 210..212 {
        let faults =
            Faults { byzantine_member: true, newcomer: true, introductions: true, meetings: 2, ..Faults::default() };
        holds(with(seed, faults));
    }
}

#[test]
fn kills_between_any_two_steps_and_failing_commits_lose_and_double_nothing() {
    for (seed, lazy) in [(220, false), (221, true)] {
        // Of messages nobody else has a copy: what is acknowledged and not staged in one go is missed.
        let plan = with(seed, Faults { kill: 40, down: MINUTE, disk: 100, lazy, ..Faults::default() });
        holds(Plan { to_device: 40, ..plan });
    }
}

#[test]
fn loss_repetition_and_long_delays_in_partitions_lose_and_double_nothing() {
    let faults = Faults {
        lose: 200,
        lose_answer: 200,
        repeat: 200,
        deaf: 300,
        partitions: 4,
        host_down: 3,
        ..Faults::default()
    };
    holds(Plan { faults: Faults { delay: 20 * MINUTE, ..faults.clone() }, ..with(230, Faults::default()) });
    holds(with(231, Faults { skew: 9 * HOUR, ..faults }));
}

#[test]
fn a_host_that_loses_everything_takes_nothing_away() {
    holds(with(240, Faults { wipes: 1, byzantine_host: true, ..Faults::default() }));
}

#[test]
fn a_node_that_was_away_for_thirty_or_sixty_days_gets_everything() {
    for (seed, days) in [(250, 30), (251, 60)] {
        holds(Plan { days: days + 6, ..with(seed, Faults { away: vec![days], ..Faults::default() }) });
    }
}

#[test]
fn a_node_that_is_set_up_again_from_an_old_backup_gets_everything() {
    for seed in 260..263 {
        holds(with(seed, Faults { restores: 1, ..Faults::default() }));
    }
}

#[test]
fn old_stamps_that_a_lying_host_takes_do_not_put_a_link_to_sleep() {
    for seed in [4, 25] {
        holds(Plan::of_seed(seed, 6, 3));
    }
}

#[test]
fn a_member_who_comes_back_after_sixty_days_with_nothing_to_say_gets_what_is_owed_to_him() {
    holds(Plan::of_seed(20_049, 20, 3));
}

#[test]
fn a_branch_that_is_open_for_some_members_only_is_closed_by_what_they_say_next() {
    let stats = holds(Plan::of_seed(40_647, 20, 3));
    assert!(stats.branches > 0, "{stats:?}");
}

/// A member accepts an event and others soft-fail it; whoever is linked with the others only has it through them.
#[test]
fn what_some_soft_fail_comes_to_everybody_through_them() {
    let stats = holds(Plan::of_seed(314, 8, 3));
    assert!(stats.branches > 0, "{stats:?}");
}

/// He reads the HELLO before what was said before the backup was needed, stamps for mailboxes that nobody reads any more among it.
#[test]
fn a_member_who_was_away_for_thirty_days_answers_the_hello_of_a_node_that_was_set_up_again() {
    holds(Plan::of_seed(274, 8, 3));
}

/// Its stamp for the recovery mailbox of the one who was away is spent, and his for its own was issued after the backup.
#[test]
fn a_node_that_said_hello_after_its_backup_is_found_by_a_member_who_was_away_for_sixty_days() {
    holds(Plan::of_seed(40_452, 20, 3));
}

#[test]
fn when_an_honest_host_has_lost_everything_and_the_other_lies_stamps_for_the_new_mailboxes_come_through() {
    for seed in [40_411, 40_973] {
        holds(Plan::of_seed(seed, 20, 3));
    }
}

#[test]
fn an_old_event_that_reaches_a_newcomer_late_is_an_end_for_him_until_he_speaks() {
    holds(Plan::of_seed(40_527, 20, 3));
}
