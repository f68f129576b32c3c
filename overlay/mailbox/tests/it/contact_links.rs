//! Contact links: short, strict, readable by later versions' rules.

use millpond_mailbox::{
    contact_link::{ContactLink, ContactLinkError},
    host_key::HostKey,
    link::{Link, LinkError, Own},
    secrets::S0,
    time::UnixMillis,
    way::{HostAddress, Way},
};
use proptest::prelude::*;
use subtle::ConstantTimeEq;

use crate::world::{NOW, Node, TestRng};

fn link(ways: Vec<Way>) -> Result<ContactLink, ContactLinkError> {
    ContactLink::new(S0::from_bytes([7; 32]), &Node::new(1).identity.public(), NOW, ways)
}

#[test]
fn a_link_with_two_addresses_and_a_peer_id_fits_a_qr_code() {
    let quic = Way::Direct(vec![0; 14]);
    let tcp_with_peer_id = Way::Direct(vec![0; 8 + 40]);
    let uri = link(vec![quic, tcp_with_peer_id]).expect("two ways").to_uri();
    assert!(uri.len() <= 210, "{} characters", uri.len());
}

#[test]
fn blanks_around_a_pasted_link_are_ignored_and_nothing_else() {
    let uri = link(vec![Way::Direct(vec![1])]).expect("one way").to_uri();
    ContactLink::parse(&format!("  {uri}\n")).expect("blanks around it");
    for bad in [
        uri.replace("millpond:", "https:"),
        uri.replace("millpond:", "Millpond:"),
        format!("{uri}="),
        format!("{uri}A"),
        format!("{uri}AAAA"),
        uri[..uri.len() - 1].to_owned(),
        uri.replacen(&uri[12..13], " ", 1),
        "millpond:".to_owned(),
        String::new(),
    ] {
        assert!(ContactLink::parse(&bad).is_err(), "{bad}");
    }
    assert!(matches!(ContactLink::parse(&"A".repeat(5_000)), Err(ContactLinkError::TooLong { length: 5_000 })));
}

#[test]
fn a_later_version_is_named_as_such_whatever_follows() {
    for bytes in [&[0x85, 2, 0x40][..], &[0x83, 23, 0, 0], &[0x97, 2]] {
        let uri = format!("millpond:{}", data_encoding::BASE64URL_NOPAD.encode(bytes));
        assert_eq!(ContactLink::parse(&uri).expect_err("version 2"), ContactLinkError::Version);
    }
}

#[test]
fn a_second_spelling_of_the_same_cbor_is_refused() {
    let uri = link(vec![Way::Direct(vec![1])]).expect("one way").to_uri();
    let bytes = data_encoding::BASE64URL_NOPAD.decode(&uri.as_bytes()["millpond:".len()..]).expect("base64");
    // s0 with a two-byte length instead of one.
    let mut long_form = bytes.clone();
    assert_eq!(long_form[2..4], [0x58, 32]);
    long_form.splice(2..4, [0x59, 0, 32]);
    let uri = format!("millpond:{}", data_encoding::BASE64URL_NOPAD.encode(&long_form));
    assert_eq!(ContactLink::parse(&uri).expect_err("long form"), ContactLinkError::Content);
}

#[test]
fn number_and_length_of_ways_are_bounded_both_ways() {
    for bad in [vec![], vec![Way::Direct(vec![1]); 9], vec![Way::Direct(vec![0; 257])], vec![Way::Direct(vec![])]] {
        assert!(matches!(link(bad).expect_err("bad ways"), ContactLinkError::Way { .. }));
    }
}

#[test]
fn a_pickup_box_of_a_later_version_is_kept() {
    let ways = vec![Way::Other { kind: 9, body: vec![5; 100] }, Way::Direct(vec![1])];
    let uri = link(ways.clone()).expect("two ways").to_uri();
    assert_eq!(ContactLink::parse(&uri).expect("known and unknown ways").ways(), ways);
}

#[test]
fn an_expired_link_and_ones_own_link_are_refused_in_words() {
    let mut alice = Node::new(1);
    let (_, contact) = alice.offer();
    let own = alice.identity.public();
    assert!(matches!(Link::add(&contact, &own, NOW), Err(LinkError::OwnLink)));
    let bob = Node::new(2).identity.public();
    assert!(matches!(Link::add(&contact, &bob, contact.expiry()), Err(LinkError::Expired)));
    assert!(Link::add(&contact, &bob, UnixMillis(contact.expiry().0 - 1)).is_ok());
}

#[test]
fn an_offer_without_ways_is_refused() {
    let alice = Node::new(1);
    let own = Own { identity: &alice.identity, key_document: &alice.document, ways: &[], stamps: &[] };
    assert!(matches!(Link::offer(&own, NOW, &mut TestRng::new(1)), Err(LinkError::ContactLink { .. })));
}

proptest! {
    #[test]
    fn a_link_is_read_as_it_was_written(
        s0 in any::<[u8; 32]>(),
        expiry_s in 0_u64..1 << 40,
        ways in prop::collection::vec((0_u8..4, prop::collection::vec(any::<u8>(), 1..100)), 1..8),
    ) {
        let ways: Vec<Way> = ways
            .into_iter()
            .map(|(kind, body)| match kind {
                0 => Way::Direct(body),
                1 => Way::Box(HostAddress { host: HostKey::from_bytes([7; 32]), address: body }),
                2 => Way::Mailbox(HostAddress { host: HostKey::from_bytes([8; 32]), address: body }),
                _ => Way::Other { kind: 9, body },
            })
            .collect();
        let key = Node::new(1).identity.public();
        let written =
            ContactLink::new(S0::from_bytes(s0), &key, UnixMillis(expiry_s * 1_000), ways.clone()).expect("in bounds");
        let read = ContactLink::parse(&written.to_uri()).expect("our own link");
        prop_assert!(bool::from(read.s0().ct_eq(&S0::from_bytes(s0))));
        prop_assert_eq!(read.fingerprint(), key.fingerprint());
        prop_assert_eq!(read.expiry(), UnixMillis(expiry_s * 1_000));
        prop_assert_eq!(read.ways(), ways.as_slice());
    }
}
