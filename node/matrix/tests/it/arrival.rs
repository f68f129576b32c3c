//! Servers that receive the same PDUs in any order, some of them twice, agree.

use std::collections::BTreeSet;

use millpond_matrix::{CheckedPdu, Verdict, build::Parents};
use proptest::{collection::vec, prelude::*, sample::Index};
use ruma::{OwnedEventId, RoomVersionId, UInt};
use serde_json::json;

use crate::world::{Room, member, message, sign_at, state_event, user};

/// What a user does on the own server.
#[derive(Clone, Copy, Debug)]
enum Act {
    Message,
    Topic,
    Name,
    Rename,
    JoinRule(bool),
    Kick(usize),
    Ban(usize),
    Promote(usize, u32),
    Rejoin,
    /// A ban by whoever, sent whatever the rules say about it.
    Forge(usize),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Do(usize, Act),
    /// One server hears everything that another one has.
    Hear(usize, usize),
}

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Acts that no concurrent act can forbid: nothing is ever soft-failed.
fn peaceful() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Message),
        2 => Just(Act::Topic),
        1 => Just(Act::Name),
        1 => Just(Act::Rename),
        1 => any::<bool>().prop_map(Act::JoinRule),
    ]
}

/// Acts against each other.
fn hostile() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => peaceful(),
        1 => (1..4_usize).prop_map(Act::Kick),
        1 => (1..4_usize).prop_map(Act::Ban),
        2 => (1..4_usize, prop_oneof![Just(0), Just(50), Just(100)]).prop_map(|(who, level)| Act::Promote(who, level)),
        1 => Just(Act::Rejoin),
        1 => (0..4_usize).prop_map(Act::Forge),
    ]
}

fn steps(act: impl Strategy<Value = Act>) -> impl Strategy<Value = Vec<Step>> {
    vec(
        prop_oneof![3 => (0..4_usize, act).prop_map(|(who, act)| Step::Do(who, act)), 1 => (0..4_usize, 0..4_usize).prop_map(|(a, b)| Step::Hear(a, b))],
        1..40,
    )
}

fn versions() -> impl Strategy<Value = RoomVersionId> {
    prop_oneof![Just(RoomVersionId::V12), Just(RoomVersionId::V11), Just(RoomVersionId::V6)]
}

/// Plays the steps on four servers. All events after the common start, in the order in which they were made.
fn play(start: &Room, steps: &[Step]) -> Vec<CheckedPdu> {
    let mut rooms: Vec<Room> = NAMES.iter().map(|_| start.replica()).collect();
    let mut made = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        match *step {
            Step::Hear(to, from) if to != from => {
                let known: Vec<_> = made
                    .iter()
                    .filter(|pdu: &&CheckedPdu| rooms[from].events.contains_key(pdu.event_id()))
                    .cloned()
                    .collect();
                known.iter().for_each(|pdu| drop(rooms[to].receive(pdu)));
            }
            Step::Hear(..) => {}
            // Few distinct times, so that ids decide some conflicts.
            Step::Do(who, act) => {
                made.extend(perform(&mut rooms[who], who, act, 1000 + u32::try_from(n / 4).unwrap(), n))
            }
        }
    }
    made
}

/// The event of an act, unless the rules forbid it there and then.
fn perform(room: &mut Room, who: usize, act: Act, at: u32, n: usize) -> Option<CheckedPdu> {
    let me = user(NAMES[who]);
    let level = |target: usize, level: u32| {
        let mut value: serde_json::Value =
            serde_json::from_str(room.entry("m.room.power_levels", "")?.content().get()).unwrap();
        value["users"][user(NAMES[target]).as_str()] = level.into();
        Some(value)
    };
    let draft = match act {
        Act::Message => message(&me, &format!("{n}"), at),
        Act::Topic => state_event(&me, "m.room.topic", "", &json!({"topic": n}), at),
        Act::Name => state_event(&me, "m.room.name", "", &json!({"name": n.to_string()}), at),
        Act::Rename => state_event(
            &me,
            "m.room.member",
            me.as_str(),
            &json!({"membership": "join", "displayname": n.to_string()}),
            at,
        ),
        Act::JoinRule(public) => state_event(
            &me,
            "m.room.join_rules",
            "",
            &json!({"join_rule": if public { "public" } else { "invite" }}),
            at,
        ),
        Act::Kick(target) => member(&me, &user(NAMES[target]), "leave", at),
        Act::Ban(target) | Act::Forge(target) => member(&me, &user(NAMES[target]), "ban", at),
        Act::Promote(target, to) => state_event(&me, "m.room.power_levels", "", &level(target, to)?, at),
        Act::Rejoin => member(&me, &me, "join", at),
    };
    let server = crate::world::server_of(&me);
    let pdu = millpond_matrix::build::next(room, room.rules, &room.room_id, draft, &server.signer()).unwrap();
    // An honest server does not send what its own rules forbid.
    let send = matches!(act, Act::Forge(_)) || matches!(room.verdict(&pdu).unwrap(), Verdict::Append(_));
    send.then(|| room.receive(&pdu)).map(|_| pdu)
}

/// The events in an order that the indices choose, some of them twice.
fn shuffled(pdus: &[CheckedPdu], order: &[Index]) -> Vec<CheckedPdu> {
    let mut left = pdus.to_vec();
    let mut out = Vec::new();
    for index in order.iter().cycle() {
        if left.is_empty() {
            break;
        }
        let pdu = left.swap_remove(index.index(left.len()));
        if index.index(3) == 0 {
            out.push(pdu.clone());
        }
        out.insert(index.index(out.len() + 1), pdu);
    }
    out
}

fn deliver(start: &Room, pdus: &[CheckedPdu]) -> Room {
    let mut room = start.replica();
    pdus.iter().for_each(|pdu| drop(room.receive(pdu)));
    assert!(room.parked.is_empty(), "everything that was waited for came");
    room
}

fn timeline(room: &Room) -> BTreeSet<OwnedEventId> {
    room.timeline.iter().cloned().collect()
}

/// An event of alice, whom nobody can demote, that follows every event which nothing follows.
fn merge(room: &Room, pdus: &[CheckedPdu]) -> CheckedPdu {
    let followed: BTreeSet<_> = pdus.iter().flat_map(|pdu| pdu.prev_events()).collect();
    let mut prev_events: Vec<_> =
        pdus.iter().map(|pdu| pdu.owned_event_id()).filter(|id| !followed.contains(id)).collect();
    prev_events.truncate(20);
    let draft = message(&user("alice"), "merge", 5000);
    let auth_events = millpond_matrix::build::parents(room, room.rules, &draft).unwrap().auth_events;
    sign_at(room.rules, Some(&room.room_id), draft, Parents { prev_events, depth: UInt::from(99_u8), auth_events })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_arrival_order_gives_the_same_state_extremities_and_timeline(
        version in versions(), steps in steps(peaceful()), one in vec(any::<Index>(), 1..40), two in vec(any::<Index>(), 1..40),
    ) {
        let start = Room::public(&version, &NAMES[1..]);
        let pdus = play(&start, &steps);
        let (one, two) = (deliver(&start, &shuffled(&pdus, &one)), deliver(&start, &shuffled(&pdus, &two)));
        prop_assert_eq!(one.flagged(|flags| flags.soft_failed || flags.rejected).len(), 0);
        prop_assert_eq!(timeline(&one), timeline(&two));
        prop_assert_eq!(timeline(&one).len(), start.timeline.len() + pdus.len());
        prop_assert_eq!(one.outcome(), two.outcome());
    }

    /// Soft-failing depends on what a server knew when the event came, so with bans and demotions the spec lets
    /// timelines differ. What must not differ: the rejected events, the state after each event, and, once an event
    /// follows all branches, current state and extremities.
    #[test]
    fn bans_and_demotions_converge_when_the_branches_are_joined(
        version in versions(), steps in steps(hostile()), one in vec(any::<Index>(), 1..40), two in vec(any::<Index>(), 1..40),
    ) {
        let start = Room::public(&version, &NAMES[1..]);
        let mut pdus = play(&start, &steps);
        if pdus.is_empty() {
            return Ok(());
        }
        pdus.push(merge(&start, &pdus));
        let (one, two) = (deliver(&start, &shuffled(&pdus, &one)), deliver(&start, &shuffled(&pdus, &two)));
        prop_assert_eq!(one.outcome(), two.outcome());
        prop_assert_eq!(one.extremities.len(), 1);
        let stored = |room: &Room| room.events.keys().cloned().collect::<BTreeSet<_>>();
        prop_assert_eq!(stored(&one), stored(&two));
    }
}
