//! Power levels as answers to questions, and the redactions that depend on them.

use millpond_matrix::{
    build::EventDraft,
    power::Powers,
    redact::{redact, takes_effect},
};
use ruma::{
    Int, RoomVersionId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
};
use serde_json::json;

use crate::world::{Room, content, message, state_event, user};

fn powers(room: &Room) -> Powers {
    Powers::of(room.rules, &room.entry("m.room.create", "").unwrap(), room.entry("m.room.power_levels", "").as_deref())
        .unwrap()
}

#[test]
fn the_answers_follow_the_levels() {
    let mut room = Room::public(&RoomVersionId::V11, &["bob", "carol"]);
    let levels = json!({
        "users": {"@alice:alice.example": 100, "@bob:bob.example": 50}, "users_default": 10, "events_default": 5, "invite": 20,
        "events": {"m.room.topic": 60}, "notifications": {"room": 40},
    });
    room.send(state_event(&user("alice"), "m.room.power_levels", "", &levels, 500));
    let powers = powers(&room);
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    assert_eq!(powers.user(&carol), UserPowerLevel::Int(Int::from(10)));
    assert!(powers.may_kick(&bob, &carol) && powers.may_ban(&bob, &carol) && powers.may_unban(&bob, &carol));
    assert!(!powers.may_kick(&bob, &alice) && !powers.may_kick(&bob, &bob) && !powers.may_kick(&carol, &bob));
    assert!(powers.may_invite(&bob) && !powers.may_invite(&carol));
    assert!(powers.may_redact(&bob) && !powers.may_redact(&carol));
    assert!(powers.may_notify_room(&bob) && !powers.may_notify_room(&carol));
    assert!(
        powers.may_send(&alice, &TimelineEventType::RoomTopic, true)
            && !powers.may_send(&bob, &TimelineEventType::RoomTopic, true)
    );
    assert!(
        powers.may_send(&bob, &TimelineEventType::RoomName, true)
            && !powers.may_send(&carol, &TimelineEventType::RoomName, true)
    );
    assert!(powers.may_send(&carol, &TimelineEventType::RoomMessage, false));
    let context = powers.push_context();
    assert_eq!((context.users_default, context.notifications.room), (Int::from(10), Int::from(40)));
}

#[test]
fn creators_stand_above_all_levels_from_version_12_on_and_at_100_without_levels_before() {
    let room = Room::public(&RoomVersionId::V12, &[]);
    assert_eq!(powers(&room).user(&user("alice")), UserPowerLevel::Infinite);
    let room = Room::public(&RoomVersionId::V11, &[]);
    let bare = Powers::of(room.rules, &room.entry("m.room.create", "").unwrap(), None).unwrap();
    assert_eq!(bare.user(&user("alice")), UserPowerLevel::Int(Int::from(100)));
    assert_eq!(bare.user(&user("bob")), UserPowerLevel::Int(Int::from(0)));
}

#[test]
fn a_redaction_takes_effect_for_those_with_the_power_and_for_the_senders_server() {
    let mut room = Room::public(&RoomVersionId::V12, &["bob", "carol"]);
    let target = room.send(message(&user("bob"), "oops", 500));
    let other = room.send(message(&user("bob"), "fine", 501));
    let redaction = |room: &mut Room, name: &str| {
        let draft = EventDraft::new("m.room.redaction".into(), content(&json!({})), user(name), crate::world::ts(600));
        room.send(EventDraft { redacts: Some(target.owned_event_id()), ..draft })
    };
    for (name, effect) in [("alice", true), ("bob", true), ("carol", false)] {
        let redaction = redaction(&mut room, name);
        assert_eq!(takes_effect(&redaction, &target, &powers(&room)), effect, "{name}");
        assert!(!takes_effect(&redaction, &other, &powers(&room)));
    }
    let redacted = redact(&target, room.rules).unwrap();
    assert_eq!(redacted.content().get(), "{}");
    assert_eq!(redacted.event_id(), target.event_id());
    // It still verifies as what it is: an event whose content was taken.
    let raw = millpond_matrix::check::RawPdu::parse(redacted.json()).unwrap();
    assert_eq!(raw.event_id(room.rules).unwrap(), target.event_id());
}
