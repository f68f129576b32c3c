//! Who may see what.

use millpond_matrix::{
    Pdu, PduFlags,
    build::Parents,
    rules,
    visibility::{Sight, server_may_see, user_may_see},
};
use ruma::{
    RoomVersionId,
    events::room::{
        history_visibility::HistoryVisibility::{self, Invited, Joined, Shared, WorldReadable},
        member::MembershipState::{self, Ban, Invite, Join, Knock, Leave},
    },
    room_id,
};
use serde_json::json;

use crate::world::{message, sign_at, state_event, user};

fn event(draft: millpond_matrix::build::EventDraft) -> Pdu {
    let rules = rules::rules(&RoomVersionId::V11).unwrap();
    Pdu::clone(sign_at(rules, Some(room_id!("!r:alice.example")), draft, Parents::default()).pdu())
}

fn sight(visibility: HistoryVisibility, membership: MembershipState) -> Sight {
    Sight { visibility, membership }
}

#[test]
fn the_five_rules_of_the_spec() {
    let event = event(message(&user("alice"), "hi", 1));
    let bob = user("bob");
    // (visibility, membership then, joined later, may see)
    let cases = [
        (WorldReadable, Leave, false, true),
        (WorldReadable, Ban, false, true),
        (Shared, Leave, false, false),
        (Shared, Leave, true, true),
        (Shared, Join, false, true),
        (Shared, Invite, false, false),
        (Invited, Invite, false, true),
        (Invited, Invite, true, true),
        (Invited, Leave, true, false),
        (Invited, Knock, true, false),
        (Invited, Join, false, true),
        (Joined, Invite, true, false),
        (Joined, Leave, true, false),
        (Joined, Join, false, true),
    ];
    for (visibility, membership, later, seen) in cases {
        let before = sight(visibility, membership);
        assert_eq!(user_may_see(&event, &bob, &before, later), seen, "{before:?}, joined later: {later}");
    }
}

#[test]
fn either_side_of_a_change_will_do() {
    let bob = user("bob");
    let joins = event(state_event(&bob, "m.room.member", bob.as_str(), &json!({"membership": "join"}), 1));
    assert!(user_may_see(&joins, &bob, &sight(Joined, Leave), true));
    assert!(!user_may_see(&joins, &user("carol"), &sight(Joined, Leave), true));
    let leaves = event(state_event(&bob, "m.room.member", bob.as_str(), &json!({"membership": "leave"}), 1));
    assert!(user_may_see(&leaves, &bob, &sight(Joined, Join), false));
    let opened = event(state_event(
        &user("alice"),
        "m.room.history_visibility",
        "",
        &json!({"history_visibility": "world_readable"}),
        1,
    ));
    assert!(user_may_see(&opened, &bob, &sight(Joined, Leave), false));
    let closed = event(state_event(
        &user("alice"),
        "m.room.history_visibility",
        "",
        &json!({"history_visibility": "joined"}),
        1,
    ));
    assert!(user_may_see(&closed, &bob, &sight(WorldReadable, Leave), false));
}

#[test]
fn rejected_and_soft_failed_events_are_seen_by_nobody() {
    let bob = user("bob");
    for flags in [PduFlags { rejected: true, soft_failed: false }, PduFlags { rejected: false, soft_failed: true }] {
        let event = event(message(&user("alice"), "hi", 1)).with_flags(flags);
        assert!(!user_may_see(&event, &bob, &sight(WorldReadable, Join), true));
        assert!(!server_may_see(&event, bob.server_name(), &WorldReadable, [Join]));
    }
}

#[test]
fn a_server_sees_what_one_of_its_users_may_see() {
    let hi = event(message(&user("alice"), "hi", 1));
    let bob = user("bob");
    let sees = |event: &Pdu, visibility, memberships: &[MembershipState]| {
        server_may_see(event, bob.server_name(), &visibility, memberships.iter().cloned())
    };
    assert!(sees(&hi, Shared, &[]));
    assert!(!sees(&hi, Joined, &[Leave, Invite]));
    assert!(sees(&hi, Joined, &[Leave, Join]));
    assert!(sees(&hi, Invited, &[Invite]) && !sees(&hi, Invited, &[]));
    let joins = event(state_event(&bob, "m.room.member", bob.as_str(), &json!({"membership": "join"}), 1));
    assert!(sees(&joins, Joined, &[]));
    assert!(!server_may_see(&joins, user("carol").server_name(), &Joined, []));
}

#[test]
fn without_a_readable_event_history_is_shared_and_a_user_has_left() {
    let odd = event(state_event(
        &user("alice"),
        "m.room.history_visibility",
        "",
        &json!({"history_visibility": "upside down"}),
        1,
    ));
    assert_eq!(Sight::of(Some(&odd), None), sight(Shared, Leave));
    assert_eq!(Sight::of(None, None), sight(Shared, Leave));
}
