//! Templates of `make_join` and its siblings: nothing unexpected is signed.

use millpond_matrix::{
    build,
    check::RawPdu,
    template::{self, Expected, TemplateError},
};
use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::{Value, json};

use crate::world::{Room, Server, content, keys, member, ts, user};

fn template(room: &Room) -> Value {
    let draft = member(&user("dave"), &user("dave"), "join", 500);
    let parents = build::parents(room, room.rules, &draft).unwrap();
    serde_json::to_value(template::make(room.rules, &room.room_id, draft, parents).unwrap()).unwrap()
}

#[test]
fn what_was_asked_for_is_signed_with_our_own_content_and_accepted_by_the_room() {
    for version in [RoomVersionId::V6, RoomVersionId::V12] {
        let mut room = Room::public(&version, &[]);
        let mut template = template(&room);
        assert!(template.get("signatures").is_none() && template.get("hashes").is_none());
        template["content"]["displayname"] = json!("what they would call us");
        template["content"]["join_authorised_via_users_server"] = json!("@alice:alice.example");
        let dave = user("dave");
        let expected = Expected { room_id: &room.room_id, user: &dave, membership: &MembershipState::Join };
        let checked = template::check(&template.to_string(), &expected).unwrap();
        let server = Server::new("dave.example");
        let join = checked
            .sign(room.rules, &expected, content(&json!({"displayname": "Dave"})), ts(600), &server.signer())
            .unwrap();
        let value: Value = serde_json::from_str(join.content().get()).unwrap();
        assert_eq!(
            value,
            json!({"displayname": "Dave", "membership": "join", "join_authorised_via_users_server": "@alice:alice.example"})
        );
        let join = build::add_signature(room.rules, &join, &Server::new("alice.example").signer()).unwrap();
        let raw = RawPdu::parse(join.json()).unwrap();
        let join = raw.check(room.rules, &keys(&[&server, &Server::new("alice.example")])).unwrap();
        room.accept(&join);
    }
}

#[test]
fn a_template_for_anything_else_is_not_signed() {
    let room = Room::public(&RoomVersionId::V12, &[]);
    let dave = user("dave");
    let expected = Expected { room_id: &room.room_id, user: &dave, membership: &MembershipState::Join };
    let other: [(&str, Value); 5] = [
        ("type", json!("m.room.power_levels")),
        ("room_id", json!("!other:alice.example")),
        ("sender", json!("@eve:dave.example")),
        ("state_key", json!("@eve:dave.example")),
        ("content", json!({"membership": "leave"})),
    ];
    for (field, value) in other {
        let mut template = template(&room);
        template[field] = value;
        assert!(
            matches!(template::check(&template.to_string(), &expected), Err(TemplateError::Mismatch(_))),
            "{field}"
        );
    }
    let malformed: [(&str, Value); 6] = [
        ("depth", json!(-1)),
        ("depth", json!("1")),
        ("prev_events", json!(vec!["$a"; 21])),
        ("prev_events", json!("$a")),
        ("auth_events", json!([1])),
        ("content", json!([])),
    ];
    for (field, value) in malformed {
        let mut template = template(&room);
        template[field] = value;
        assert!(
            matches!(template::check(&template.to_string(), &expected), Err(TemplateError::Malformed(_))),
            "{field}"
        );
    }
    assert!(template::check("{", &expected).is_err());
}
