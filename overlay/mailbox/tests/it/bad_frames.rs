//! Bad input, field by field: what is wrong, cut, too long, repeated or of somebody else is refused, changes nothing, and host and node go on.

use millpond_mailbox::{
    envelope::{EnvelopeSecret, Kind, open, seal},
    frame::{Frame, Grant},
    host::OutEvent,
    host_protocol::{Answer, BoxId, Claim, Cursor, OwnerAsk, Purpose, Request, Seq},
    item::Item,
    mailbox::{BatchId, MailboxSecret},
    rand_core::Rng,
    secrets::Transcript,
    session::{Arrived, Fault, InEvent, Notice, Session},
    stamp::{Class, MailboxId, Serial},
    window::Window,
};

use crate::{
    carrier::{ALICE, BOB, DAY_MS, HOUR_MS, MINUTE_MS, World},
    hosting::{self, Conn, Hosting, deposit},
    world::TestRng,
};

/// One request of each kind that the host would grant on this stream, but for the one that ends a mailbox.
fn good(host: &mut Hosting, conn: &Conn, owner: &MailboxSecret) -> Vec<(&'static str, Vec<u8>)> {
    let token = host.tokens(1).remove(0);
    let fresh = MailboxSecret::from_bytes([77; 32]);
    let (key, nonce) = (hosting::key(), &conn.nonce);
    let ask = |ask: OwnerAsk| Request::owner(Seq(1), (&key, nonce), &owner.id(), &owner.read_key(), &ask);
    vec![
        ("put", Request::put(Seq(1), &deposit(owner, Class::S, 99))),
        ("take", Request::take(Seq(1), &BoxId([3; 32]), &Claim([4; 32]))),
        ("create", Request::create(Seq(1), (&key, nonce), &fresh, Purpose::Ordinary, &token)),
        ("fetch", ask(OwnerAsk::Fetch { after: Cursor(0) })),
        ("delete", ask(OwnerAsk::Delete { serials: vec![Serial(1)] })),
        ("announce", ask(OwnerAsk::Announce)),
        ("quota", ask(OwnerAsk::Quota)),
        ("box", ask(OwnerAsk::Box { id: BoxId([5; 32]), body: vec![6; Class::L.body_len()].into() })),
        ("close", ask(OwnerAsk::Close)),
    ]
}

fn grants(out: &[OutEvent]) -> bool {
    out.iter().any(|event| match event {
        OutEvent::Answer { answer, .. } => {
            matches!(answer, Answer::Done | Answer::Page(_) | Answer::Quota(_) | Answer::Tokens(_) | Answer::Box(_))
        }
        _ => false,
    })
}

#[test]
fn every_field_of_every_request_wrong_cut_long_or_replayed_is_refused_and_nothing_changes() {
    let mut host = Hosting::new();
    let owner = host.mailbox(1, Purpose::Ordinary);
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    let before = (host.totals(), host.fetch(&owner, 0).deposits);
    let kinds = {
        let conn = host.open();
        good(&mut host, &conn, &owner).len()
    };
    for kind in 0..kinds {
        let sample = |host: &mut Hosting| {
            // So that no flood limit answers in the place of what is tried.
            host.now.0 += 2_500;
            let conn = host.open();
            let request = good(host, &conn, &owner).remove(kind);
            (conn, request)
        };
        let (_, (name, whole)) = sample(&mut host);
        let before_kind = host.totals();
        // Every byte of everything that is short; of what is long, its head and its tail.
        let ends: Vec<usize> = (0..whole.len()).filter(|at| *at < 300 || at + 8 > whole.len()).collect();
        // The number of a deposit binds nothing but its answer.
        for at in ends.iter().filter(|at| name != "put" || !(0..4).contains(*at)) {
            let (conn, (_, mut request)) = sample(&mut host);
            request[*at] ^= 1;
            let out = host.send(&conn, request);
            assert!(!grants(&out), "{name}: byte {at} was wrong: {out:?}");
        }
        for at in ends {
            let (conn, (_, request)) = sample(&mut host);
            let out = host.send(&conn, request[..at].to_vec());
            assert!(!grants(&out), "{name}: cut at {at}: {out:?}");
        }
        let (conn, (_, request)) = sample(&mut host);
        let out = host.send(&conn, [request.as_slice(), &[0]].concat());
        assert!(!grants(&out), "{name}: one byte too long: {out:?}");
        assert_eq!(host.totals(), before_kind, "{name}");
    }
    // What was signed for one stream is of no use on another, nor a second time on its own.
    for kind in 3..kinds {
        let (first, second) = (host.open(), host.open());
        let (name, request) = good(&mut host, &first, &owner).remove(kind);
        assert!(!grants(&host.send(&second, request)), "{name} on another stream");
    }
    assert_eq!((host.totals(), host.fetch(&owner, 0).deposits), before);
    assert_eq!(host.put(&deposit(&owner, Class::S, 2)), Answer::Done, "and the host goes on");
}

#[test]
fn requests_signed_by_somebody_else_are_refused_for_every_kind() {
    let mut host = Hosting::new();
    let (owner, other) = (host.mailbox(1, Purpose::Ordinary), host.mailbox(2, Purpose::Ordinary));
    assert_eq!(host.put(&deposit(&owner, Class::S, 1)), Answer::Done);
    for ask in [
        OwnerAsk::Fetch { after: Cursor(0) },
        OwnerAsk::Delete { serials: vec![Serial(1)] },
        OwnerAsk::Announce,
        OwnerAsk::Quota,
        OwnerAsk::Box { id: BoxId([5; 32]), body: vec![6; Class::L.body_len()].into() },
        OwnerAsk::Close,
    ] {
        let mut conn = host.open();
        let key = hosting::key();
        let answer =
            host.ask(&mut conn, |seq, nonce| Request::owner(seq, (&key, nonce), &owner.id(), &other.read_key(), &ask));
        assert_eq!(answer, Answer::Refused, "{ask:?}");
    }
    assert_eq!(host.count(&owner), 1);
}

/// Frames in which one field says what no honest node would say.
fn hostile(world: &mut World) -> Vec<(&'static str, Frame)> {
    // Far from the numbers that her session gives to honest ones.
    let item = || (500, Item::Verdict(b"hostile".to_vec()));
    let good = Frame { items: vec![item()], ..Frame::default() };
    let mut beyond = Window::default();
    assert!((0..9).all(|number| beyond.insert(number)));
    let stranger = MailboxSecret::from_bytes([9; 32]);
    let host = world.hosts[0].key;
    let batch = stranger.issue(BatchId(1), Class::S, &[Serial(1)]);
    vec![
        ("acks of what was never sent", Frame { acks: beyond, ..good.clone() }),
        ("nak of what was never sent", Frame { nak: vec![0, 7, u32::MAX], ..good.clone() }),
        ("floors beyond everything", Frame { frame_floor: u32::MAX, item_floor: u64::MAX, ..good.clone() }),
        ("grants that were never given", Frame { granted: u32::MAX, ..good.clone() }),
        (
            "stamps of a mailbox that is not ours",
            Frame { used: vec![(MailboxId([1; 32]), 65_535, 65_535)], ..good.clone() },
        ),
        (
            "stamps for nobody's mailbox",
            Frame { stamps: vec![(u32::MAX, Grant { host, recovery: false, batch })], ..good.clone() },
        ),
        ("another transcript", Frame { th: Some(Transcript([7; 32])), ..good.clone() }),
        ("an item beyond the window", Frame { items: vec![(u64::MAX - 1, Item::Void)], ..good.clone() }),
        ("one number for two items", Frame { items: vec![item(), item()], ..good }),
    ]
}

#[test]
fn every_field_of_a_frame_that_says_what_no_honest_node_says_leaves_the_link_going() {
    let count = hostile(&mut World::new(1)).len();
    for which in 0..count {
        let mut world = World::new(50 + which as u64);
        let (name, frame) = hostile(&mut world).remove(which);
        let arrived = world.arrived_from(ALICE, &frame.to_bytes());
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
        assert!(world.sides[BOB].delivered.len() <= 1, "{name}");
        assert!(world.sides[BOB].rows.0.values().map(Vec::len).sum::<usize>() < 64 << 10, "{name}");
        world.sides[BOB].offer(Item::Verdict(b"still here".to_vec()));
        world.sides[ALICE].offer(Item::Verdict(b"I as well".to_vec()));
        // At worst the link is made anew by a HELLO, which takes a day or two.
        world.run(5 * DAY_MS);
        // After a HELLO what was not acknowledged is sent again, and the node knows it by its id.
        let heard = |side: usize, text: &[u8]| {
            let times = world.sides[side].bodies().iter().filter(|body| *body == text).count();
            times == 1 || times > 1 && world.sides[side].saw(Notice::Restored)
        };
        assert!(heard(ALICE, b"still here"), "{name}");
        if name != "floors beyond everything" {
            // Who says that nothing of his will come any more is believed: he harms himself.
            let notices = (&world.sides[ALICE].notices, &world.sides[BOB].notices, world.sides[BOB].bodies());
            assert!(heard(BOB, b"I as well"), "{name}: {notices:?}");
        }
    }
}

#[test]
fn a_frame_that_comes_again_under_other_stamps_is_dropped_before_it_reaches_olm() {
    let mut world = World::new(70);
    world.sides[BOB].awake = false;
    world.sides[ALICE].offer(Item::Verdict(b"once".to_vec()));
    world.run(MINUTE_MS);
    let first = world.fetch(BOB).remove(0);
    let secrets: Vec<EnvelopeSecret> = world.sides[BOB].session.link_secrets().iter().map(Into::into).collect();
    let (_, opened) = open(&secrets, &first.seed, &first.header, &first.body).expect("it is for Bob");
    let mut again = vec![first];
    for round in 0..6 {
        let grant = world.sides[BOB].issue(0, Class::S, 1);
        let stamp = grant.batch.stamps(grant.host).remove(0);
        let mut rng = TestRng::new(round);
        let body =
            seal(&secrets[0], &stamp.seed, &stamp.header(), opened.kind, opened.frame_no, &opened.payload, &mut rng);
        again.push(Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.expect("fits").into() });
    }
    let now = world.now;
    again.into_iter().for_each(|arrived| world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived])));
    assert_eq!(world.sides[BOB].delivered.len(), 1);
    // Olm would not open it a second time, and four frames in a row that do not open mean a HELLO.
    assert!(!world.sides[BOB].saw(Notice::Restoring), "{:?}", world.sides[BOB].notices);
    world.sides[BOB].awake = true;
    world.run(HOUR_MS);
    assert_eq!(world.sides[ALICE].session.unacknowledged(), 0);
}

/// What a HELLO of Alice says when it is made now, sealed under a stamp of Bob's. Her session is another one each time, as after a restore.
fn hello_of_alice(world: &mut World, backup: &millpond_mailbox::session::Backup, rk: &EnvelopeSecret) -> Arrived {
    let backup = millpond_mailbox::session::Backup::from_bytes(&backup.to_bytes()).expect("our own");
    world.sides[ALICE].session = Session::from_backup(backup);
    let now = world.now;
    world.sides[ALICE].slot(now);
    let hello = world.hello_payload_under(ALICE, rk).expect("she says hello");
    let grant = world.sides[BOB].issue(0, Class::S, 1);
    let stamp = grant.batch.stamps(grant.host).remove(0);
    let mut rng = TestRng::new(now.0 ^ world.rng.next_u64());
    let body = seal(rk, &stamp.seed, &stamp.header(), Kind::Hello, 0, &hello, &mut rng).expect("fits");
    Arrived { header: stamp.header(), seed: stamp.seed.clone(), body: body.into() }
}

#[test]
fn of_several_hellos_on_one_day_the_first_is_taken() {
    let mut world = World::new(71);
    world.run(HOUR_MS);
    let backup = world.sides[ALICE].session.backup();
    let rk = world.sides[ALICE].session.link_secrets().last().expect("the first").restore_key().envelope_secret();
    let taken = |world: &World| world.sides[BOB].notices.iter().filter(|notice| **notice == Notice::Restored).count();
    for (hours, expected) in [(0, 1), (2, 1), (10, 1), (30, 2)] {
        world.advance(hours * HOUR_MS);
        let hello = hello_of_alice(&mut world, &backup, &rk);
        let now = world.now;
        world.sides[BOB].feed(now, InEvent::Arrived(vec![hello]));
        world.sides[BOB].slot(now);
        assert_eq!(taken(&world), expected, "after {hours} hours more");
    }
    assert!(world.sides[BOB].saw(Notice::Misbehaved(Fault::Hello)));
}

#[test]
fn whoever_was_set_back_twice_on_a_day_says_hello_once() {
    let mut world = World::new(72);
    world.run(HOUR_MS);
    let made = |world: &World| world.sides[ALICE].notices.iter().filter(|notice| **notice == Notice::Restored).count();
    for (round, hours, expected) in [(0, 3, 1), (1, 3, 1), (2, 40, 2)] {
        // An hour of talk is lost on Alice's disk.
        let rows = world.sides[ALICE].rows.clone();
        for n in 0..6 {
            world.sides[ALICE].offer(Item::Verdict(format!("lost {round} {n}").into_bytes()));
            world.sides[BOB].offer(Item::Verdict(format!("heard {round} {n}").into_bytes()));
            world.run(10 * MINUTE_MS);
        }
        if round < 2 {
            world.sides[ALICE].rows = rows;
            world.sides[ALICE].restart();
        }
        world.sides[ALICE].offer(Item::Verdict(format!("after {round}").into_bytes()));
        world.run(hours * HOUR_MS);
        assert_eq!(made(&world), expected, "round {round}: {:?}", world.sides[ALICE].notices);
    }
}
