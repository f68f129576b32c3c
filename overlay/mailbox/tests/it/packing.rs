//! How much fits an envelope, and that what fits says nothing across rooms.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use millpond_mailbox::{
    envelope::{EnvelopeSecret, Kind, capacity, open, seal},
    frame::{Frame, FrameError},
    host_key::HostKey,
    item::{Item, MAX_ITEM_LEN},
    mailbox::{BatchId, MailboxSecret},
    rand_core::Rng,
    secrets::{Epoch, LinkSecret},
    session::RoomTag,
    stamp::{Class, Serial, Stamp},
};

use crate::{
    carrier::{ALICE, BOB, MINUTE_MS, World},
    world::TestRng,
};

fn base64(rng: &mut TestRng, length: usize) -> String {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    BASE64_NOPAD.encode(&bytes)
}

/// A federation transaction with one m.room.encrypted PDU of room version 12, as a text of 80 characters gives it: the Megolm message
/// has a version byte, an index, a ciphertext padded to 16 bytes, a mac of 8 and a signature of 64.
fn encrypted_message(rng: &mut TestRng, names: &[String; 3], room: &str, depth: u32) -> Item {
    let plaintext = format!(
        r#"{{"content":{{"body":"{}","m.mentions":{{}},"msgtype":"m.text"}},"room_id":"{room}","type":"m.room.message"}}"#,
        "t".repeat(80)
    );
    let padded = (plaintext.len() / 16 + 1) * 16;
    let ciphertext = base64(rng, 1 + 2 + 3 + padded + 8 + 64);
    let event = |rng: &mut TestRng| {
        let mut hash = [0; 32];
        rng.fill_bytes(&mut hash);
        format!("${}", BASE64URL_NOPAD.encode(&hash))
    };
    let [server, sender_key, session_id] = names;
    let (prev, hash, signature) = (event(rng), base64(rng, 32), base64(rng, 64));
    // The same three for every message of a user.
    let auth: Vec<String> = (0..3).map(|n| event(&mut TestRng::new(n))).collect();
    let pdu = format!(
        concat!(
            r#"{{"auth_events":["{}","{}","{}"],"content":{{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"{}","device_id":"QGJCPBKWJV","#,
            r#""sender_key":"{}","session_id":"{}"}},"depth":{},"hashes":{{"sha256":"{}"}},"origin_server_ts":18{},"#,
            r#""prev_events":["{}"],"room_id":"{}","sender":"@alice:{}","signatures":{{"{}":{{"ed25519:hqjmvxjw":"{}"}}}},"type":"m.room.encrypted"}}"#
        ),
        auth[0],
        auth[1],
        auth[2],
        ciphertext,
        sender_key,
        session_id,
        depth,
        hash,
        rng.next_u32() as u64 + 10_000_000_000,
        prev,
        room,
        server,
        server,
        signature
    );
    assert!((1_000..1_700).contains(&pdu.len()), "{} bytes", pdu.len());
    let body = format!(r#"{{"edus":[],"origin":"{server}","origin_server_ts":1800000000000,"pdus":[{pdu}]}}"#);
    Item::Transaction { via: Vec::new(), body: body.into_bytes() }
}

fn names(rng: &mut TestRng) -> [String; 3] {
    let mut key = [0; 35];
    rng.fill_bytes(&mut key);
    let server = format!("{}.onion", data_encoding::BASE32_NOPAD.encode(&key).to_lowercase());
    [server, base64(rng, 32), base64(rng, 32)]
}

#[test]
fn four_encrypted_messages_of_80_characters_fit_one_small_envelope() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut rng = TestRng::new(seed);
        let names = names(&mut rng);
        let room = format!("!{}", BASE64URL_NOPAD.encode(&[seed as u8; 32]));
        for depth in 0..4 {
            let item = encrypted_message(&mut rng, &names, &room, 100 + depth);
            world.sides[ALICE].offer(item);
        }
        let (now, before) = (world.now, world.sides[ALICE].session.credit());
        world.sides[ALICE].slot(now);
        assert_eq!(world.sides[ALICE].session.unacknowledged(), 1, "seed {seed}: one frame");
        assert_eq!(world.sides[ALICE].session.credit(), (before.0 - 1, before.1), "in a small envelope");
        world.deliver(ALICE);
        world.run(MINUTE_MS);
        assert_eq!(world.sides[BOB].delivered.len(), 4);
    }
}

#[test]
fn items_of_two_rooms_never_share_a_compression_context() {
    // The same text twice in one room costs next to nothing the second time; in two rooms it costs the same twice. So nobody in
    // one room can learn from sizes whether his guess was said in another.
    let mut text = vec![0; 2_200];
    TestRng::new(5).fill_bytes(&mut text);
    let text = Item::Verdict(text);
    let frames = |rooms: [u64; 2]| {
        let mut world = World::new(1);
        for room in rooms {
            let handle = world.sides[ALICE].offer(text.clone());
            world.sides[ALICE].outbox.get_mut(&handle).unwrap().room = Some(RoomTag(room));
        }
        let now = world.now;
        world.sides[ALICE].slot(now);
        world.sides[ALICE].session.unacknowledged()
    };
    assert_eq!(frames([1, 1]), 1);
    assert_eq!(frames([1, 2]), 2, "two incompressible items of 2,200 bytes do not fit one small envelope");
}

fn stamp(class: Class) -> Stamp {
    let batch = MailboxSecret::from_bytes([3; 32]).issue(BatchId(1), class, &[Serial(9)]);
    batch.stamps(HostKey::from_bytes([4; 32])).remove(0)
}

#[test]
fn every_envelope_of_a_class_has_one_size_and_gives_back_what_was_put_in() {
    let secret = EnvelopeSecret::from(&LinkSecret::from_bytes(Epoch(0), [5; 32]));
    let mut rng = TestRng::new(6);
    for class in [Class::S, Class::L] {
        let stamp = stamp(class);
        for length in [0, 1, 100, capacity(class) - 1, capacity(class)] {
            let payload = vec![0; length];
            let body = seal(&secret, &stamp.seed, &stamp.header(), Kind::Frame, 7, &payload, &mut rng).expect("fits");
            assert_eq!(body.len(), class.body_len());
            let (_, opened) = open([&secret], &stamp.seed, &stamp.header(), &body).expect("our own");
            assert_eq!((opened.kind, opened.frame_no, opened.payload), (Kind::Frame, 7, payload));
        }
        let long = vec![0; capacity(class) + 1];
        assert!(seal(&secret, &stamp.seed, &stamp.header(), Kind::Frame, 7, &long, &mut rng).is_none());
    }
}

#[test]
fn two_seals_of_one_payload_under_one_stamp_have_nothing_in_common() {
    // A node that was set back uses a stamp twice: the nonce is drawn anew.
    let (secret, stamp) = (EnvelopeSecret::from(&LinkSecret::from_bytes(Epoch(0), [5; 32])), stamp(Class::S));
    let mut rng = TestRng::new(7);
    let one = seal(&secret, &stamp.seed, &stamp.header(), Kind::Frame, 7, b"one", &mut rng).expect("fits");
    let two = seal(&secret, &stamp.seed, &stamp.header(), Kind::Frame, 7, b"two", &mut rng).expect("fits");
    let equal = one.iter().zip(&two).filter(|(a, b)| a == b).count();
    assert!(equal < 64, "{equal} of 4,096 bytes are equal");
}

#[test]
fn a_frame_that_would_unpack_to_more_than_a_mebibyte_is_refused() {
    let many = Frame {
        items: vec![(1, Item::Verdict(vec![0; 700 << 10])), (2, Item::Verdict(vec![0; 700 << 10]))],
        ..Frame::default()
    };
    let bytes = many.to_bytes();
    assert!(bytes.len() < 4_096, "zeros compress well: {}", bytes.len());
    assert_eq!(Frame::from_bytes(&bytes).err(), Some(FrameError::TooLong));
    assert!(Item::parse(8, vec![0; MAX_ITEM_LEN + 1]).is_err());
}
