//! Deposits at a host: what is kept, what is refused, in which order and with which words.

use bytes::Bytes;
use millpond_mailbox::{
    deposit::deposit_len,
    host::{HostLimits, HostRows, InEvent, MAX_RECOVERY_ENVELOPES, OutEvent},
    host_protocol::{Answer, OwnerAsk, Purpose, Request, Seq},
    mailbox::MailboxSecret,
    stamp::{Class, Serial},
};

use crate::hosting::{Hosting, deposit, deposit_of, stamp};

#[test]
fn a_deposit_is_stored_once_and_the_same_one_is_stored_again_without_a_second_copy() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let first = deposit(&owner, Class::S, 7);
    assert_eq!(host.put(&first), Answer::Done);
    host.restart();
    assert_eq!(host.put(&first), Answer::Done);
    assert_eq!(host.fetch(&owner, 0).deposits, [first]);
    assert_eq!(host.totals().bytes, deposit_len(Class::S) as u64);
}

#[test]
fn another_body_under_a_spent_stamp_is_refused_and_the_first_stays() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let first = deposit(&owner, Class::S, 7);
    assert_eq!(host.put(&first), Answer::Done);
    assert_eq!(host.put(&deposit_of(&owner, Class::S, 7, 1)), Answer::Refused);
    assert_eq!(host.fetch(&owner, 0).deposits, [first]);
}

#[test]
fn a_stamp_stays_spent_after_its_envelope_was_deleted() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let first = deposit(&owner, Class::S, 7);
    assert_eq!(host.put(&first), Answer::Done);
    assert_eq!(host.owner(&owner, &OwnerAsk::Delete { serials: vec![Serial(7)] }), Answer::Done);
    host.restart();
    assert_eq!(host.put(&first), Answer::Refused);
    assert_eq!(host.count(&owner), 0);
}

/// Everything that is wrong with a stamp gets one and the same answer, so that it tells nothing about the mailbox.
#[test]
fn unknown_closed_spent_forged_and_unsigned_get_one_and_the_same_refusal() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let closed = host.mailbox(2, Purpose::Ordinary);
    assert_eq!(host.owner(&closed, &OwnerAsk::Close), Answer::Done);
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    let before = host.totals();

    let unknown = deposit(&MailboxSecret::from_bytes([3; 32]), Class::S, 1);
    let mut other_mac = stamp(&owner, Class::S, 2);
    other_mac.mac.0[0] ^= 1;
    let mut other_host = stamp(&owner, Class::S, 3);
    other_host.host = millpond_mailbox::host_key::HostSecret::from_bytes([8; 32]).public();
    let body = || Bytes::from(vec![0; Class::S.body_len()]);
    for refused in [
        unknown,
        deposit(&closed, Class::S, 1),
        deposit_of(&owner, Class::S, 1, 9),
        other_mac.deposit(body()).expect("the length of an S"),
        other_host.deposit(body()).expect("the length of an S"),
    ] {
        assert_eq!(host.put(&refused), Answer::Refused);
    }
    assert_eq!((host.totals(), host.count(&owner)), (before, 1));
}

#[test]
fn every_altered_byte_of_header_and_signature_is_refused_and_nothing_is_stored() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let good = Request::put(Seq(1), &deposit(&owner, Class::S, 7));
    for at in 5..5 + 148 + 1 {
        let mut altered = good.clone();
        altered[at] ^= 1;
        let conn = host.open();
        let out = host.send(&conn, altered);
        let Some(OutEvent::Answer { answer, .. }) = out.first() else { panic!("no answer") };
        match (at, answer) {
            (5 | 6, Answer::Malformed(words)) => assert!(words.contains("version") || words.contains("class")),
            (_, answer) => assert_eq!(*answer, Answer::Refused, "byte {at}"),
        }
    }
    assert_eq!(host.count(&owner), 0);
    assert_eq!(host.put(&deposit(&owner, Class::S, 7)), Answer::Done);
}

#[test]
fn a_deposit_that_is_cut_or_too_long_is_refused_in_words() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let good = Request::put(Seq(1), &deposit(&owner, Class::S, 7));
    for message in [&good[..good.len() - 1], &good[..100], &good[..6], &[good.as_slice(), &[0]].concat()] {
        let conn = host.open();
        let out = host.send(&conn, message.to_vec());
        let Some(OutEvent::Answer { answer: Answer::Malformed(words), .. }) = out.first() else { panic!("{out:?}") };
        assert!(words.contains("bytes"), "{words}");
    }
    assert_eq!(host.count(&owner), 0);
}

#[test]
fn a_full_mailbox_says_full_and_takes_again_when_something_was_deleted() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Recovery);
    for serial in 0..u16::try_from(MAX_RECOVERY_ENVELOPES).unwrap() {
        assert_eq!(host.put(&deposit(&owner, Class::S, serial)), Answer::Done);
    }
    let more = deposit(&owner, Class::S, 9_000);
    assert_eq!(host.put(&more), Answer::Full);
    assert_eq!(host.owner(&owner, &OwnerAsk::Delete { serials: vec![Serial(0), Serial(1)] }), Answer::Done);
    assert_eq!(host.put(&more), Answer::Done);
}

#[test]
fn a_mailbox_holds_64_mib_of_large_envelopes() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let fits = (64 << 20) / deposit_len(Class::L);
    for serial in 0..u16::try_from(fits).unwrap() {
        assert_eq!(host.put(&deposit(&owner, Class::L, serial)), Answer::Done);
    }
    assert_eq!(host.put(&deposit(&owner, Class::L, 9_000)), Answer::Full);
    let Answer::Quota(quota) = host.owner(&owner, &OwnerAsk::Quota) else { panic!("a quota") };
    assert_eq!((quota.envelopes as usize, quota.bytes as usize), (fits, fits * deposit_len(Class::L)));
}

#[test]
fn the_operators_limit_on_bytes_holds_over_all_mailboxes() {
    let mut host = Hosting::with(HostLimits { bytes: 3 * deposit_len(Class::S) as u64, ..HostLimits::default() });
    let (one, other) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Ordinary));
    assert_eq!(host.put(&deposit(&one, Class::S, 1)), Answer::Done);
    assert_eq!(host.put(&deposit(&one, Class::S, 2)), Answer::Done);
    assert_eq!(host.put(&deposit(&other, Class::S, 1)), Answer::Done);
    assert_eq!(host.put(&deposit(&other, Class::S, 2)), Answer::Full);
    assert_eq!(host.owner(&one, &OwnerAsk::Close), Answer::Done);
    assert_eq!(host.put(&deposit(&other, Class::S, 2)), Answer::Done);
}

#[test]
fn a_recovery_mailbox_takes_small_envelopes_only() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Recovery);
    assert_eq!(host.put(&deposit(&owner, Class::L, 1)), Answer::Refused);
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
}

#[test]
fn a_flood_into_one_mailbox_is_told_to_wait_and_others_are_not() {
    let mut host = Hosting::new();
    let (flooded, quiet) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Ordinary));
    let mut answers = Vec::new();
    for serial in 0..4_200 {
        answers.push(host.put(&deposit(&flooded, Class::S, serial)));
    }
    let stored = answers.iter().filter(|answer| **answer == Answer::Done).count();
    assert_eq!((stored, answers.last()), (4_096, Some(&Answer::Busy)));
    assert_eq!(host.put(&deposit(&quiet, Class::S, 1)), Answer::Done);
    host.now.0 += 50;
    assert_eq!(host.put(&deposit(&flooded, Class::S, 5_000)), Answer::Done);
    assert_eq!(host.put(&deposit(&flooded, Class::S, 5_001)), Answer::Busy);
}

#[test]
fn a_stream_of_refusals_is_closed_at_the_sixteenth_and_others_go_on() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let junk = deposit(&MailboxSecret::from_bytes([3; 32]), Class::S, 1);
    let conn = host.open();
    for seq in 1..=16 {
        let out = host.send(&conn, Request::put(Seq(seq), &junk));
        let closed = out.contains(&OutEvent::Close { stream: conn.stream });
        assert_eq!(closed, seq == 16, "refusal {seq}");
    }
    assert!(host.send(&conn, Request::put(Seq(17), &junk)).is_empty());
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
}

#[test]
fn when_all_streams_bring_junk_each_is_closed_at_its_first() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let junk = deposit(&MailboxSecret::from_bytes([3; 32]), Class::S, 1);
    for _ in 0..1_024 {
        host.put(&junk);
    }
    let conn = host.open();
    let out = host.send(&conn, Request::put(Seq(1), &junk));
    assert!(out.contains(&OutEvent::Close { stream: conn.stream }));
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
}

#[test]
fn a_mailbox_closes_after_its_epoch_and_everything_in_it_goes() {
    let mut host = Hosting::new();
    let (ordinary, recovery) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Recovery));
    assert_eq!(host.put(&deposit(&ordinary, Class::S, 1)), Answer::Done);
    host.days_pass(37);
    assert_eq!(host.put(&deposit(&ordinary, Class::S, 2)), Answer::Done);
    host.days_pass(1);
    assert_eq!(host.put(&deposit(&ordinary, Class::S, 3)), Answer::Refused);
    assert_eq!(host.owner(&ordinary, &OwnerAsk::Quota), Answer::Refused);
    assert!(host.event(InEvent::Tick).is_empty());
    assert!(host.rows.mailbox(&ordinary.id()).expect("memory").is_none());
    assert_eq!((host.totals().mailboxes, host.totals().bytes), (1, 0));
    host.days_pass(362);
    assert_eq!(host.put(&deposit(&recovery, Class::S, 1)), Answer::Done);
    host.days_pass(1);
    assert_eq!(host.put(&deposit(&recovery, Class::S, 2)), Answer::Refused);
}

#[test]
fn what_is_over_goes_a_little_at_a_time() {
    let mut host = Hosting::new();
    for seed in 1..=10 {
        host.mailbox(seed, Purpose::Ordinary);
    }
    host.days_pass(38);
    let mut ticks = 1;
    while host.event(InEvent::Tick) == [OutEvent::TickAgain] {
        ticks += 1;
    }
    assert_eq!((ticks, host.totals().mailboxes), (3, 0));
}
