//! Key documents: strict, self-certifying, ordered by generation.

use std::collections::BTreeMap;

use data_encoding::BASE64_NOPAD;
use millpond_mailbox::{
    key_document::{DocumentKeys, KeyDocument, KeyDocumentError, OldVerifyKey, Verdict},
    signing_key::{Generation, SigningKey},
    time::UnixMillis,
};
use serde_json::{Value, json};

use crate::world::{NOW, Node, TestRng, document};

fn parsed(document: &KeyDocument) -> Value {
    serde_json::from_slice(document.as_bytes()).expect("JSON")
}

fn verify(value: &Value) -> Result<KeyDocument, KeyDocumentError> {
    KeyDocument::verify(&serde_json::to_vec(value).expect("JSON"))
}

#[test]
fn a_document_verifies_for_its_own_name_only() {
    let (alice, bob) = (Node::new(1), Node::new(2));
    let bytes = alice.document.as_bytes();
    let document = KeyDocument::verify_for(&alice.name(), bytes).expect("our own");
    assert_eq!(document.verify_keys().len(), 1);
    assert_eq!(document.intro_key(), Some(&alice.intro.public()));
    assert!(matches!(KeyDocument::verify_for(&bob.name(), bytes), Err(KeyDocumentError::OtherNode { .. })));
}

#[test]
fn a_standard_matrix_verifier_finds_what_it_needs() {
    let alice = Node::new(1);
    let value = parsed(&alice.document);
    let name = alice.name();
    assert_eq!(value["server_name"], name.as_str());
    assert!(value["valid_until_ts"].as_u64().expect("an integer") > NOW.0);
    let (id, key) = alice.document.verify_keys().first_key_value().expect("one key");
    assert_eq!(value["verify_keys"][id.as_str()]["key"], BASE64_NOPAD.encode(key.as_bytes()));

    // By the Matrix rules: canonical JSON without `signatures` and `unsigned`. serde_json sorts when no crate asks it to
    // keep the order, and the document has only ASCII and integers, so its compact form is the canonical one.
    let signature = value["signatures"][name.as_str()][id.as_str()].as_str().expect("a signature").to_owned();
    let signature = BASE64_NOPAD.decode(signature.as_bytes()).expect("base64").try_into().expect("64 bytes");
    let text = String::from_utf8(alice.document.as_bytes().to_vec()).expect("UTF-8");
    let start = text.find(r#""signatures":"#).expect("signed");
    let end = start + text[start..].find("}},").expect("more fields follow") + 3;
    let signed = format!("{}{}", &text[..start], &text[end..]);
    assert!(key.verifies(signed.as_bytes(), &signature));
}

#[test]
fn every_altered_field_breaks_the_identity_signature() {
    let good = parsed(&Node::new(1).document);
    let other_key = BASE64_NOPAD.encode(&[9; 32]);
    let edits: [(&str, Value); 6] = [
        ("/valid_until_ts", json!(1)),
        ("/org.millpond.identity/generation", json!(2)),
        ("/verify_keys", json!({})),
        ("/old_verify_keys", json!({ "ed25519:a": { "key": other_key, "expired_ts": 1 } })),
        ("/org.millpond.identity/intro_key", json!("AAAA")),
        ("/org.millpond.identity/sig", json!(BASE64_NOPAD.encode(&[0; 64]))),
    ];
    for (field, value) in edits {
        let mut bad = good.clone();
        *bad.pointer_mut(field).expect("the field exists") = value;
        assert!(matches!(verify(&bad), Err(KeyDocumentError::IdentitySignature)), "{field}");
    }
    let mut extra = good.clone();
    extra["extra"] = json!(1);
    assert!(matches!(verify(&extra), Err(KeyDocumentError::IdentitySignature)));
    let mut unsigned = good;
    unsigned["unsigned"] = json!({ "age": 1 });
    verify(&unsigned).expect("unsigned is not signed");
}

#[test]
fn the_identity_key_must_be_the_one_in_the_name() {
    let (alice, bob) = (Node::new(1), Node::new(2));
    let mut bad = parsed(&alice.document);
    bad["org.millpond.identity"]["key"] = BASE64_NOPAD.encode(bob.identity.public().as_bytes()).into();
    assert!(matches!(verify(&bad), Err(KeyDocumentError::IdentityMismatch)));
}

#[test]
fn matrix_signatures_must_be_by_listed_keys_and_hold() {
    let alice = Node::new(1);
    let good = parsed(&alice.document);
    let name = alice.name();
    let (id, _) = alice.document.verify_keys().first_key_value().expect("one key");

    let mut unlisted = good.clone();
    unlisted["signatures"][name.as_str()]["ed25519:other"] = BASE64_NOPAD.encode(&[0; 64]).into();
    assert!(matches!(verify(&unlisted), Err(KeyDocumentError::Signature { .. })));
    let mut wrong = good.clone();
    wrong["signatures"][name.as_str()][id.as_str()] = BASE64_NOPAD.encode(&[0; 64]).into();
    assert!(matches!(verify(&wrong), Err(KeyDocumentError::Signature { .. })));
    let mut none = good.clone();
    none["signatures"] = json!({});
    assert!(matches!(verify(&none), Err(KeyDocumentError::Field { .. })));
    let mut notary = good;
    notary["signatures"]["notary.example.org"] = json!({ "ed25519:1": "AAAA" });
    verify(&notary).expect("a notary's signature says nothing");
}

#[test]
fn a_document_that_two_readers_could_read_differently_is_refused() {
    let text = String::from_utf8(Node::new(1).document.as_bytes().to_vec()).expect("UTF-8");
    let twice = text.replacen('{', r#"{"valid_until_ts":1,"#, 1);
    assert!(matches!(KeyDocument::verify(twice.as_bytes()), Err(KeyDocumentError::Json { .. })));
    let float = text.replace("4102444800000", "4102444800000.0");
    assert!(matches!(KeyDocument::verify(float.as_bytes()), Err(KeyDocumentError::Json { .. })));
    let long = format!("{text}{}", " ".repeat(40_000));
    assert!(matches!(KeyDocument::verify(long.as_bytes()), Err(KeyDocumentError::TooLong { .. })));
}

#[test]
fn the_highest_generation_wins_and_an_equal_one_with_other_content_is_an_alarm() {
    let mut rng = TestRng::new(7);
    let alice = Node::new(1);
    let (first, second) = (Generation(1), Generation(2));
    let new_key = SigningKey::generate(second, &mut rng);
    let newer = document(&alice.identity, &new_key, Some(&alice.intro), second);
    let forged = document(&alice.identity, &new_key, Some(&alice.intro), first);

    assert_eq!(alice.document.against(None), Verdict::Newer);
    assert_eq!(newer.against(Some(&alice.document)), Verdict::Newer);
    assert_eq!(alice.document.against(Some(&newer)), Verdict::Older);
    assert_eq!(alice.document.against(Some(&alice.document)), Verdict::Same);
    assert_eq!(forged.against(Some(&alice.document)), Verdict::Alarm);
    assert_eq!(Node::new(2).document.against(Some(&alice.document)), Verdict::OtherNode);
}

#[test]
fn building_the_same_document_again_gives_the_same_bytes() {
    assert_eq!(Node::new(1).document.as_bytes(), Node::new(1).document.as_bytes());
}

#[test]
fn several_devices_and_old_keys_are_listed() {
    let mut rng = TestRng::new(3);
    let alice = Node::new(1);
    let keys: Vec<SigningKey> = (1..=3).map(|n| SigningKey::generate(Generation(n), &mut rng)).collect();
    let old =
        BTreeMap::from([(keys[0].key_id(), OldVerifyKey { key: keys[0].verify_key(), expired: UnixMillis(NOW.0) })]);
    let spec = DocumentKeys { generation: Generation(3), current: &[&keys[1], &keys[2]], old: &old, intro_key: None };
    let document = KeyDocument::build(&alice.identity, &spec).expect("two current keys and an old one");
    assert_eq!(document.verify_keys().len(), 2);
    assert_eq!(document.old_verify_keys(), &old);

    let both = DocumentKeys { current: &[&keys[0]], ..spec };
    KeyDocument::build(&alice.identity, &both).expect_err("a key is current or old, not both");
    let none = DocumentKeys { generation: Generation(3), current: &[], old: &BTreeMap::new(), intro_key: None };
    KeyDocument::build(&alice.identity, &none).expect_err("no current key");
}

#[test]
fn a_name_of_the_dns_is_claimed_under_the_identity_signature() {
    let alice = Node::new(1);
    let keys = DocumentKeys {
        generation: Generation::FIRST,
        current: &[&SigningKey::from_seed(Generation::FIRST, &[7; 32])],
        old: &BTreeMap::new(),
        intro_key: None,
    };
    let document = KeyDocument::build_claiming(&alice.identity, &keys, "pond.example:8448").expect("a document");
    assert_eq!(document.claimed_name(), Some("pond.example:8448"));
    assert_eq!(alice.document.claimed_name(), None);
    let mut altered = parsed(&document);
    altered["org.millpond.identity"]["server_name"] = json!("other.example");
    assert!(matches!(verify(&altered), Err(KeyDocumentError::IdentitySignature)));
    assert!(KeyDocument::build_claiming(&alice.identity, &keys, &"x".repeat(256)).is_err());
    assert!(KeyDocument::build_claiming(&alice.identity, &keys, "pond example").is_err());
}
