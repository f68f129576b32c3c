//! State resolution, one situation a test: the ones that implementations got wrong.

use std::{collections::HashMap, sync::Arc};

use millpond_matrix::{
    CheckedPdu, Pdu, ReadError, RoomRules, StateMap, Verdict,
    build::{self, Parents},
    rules,
    state::{self, StateError},
};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, UInt, UserId};
use serde_json::{Value, json};

use crate::world::{Room, member, message, sign_at, state_event, user};

/// Two servers that went on alone, and what the room is once they talk.
fn merged(start: &Room, one: &Room, two: &Room) -> Room {
    let news = |room: &Room| -> Vec<CheckedPdu> {
        room.timeline.iter().filter(|id| !start.events.contains_key(*id)).map(|id| room.checked(id)).collect()
    };
    let (of_one, of_two) = (news(one), news(two));
    let mut room = start.replica();
    of_one.iter().chain(&of_two).for_each(|pdu| drop(room.receive(pdu)));
    // Both servers end with the same state, whoever heard what first, once an event joins the branches.
    let mut other = start.replica();
    of_two.iter().chain(&of_one).for_each(|pdu| drop(other.receive(pdu)));
    let tips = [&of_one, &of_two].map(|pdus| pdus.last().unwrap().owned_event_id());
    let draft = message(&user("alice"), "merge", 9000);
    let auth_events = build::parents(start, start.rules, &draft).unwrap().auth_events;
    let parents = Parents { prev_events: tips.to_vec(), depth: UInt::from(50_u8), auth_events };
    let merge = sign_at(start.rules, Some(&start.room_id), draft, parents);
    room.accept(&merge);
    other.accept(&merge);
    assert_eq!(room.outcome(), other.outcome());
    room
}

fn power_levels(users: &[(&str, i32)], version: &RoomVersionId) -> Value {
    let mut map: HashMap<_, _> = users.iter().map(|(name, level)| (user(name), *level)).collect();
    if *version != RoomVersionId::V12 {
        map.insert(user("alice"), 100);
    }
    json!({"users": map, "state_default": 0})
}

fn levels(sender: &UserId, users: &[(&str, i32)], room: &Room, at: u32) -> build::EventDraft {
    state_event(sender, "m.room.power_levels", "", &power_levels(users, &room.rules.version), at)
}

fn topic(sender: &UserId, text: &str, at: u32) -> build::EventDraft {
    state_event(sender, "m.room.topic", "", &json!({"topic": text}), at)
}

const VERSIONS: [RoomVersionId; 3] = [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12];

#[test]
fn a_ban_wins_over_the_topic_that_the_banned_user_set_meanwhile() {
    for version in VERSIONS {
        let start = Room::public(&version, &["bob"]);
        let (mut one, mut two) = (start.replica(), start.replica());
        one.send(topic(&user("alice"), "kept", 200));
        one.send(member(&user("alice"), &user("bob"), "ban", 300));
        two.send(topic(&user("bob"), "vandalised", 400));
        let room = merged(&start, &one, &two);
        assert!(room.entry("m.room.topic", "").unwrap().json().contains("kept"), "{version}");
        assert!(room.entry("m.room.member", user("bob").as_str()).unwrap().json().contains("ban"));
    }
}

#[test]
fn of_two_power_level_changes_that_of_the_more_powerful_sender_comes_first_though_it_is_later() {
    for version in VERSIONS {
        let mut start = Room::public(&version, &["bob", "carol"]);
        start.send(levels(&user("alice"), &[("bob", 50)], &start, 200));
        start.send(state_event(&user("alice"), "m.room.power_levels", "", &with_level(&start, 50), 201));
        let (mut one, mut two) = (start.replica(), start.replica());
        let set = |from: &str, name: &str, level: i32, at| {
            let mut value: Value =
                serde_json::from_str(start.entry("m.room.power_levels", "").unwrap().content().get()).unwrap();
            value["users"][user(name).as_str()] = level.into();
            state_event(&user(from), "m.room.power_levels", "", &value, at)
        };
        two.send(set("bob", "carol", 50, 300));
        let by_alice = one.send(set("alice", "bob", 0, 400));
        let room = merged(&start, &one, &two);
        // Alice's is applied first; then bob has no say in the levels any more.
        let stands = room.entry("m.room.power_levels", "").unwrap();
        assert_eq!(stands.event_id(), by_alice.event_id(), "{version}");
    }
}

/// The current levels with that level asked of the power levels event itself.
fn with_level(room: &Room, level: i32) -> Value {
    let mut value: Value =
        serde_json::from_str(room.entry("m.room.power_levels", "").unwrap().content().get()).unwrap();
    value["events"] = json!({"m.room.power_levels": level});
    value
}

#[test]
fn a_demoted_moderators_concurrent_changes_are_undone() {
    for version in VERSIONS {
        let mut start = Room::public(&version, &["bob"]);
        start.send(levels(&user("alice"), &[("bob", 50)], &start, 200));
        start.send(state_event(&user("alice"), "m.room.power_levels", "", &with_levels_for_topic(&start), 201));
        let (mut one, mut two) = (start.replica(), start.replica());
        one.send(levels(&user("alice"), &[("bob", 0)], &start, 300));
        one.send(state_event(&user("alice"), "m.room.power_levels", "", &with_levels_for_topic(&one), 301));
        two.send(topic(&user("bob"), "from below", 400));
        let room = merged(&start, &one, &two);
        assert!(room.entry("m.room.topic", "").is_none(), "{version}");
    }
}

fn with_levels_for_topic(room: &Room) -> Value {
    let mut value: Value =
        serde_json::from_str(room.entry("m.room.power_levels", "").unwrap().content().get()).unwrap();
    value["events"] = json!({"m.room.topic": 50});
    value
}

#[test]
fn a_join_that_a_concurrent_change_of_the_join_rules_forbids_does_not_stand() {
    for version in VERSIONS {
        let start = Room::public(&version, &["bob"]);
        let (mut one, mut two) = (start.replica(), start.replica());
        one.send(state_event(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "invite"}), 300));
        two.send(member(&user("dave"), &user("dave"), "join", 400));
        let room = merged(&start, &one, &two);
        assert!(room.entry("m.room.member", user("dave").as_str()).is_none(), "{version}");
    }
}

#[test]
fn concurrent_joins_both_stand() {
    for version in VERSIONS {
        let start = Room::public(&version, &[]);
        let (mut one, mut two) = (start.replica(), start.replica());
        one.send(member(&user("bob"), &user("bob"), "join", 300));
        two.send(member(&user("carol"), &user("carol"), "join", 300));
        let room = merged(&start, &one, &two);
        for name in ["alice", "bob", "carol"] {
            assert!(room.entry("m.room.member", user(name).as_str()).unwrap().json().contains("join"), "{version}");
        }
    }
}

#[test]
fn between_equals_the_later_topic_stands_whatever_its_id() {
    for (first, second) in [(300, 400), (400, 300)] {
        let start = Room::public(&RoomVersionId::V12, &["bob"]);
        let (mut one, mut two) = (start.replica(), start.replica());
        one.send(topic(&user("alice"), "one", first));
        two.send(topic(&user("bob"), "two", second));
        let room = merged(&start, &one, &two);
        let expected = if first > second { "one" } else { "two" };
        assert!(room.entry("m.room.topic", "").unwrap().json().contains(expected));
    }
}

/// A pool of events with explicit auth events, as in the examples of MSC4297.
struct Pool {
    rules: &'static RoomRules,
    room_id: Option<OwnedRoomId>,
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    create: Option<OwnedEventId>,
}

impl Pool {
    fn new(version: &RoomVersionId) -> Self {
        let rules = rules::rules(version).unwrap();
        let room_id = (!rules.create_is_room_id()).then(|| "!r:alice.example".try_into().unwrap());
        let mut pool = Self { rules, room_id, events: HashMap::new(), create: None };
        let create = pool.add(&user("alice"), "m.room.create", "", &json!({"room_version": version}), 0, &[]);
        pool.room_id = Some(create.room_id().to_owned());
        pool.create = Some(create.owned_event_id());
        pool
    }

    fn add(
        &mut self,
        sender: &UserId,
        kind: &str,
        key: &str,
        content: &Value,
        at: u32,
        auth: &[&CheckedPdu],
    ) -> CheckedPdu {
        let mut auth_events: Vec<_> = auth.iter().map(|pdu| pdu.owned_event_id()).collect();
        auth_events.extend(self.create.clone().filter(|_| !self.rules.create_is_room_id()));
        let parents =
            Parents { prev_events: self.create.iter().cloned().collect(), depth: UInt::from(at), auth_events };
        let pdu = sign_at(self.rules, self.room_id.as_deref(), state_event(sender, kind, key, content, at), parents);
        self.events.insert(pdu.owned_event_id(), pdu.pdu().clone());
        pdu
    }

    fn member(&mut self, name: &str, content: &Value, at: u32, auth: &[&CheckedPdu]) -> CheckedPdu {
        let user = user(name);
        self.add(&user, "m.room.member", user.as_str(), content, at, auth)
    }

    /// The state that these events (and the create event) make.
    fn state(&self, events: &[&CheckedPdu]) -> Arc<StateMap> {
        let create = self.create.iter().map(|id| (("m.room.create".into(), String::new()), id.clone()));
        Arc::new(events.iter().map(|pdu| (pdu.state_entry().unwrap(), pdu.owned_event_id())).chain(create).collect())
    }

    fn resolve(&self, maps: &[Arc<StateMap>]) -> StateMap {
        let mut backwards = maps.to_vec();
        backwards.reverse();
        let fetch = |id: &ruma::EventId| Ok(self.events.get(id).cloned());
        let resolved = state::resolve_maps(self.rules, maps, fetch).unwrap();
        assert_eq!(
            resolved,
            state::resolve_maps(self.rules, &backwards, fetch).unwrap(),
            "the order of the states is of no account"
        );
        resolved
    }
}

/// MSC4297, problem A: alice made the room invite-only and left. The servers of bob and carol disagree on the join
/// rules (one never heard of the change). Starting from the unconflicted state, in which alice is gone, neither of her
/// join rules passes, and the room has none. Starting from nothing, hers stands.
#[test]
fn msc4297_problem_a_the_join_rules_of_somebody_who_left_stand_from_version_12_on() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let mut pool = Pool::new(&version);
        let alice = pool.member("alice", &json!({"membership": "join"}), 1, &[]);
        let levels = pool.add(&user("alice"), "m.room.power_levels", "", &power_levels(&[], &version), 2, &[&alice]);
        let public =
            pool.add(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "public"}), 3, &[&alice, &levels]);
        let bob = pool.member("bob", &json!({"membership": "join"}), 4, &[&levels, &public]);
        let carol = pool.member("carol", &json!({"membership": "join"}), 5, &[&levels, &public]);
        let invite =
            pool.add(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "invite"}), 6, &[&alice, &levels]);
        let left = pool.member("alice", &json!({"membership": "leave"}), 7, &[&levels, &alice]);
        let bob2 = pool.member("bob", &json!({"membership": "join", "displayname": "b"}), 8, &[&levels, &bob, &invite]);
        let carol2 =
            pool.member("carol", &json!({"membership": "join", "displayname": "c"}), 9, &[&levels, &carol, &invite]);
        let of_bob = pool.state(&[&levels, &carol, &invite, &left, &bob2]);
        let of_carol = pool.state(&[&levels, &public, &bob, &left, &carol2]);
        let resolved = pool.resolve(&[of_bob, of_carol]);
        let join_rules = resolved.get(&("m.room.join_rules".into(), String::new()));
        let expected = (version == RoomVersionId::V12).then(|| invite.owned_event_id());
        assert_eq!(join_rules.cloned(), expected, "{version}");
    }
}

/// MSC4297, problem B: eve's server has an old power levels event in its state. The event between the old and the new
/// one is in no state and in the auth chain of both, so before version 12 it takes no part, and the new levels, which
/// it authorises, are refused: the state is reset.
#[test]
fn msc4297_problem_b_power_levels_are_not_reset_over_a_hidden_link_from_version_12_on() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let mut pool = Pool::new(&version);
        let join = json!({"membership": "join"});
        let alice = pool.member("alice", &join, 1, &[]);
        let first = pool.add(&user("alice"), "m.room.power_levels", "", &power_levels(&[], &version), 2, &[&alice]);
        let public =
            pool.add(&user("alice"), "m.room.join_rules", "", &json!({"join_rule": "public"}), 3, &[&alice, &first]);
        let bob = pool.member("bob", &join, 4, &[&first, &public]);
        let carol = pool.member("carol", &join, 5, &[&first, &public]);
        let levels = |users| {
            let mut value = power_levels(users, &version);
            value["events"] = json!({"m.room.power_levels": 50});
            value
        };
        let second = pool.add(&user("alice"), "m.room.power_levels", "", &levels(&[("bob", 50)]), 6, &[&first, &alice]);
        let third = pool.add(
            &user("bob"),
            "m.room.power_levels",
            "",
            &levels(&[("bob", 50), ("carol", 50)]),
            7,
            &[&second, &bob],
        );
        let zara = pool.member("zara", &join, 8, &[&third, &public]);
        let eve = pool.member("eve", &join, 9, &[&third, &public]);
        let eve2 = pool.member("eve", &json!({"membership": "join", "displayname": "e"}), 10, &[&third, &public, &eve]);
        let of_eve = pool.state(&[&alice, &first, &public, &bob, &carol, &eve2]);
        let of_zara = pool.state(&[&alice, &public, &bob, &carol, &third, &zara]);
        let resolved = pool.resolve(&[of_eve, of_zara]);
        let expected = if version == RoomVersionId::V12 { &third } else { &first };
        let found = &resolved[&("m.room.power_levels".into(), String::new())];
        assert_eq!(*found, expected.event_id(), "{version}");
    }
}

#[test]
fn a_storage_error_is_an_error_wherever_it_strikes_and_never_a_missing_event() {
    let start = Room::public(&RoomVersionId::V12, &["bob", "carol"]);
    let (mut one, mut two) = (start.replica(), start.replica());
    one.send(levels(&user("alice"), &[("carol", 50)], &start, 300));
    one.send(member(&user("alice"), &user("bob"), "ban", 301));
    two.send(topic(&user("bob"), "two", 400));
    let mut room = start.replica();
    for other in [&one, &two] {
        other
            .timeline
            .iter()
            .filter(|id| !start.events.contains_key(*id))
            .for_each(|id| drop(room.receive(&other.checked(id))));
    }
    let maps: Vec<_> = [&one, &two].iter().map(|other| Arc::new(other.current_map())).collect();
    let reads = std::cell::Cell::new(0_usize);
    let fetch_until = |limit: usize| {
        reads.set(0);
        let reads = &reads;
        let room = &room;
        move |id: &ruma::EventId| {
            reads.set(reads.get() + 1);
            if reads.get() > limit { Err(ReadError::new("disk")) } else { Ok(room.events.get(id).cloned()) }
        }
    };
    let whole = state::resolve_maps(room.rules, &maps, fetch_until(usize::MAX)).unwrap();
    let needed = reads.get();
    assert!(needed > 5);
    for limit in 0..needed {
        let error = state::resolve_maps(room.rules, &maps, fetch_until(limit)).unwrap_err();
        assert!(matches!(error, StateError::Read(_)), "after {limit} reads: {error}");
    }
    assert_eq!(whole, state::resolve_maps(room.rules, &maps, fetch_until(needed)).unwrap());
}

#[test]
fn an_event_that_a_state_names_but_the_store_lacks_is_reported_as_damage() {
    let start = Room::public(&RoomVersionId::V12, &["bob"]);
    let (mut one, mut two) = (start.replica(), start.replica());
    one.send(topic(&user("alice"), "one", 300));
    let lost = two.send(topic(&user("bob"), "two", 400));
    let maps: Vec<_> = [&one, &two].iter().map(|other| Arc::new(other.current_map())).collect();
    let error = state::resolve_maps(start.rules, &maps, |id| Ok(one.events.get(id).cloned())).unwrap_err();
    assert!(matches!(error, StateError::Missing(id) if id == lost.event_id()));
}

#[test]
fn decide_passes_every_storage_error_on() {
    let mut start = Room::public(&RoomVersionId::V12, &["bob"]);
    let mut other = start.replica();
    let late = other.send(topic(&user("bob"), "two", 400));
    start.send(member(&user("alice"), &user("bob"), "ban", 300));
    for limit in 0.. {
        start.reads_left.set(Some(limit));
        let verdict = millpond_matrix::decide(&late, &start, start.rules, &Default::default());
        start.reads_left.set(None);
        match verdict {
            Err(_) => {}
            Ok(verdict) => {
                assert!(matches!(verdict, Verdict::SoftFail { .. }), "{verdict:?}");
                assert!(limit > 5);
                break;
            }
        }
    }
}
