//! The first events of a room.

use millpond_matrix::{
    CheckedPdu,
    create_room::{CreateRoomError, InitialState, NewRoom, plan, sign},
    rules,
};
use ruma::{OwnedRoomId, RoomVersionId, api::client::room::create_room::v3::RoomPreset, room_alias_id};
use serde_json::{Value, json};

use crate::world::{Room, Server, content, first_events, new_room, user};

const V12: RoomVersionId = RoomVersionId::V12;

fn kinds(events: &[CheckedPdu]) -> Vec<String> {
    events.iter().map(|event| event.kind().to_string()).collect()
}

fn content_of(events: &[CheckedPdu], kind: &str) -> Value {
    let event = events.iter().find(|event| event.kind().to_string() == kind).unwrap();
    serde_json::from_str(event.content().get()).unwrap()
}

fn initial(kind: &str, value: &Value) -> InitialState {
    InitialState { kind: kind.into(), state_key: String::new(), content: content(value) }
}

fn try_sign(room: NewRoom) -> Result<Vec<CheckedPdu>, CreateRoomError> {
    let rules = rules::rules(&V12).unwrap();
    let room_id: OwnedRoomId = "!r:alice.example".try_into().unwrap();
    sign(rules, &room_id, plan(rules, room)?, &Server::new("alice.example").signer())
}

#[test]
fn the_events_stand_in_the_order_of_the_spec_and_every_version_accepts_them() {
    for version in rules::SUPPORTED {
        let asked = NewRoom {
            alias: Some(room_alias_id!("#pond:alice.example").to_owned()),
            initial_state: vec![
                initial("m.room.encryption", &json!({"algorithm": "m.megolm.v1.aes-sha2"})),
                initial("m.room.name", &json!({"name": "lost"})),
            ],
            name: Some("Pond".to_owned()),
            topic: Some("Water".to_owned()),
            invite: vec![(user("bob"), content(&json!({"displayname": "Bob"})))],
            is_direct: true,
            ..new_room(RoomPreset::PrivateChat)
        };
        let events = first_events(&version, asked);
        let expected = [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.encryption",
            "m.room.name",
            "m.room.topic",
            "m.room.member",
        ];
        assert_eq!(kinds(&events), expected, "{version}");
        assert_eq!(content_of(&events, "m.room.name"), json!({"name": "Pond"}));
        assert_eq!(
            content_of(&events, "m.room.topic"),
            json!({"topic": "Water", "m.topic": {"m.text": [{"body": "Water"}]}})
        );
        let invite: Value = serde_json::from_str(events[10].content().get()).unwrap();
        assert_eq!(invite, json!({"membership": "invite", "is_direct": true, "displayname": "Bob"}));
        assert_eq!(
            content_of(&events, "m.room.create")["creator"].is_string(),
            version.rules().is_some_and(|rules| !rules.authorization.use_room_create_sender)
        );
        let mut room = Room::new(&version, events[0].room_id().to_owned());
        events.iter().for_each(|event| room.accept(event));
    }
}

#[test]
fn the_presets_differ_in_join_rules_guest_access_and_the_power_of_invitees() {
    let invite = vec![(user("bob"), content(&json!({})))];
    for (preset, join_rule, guests) in [
        (RoomPreset::PrivateChat, "invite", "can_join"),
        (RoomPreset::TrustedPrivateChat, "invite", "can_join"),
        (RoomPreset::PublicChat, "public", "forbidden"),
    ] {
        let trusted = preset == RoomPreset::TrustedPrivateChat;
        let asked = NewRoom { invite: invite.clone(), ..new_room(preset) };
        let events = first_events(&V12, asked.clone());
        assert_eq!(content_of(&events, "m.room.join_rules"), json!({"join_rule": join_rule}));
        assert_eq!(content_of(&events, "m.room.guest_access"), json!({"guest_access": guests}));
        assert_eq!(content_of(&events, "m.room.history_visibility"), json!({"history_visibility": "shared"}));
        let creators = content_of(&events, "m.room.create")["additional_creators"].clone();
        assert_eq!(creators, if trusted { json!([user("bob")]) } else { Value::Null });
        // Creators of version 12 stand above all levels and may not be listed.
        assert_eq!(content_of(&events, "m.room.power_levels")["users"], json!({}));
        let users = content_of(&first_events(&RoomVersionId::V11, asked), "m.room.power_levels")["users"].clone();
        let alice_alone = json!({"@alice:alice.example": 100});
        assert_eq!(
            users,
            if trusted { json!({"@alice:alice.example": 100, "@bob:bob.example": 100}) } else { alice_alone }
        );
    }
}

#[test]
fn creation_content_is_kept_except_for_what_the_server_decides() {
    let given = json!({
        "room_version": "3", "creator": "@eve:eve.example", "type": "m.space", "org.millpond.federation": "overlay",
        "additional_creators": ["@carol:carol.example", "@alice:alice.example", "@carol:carol.example"],
    });
    let asked = NewRoom { creation_content: content(&given), ..new_room(RoomPreset::PrivateChat) };
    let create = content_of(&first_events(&V12, asked), "m.room.create");
    let expected = json!({
        "room_version": "12", "type": "m.space", "org.millpond.federation": "overlay", "additional_creators": ["@carol:carol.example"],
    });
    assert_eq!(create, expected);
    for bad in [json!("@carol:carol.example"), json!(["carol"]), json!([1])] {
        let asked = NewRoom {
            creation_content: content(&json!({"additional_creators": bad})),
            ..new_room(RoomPreset::PrivateChat)
        };
        assert!(matches!(
            try_sign(asked),
            Err(CreateRoomError::Field { field: "creation_content.additional_creators", .. })
        ));
    }
}

#[test]
fn the_power_level_override_lies_on_top_and_tombstones_stay_out_of_reach() {
    let with = |value: &Value| NewRoom { power_levels: content(value), ..new_room(RoomPreset::PublicChat) };
    let levels = |value: &Value| content_of(&try_sign(with(value)).unwrap(), "m.room.power_levels");
    assert_eq!(levels(&json!({}))["events"]["m.room.tombstone"], 150);
    let overridden = levels(&json!({"events": {"m.room.name": 1}, "invite": 7, "state_default": 200}));
    assert_eq!(overridden["invite"], 7);
    assert_eq!(overridden["ban"], 50);
    assert_eq!(overridden["events"], json!({"m.room.name": 1, "m.room.tombstone": 201}));
    assert_eq!(levels(&json!({"events": {"m.room.tombstone": 90}}))["events"]["m.room.tombstone"], 90);
    // What the rules of the room forbid is refused with the event's type, and nothing of the room exists.
    let listed = try_sign(with(&json!({"users": {"@alice:alice.example": 100}}))).unwrap_err();
    assert!(matches!(&listed, CreateRoomError::Refused { kind, .. } if kind == "m.room.power_levels"), "{listed}");
    assert!(matches!(try_sign(with(&json!({"ban": "50"}))), Err(CreateRoomError::Refused { .. })));
    assert!(matches!(try_sign(with(&json!({"events": 5}))), Err(CreateRoomError::Field { .. })));
}

#[test]
fn initial_state_overrides_the_preset_and_cannot_make_a_second_room() {
    let asked = NewRoom {
        initial_state: vec![initial("m.room.history_visibility", &json!({"history_visibility": "joined"}))],
        ..new_room(RoomPreset::PrivateChat)
    };
    let events = try_sign(asked).unwrap();
    assert_eq!(content_of(&events, "m.room.history_visibility"), json!({"history_visibility": "joined"}));
    assert_eq!(kinds(&events).iter().filter(|kind| *kind == "m.room.history_visibility").count(), 1);
    let asked =
        NewRoom { initial_state: vec![initial("m.room.create", &json!({}))], ..new_room(RoomPreset::PrivateChat) };
    assert!(try_sign(asked).is_err());
}
