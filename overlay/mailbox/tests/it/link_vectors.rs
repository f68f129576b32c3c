//! The derived values of links over mailboxes against files in tests/vectors; `check.py` there computes the same without our code.

use millpond_mailbox::{
    descriptor::Descriptor,
    envelope::{EnvelopeSecret, Kind, open, seal},
    frame::Frame,
    host_key::HostKey,
    identity::IdentityKey,
    item::Item,
    mailbox::{BatchId, MailboxSecret},
    secrets::{Epoch, LinkSecret, S0, StepPart, Transcript},
    signing_key::{Generation, SigningKey},
    stamp::{Class, MailboxId, Serial},
    time::UnixMillis,
    way::{HostAddress, Way},
    window::Window,
};
use serde_json::json;

use crate::{
    vectors::{compare, hex},
    world::TestRng,
};

#[test]
fn envelopes() {
    let secret = EnvelopeSecret::from(&LinkSecret::from_bytes(Epoch(0), [0x88; 32]));
    let batch = MailboxSecret::from_bytes([0x99; 32]).issue(BatchId(5), Class::S, &[Serial(0x1234)]);
    let stamp = batch.stamps(HostKey::from_bytes([0xaa; 32])).remove(0);
    let header = stamp.header();
    let body =
        seal(&secret, &stamp.seed, &header, Kind::Frame, 7, b"an olm message", &mut TestRng::new(8)).expect("fits");
    let (_, opened) = open([&secret], &stamp.seed, &header, &body).expect("our own");
    assert_eq!((opened.frame_no, opened.payload.as_slice()), (7, b"an olm message".as_slice()));
    compare(
        include_str!("../vectors/envelope.json"),
        &json!({
            "ls": hex([0x88; 32]),
            "seed": hex(stamp.seed.as_bytes()),
            "header": hex(header.as_bytes()),
            "kind": 1,
            "frame_no": 7,
            "payload": "an olm message",
            "body": hex(body),
        }),
    );
}

#[test]
fn link_secrets_and_what_comes_of_the_first() {
    let first = LinkSecret::from_bytes(Epoch(0), [0x88; 32]);
    let next = first.next(&StepPart { ss: &[1; 32], ct: b"ct lo" }, &StepPart { ss: &[2; 32], ct: b"ct hi" });
    assert_eq!(next.epoch(), Epoch(1));
    let rk = first.restore_key();
    compare(
        include_str!("../vectors/link_secrets.json"),
        &json!({
            "ls0": hex([0x88; 32]),
            "ss_lo": hex([1; 32]),
            "ss_hi": hex([2; 32]),
            "ct_lo": "ct lo",
            "ct_hi": "ct hi",
            "ls1": hex(next.as_bytes()),
            "rk": hex(rk.as_bytes()),
            "incarnation": 1_800_000_000_000_u64,
            "hello_s0": hex(rk.hello_s0(1_800_000_000_000).as_bytes()),
            "s0": hex([0x44; 32]),
            "answer_envelope": hex(S0::from_bytes([0x44; 32]).answer_envelope().as_bytes()),
        }),
    );
}

#[test]
fn frames() {
    let mut acks = Window::default();
    for number in [0, 1, 2, 5, 6, 9] {
        acks.insert(number);
    }
    let frame = Frame {
        acks,
        nak: vec![5],
        frame_floor: 3,
        item_floor: 17,
        granted: 2,
        used: vec![(MailboxId([0xbb; 32]), 7, 1)],
        stamps: Vec::new(),
        th: Some(Transcript([0x66; 32])),
        items: vec![(17, Item::Verdict(vec![0xfe, 0x01]))],
    };
    let bytes = frame.to_bytes();
    let (read, unknown) = Frame::from_bytes(&bytes).expect("our own");
    assert_eq!((read.acks, read.items, unknown), (frame.acks, frame.items, 0));
    compare(
        include_str!("../vectors/frame.json"),
        &json!({
            "acks": [3, [[2, 2], [2, 1]]],
            "nak": [5],
            "floor": [3, 17],
            "granted": 2,
            "used": [[hex([0xbb; 32]), 7, 1]],
            "th": hex([0x66; 32]),
            "items": [[17, 8, "fe01"]],
            "frame": hex(bytes),
        }),
    );
}

#[test]
fn descriptors() {
    let signing = SigningKey::from_seed(Generation(3), &[0x22; 32]);
    let at = HostAddress { host: HostKey::from_bytes([0xaa; 32]), address: vec![9, 9] };
    let descriptor = Descriptor {
        name: IdentityKey::from_seed(&[0x11; 32]).name(),
        issued: UnixMillis(1_800_000_000_000),
        expiry: UnixMillis(1_800_100_000_000),
        ways: vec![Way::Direct(vec![1, 2]), Way::Mailbox(at)],
    };
    compare(
        include_str!("../vectors/descriptor.json"),
        &json!({
            "identity_seed": hex([0x11; 32]),
            "signing_seed": hex([0x22; 32]),
            "issued": 1_800_000_000_000_u64,
            "expiry": 1_800_100_000_000_u64,
            "ways": [[0, "0102"], [2, format!("{}0909", hex([0xaa; 32]))]],
            "descriptor": hex(descriptor.sign(&signing)),
        }),
    );
}

#[test]
fn the_dictionary_is_part_of_the_protocol() {
    use sha2::{Digest, Sha256};
    // A change of one byte makes every envelope of the other side unreadable: it is a new method in `frame`, not an edit.
    let digest = Sha256::digest(include_bytes!("../../dictionary/matrix-1.txt"));
    compare(include_str!("../vectors/dictionary.json"), &json!({ "sha256": hex(digest) }));
}
