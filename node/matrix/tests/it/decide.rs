//! The verdicts, one by one.

use std::sync::Arc;

use millpond_matrix::{
    CheckedPdu, Pdu, PduFlags, ReadError, RoomReader, StateGroup, StateMap, Verdict,
    build::{self, Parents},
    decide::{Given, Missing, OutlierVerdict, StateSource, decide, decide_outlier},
};
use ruma::{EventId, OwnedEventId, RoomVersionId, UInt, events::StateEventType};
use serde_json::json;

use crate::world::{Room, member, message, sign_at, state_event, user};

const V12: RoomVersionId = RoomVersionId::V12;

fn appended(verdict: Verdict) -> millpond_matrix::decide::Append {
    match verdict {
        Verdict::Append(append) => append,
        other => panic!("not appended: {other:?}"),
    }
}

/// A reader on which the usual event must get along without whole states.
struct WithoutMaps<'a>(&'a Room);

impl RoomReader for WithoutMaps<'_> {
    fn pdu(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError> {
        self.0.pdu(id)
    }
    fn state_after(&self, id: &EventId) -> Result<Option<StateGroup>, ReadError> {
        self.0.state_after(id)
    }
    fn state_entry(
        &self,
        group: StateGroup,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        self.0.state_entry(group, kind, key)
    }
    fn state(&self, _: StateGroup) -> Result<Arc<StateMap>, ReadError> {
        panic!("a whole state was read")
    }
    fn current_state(&self) -> Result<Option<StateGroup>, ReadError> {
        self.0.current_state()
    }
    fn extremities(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        self.0.extremities()
    }
    fn has_successors(&self, id: &EventId) -> Result<bool, ReadError> {
        self.0.has_successors(id)
    }
}

#[test]
fn the_usual_event_reads_no_whole_state_and_changes_only_its_entry() {
    let room = Room::public(&V12, &["bob"]);
    let decide_next = |draft: build::EventDraft| {
        let server = crate::world::server_of(&draft.sender);
        let pdu = build::next(&WithoutMaps(&room), room.rules, &room.room_id, draft, &server.signer()).unwrap();
        (appended(decide(&pdu, &WithoutMaps(&room), room.rules, &Given::default()).unwrap()), pdu)
    };
    let (append, pdu) = decide_next(message(&user("bob"), "hi", 500));
    assert_eq!(append.extremities, [pdu.owned_event_id()]);
    assert_eq!(append.placement.before, StateSource::Group(room.current.unwrap()));
    assert!(append.placement.sets.is_none() && append.current.is_none());

    let (append, pdu) = decide_next(state_event(&user("bob"), "m.room.topic", "", &json!({"topic": "t"}), 500));
    let current = append.current.unwrap();
    assert_eq!(current.to, StateSource::AfterThis);
    assert_eq!(current.changes.len(), 1);
    assert_eq!(current.changes[0].event.as_deref(), Some(pdu.event_id()));
}

#[test]
fn what_is_stored_is_a_duplicate() {
    let mut room = Room::public(&V12, &[]);
    let pdu = room.send(message(&user("alice"), "hi", 500));
    assert!(matches!(room.receive(&pdu), Verdict::Duplicate));
}

#[test]
fn an_event_waits_for_its_prev_and_auth_events_and_names_them() {
    let room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    let first = other.send(state_event(
        &user("bob"),
        "m.room.member",
        user("bob").as_str(),
        &json!({"membership": "join", "displayname": "b"}),
        500,
    ));
    let second = other.send(message(&user("bob"), "as b", 501));
    let mut room = room;
    let Verdict::Park(missing) = room.receive(&second) else { panic!("not parked") };
    assert_eq!(
        missing,
        Missing { prev_events: vec![first.owned_event_id()], auth_events: vec![first.owned_event_id()] }
    );
    // The verdict stays the same for as long as nothing comes, and nothing is stored.
    assert!(matches!(room.receive(&second), Verdict::Park(_)));
    assert!(!room.events.contains_key(second.event_id()));
    room.accept(&first);
    assert!(room.events.contains_key(second.event_id()) && room.parked.is_empty());
    assert_eq!(room.outcome(), other.outcome());
}

#[test]
fn what_the_current_state_forbids_is_soft_failed_and_leaves_no_trace_but_itself() {
    let mut room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    let late = other.send(state_event(&user("bob"), "m.room.topic", "", &json!({"topic": "t"}), 500));
    room.send(member(&user("alice"), &user("bob"), "ban", 501));
    let before = room.outcome();
    assert!(matches!(room.receive(&late), Verdict::SoftFail { .. }));
    let after = room.outcome();
    assert_eq!((after.current, after.extremities), (before.current, before.extremities));
    assert!(room.events[late.event_id()].flags().soft_failed);
    // The state after it holds it all the same: others may build on it.
    assert!(room.states[room.after[late.event_id()].0 as usize].values().any(|id| *id == late.event_id()));
}

#[test]
fn an_event_over_a_soft_failed_one_takes_the_place_of_what_lies_before_both() {
    let mut room = Room::public(&V12, &["bob", "carol"]);
    let mut other = room.replica();
    let old_tip = room.extremities.first().unwrap().clone();
    // Carol's server knows bob's message; ours gets it after bob's ban on another branch.
    let mut ours = room.replica();
    let late = other.send(message(&user("bob"), "late", 500));
    let over = other.send(message(&user("carol"), "over it", 502));
    let ban = ours.send(member(&user("alice"), &user("bob"), "ban", 501));
    room.accept(&ban);
    room.receive(&late);
    assert_eq!(room.extremities.iter().collect::<Vec<_>>(), [ban.event_id()]);
    room.accept(&over);
    assert!(!room.extremities.contains(&old_tip));
    assert_eq!(room.extremities.len(), 2);
    // An extremity that is followed only across a soft-failed event goes, too.
    let mut fresh = Room::public(&V12, &["bob", "carol"]);
    fresh.send(member(&user("alice"), &user("bob"), "ban", 501));
    let tip = fresh.extremities.first().unwrap().clone();
    let mut forged = build::parents(&fresh, fresh.rules, &message(&user("bob"), "x", 502)).unwrap();
    forged.auth_events = late.auth_events().to_vec();
    let rejected = sign_at(fresh.rules, Some(&fresh.room_id), message(&user("bob"), "x", 502), forged.clone());
    assert!(matches!(fresh.receive(&rejected), Verdict::Reject { .. }));
    assert!(fresh.extremities.contains(&tip));
    let draft = message(&user("carol"), "y", 503);
    let auth_events = build::parents(&fresh, fresh.rules, &draft).unwrap().auth_events;
    let parents = Parents { prev_events: vec![rejected.owned_event_id()], depth: UInt::from(30_u8), auth_events };
    let over = sign_at(fresh.rules, Some(&fresh.room_id), draft, parents);
    fresh.accept(&over);
    assert_eq!(fresh.extremities.iter().collect::<Vec<_>>(), [over.event_id()]);
}

#[test]
fn what_its_auth_events_or_the_state_before_it_forbid_is_rejected_and_changes_no_state() {
    let mut room = Room::public(&V12, &["bob"]);
    let topic = state_event(&user("dave"), "m.room.topic", "", &json!({"topic": "t"}), 500);
    // Dave never joined: his auth events say so.
    let parents = build::parents(&room, room.rules, &topic).unwrap();
    let stranger = sign_at(room.rules, Some(&room.room_id), topic, parents);
    // Bob names auth events from before his ban: the state says so.
    let old = build::parents(&room, room.rules, &message(&user("bob"), "x", 1)).unwrap();
    room.send(member(&user("alice"), &user("bob"), "ban", 501));
    let now = build::parents(&room, room.rules, &message(&user("bob"), "x", 1)).unwrap();
    let banned = sign_at(
        room.rules,
        Some(&room.room_id),
        state_event(&user("bob"), "m.room.topic", "", &json!({"topic": "t"}), 502),
        Parents { auth_events: old.auth_events, ..now },
    );
    for pdu in [stranger, banned] {
        let before = room.outcome();
        let Verdict::Reject { placement, .. } = room.receive(&pdu) else { panic!("not rejected") };
        assert!(placement.sets.is_none());
        assert!(room.events[pdu.event_id()].flags().rejected);
        let after = room.outcome();
        assert_eq!((after.current, after.extremities), (before.current, before.extremities));
        assert!(matches!(room.receive(&pdu), Verdict::Duplicate));
    }
    // What names a rejected event among its auth events is rejected for it.
    let rejected = room.flagged(|flags| flags.rejected).into_iter().next().unwrap();
    let mut parents = build::parents(&room, room.rules, &message(&user("alice"), "x", 1)).unwrap();
    parents.auth_events.push(rejected);
    let pdu = sign_at(room.rules, Some(&room.room_id), message(&user("alice"), "x", 503), parents);
    assert!(matches!(room.receive(&pdu), Verdict::Reject { .. }));
}

#[test]
fn a_room_has_one_create_event() {
    let mut room = Room::public(&RoomVersionId::V11, &[]);
    let second = state_event(&user("alice"), "m.room.create", "", &json!({"room_version": "11", "x": 1}), 2);
    let second = sign_at(room.rules, Some(&room.room_id), second, Parents::default());
    assert!(matches!(room.receive(&second), Verdict::Reject { .. }));
}

#[test]
fn without_federation_other_servers_are_rejected() {
    let mut asked = crate::world::new_room(ruma::api::client::room::create_room::v3::RoomPreset::PublicChat);
    asked.creation_content = crate::world::content(&json!({"m.federate": false}));
    let events = crate::world::first_events(&V12, asked);
    let mut room = Room::new(&V12, events[0].room_id().to_owned());
    events.iter().for_each(|event| room.accept(event));
    let draft = member(&user("bob"), &user("bob"), "join", 9);
    let parents = build::parents(&room, room.rules, &draft).unwrap();
    let join = sign_at(room.rules, Some(&room.room_id), draft, parents);
    assert!(matches!(room.receive(&join), Verdict::Reject { .. }));
}

#[test]
fn history_changes_neither_extremities_nor_current_state_and_is_not_soft_failed() {
    let mut room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    let old = other.send(message(&user("bob"), "old", 500));
    room.send(member(&user("alice"), &user("bob"), "ban", 501));
    let append = appended(decide(&old, &room, room.rules, &Given { backfill: true, ..Given::default() }).unwrap());
    assert_eq!(append.extremities.into_iter().collect::<std::collections::BTreeSet<_>>(), room.extremities);
    assert!(append.current.is_none());
}

#[test]
fn an_own_join_into_a_room_of_an_earlier_stay_takes_the_place_of_what_is_here() {
    let mut room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    room.send(member(&user("bob"), &user("bob"), "leave", 500));
    room.send(state_event(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "invite"}), 501));
    other.send(state_event(&user("alice"), "m.room.topic", "", &json!({"topic": "since then"}), 502));
    let state_before = Some(Arc::new(other.current_map()));
    let join = other.send(member(&user("bob"), &user("bob"), "join", 503));
    let given = Given { state_before: state_before.clone(), ..Given::default() };
    assert!(!matches!(decide(&join, &room, room.rules, &given), Ok(Verdict::Append(_))), "by the old state he is out");
    let append = appended(decide(&join, &room, room.rules, &Given { entering: true, ..given }).unwrap());
    assert_eq!(append.extremities, [join.owned_event_id()]);
    let changed: Vec<_> = append.current.unwrap().changes.into_iter().map(|change| change.key.0).collect();
    assert!(changed.contains(&StateEventType::RoomTopic) && changed.contains(&StateEventType::RoomJoinRules));
}

#[test]
fn history_reaches_back_to_the_create_event_in_every_version() {
    for version in [RoomVersionId::V6, V12] {
        let whole = Room::public(&version, &["bob"]);
        let create = whole.entry("m.room.create", "").unwrap();
        let mut room = whole.replica();
        // As after a join: the create event is in the state, and an outlier.
        room.after.remove(create.event_id());
        let create = whole.checked(create.event_id());
        let verdict = decide(&create, &room, room.rules, &Given { backfill: true, ..Given::default() }).unwrap();
        assert_eq!(appended(verdict).placement.before, StateSource::Empty);
    }
}

#[test]
fn a_long_chain_of_rejected_events_is_not_walked_to_its_end() {
    let mut room = Room::public(&V12, &["bob"]);
    let tip = room.extremities.first().unwrap().clone();
    let topic = state_event(&user("dave"), "m.room.topic", "", &json!({}), 1);
    let place = build::parents(&room, room.rules, &topic).unwrap();
    let mut prev = tip.clone();
    for _ in 0..600 {
        let parents = Parents { prev_events: vec![prev.clone()], ..place.clone() };
        let pdu = sign_at(room.rules, Some(&room.room_id), topic.clone(), parents);
        assert!(matches!(room.receive(&pdu), Verdict::Reject { .. }));
        prev = pdu.owned_event_id();
    }
    let draft = message(&user("bob"), "over it", 2);
    let auth_events = build::parents(&room, room.rules, &draft).unwrap().auth_events;
    let parents = Parents { prev_events: vec![prev], depth: UInt::from(9_u8), auth_events };
    let over = sign_at(room.rules, Some(&room.room_id), draft, parents);
    room.accept(&over);
    assert!(room.extremities.contains(&tip));
    room.send(message(&user("bob"), "joins them", 3));
    assert_eq!(room.extremities.len(), 1);
}

#[test]
fn a_state_that_a_peer_names_stands_in_for_prev_events_that_cannot_be_had() {
    let room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    let lost = other.send(message(&user("bob"), "lost", 500));
    let next = other.send(message(&user("bob"), "next", 501));
    assert!(matches!(room.verdict(&next).unwrap(), Verdict::Park(_)));
    let given = Given { state_before: Some(Arc::new(other.current_map())), ..Given::default() };
    let verdict = decide(&next, &room, room.rules, &given).unwrap();
    // The branch stands beside the old extremity until an event joins them, so the states are resolved.
    let Verdict::Resolve(sets) = verdict else { panic!("{verdict:?}") };
    let resolved = [millpond_matrix::state::resolve(&room, room.rules, sets, Some(&next)).unwrap()];
    let append = appended(decide(&next, &room, room.rules, &Given { resolutions: &resolved, ..given }).unwrap());
    assert_eq!(append.extremities.len(), 2);
    assert!(append.current.unwrap().changes.is_empty());
    // When the lost event turns up after all, it is no extremity: something follows it.
    let mut room = room;
    room.events.insert(next.owned_event_id(), next.pdu().clone());
    let group = room.current.unwrap();
    room.after.insert(next.owned_event_id(), group);
    room.extremities.insert(next.owned_event_id());
    let append = appended(room.verdict(&other.checked(lost.event_id())).unwrap());
    assert_eq!(append.extremities, [next.owned_event_id()]);
    assert!(append.current.is_none());
}

#[test]
fn outliers_are_judged_by_their_auth_events_alone() {
    let mut room = Room::public(&V12, &["bob"]);
    let mut other = room.replica();
    let rename = other.send(state_event(
        &user("bob"),
        "m.room.member",
        user("bob").as_str(),
        &json!({"membership": "join", "displayname": "b"}),
        500,
    ));
    let message_of_b = other.send(message(&user("bob"), "as b", 501));
    let outlier = |room: &Room, pdu: &CheckedPdu| decide_outlier(pdu, room, room.rules).unwrap();
    assert_eq!(outlier(&room, &message_of_b), OutlierVerdict::Park(vec![rename.owned_event_id()]));
    assert_eq!(outlier(&room, &rename), OutlierVerdict::Accept);
    room.events.insert(rename.owned_event_id(), rename.pdu().clone());
    assert_eq!(outlier(&room, &rename), OutlierVerdict::Duplicate);
    assert_eq!(outlier(&room, &message_of_b), OutlierVerdict::Accept);
    let topic = state_event(&user("dave"), "m.room.topic", "", &json!({}), 1);
    let parents = build::parents(&room, room.rules, &topic).unwrap();
    assert!(matches!(
        outlier(&room, &sign_at(room.rules, Some(&room.room_id), topic, parents)),
        OutlierVerdict::Reject(_)
    ));
    // An outlier that comes again with its place is taken in.
    room.accept(&rename);
    assert_eq!(room.events[rename.event_id()].flags(), PduFlags::default());
}
