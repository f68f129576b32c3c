//! The client form of events, byte by byte.

use millpond_matrix::{
    build::Parents,
    client::{Unsigned, write_client_event, write_stripped_event},
    rules,
};
use ruma::{RoomVersionId, event_id, events::room::member::MembershipState, room_id};
use serde_json::{Value, json};

use crate::world::{content, message, sign_at, state_event, user};

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

#[test]
fn a_message_has_its_fields_and_nothing_of_the_federation() {
    let rules = rules::rules(&RoomVersionId::V11).unwrap();
    let room_id = room_id!("!r:alice.example");
    let pdu = sign_at(rules, Some(room_id), message(&user("alice"), "hi \"you\"", 1234), Parents::default());
    let mut out = b"[".to_vec();
    write_client_event(&mut out, pdu.header(), pdu.json(), None, &Unsigned::default());
    out.push(b',');
    let unsigned = Unsigned {
        age: Some(0),
        transaction_id: Some("t\"1"),
        membership: Some(&MembershipState::Join),
        relations: Some(r#"{"m.thread":{"count":1}}"#),
        redacted_because: Some("{}"),
        ..Unsigned::default()
    };
    write_client_event(&mut out, pdu.header(), pdu.json(), Some(room_id), &unsigned);
    out.push(b']');
    let mut expected = json!({
        "content": {"body": "hi \"you\"", "msgtype": "m.text"},
        "event_id": pdu.event_id(),
        "origin_server_ts": 1234,
        "sender": "@alice:alice.example",
        "type": "m.room.message",
    });
    let events = parsed(&out);
    assert_eq!(events[0], expected);
    expected["room_id"] = json!(room_id);
    expected["unsigned"] = json!({
        "age": 0, "transaction_id": "t\"1", "membership": "join", "m.relations": {"m.thread": {"count": 1}}, "redacted_because": {},
    });
    assert_eq!(events[1], expected);
}

#[test]
fn a_state_event_keeps_its_key_and_says_what_it_replaced() {
    let rules = rules::rules(&RoomVersionId::V12).unwrap();
    let draft = state_event(&user("alice"), "m.room.topic", "", &json!({"topic": "t"}), 1);
    let pdu = sign_at(rules, Some(room_id!("!r")), draft, Parents::default());
    let unsigned = Unsigned {
        prev_content: Some(r#"{"topic":"s"}"#),
        replaces_state: Some(event_id!("$old")),
        ..Unsigned::default()
    };
    let mut out = Vec::new();
    write_client_event(&mut out, pdu.header(), pdu.json(), None, &unsigned);
    let event = parsed(&out);
    assert_eq!(event["state_key"], "");
    assert_eq!(event["unsigned"], json!({"prev_content": {"topic": "s"}, "replaces_state": "$old"}));
    let mut out = Vec::new();
    write_stripped_event(&mut out, pdu.header(), pdu.json());
    assert_eq!(
        parsed(&out),
        json!({"content": {"topic": "t"}, "sender": "@alice:alice.example", "state_key": "", "type": "m.room.topic"})
    );
}

#[test]
fn a_redaction_names_its_target_in_both_places_in_every_version() {
    for version in [RoomVersionId::V10, RoomVersionId::V11] {
        let rules = rules::rules(&version).unwrap();
        for value in [json!({}), json!({"reason": "r"})] {
            let draft = millpond_matrix::build::EventDraft {
                kind: "m.room.redaction".into(),
                content: content(&value),
                redacts: Some(event_id!("$target").to_owned()),
                ..message(&user("alice"), "", 1)
            };
            let pdu = sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default());
            let mut out = Vec::new();
            write_client_event(&mut out, pdu.header(), pdu.json(), None, &Unsigned::default());
            let event = parsed(&out);
            assert_eq!(event["redacts"], "$target");
            assert_eq!(event["content"]["redacts"], "$target");
            assert_eq!(event["content"]["reason"], value["reason"]);
        }
    }
}

#[test]
fn a_redacts_key_that_the_sender_wrote_into_an_old_redaction_is_not_doubled() {
    let rules = rules::rules(&RoomVersionId::V10).unwrap();
    let draft = millpond_matrix::build::EventDraft {
        kind: "m.room.redaction".into(),
        content: content(&json!({"redacts": "$mine"})),
        redacts: Some(event_id!("$target").to_owned()),
        ..message(&user("alice"), "", 1)
    };
    let pdu = sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default());
    let mut out = Vec::new();
    write_client_event(&mut out, pdu.header(), pdu.json(), None, &Unsigned::default());
    assert_eq!(String::from_utf8(out).unwrap().matches("\"redacts\":").count(), 2);
}
