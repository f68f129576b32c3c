//! What owners ask of a host: fetch, delete, announce, close; and what everybody else gets for trying.

use millpond_mailbox::{
    deposit::{Deposit, deposit_len},
    host::{InEvent, OutEvent},
    host_protocol::{
        Answer, BoxId, Claim, Cursor, MAX_ANSWER_LEN, MAX_PAGE_LEN, MAX_REQUEST_LEN, OwnerAsk, Purpose, Request, Seq,
    },
    mailbox::{HostNonce, MailboxSecret},
    stamp::{Class, Serial},
};

use crate::hosting::{Hosting, deposit, key};

fn serials(deposits: &[Deposit]) -> Vec<u16> {
    deposits.iter().map(|deposit| deposit.header().serial().0).collect()
}

fn asks() -> Vec<OwnerAsk> {
    vec![
        OwnerAsk::Fetch { after: Cursor(0) },
        OwnerAsk::Delete { serials: vec![Serial(1)] },
        OwnerAsk::Announce,
        OwnerAsk::Close,
        OwnerAsk::Quota,
        OwnerAsk::Box { id: BoxId([5; 32]), body: vec![6; Class::L.body_len()].into() },
    ]
}

#[test]
fn envelopes_are_fetched_in_the_order_of_arrival_page_by_page_and_none_is_deleted_by_that() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let arrived: Vec<u16> = (0..150).map(|n| (n * 7_919 % 60_000) as u16).collect();
    for serial in &arrived {
        let class = if serial.is_multiple_of(3) { Class::L } else { Class::S };
        assert_eq!(host.put(&deposit(&owner, class, *serial)), Answer::Done);
    }
    for _ in 0..2 {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let page = host.fetch(&owner, cursor);
            let bytes: usize = page.deposits.iter().map(|deposit| deposit_len(deposit.header().class())).sum();
            assert!(bytes <= MAX_PAGE_LEN && !page.deposits.is_empty());
            all.extend(serials(&page.deposits));
            cursor = page.next.0;
            if !page.more {
                break;
            }
        }
        assert_eq!(all, arrived);
        host.restart();
    }
}

#[test]
fn the_longest_requests_and_pages_fit_the_bounds_of_streams() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let body = bytes::Bytes::from(vec![6; Class::L.body_len()]);
    let lay = OwnerAsk::Box { id: BoxId([5; 32]), body };
    let lay = Request::owner(Seq(1), (&key(), &HostNonce([0; 32])), &owner.id(), &owner.read_key(), &lay);
    let put = Request::put(Seq(1), &deposit(&owner, Class::L, 1));
    assert!(lay.len() <= MAX_REQUEST_LEN && put.len() == MAX_REQUEST_LEN);
    for serial in 0..60 {
        assert_eq!(host.put(&deposit(&owner, if serial < 30 { Class::S } else { Class::L }, serial)), Answer::Done);
    }
    for after in [0, 30] {
        let page = Answer::Page(host.fetch(&owner, after));
        assert!(page.to_bytes(Seq(1)).len() <= MAX_ANSWER_LEN);
        assert_eq!(Answer::parse(page.to_bytes(Seq(1)).into()), Ok((Seq(1), page)));
    }
}

#[test]
fn what_was_deleted_is_gone_and_a_repeated_delete_is_answered_alike() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    for serial in 1..=4 {
        assert_eq!(host.put(&deposit(&owner, Class::S, serial)), Answer::Done);
    }
    for _ in 0..2 {
        let delete = OwnerAsk::Delete { serials: vec![Serial(1), Serial(3), Serial(3), Serial(60_000)] };
        assert_eq!(host.owner(&owner, &delete), Answer::Done);
        assert_eq!(serials(&host.fetch(&owner, 0).deposits), [2, 4]);
        assert_eq!(host.totals().bytes, 2 * deposit_len(Class::S) as u64);
    }
    assert_eq!(serials(&host.fetch(&owner, 2).deposits), [4]);
    assert!(host.fetch(&owner, u64::MAX).deposits.is_empty());
}

#[test]
fn nobody_but_the_owner_may_ask_anything() {
    let mut host = Hosting::new();
    let (owner, other) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Ordinary));
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    for ask in asks() {
        let mut conn = host.open();
        let stranger = host
            .ask(&mut conn, |seq, nonce| Request::owner(seq, (&key(), nonce), &owner.id(), &other.read_key(), &ask));
        let unknown = MailboxSecret::from_bytes([3; 32]);
        assert_eq!((stranger, host.owner(&unknown, &ask)), (Answer::Refused, Answer::Refused), "{ask:?}");
    }
    assert_eq!(host.count(&owner), 1);
}

#[test]
fn a_request_that_was_recorded_is_refused_on_every_other_stream_and_host() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    for ask in asks() {
        let (first, second) = (host.open(), host.open());
        let nonce = |conn: &crate::hosting::Conn| conn.nonce;
        let recorded = Request::owner(Seq(1), (&key(), &nonce(&first)), &owner.id(), &owner.read_key(), &ask);
        let out = host.send(&second, recorded);
        let refused = OutEvent::Answer { stream: second.stream, seq: Seq(1), answer: Answer::Refused };
        assert_eq!(out.first(), Some(&refused), "{ask:?}");
        let elsewhere = millpond_mailbox::host_key::HostSecret::from_bytes([8; 32]).public();
        let for_another = Request::owner(Seq(2), (&elsewhere, &nonce(&second)), &owner.id(), &owner.read_key(), &ask);
        let out = host.send(&second, for_another);
        assert!(matches!(out.first(), Some(OutEvent::Answer { answer: Answer::Refused, .. })), "{ask:?}");
    }
}

#[test]
fn a_request_repeated_on_its_own_stream_closes_the_stream() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let conn = host.open();
    let delete = OwnerAsk::Delete { serials: vec![Serial(1)] };
    let message = Request::owner(Seq(5), (&key(), &conn.nonce), &owner.id(), &owner.read_key(), &delete);
    let out = host.send(&conn, message.clone());
    assert!(matches!(out.as_slice(), [OutEvent::Answer { answer: Answer::Done, .. }]));
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    let out = host.send(&conn, message);
    assert!(matches!(out.as_slice(), [OutEvent::Answer { answer: Answer::Malformed(_), .. }, OutEvent::Close { .. }]));
    assert_eq!(host.count(&owner), 1);
}

#[test]
fn every_altered_byte_of_an_owners_request_is_refused() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    let delete = OwnerAsk::Delete { serials: vec![Serial(1), Serial(2)] };
    let length = Request::owner(Seq(1), (&key(), &HostNonce([0; 32])), &owner.id(), &owner.read_key(), &delete).len();
    for at in 0..length {
        let conn = host.open();
        let mut message = Request::owner(Seq(1), (&key(), &conn.nonce), &owner.id(), &owner.read_key(), &delete);
        message[at] ^= 1;
        let out = host.send(&conn, message);
        let Some(OutEvent::Answer { answer, .. }) = out.first() else { panic!("no answer") };
        assert!(matches!(answer, Answer::Refused | Answer::Malformed(_)), "byte {at}: {answer:?}");
    }
    assert_eq!(host.count(&owner), 1);
}

#[test]
fn a_request_that_is_cut_or_has_bytes_left_over_is_malformed() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    for ask in asks() {
        let conn = host.open();
        let good = Request::owner(Seq(1), (&key(), &conn.nonce), &owner.id(), &owner.read_key(), &ask);
        for message in [&good[..good.len() - 1], &good[..40], &good[..3], &[], &[good.as_slice(), &[0]].concat()] {
            let conn = host.open();
            let out = host.send(&conn, message.to_vec());
            let Some(OutEvent::Answer { answer, .. }) = out.first() else { panic!("no answer") };
            assert!(matches!(answer, Answer::Malformed(_) | Answer::Refused), "{ask:?}: {answer:?}");
        }
    }
}

#[test]
fn who_watches_is_told_of_arrivals_and_nobody_else() {
    let mut host = Hosting::new();
    let (owner, other) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Ordinary));
    let (mut watching, mut elsewhere) = (host.open(), host.open());
    assert_eq!(host.owner_on(&mut watching, &owner, &OwnerAsk::Announce), Answer::Done);
    assert_eq!(host.owner_on(&mut elsewhere, &other, &OwnerAsk::Announce), Answer::Done);
    let depositor = host.open();
    let first = deposit(&owner, Class::S, 1);
    let told = OutEvent::Answer { stream: watching.stream, seq: Seq::NONE, answer: Answer::Arrived(owner.id()) };
    let stored = |seq| OutEvent::Answer { stream: depositor.stream, seq: Seq(seq), answer: Answer::Done };
    assert_eq!(host.send(&depositor, Request::put(Seq(1), &first)), [stored(1), told.clone()]);
    assert_eq!(host.send(&depositor, Request::put(Seq(2), &first)), [stored(2)]);
    host.event(InEvent::Closed { stream: watching.stream });
    let second = deposit(&owner, Class::S, 2);
    assert_eq!(host.send(&depositor, Request::put(Seq(3), &second)), [stored(3)]);
}

#[test]
fn one_stream_watches_eight_mailboxes_at_most() {
    let mut host = Hosting::new();
    let owners: Vec<_> = (1..=9).map(|seed| host.mailbox(seed, Purpose::Ordinary)).collect();
    let mut conn = host.open();
    for (at, owner) in owners.iter().enumerate() {
        let expected = if at < 8 { Answer::Done } else { Answer::Busy };
        assert_eq!(host.owner_on(&mut conn, owner, &OwnerAsk::Announce), expected);
    }
    assert_eq!(host.owner_on(&mut conn, &owners[0], &OwnerAsk::Announce), Answer::Done);
}

#[test]
fn a_closed_mailbox_is_as_one_that_never_was() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    assert_eq!(host.owner(&owner, &OwnerAsk::Close), Answer::Done);
    for ask in asks() {
        assert_eq!(host.owner(&owner, &ask), Answer::Refused);
    }
    assert_eq!((host.totals().mailboxes, host.totals().bytes), (0, 0));
}

#[test]
fn a_pickup_box_is_read_by_one_claim_and_is_a_tombstone_until_its_time_is_over() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let (id, body) = (BoxId([5; 32]), bytes::Bytes::from(vec![6; Class::L.body_len()]));
    let lay = OwnerAsk::Box { id, body: body.clone() };
    let take = |host: &mut Hosting, claim: u8| {
        let mut conn = host.open();
        host.ask(&mut conn, |seq, _| Request::take(seq, &id, &Claim([claim; 32])))
    };
    assert_eq!(take(&mut host, 1), Answer::NoBox);
    assert_eq!((host.owner(&owner, &lay), host.owner(&owner, &lay)), (Answer::Done, Answer::Done));
    assert_eq!(host.totals().boxes, 1);
    assert_eq!(take(&mut host, 1), Answer::Box(body.clone()));
    host.restart();
    assert_eq!(take(&mut host, 1), Answer::Box(body), "the answer was lost");
    assert_eq!(take(&mut host, 2), Answer::Taken);
    assert_eq!(host.owner(&owner, &lay), Answer::Refused, "it cannot be laid down again");

    host.days_pass(1);
    host.event(InEvent::Tick);
    assert_eq!((take(&mut host, 1), take(&mut host, 2)), (Answer::Taken, Answer::Taken));
    host.days_pass(12);
    host.event(InEvent::Tick);
    assert_eq!(take(&mut host, 1), Answer::Taken);
    host.days_pass(1);
    assert_eq!(take(&mut host, 1), Answer::NoBox);
    host.event(InEvent::Tick);
    assert_eq!(host.totals().boxes, 0);
}

#[test]
fn a_box_that_nobody_took_goes_after_fourteen_days() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    let lay = OwnerAsk::Box { id: BoxId([5; 32]), body: vec![6; Class::L.body_len()].into() };
    assert_eq!(host.owner(&owner, &lay), Answer::Done);
    host.days_pass(13);
    host.event(InEvent::Tick);
    assert_eq!(host.totals().boxes, 1);
    host.days_pass(1);
    host.event(InEvent::Tick);
    assert_eq!(host.totals().boxes, 0);
}

#[test]
fn a_mailbox_lays_down_64_boxes_and_a_recovery_mailbox_none() {
    let mut host = Hosting::new();
    let (owner, recovery) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Recovery));
    let body = bytes::Bytes::from(vec![6; Class::L.body_len()]);
    for n in 0..65_u8 {
        let expected = if n < 64 { Answer::Done } else { Answer::Full };
        assert_eq!(host.owner(&owner, &OwnerAsk::Box { id: BoxId([n; 32]), body: body.clone() }), expected);
    }
    assert_eq!(host.owner(&recovery, &OwnerAsk::Box { id: BoxId([99; 32]), body }), Answer::Refused);
}
