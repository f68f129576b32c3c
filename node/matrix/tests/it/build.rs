//! Events of our own users.

use millpond_matrix::{
    build::{self, BuildError, EventDraft},
    check::RawPdu,
};
use ruma::RoomVersionId;
use serde_json::{Value, json};

use crate::world::{Room, Server, content, keys, member, message, state_event, user};

#[test]
fn the_next_event_follows_the_extremities_and_names_what_authorises_it() {
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let mut room = Room::public(&version, &["bob"]);
        let before = room.extremities.clone();
        let pdu = room.send(message(&user("bob"), "hi", 500));
        assert_eq!(pdu.prev_events().iter().cloned().collect::<std::collections::BTreeSet<_>>(), before);
        assert_eq!(u64::from(pdu.depth()), room.timeline.len() as u64);
        let mut kinds: Vec<_> = pdu.auth_events().iter().map(|id| room.events[id].kind().to_string()).collect();
        kinds.sort();
        let with_create = ["m.room.create", "m.room.member", "m.room.power_levels"];
        assert_eq!(kinds, with_create[usize::from(version == RoomVersionId::V12)..], "{version}");
        let bob = Server::new("bob.example");
        RawPdu::parse(pdu.json()).unwrap().check(room.rules, &keys(&[&bob])).unwrap();
    }
}

#[test]
fn membership_events_name_the_join_rules_the_target_and_the_authorising_user() {
    let room = Room::public(&RoomVersionId::V12, &["bob"]);
    let keys = |draft: EventDraft| -> Vec<String> {
        draft.auth_types(room.rules).unwrap().into_iter().map(|(kind, key)| format!("{kind} {key}")).collect()
    };
    let kick = member(&user("alice"), &user("bob"), "leave", 1);
    assert_eq!(
        keys(kick),
        ["m.room.power_levels ", "m.room.member @alice:alice.example", "m.room.member @bob:bob.example"]
    );
    let restricted = json!({"membership": "join", "join_authorised_via_users_server": "@bob:bob.example"});
    let join = state_event(&user("carol"), "m.room.member", "@carol:carol.example", &restricted, 1);
    assert_eq!(keys(join)[2..], ["m.room.join_rules ", "m.room.member @bob:bob.example"]);
    let broken = state_event(&user("carol"), "m.room.member", "@carol:carol.example", &json!({}), 1);
    assert!(matches!(broken.auth_types(room.rules), Err(BuildError::Auth(_))));
}

#[test]
fn a_redaction_names_its_target_where_the_version_wants_it() {
    for (version, inside) in [(RoomVersionId::V10, false), (RoomVersionId::V11, true)] {
        let mut room = Room::public(&version, &[]);
        let target = room.send(message(&user("alice"), "oops", 500));
        let draft = EventDraft::new(
            "m.room.redaction".into(),
            content(&json!({"reason": "x"})),
            user("alice"),
            crate::world::ts(501),
        );
        let pdu = room.send(EventDraft { redacts: Some(target.owned_event_id()), ..draft });
        assert_eq!(pdu.redacts(), Some(target.event_id()));
        let json: Value = serde_json::from_str(pdu.json()).unwrap();
        assert_eq!(json["redacts"].is_string(), !inside, "{version}");
        assert_eq!(json["content"]["redacts"].is_string(), inside, "{version}");
    }
}

#[test]
fn what_is_too_large_is_refused_with_its_size() {
    let room = Room::public(&RoomVersionId::V12, &[]);
    let alice = Server::new("alice.example");
    let refuse = |draft| build::next(&room, room.rules, &room.room_id, draft, &alice.signer()).unwrap_err();
    assert!(matches!(refuse(message(&user("alice"), &"x".repeat(65_600), 1)), BuildError::TooLarge(_)));
    // Fits before hash and signature, but not with them.
    assert!(
        matches!(refuse(message(&user("alice"), &"x".repeat(65_000), 1)), BuildError::TooLarge(len) if len > 65_535)
    );
    let long = state_event(&user("alice"), "m.x", &"k".repeat(256), &json!({}), 1);
    assert!(matches!(refuse(long), BuildError::FieldTooLong { field: "state_key", len: 256 }));
    let long = EventDraft::new("t".repeat(300).into(), content(&json!({})), user("alice"), crate::world::ts(1));
    assert!(matches!(refuse(long), BuildError::FieldTooLong { field: "type", .. }));
}

#[test]
fn content_that_canonical_json_has_not_is_refused() {
    for bad in ["", "[]", "1", "{\"a\":0.5}", "{\"a\":1e300}", "{\"a\":9007199254740993}", "{\"a\""] {
        assert!(matches!(build::content(bad.as_bytes()), Err(BuildError::Content(_))), "{bad}");
    }
    assert!(matches!(build::content(b"{\"a\":\"\xff\"}"), Err(BuildError::Content(_))));
}

#[test]
fn with_more_extremities_than_an_event_may_name_the_deepest_twenty_are_joined() {
    let mut room = Room::public(&RoomVersionId::V12, &[]);
    let fork = room.replica();
    for n in 0..25 {
        let mut other = fork.replica();
        let mut last = other.send(message(&user("alice"), &format!("{n}"), 500 + n));
        room.accept(&last);
        if n < 3 {
            last = other.send(message(&user("alice"), &format!("{n} deeper"), 600 + n));
            room.accept(&last);
        }
    }
    assert_eq!(room.extremities.len(), 25);
    let pdu = room.send(message(&user("alice"), "join", 700));
    assert_eq!(pdu.prev_events().len(), 20);
    assert_eq!(room.extremities.len(), 6);
    let deepest = pdu.prev_events().iter().map(|id| room.events[id].depth()).max().unwrap();
    assert_eq!(u64::from(pdu.depth()), u64::from(deepest) + 1);
    let last = room.send(message(&user("alice"), "the rest", 701));
    assert_eq!(room.extremities.iter().collect::<Vec<_>>(), [last.event_id()]);
}
