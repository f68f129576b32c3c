//! Every parser of foreign bytes, fed with any bytes and with honest bytes that were damaged: an error, never a panic.

use bytes::{Bytes, BytesMut};
use millpond_mailbox::{
    bundle::Bundle,
    contact_link::ContactLink,
    deposit::Deposit,
    descriptor::{Descriptor, DescriptorError},
    frame::Frame,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, MAX_REQUEST_LEN, Request, Seq, read_message},
    identity::IdentityPublicKey,
    introduction::{IntroBody, Introduction},
    item::{Fragment, Item},
    key_document::KeyDocument,
    key_pack::KeyPack,
    link::{Link, Own},
    message::Message,
    name::NodeName,
    session::{Backup, InEvent, Session},
    signing_key::KeyId,
    stamp::StampBatch,
    token::{Evaluated, Grant, TokenKey},
    xwing::XWingPublic,
};
use proptest::{prelude::*, sample::Index};

use crate::{
    carrier::{ALICE, BOB, World},
    world::{NOW, Node, TestRng},
};

fn feed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = NodeName::parse(&text);
    let _ = KeyId::parse(&text);
    let _ = ContactLink::parse(&text);
    let _ = ContactLink::parse(&format!("millpond:{}", data_encoding::BASE64URL_NOPAD.encode(bytes)));
    let _ = KeyDocument::verify(bytes);
    let _ = Bundle::open(bytes);
    let _ = Message::from_bytes(bytes);
    let _ = Introduction::from_bytes(bytes);
    let _ = Link::from_bytes(bytes);
    let _ = Session::from_record(bytes);
    let _ = Backup::from_bytes(bytes);
    let _ = Frame::from_bytes(bytes);
    let _ = KeyPack::from_bytes(bytes);
    let _ = Descriptor::verify(bytes, &Node::new(1).document, NOW);
    if let Some((kind, body)) = bytes.split_first() {
        let _ = Item::parse(*kind, body.to_vec());
    }
    let _ = XWingPublic::from_bytes(bytes);
    let _ = StampBatch::from_bytes(bytes);
    let _ = Deposit::parse(&Bytes::copy_from_slice(bytes));
    let _ = Request::parse(Bytes::copy_from_slice(bytes));
    let _ = Answer::parse(Bytes::copy_from_slice(bytes));
    let _ = HostWay::from_bytes(bytes);
    let _ = HostLink::parse(&text);
    let _ = HostLink::parse(&format!("millpond-host:{}", data_encoding::BASE64URL_NOPAD.encode(bytes)));
    let _ = Grant::parse(&text);
    if let Ok(key) = <&[u8; 32]>::try_from(bytes) {
        let _ = IdentityPublicKey::from_bytes(key);
        let _ = TokenKey::from_bytes(key);
    }
    let mut stream = BytesMut::from(bytes);
    while let Ok(Some(_)) = Message::read(&mut stream) {}
    let mut stream = BytesMut::from(bytes);
    while let Ok(Some(_)) = read_message(&mut stream, MAX_REQUEST_LEN) {}
}

/// Honest bytes of every kind.
fn honest() -> Vec<Vec<u8>> {
    let (mut alice, bob) = (Node::new(1), Node::new(2));
    let (link, contact) = alice.offer();
    let Message::Box(bundle) = link.opening(false).remove(0) else { panic!("a box") };
    let uri = contact.to_uri();
    let cbor = data_encoding::BASE64URL_NOPAD.decode(&uri.as_bytes()["millpond:".len()..]).expect("base64");
    let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &alice.ways, stamps: &[] };
    let introduced = Link::introduce(&own, &bob.name(), NOW, &mut TestRng::new(1));
    let body = IntroBody::Offer(introduced.intro_offer().expect("open"));
    let intro = Introduction::seal(&bob.document, "!room", &body, &mut TestRng::new(2)).expect("sealed");
    vec![
        alice.name().as_str().as_bytes().to_vec(),
        alice.document.as_bytes().to_vec(),
        uri.into_bytes(),
        cbor,
        Message::Box(bundle.clone()).to_bytes(),
        bundle,
        intro.to_bytes(),
        link.to_bytes().to_vec(),
        Answer::Tokens(Evaluated { elements: vec![[7; 32]; 2], proof: [8; 64] }).to_bytes(Seq(1)),
        frame().to_bytes(),
        descriptor(&alice),
        KeyPack { version: 3, pack: vec![1; 40] }.to_bytes(),
    ]
}

fn frame() -> Frame {
    let items = vec![
        Item::Transaction { via: vec![Node::new(3).name()], body: b"{\"pdus\":[]}".to_vec() },
        Item::ToDevice { order: 7, body: b"{}".to_vec() },
        Item::Fragment(Fragment { of: 0, index: 1, count: 3, part: vec![5; 50] }),
        Item::Void,
    ];
    Frame { nak: vec![1, 2], items: (0..).zip(items).collect(), ..Frame::default() }
}

fn descriptor(node: &Node) -> Vec<u8> {
    let (issued, expiry) = (NOW, NOW.after(std::time::Duration::from_secs(3_600)));
    let descriptor = Descriptor { name: node.name(), issued, expiry, ways: node.ways.clone() };
    let bytes = descriptor.sign(&node.signing);
    assert_eq!(Descriptor::verify(&bytes, &node.document, NOW).expect("our own"), descriptor);
    bytes
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        feed(&bytes);
    }

    #[test]
    fn any_message_to_any_link_is_an_error_at_worst(
        kind in 1_u8..5,
        body in prop::collection::vec(any::<u8>(), 0..1_024),
    ) {
        let (mut alice, mut bob) = (Node::new(1), Node::new(2));
        let message = Message::from_bytes(&[&[kind], body.as_slice()].concat()).expect("in bounds");
        let (mut at_alice, contact) = alice.offer();
        let mut at_bob = bob.add(&contact);
        prop_assert!(alice.handle(&mut at_alice, &message).is_err());
        prop_assert!(bob.handle(&mut at_bob, &message).is_err());
        let [offer] = at_alice.opening(false).try_into().expect("the box");
        bob.handle(&mut at_bob, &offer).expect("good");
        prop_assert!(bob.handle(&mut at_bob, &message).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_honest_bytes_are_an_error_at_worst(
        at in any::<Index>(),
        value in any::<u8>(),
        cut in any::<Index>(),
    ) {
        for mut bytes in honest() {
            let position = at.index(bytes.len());
            bytes[position] = value;
            feed(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            feed(&bytes);
        }
    }
}

#[test]
fn trailing_bytes_are_refused_everywhere() {
    for bytes in honest() {
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Bundle::open(&longer).is_err());
        assert!(Introduction::from_bytes(&longer).is_err());
        assert!(Link::from_bytes(&longer).is_err());
        assert!(KeyDocument::verify(&longer).is_err());
    }
}

#[test]
fn a_stream_that_announces_too_much_is_refused_before_it_is_read() {
    let mut stream = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
    assert!(Message::read(&mut stream).is_err());
    let mut stream = BytesMut::from(&[0, 0, 0, 0][..]);
    assert!(Message::read(&mut stream).is_err());
}

#[test]
fn a_descriptor_holds_for_its_node_and_its_time_only() {
    let (alice, bob) = (Node::new(1), Node::new(2));
    let bytes = descriptor(&alice);
    let later = NOW.after(std::time::Duration::from_secs(3_600));
    assert_eq!(Descriptor::verify(&bytes, &bob.document, NOW), Err(DescriptorError::OtherNode));
    assert_eq!(Descriptor::verify(&bytes, &alice.document, later), Err(DescriptorError::Time));
    let forged =
        Descriptor { name: alice.name(), issued: NOW, expiry: later, ways: bob.ways.clone() }.sign(&bob.signing);
    assert_eq!(Descriptor::verify(&forged, &alice.document, NOW), Err(DescriptorError::Signature));
}

#[test]
fn a_damaged_record_is_an_error_and_a_whole_one_is_read_back_as_it_was() {
    let mut world = World::new(1);
    world.sides[ALICE].offer(Item::Verdict(vec![1; 100]));
    world.run(1_000);
    let record = world.sides[ALICE].rows.0[&millpond_mailbox::session::RowKey::Record].clone();
    Session::from_record(&record).expect("our own");
    for cut in (0..record.len()).step_by(97) {
        assert!(Session::from_record(&record[..cut]).is_err());
    }
    let backup = world.sides[ALICE].session.backup().to_bytes();
    assert!(Backup::from_bytes(&backup[..backup.len() - 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_plaintext_from_the_peer_itself_is_dropped_at_worst(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at in any::<Index>(),
        value in any::<u8>(),
    ) {
        // Under the right stamp, secret and Olm session: everything but the frame is honest.
        let mut honest = frame().to_bytes();
        let position = at.index(honest.len());
        honest[position] = value;
        for plaintext in [bytes, honest] {
            let mut world = World::new(1);
            let arrived = world.arrived_from(ALICE, &plaintext);
            let now = world.now;
            world.sides[BOB].feed(now, InEvent::Arrived(vec![arrived]));
            // And the link goes on.
            world.sides[BOB].offer(Item::Verdict(b"still here".to_vec()));
            world.run(3 * 86_400_000);
            let notices = (&world.sides[ALICE].notices, &world.sides[BOB].notices);
            prop_assert!(!world.sides[ALICE].delivered.is_empty(), "{notices:?}");
        }
    }
}
