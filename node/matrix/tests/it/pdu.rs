//! Stored events: what goes into the rows comes out of them.

use millpond_matrix::{Pdu, PduFlags, PduHeader, build::Parents, rules};
use proptest::prelude::*;
use ruma::{RoomVersionId, room_id, state_res::Event};
use serde_json::json;

use crate::world::{Room, message, sign_at, state_event, ts, user};

#[test]
fn an_event_comes_back_from_its_rows_as_it_was() {
    let mut room = Room::public(&RoomVersionId::V12, &["bob"]);
    room.send(message(&user("bob"), "quotes \" and \\ and \u{1F4A7}", 500));
    for pdu in room.events.values() {
        let flags = PduFlags { rejected: true, soft_failed: false };
        let stored = Pdu::clone(pdu).with_flags(flags);
        let header = PduHeader::from_bytes(&stored.header().to_bytes()).unwrap();
        assert_eq!(header, *stored.header());
        assert_eq!(serde_json::from_str::<PduHeader>(&serde_json::to_string(&header).unwrap()).unwrap(), header);
        let back = Pdu::from_stored(room.room_id.clone(), header, stored.json().into()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{stored:?}"));
        assert_eq!(back.content().get(), pdu.content().get());
        assert!(Event::rejected(&back));
    }
}

#[test]
fn a_header_of_the_first_layout_is_read_as_it_was_written() {
    let mut bytes = vec![1, 0b101];
    for number in [3_u16, 9, 10, 20, 30, 40, 0, 0, 50, 60] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in [1_700_000_000_000_u64, 7] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(b"$an:event.id");
    let header = PduHeader::from_bytes(&bytes).unwrap();
    assert_eq!((header.event_id.as_str(), u64::from(header.depth)), ("$an:event.id", 7));
    assert_eq!((header.flags.rejected, header.flags.soft_failed, header.redacts_in_content), (true, false, true));
    assert!(header.state_key.is_none() && header.redacts.is_some());
    assert_eq!(PduHeader::from_bytes(&header.to_bytes()).unwrap(), header, "and comes back from the present one");
}

#[test]
fn rows_that_do_not_belong_together_are_an_error() {
    let rules = rules::rules(&RoomVersionId::V11).unwrap();
    let room_id = room_id!("!r:alice.example");
    let pdu = |body: &str| sign_at(rules, Some(room_id), message(&user("alice"), body, 1), Parents::default());
    let (one, two) = (pdu("one"), pdu("a longer one"));
    assert!(Pdu::from_stored(room_id.to_owned(), one.header().clone(), two.json().into()).is_err());
    assert!(Pdu::from_stored(room_id.to_owned(), one.header().clone(), one.json()[1..].into()).is_err());
}

#[test]
fn state_keys_with_escapes_are_read_and_spliced_as_they_were_written() {
    let rules = rules::rules(&RoomVersionId::V11).unwrap();
    let draft = state_event(&user("alice"), "m.x", "a\"b\\c\n", &json!({}), 1);
    let pdu = sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default());
    assert_eq!(pdu.state_key(), Some("a\"b\\c\n"));
    assert_eq!(pdu.header().state_key.unwrap().of(pdu.json()), r#""a\"b\\c\n""#);
    assert_eq!(pdu.origin_server_ts(), ts(1));
}

#[test]
fn the_create_event_of_version_12_has_a_room_id_but_does_not_carry_it() {
    let room = Room::public(&RoomVersionId::V12, &[]);
    let create = room.entry("m.room.create", "").unwrap();
    assert_eq!(Pdu::room_id(&create), room.room_id);
    assert_eq!(Event::room_id(&create), None);
    assert!(!create.json().contains("room_id"));
    let member = room.entry("m.room.member", user("alice").as_str()).unwrap();
    assert_eq!(Event::room_id(&member), Some(&*room.room_id));
}

#[test]
fn a_malformed_redaction_target_is_no_target_and_no_error() {
    let rules = rules::rules(&RoomVersionId::V11).unwrap();
    for redacts in [json!("not an id"), json!(5), json!(null)] {
        let draft = message(&user("alice"), "", 1);
        let draft = millpond_matrix::build::EventDraft {
            kind: "m.room.redaction".into(),
            content: crate::world::content(&json!({"redacts": redacts})),
            ..draft
        };
        assert_eq!(sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default()).redacts(), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_header_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(header) = PduHeader::from_bytes(&bytes) {
            let _ = header.content.of("{}");
        }
    }
}
