//! What one event and one state resolution cost, without storage: best batch of twenty, in microseconds. Run by
//! `cargo bench -p millpond-matrix`.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::{hint::black_box, sync::Arc, time::Instant};

use millpond_matrix::{
    CheckedPdu, Pdu, PduHeader, build,
    check::RawPdu,
    client::{Unsigned, write_client_event},
    decide::{Given, decide},
    state::resolve_maps,
};
use ruma::RoomVersionId;

#[path = "../tests/it/world.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod world;

use world::{Room, Server, keys, member, message, state_event, user};

fn main() {
    one_event();
    one_resolution();
    two_long_branches();
}

/// Times the work in batches and prints the best batch: what is slower was somebody else's doing.
fn measure<T>(what: &str, mut work: impl FnMut(u32) -> T) {
    let batch = |work: &mut dyn FnMut(u32)| {
        let start = Instant::now();
        (0..BATCH).for_each(work);
        start.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
    };
    let best = (0..20).map(|_| batch(&mut |n| drop(black_box(work(n))))).fold(f64::MAX, f64::min);
    println!("{what:45} {best:7.2} us");
}

/// Events in one batch.
const BATCH: u32 = 200;

fn one_event() {
    let mut room = Room::public(&RoomVersionId::V12, &["bob"]);
    let bob = user("bob");
    let server = Server::new("bob.example");
    let keys = keys(&[&server]);
    let body = "a message of the usual length, such as people write them";
    let pdu = room.send(message(&bob, body, 1));
    let json = pdu.json().to_owned();
    let next = |n| build::next(&room, room.rules, &room.room_id, message(&bob, body, n), &server.signer()).unwrap();
    let decide = |pdu: &CheckedPdu| decide(pdu, &room, room.rules, &Given::default()).unwrap();
    let built = next(1);
    println!("event of {} bytes", json.len());
    measure("parse content", |_| build::content(br#"{"msgtype":"m.text","body":"a message"}"#).unwrap());
    measure("build and sign", next);
    measure("build, sign and decide (local)", |n| decide(&next(n)));
    measure("decide", |_| decide(&built));
    measure("parse and check (remote)", |_| RawPdu::parse(&json).unwrap().check(room.rules, &keys).unwrap());
    measure("parse, check and decide (remote)", |_| {
        let pdu = RawPdu::parse(built.json()).unwrap().check(room.rules, &keys).unwrap();
        decide(&pdu)
    });
    let header = pdu.header().to_bytes();
    measure("Pdu::from_stored", |_| {
        Pdu::from_stored(room.room_id.clone(), pdu.header().clone(), json.as_str().into()).unwrap()
    });
    let mut out = Vec::new();
    measure("header from bytes and client form", |_| {
        out.clear();
        let header = PduHeader::from_bytes(&header).unwrap();
        write_client_event(&mut out, &header, &json, None, &Unsigned { age: Some(5), ..Unsigned::default() });
    });
}

/// A room that was apart for long: 5,000 events of state on each side, a fifth of them members, the rest topics and other state,
/// with a ban against a change of the levels at the end.
fn two_long_branches() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let start = Room::public(&version, &["u1", "u2", "u3"]);
        let forks = ["u1", "u2"].map(|name| {
            let mut fork = start.replica();
            for n in 0..5_000_u32 {
                let at = 5_000 + n;
                let key = format!("{name}-{}", n % 1_000);
                let joining = user(&format!("{name}-{n}"));
                let number = serde_json::json!({ "topic": n });
                fork.send(match n % 5 {
                    0 => member(&joining, &joining, "join", at),
                    1 => state_event(&user(name), "m.room.topic", "", &number, at),
                    _ => state_event(&user(name), "org.example.state", &key, &number, at),
                });
            }
            fork.send(member(&user("alice"), &user("u3"), if name == "u1" { "ban" } else { "leave" }, 20_000));
            fork
        });
        let maps: Vec<_> = forks.iter().map(|fork| Arc::new(fork.current_map())).collect();
        let fetch = |id: &ruma::EventId| Ok(forks.iter().find_map(|fork| fork.events.get(id).cloned()));
        let apart: usize = maps.iter().map(|map| map.len()).sum();
        let begun = Instant::now();
        let resolved = resolve_maps(start.rules, &maps, fetch).unwrap();
        println!(
            "resolve two branches of 5,000 events of state, version {version}: {:?} ({apart} entries, {} after it)",
            begun.elapsed(),
            resolved.len()
        );
    }
}

fn one_resolution() {
    for members in [10, 200] {
        let names: Vec<String> = (0..members).map(|n| format!("u{n}")).collect();
        let start = Room::public(&RoomVersionId::V12, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let forks = ["u1", "u2"].map(|name| {
            let mut fork = start.replica();
            fork.send(state_event(&user(name), "m.room.topic", "", &serde_json::json!({"topic": name}), 5000));
            fork.send(member(&user("alice"), &user("u3"), if name == "u1" { "ban" } else { "leave" }, 5001));
            fork
        });
        let maps: Vec<_> = forks.iter().map(|fork| Arc::new(fork.current_map())).collect();
        let fetch = |id: &ruma::EventId| Ok(forks.iter().find_map(|fork| fork.events.get(id).cloned()));
        measure(&format!("resolve two forks, {members} members"), |_| resolve_maps(start.rules, &maps, fetch).unwrap());
    }
}
