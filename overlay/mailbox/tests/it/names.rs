//! Key-form server names accept one spelling per key and nothing else.

use millpond_mailbox::{
    identity::{IdentityPublicKey, PublicKeyError},
    name::{NameError, NodeName, is_onion_shaped},
};
use proptest::prelude::*;

use crate::world::Node;

/// Printed in Tor's rend-spec-v3, section 6 and appendices.
const FROM_TORS_SPECIFICATION: [&str; 3] = [
    "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
    "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
    "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
];

#[test]
fn onion_addresses_of_tors_specification_are_valid_names() {
    for text in FROM_TORS_SPECIFICATION {
        let name = NodeName::parse(text).expect("a published v3 address");
        assert_eq!(NodeName::from_key(name.identity_key()).as_str(), text);
    }
}

#[test]
fn any_other_spelling_of_a_name_is_refused() {
    let good = Node::new(1).name();
    let good = good.as_str();
    for bad in [
        good.to_uppercase(),
        format!("{good}:8448"),
        format!("{good}."),
        format!(" {good}"),
        format!("www.{good}"),
        good.replace(".onion", ""),
        good.replace(".onion", ".ONION"),
        good.replacen(&good[..1], "1", 1),
        String::new(),
        ".onion".to_owned(),
        "expyuzz4wqqyqhjn.onion".to_owned(),
    ] {
        assert_eq!(NodeName::parse(&bad).expect_err(&bad), NameError::Form);
    }
}

#[test]
fn another_version_and_a_wrong_checksum_are_refused() {
    let good = Node::new(1).name();
    // The last character holds the low five bits of the version byte 3: "d".
    let other_version = format!("{}e.onion", &good.as_str()[..55]);
    assert_eq!(NodeName::parse(&other_version).expect_err("version 4"), NameError::Version);
    let swapped = if good.as_str().starts_with('a') { "b" } else { "a" };
    let mistyped = format!("{swapped}{}", &good.as_str()[1..]);
    assert_eq!(NodeName::parse(&mistyped).expect_err("mistyped"), NameError::Checksum);
}

#[test]
fn torsioned_non_canonical_and_small_order_keys_are_refused() {
    let good = *Node::new(1).identity.public().as_bytes();
    let torsion: [u8; 32] = unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let key = ed25519_dalek::VerifyingKey::from_bytes(&good).expect("a key").to_edwards();
    let low = ed25519_dalek::VerifyingKey::from_bytes(&torsion).expect("a point of order 8").to_edwards();
    let torsioned = (key + low).compress().to_bytes();
    for (bytes, expected) in [
        (torsioned, PublicKeyError::Torsion),
        (torsion, PublicKeyError::SmallOrder),
        // The neutral element, and the point of order 2.
        (unhex("0100000000000000000000000000000000000000000000000000000000000000"), PublicKeyError::SmallOrder),
        (unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), PublicKeyError::SmallOrder),
        // y = p + 1 and y = p, which are the points with y = 1 and y = 0 in other clothes.
        (unhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), PublicKeyError::NotCanonical),
        (unhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), PublicKeyError::NotCanonical),
        // The neutral element with the sign bit set.
        (unhex("0100000000000000000000000000000000000000000000000000000000000080"), PublicKeyError::NotCanonical),
        (unhex("0200000000000000000000000000000000000000000000000000000000000000"), PublicKeyError::NotAPoint),
    ] {
        assert_eq!(IdentityPublicKey::from_bytes(&bytes).expect_err("a bad key"), expected);
        assert!(NodeName::parse(&encode_unchecked(&bytes)).is_err());
    }
}

#[test]
fn every_name_in_the_onion_domain_is_recognised() {
    for onion in ["a.onion", "a.ONION", "a.onion:8448", "a.onion.", "onion", "x.y.onion"] {
        assert!(is_onion_shaped(onion), "{onion}");
    }
    for other in ["example.org", "onion.org", "a.onion.org", "monion", "a.xonion", "[::1]:8448", ""] {
        assert!(!is_onion_shaped(other), "{other}");
    }
}

proptest! {
    #[test]
    fn a_name_is_its_key_and_back(seed in any::<u64>()) {
        let key = Node::new(seed).identity.public();
        let name = NodeName::from_key(&key);
        let parsed = NodeName::parse(name.as_str()).expect("our own name");
        prop_assert_eq!(parsed.identity_key(), &key);
        prop_assert!(is_onion_shaped(name.as_str()));
    }
}

/// A well-formed name around any 32 bytes.
fn encode_unchecked(key: &[u8; 32]) -> String {
    use sha3::{Digest, Sha3_256};
    let digest = Sha3_256::new().chain_update(b".onion checksum").chain_update(key).chain_update([3]).finalize();
    let raw = [key.as_slice(), &digest[..2], &[3]].concat();
    format!("{}.onion", data_encoding::BASE32_NOPAD.encode(&raw).to_lowercase())
}

fn unhex(text: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex").try_into().expect("32 bytes")
}
