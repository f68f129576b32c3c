//! Taking in a room from the answer to `send_join`.

use std::sync::Arc;

use millpond_matrix::{
    CheckedPdu, Verdict,
    build::{self, Parents},
    decide::{Given, decide},
    join::{JoinError, RoomAnswer, accept_state, check_join},
    rules,
};
use ruma::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::world::{Room, member, sign_at, state_event, user};

/// What the resident server answers with: its current state and everything else that it has.
fn answer(room: &Room) -> RoomAnswer {
    let state: Vec<_> = room.current_map().values().map(|id| room.checked(id)).collect();
    let auth_chain = room
        .events
        .keys()
        .filter(|id| !room.current_map().values().any(|other| other == *id))
        .map(|id| room.checked(id))
        .collect();
    RoomAnswer { state, auth_chain }
}

fn join_of(room: &Room, name: &str) -> CheckedPdu {
    let draft = member(&user(name), &user(name), "join", 900);
    let parents = build::parents(room, room.rules, &draft).unwrap();
    sign_at(room.rules, Some(&room.room_id), draft, parents)
}

#[test]
fn a_room_is_taken_in_whole_and_the_join_is_its_one_extremity() {
    for version in rules::SUPPORTED {
        let mut resident = Room::public(&version, &["bob", "carol"]);
        resident.send(state_event(&user("alice"), "m.room.topic", "", &json!({"topic": "t"}), 500));
        let join = join_of(&resident, "dave");
        let accepted = accept_state(resident.rules, &resident.room_id, answer(&resident), |_| None).unwrap();
        assert_eq!(accepted.state, resident.current_map());
        assert_eq!(accepted.outliers.len(), resident.events.len());
        assert!(accepted.left_out.is_empty());
        for (n, pdu) in accepted.outliers.iter().enumerate() {
            assert!(
                pdu.auth_events()
                    .iter()
                    .all(|id| accepted.outliers[..n].iter().any(|earlier| earlier.event_id() == id)),
                "{version}"
            );
        }
        check_join(resident.rules, &join, &accepted, |_| None).unwrap();

        // The caller writes the outliers and then decides on the join with the state that came along.
        let mut room = Room::new(&version, resident.room_id.clone());
        room.events.extend(accepted.outliers.iter().map(|pdu| (pdu.owned_event_id(), pdu.clone())));
        let given = Given { state_before: Some(Arc::new(accepted.state)), ..Given::default() };
        let Verdict::Append(append) = decide(&join, &room, room.rules, &given).unwrap() else {
            panic!("{version}: not appended")
        };
        assert_eq!(append.extremities, [join.owned_event_id()]);
        assert_eq!(append.current.unwrap().changes.len(), resident.current_map().len() + 1);
    }
}

#[test]
fn an_answer_without_the_rooms_create_event_or_of_another_version_is_refused() {
    let resident = Room::public(&RoomVersionId::V11, &[]);
    let mut without = answer(&resident);
    without.state.retain(|pdu| pdu.kind().to_string() != "m.room.create");
    let rules = resident.rules;
    assert!(matches!(accept_state(rules, &resident.room_id, without, |_| None), Err(JoinError::NoCreate)));
    let other: OwnedRoomId = "!other:alice.example".try_into().unwrap();
    assert!(matches!(accept_state(rules, &other, answer(&resident), |_| None), Err(JoinError::NoCreate)));
    let v10 = rules::rules(&RoomVersionId::V10).unwrap();
    let error = accept_state(v10, &resident.room_id, answer(&resident), |_| None).unwrap_err();
    assert!(matches!(error, JoinError::NoCreate | JoinError::Version { .. }));
}

#[test]
fn what_a_lying_resident_slips_in_is_rejected_or_left_out() {
    let resident = Room::public(&RoomVersionId::V12, &["bob"]);
    // Dave never joined, and still sets a topic; its auth events do not cover it.
    let topic = state_event(&user("dave"), "m.room.topic", "", &json!({"topic": "lie"}), 1);
    let parents = build::parents(&resident, resident.rules, &topic).unwrap();
    let lie = sign_at(resident.rules, Some(&resident.room_id), topic, parents.clone());
    // An event whose auth event is nowhere, and one of another room.
    let lost = Parents { auth_events: vec![ruma::event_id!("$nowhere").to_owned()], ..parents.clone() };
    let lost =
        sign_at(resident.rules, Some(&resident.room_id), state_event(&user("alice"), "m.x", "", &json!({}), 2), lost);
    let draft = state_event(&user("alice"), "m.y", "", &json!({}), 3);
    let other = sign_at(resident.rules, Some(ruma::room_id!("!another")), draft, parents);
    let mut lying = answer(&resident);
    lying.state.extend([lie.clone(), lost.clone(), other.clone()]);
    let accepted = accept_state(resident.rules, &resident.room_id, lying, |_| None).unwrap();
    assert_eq!(accepted.state, resident.current_map());
    let rejected: Vec<_> =
        accepted.outliers.iter().filter(|pdu| pdu.flags().rejected).map(|pdu| pdu.event_id()).collect();
    assert_eq!(rejected, [lie.event_id()]);
    let mut left_out = [lost.owned_event_id(), other.owned_event_id()];
    left_out.sort();
    assert_eq!(accepted.left_out, left_out);
}

#[test]
fn two_events_for_one_entry_are_no_state() {
    let mut resident = Room::public(&RoomVersionId::V12, &[]);
    let old = resident.send(state_event(&user("alice"), "m.room.topic", "", &json!({"topic": "old"}), 1));
    resident.send(state_event(&user("alice"), "m.room.topic", "", &json!({"topic": "new"}), 2));
    let mut ambiguous = answer(&resident);
    ambiguous.state.push(old);
    assert!(matches!(
        accept_state(resident.rules, &resident.room_id, ambiguous, |_| None),
        Err(JoinError::NotAState(_))
    ));
}

#[test]
fn a_join_that_the_state_forbids_is_refused() {
    let mut resident = Room::public(&RoomVersionId::V12, &[]);
    let join = join_of(&resident, "dave");
    resident.send(state_event(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "invite"}), 1));
    let accepted = accept_state(resident.rules, &resident.room_id, answer(&resident), |_| None).unwrap();
    assert!(matches!(check_join(resident.rules, &join, &accepted, |_| None), Err(JoinError::Refused(_))));
}

#[test]
fn events_that_are_stored_already_count_as_they_are() {
    let resident = Room::public(&RoomVersionId::V12, &["bob"]);
    let known = resident.replica();
    let accepted =
        accept_state(resident.rules, &resident.room_id, answer(&resident), |id| known.events.get(id).cloned()).unwrap();
    assert!(accepted.outliers.is_empty());
    assert_eq!(accepted.state, resident.current_map());
}
