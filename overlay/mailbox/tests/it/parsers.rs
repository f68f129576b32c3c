//! Every parser of foreign bytes, fed with any bytes and with honest bytes that were damaged: an error, never a panic.

use bytes::{Bytes, BytesMut};
use millpond_mailbox::{
    bundle::Bundle,
    contact_link::ContactLink,
    deposit::Deposit,
    host_link::{HostLink, HostWay},
    host_protocol::{Answer, MAX_REQUEST_LEN, Request, Seq, read_message},
    identity::IdentityPublicKey,
    introduction::{IntroBody, Introduction},
    key_document::KeyDocument,
    link::{Link, Own},
    message::Message,
    name::NodeName,
    signing_key::KeyId,
    stamp::StampBatch,
    token::{Evaluated, Grant, TokenKey},
    xwing::XWingPublic,
};
use proptest::{prelude::*, sample::Index};

use crate::world::{NOW, Node, TestRng};

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
    let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &alice.ways };
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
    ]
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
