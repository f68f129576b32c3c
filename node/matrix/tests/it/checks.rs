//! Steps 1 to 3 of the checks on receipt: what is dropped, and for which reason.

use millpond_matrix::{
    build::{self, Parents},
    check::{CheckError, MAX_PDU_LEN, Origin, RawPdu},
    rules,
};
use proptest::prelude::*;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomVersionId, room_id, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use crate::world::{Server, content, keys, message, sign_at, state_event, user};

const V11: RoomVersionId = RoomVersionId::V11;

/// A signed message of alice's as JSON.
fn signed(body: &str) -> Value {
    let rules = rules::rules(&V11).unwrap();
    let pdu = sign_at(rules, Some(room_id!("!r:alice.example")), message(&user("alice"), body, 1), Parents::default());
    serde_json::from_str(pdu.json()).unwrap()
}

/// Signs whatever object it is, as a hostile server would; one that cannot be redacted stays unsigned.
fn sign_anything(value: &Value) -> Value {
    let mut object = content(value);
    object.retain(|key, _| key != "signatures" && key != "hashes");
    let alice = Server::new("alice.example");
    let rules = rules::rules(&V11).unwrap();
    let signed = hash_and_sign_event("alice.example", &alice.key, &mut object, &rules.room.redaction);
    signed.map_or_else(|_| value.clone(), |()| serde_json::to_value(object).unwrap())
}

fn check(value: &Value) -> Result<millpond_matrix::CheckedPdu, CheckError> {
    check_with(value, &[&Server::new("alice.example")])
}

fn check_with(value: &Value, servers: &[&Server]) -> Result<millpond_matrix::CheckedPdu, CheckError> {
    RawPdu::parse(&value.to_string())?.check(rules::rules(&V11).unwrap(), &keys(servers))
}

fn with(mut value: Value, field: &str, to: Value) -> Value {
    value[field] = to;
    value
}

#[test]
fn a_well_formed_event_passes_and_its_id_is_its_hash() {
    let checked = check(&signed("hi")).unwrap();
    assert_eq!(checked.origin(), Origin::Remote);
    let raw = RawPdu::parse(checked.json()).unwrap();
    assert_eq!(raw.event_id(rules::rules(&V11).unwrap()).unwrap(), checked.event_id());
}

#[test]
fn text_that_is_no_canonical_json_object_is_dropped() {
    let whole = signed("hi").to_string();
    for text in ["", "[]", "null", "{", "{\"a\":1.5}", "{\"a\":9007199254740993}", &whole[..whole.len() / 2]] {
        assert!(matches!(RawPdu::parse(text), Err(CheckError::Json(_))), "{text}");
    }
    let deep = format!("{}{}{}", "{\"a\":".repeat(5000), "1", "}".repeat(5000));
    assert!(matches!(RawPdu::parse(&deep), Err(CheckError::Json(_))));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(7 * MAX_PDU_LEN));
    assert!(matches!(RawPdu::parse(&long), Err(CheckError::TooLarge(_))));
}

#[test]
fn fields_of_the_wrong_form_are_dropped() {
    let ids = |n: usize| Value::Array((0..n).map(|n| json!(format!("${n:043}"))).collect());
    let wrong = [
        ("type", json!(1)),
        ("type", json!("x".repeat(256))),
        ("sender", json!("alice")),
        ("sender", Value::Null),
        ("room_id", json!("nothing")),
        ("state_key", json!("x".repeat(256))),
        ("state_key", json!(7)),
        ("prev_events", ids(21)),
        ("prev_events", json!(["no id"])),
        ("prev_events", json!(["$an:id.of.version.2"])),
        ("auth_events", json!(["$short"])),
        ("prev_events", json!([["$old:style", {"sha256": "x"}]])),
        ("auth_events", ids(11)),
        ("depth", json!(-1)),
        ("depth", json!("1")),
        ("origin_server_ts", json!("now")),
        ("content", json!("text")),
    ];
    for (field, to) in wrong {
        let value = with(signed("hi"), field, to.clone());
        let result = check(&sign_anything(&value));
        assert!(result.is_err(), "{field}: {to} passed");
    }
}

#[test]
fn the_size_limit_is_65535_bytes_of_canonical_json_to_the_byte() {
    let length = |body: usize| sign_anything(&signed(&"x".repeat(body)));
    let rest = length(0).to_string().len();
    let fits = length(MAX_PDU_LEN - rest);
    assert_eq!(fits.to_string().len(), MAX_PDU_LEN);
    check(&fits).unwrap();
    let over = signed("").as_object().cloned().map(Value::Object).unwrap();
    let over = with(over, "content", json!({"body": "x".repeat(MAX_PDU_LEN), "msgtype": "m.text"}));
    assert!(matches!(check(&over), Err(CheckError::Format(_))));
    // What a peer adds to `unsigned` counts for nothing, and is gone.
    let padded = with(fits, "unsigned", json!({"age": 1, "x": "x".repeat(1000)}));
    assert!(!check(&padded).unwrap().json().contains("unsigned"));
}

#[test]
fn a_signature_that_does_not_hold_is_dropped() {
    let (alice, bob) = (Server::new("alice.example"), Server::new("bob.example"));
    let value = signed("hi");
    let forged = with(value.clone(), "signatures", json!({"alice.example": {"ed25519:1": "A".repeat(86)}}));
    let of_other = with(value.clone(), "signatures", json!({"bob.example": value["signatures"]["alice.example"]}));
    let unsigned = with(value.clone(), "signatures", json!({}));
    let changed = with(value.clone(), "depth", json!(7));
    for bad in [&forged, &of_other, &unsigned, &changed] {
        assert!(matches!(check_with(bad, &[&alice, &bob]), Err(CheckError::Signature(_))), "{bad}");
    }
    // Nobody's keys, or somebody else's, verify nothing.
    assert!(matches!(check_with(&value, &[]), Err(CheckError::Signature(_))));
    assert!(matches!(check_with(&value, &[&bob]), Err(CheckError::Signature(_))));
}

#[test]
fn a_content_that_does_not_fit_the_hash_is_redacted_and_the_id_stays() {
    let value = signed("true words");
    let id = check(&value).unwrap().owned_event_id();
    let changed = with(value, "content", json!({"body": "false words", "msgtype": "m.text"}));
    let checked = check(&changed).unwrap();
    assert_eq!(checked.origin(), Origin::RemoteRedacted);
    assert_eq!(checked.event_id(), id);
    assert_eq!(checked.content().get(), "{}");
}

#[test]
fn it_says_whose_keys_it_needs() {
    let rules = rules::rules(&RoomVersionId::V12).unwrap();
    let room = Some(room_id!("!r:alice.example"));
    let servers = |value: &Value| -> Vec<String> {
        let draft = state_event(&user("alice"), "m.room.member", "@bob:bob.example", value, 1);
        let raw = RawPdu::parse(sign_at(rules, room, draft, Parents::default()).json()).unwrap();
        raw.required_keys(rules).unwrap().keys().map(ToString::to_string).collect()
    };
    assert_eq!(servers(&json!({"membership": "invite"})), ["alice.example"]);
    let restricted = json!({"membership": "join", "join_authorised_via_users_server": "@carol:carol.example"});
    assert_eq!(servers(&restricted), ["alice.example", "carol.example"]);
    assert!(servers(&json!({"membership": "invite", "third_party_invite": {}})).is_empty());

    let raw = RawPdu::parse(&signed("hi").to_string()).unwrap();
    let needed = raw.required_keys(rules).unwrap();
    assert_eq!(needed[ruma::server_name!("alice.example")], ["ed25519:1"]);
}

#[test]
fn version_12_refuses_the_create_event_among_the_auth_events() {
    let room = crate::world::Room::public(&RoomVersionId::V12, &[]);
    let create = millpond_matrix::build::parents(&room, room.rules, &message(&user("alice"), "x", 1)).unwrap();
    let id = ruma::EventId::parse(room.room_id.as_str().replacen('!', "$", 1)).unwrap();
    let parents = Parents { auth_events: vec![id], ..create };
    let pdu = sign_at(room.rules, Some(&room.room_id), message(&user("alice"), "x", 1), parents);
    let alice = Server::new("alice.example");
    let result = RawPdu::parse(pdu.json()).unwrap().check(room.rules, &keys(&[&alice]));
    assert!(matches!(result, Err(CheckError::Format(_))));
}

#[test]
fn a_second_signature_leaves_the_id_as_it_is() {
    let rules = rules::rules(&V11).unwrap();
    let (alice, bob) = (Server::new("alice.example"), Server::new("bob.example"));
    let draft = state_event(&user("alice"), "m.room.member", "@bob:bob.example", &json!({"membership": "invite"}), 1);
    let invite = sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default());
    let both = build::add_signature(rules, &invite, &bob.signer()).unwrap();
    assert_eq!(both.event_id(), invite.event_id());
    let object: CanonicalJsonObject = serde_json::from_str(both.json()).unwrap();
    let signatures = object["signatures"].as_object().unwrap();
    assert_eq!(signatures.keys().collect::<Vec<_>>(), ["alice.example", "bob.example"]);
    RawPdu::parse(both.json()).unwrap().check(rules, &keys(&[&alice, &bob])).unwrap();
}

#[test]
fn an_object_that_was_parsed_elsewhere_loses_its_unsigned_too() {
    let mut object = content(&signed("hi"));
    object.insert("unsigned".to_owned(), CanonicalJsonValue::Object(content(&json!({"age": 1}))));
    let raw = RawPdu::from_object(object);
    assert_eq!(raw.kind(), Some("m.room.message"));
    assert_eq!(raw.room_id(), Some(room_id!("!r:alice.example")));
    let rules = rules::rules(&V11).unwrap();
    let id = raw.event_id(rules).unwrap();
    assert_eq!(raw.check(rules, &keys(&[&Server::new("alice.example")])).unwrap().event_id(), id);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let rules = rules::rules(&V11).unwrap();
        let mut damaged = signed("hi").to_string().into_bytes();
        let at = cut.index(damaged.len());
        damaged[at] = byte;
        for text in [text, String::from_utf8_lossy(&damaged).into_owned()] {
            if let Ok(raw) = RawPdu::parse(&text) {
                let _ = (raw.required_keys(rules), raw.room_id(), raw.event_id(rules));
                let _ = raw.check(rules, &keys(&[&Server::new("alice.example")]));
            }
        }
    }
}
