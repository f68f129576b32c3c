//! Whether a run is as it must be: every accepted event in every member's room once, all rooms equal, every to-device message there once
//! and in order, nothing left over.

use std::collections::{BTreeMap, BTreeSet};

use super::{disk::Owed, room::Room, world::World};

/// When a run is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Branches may be open for some members and not for others, if soft failures are why.
    BranchesOpen,
    /// Everybody who had such a branch has spoken: no difference is excused.
    AllSaid,
}

/// What is wrong, in words; nothing if all is well.
#[must_use]
pub fn faults(world: &World, when: When) -> Vec<String> {
    let mut faults = Vec::new();
    leftovers(world, &mut faults);
    if !faults.is_empty() {
        return faults;
    }
    rooms(world, when, &mut faults);
    messages(world, &mut faults);
    order(world, &mut faults);
    faults
}

/// Nothing waits for anything any more.
fn leftovers(world: &World, faults: &mut Vec<String>) {
    let honest = world.honest();
    for index in &honest {
        let disk = &world.nodes[*index].disk;
        for (peer, outbox) in disk.outbox.iter().filter(|(peer, _)| honest.contains(peer)) {
            let mut owed = outbox.values().filter(|owed| !may_wait(world, *index, *peer, owed));
            if let Some(first) = owed.next() {
                faults.push(format!("{index} still owes {peer} {} things, {first:?} first", 1 + owed.count()));
            }
        }
        if !disk.staged.is_empty() || !disk.parked.is_empty() {
            faults.push(format!("{index} has {} staged and {} parked", disk.staged.len(), disk.parked.len()));
        }
    }
}

/// Where an honest host has lost everything and the other one lies, only the liar is left to say so to the peer, and if he swallows
/// nearly all, the link sleeps after 30 days, at one end at least. An event that the peer has from others may then wait with it until somebody speaks: it is
/// there once, and only its acknowledgement is missing. Messages, and what the peer lacks, may not.
fn may_wait(world: &World, index: usize, peer: usize, owed: &Owed) -> bool {
    let faults = &world.plan.faults;
    let Owed::Pdu(room, id) = owed else { return false };
    let has = world.nodes[peer].disk.rooms.get(room).is_some_and(|held| held.has(id));
    let sleeps = world.nodes[index].sleeps(peer) || world.nodes[peer].sleeps(index);
    faults.wipes > 0 && faults.byzantine_host && sleeps && has
}

/// Members with an end of a room that is none for another member: by what they say next, it is one for all or for none.
#[must_use]
pub fn open_branches(world: &World) -> Vec<(usize, usize)> {
    let mut open = Vec::new();
    for room in 0..world.fixed.members.len() {
        let held = held(world, room);
        let everywhere = |end| held.iter().all(|(_, held)| held.ends().contains(end));
        let differs = held.iter().filter(|(_, held)| !held.ends().iter().all(everywhere));
        open.extend(differs.map(|(member, _)| (room, *member)));
    }
    open
}

/// The copies of honest members.
fn held(world: &World, room: usize) -> Vec<(usize, &Room)> {
    let honest = world.honest();
    let of = world.fixed.members[room].intersection(&honest);
    of.filter_map(|member| Some((*member, world.nodes[*member].disk.rooms.get(&room)?))).collect()
}

fn rooms(world: &World, when: When, faults: &mut Vec<String>) {
    let honest = world.honest();
    for room in 0..world.fixed.members.len() {
        let held = held(world, room);
        let Some((first, whole)) = held.iter().find(|(_, held)| held.entered().is_none()) else { continue };
        for ((of, id), (by, _)) in
            world.ledger.events.iter().filter(|((of, _), (by, _))| *of == room && honest.contains(by))
        {
            if !whole.has(id) {
                faults.push(format!("{id} of {by} in room {of} is lost"));
            }
        }
        for (member, held) in &held {
            let timeline: BTreeSet<_> = held.timeline().iter().collect();
            if timeline.len() != held.timeline().len() {
                faults.push(format!("{member} has an event twice in room {room}"));
            }
            if let Some(differences) = differences(world, when, (room, held), whole) {
                faults.push(format!("room {room} of {member} and {first} differ: {differences}"));
            }
        }
    }
}

/// In what a copy differs from one that was there from the beginning, and must not.
fn differences(world: &World, when: When, (number, held): (usize, &Room), whole: &Room) -> Option<String> {
    let mut history = held.entered().map(|invite| whole.before_event(invite)).unwrap_or_default();
    let branches_open = when == When::BranchesOpen;
    if branches_open && let Some(inviter) = held.entered().and_then(|invite| whole.sender(invite)) {
        // What the inviter had soft-failed was before the invite, and is not what the invite follows.
        let inviter = world.fixed.people.iter().position(|person| *person.user == *inviter);
        let inviters = inviter.and_then(|inviter| world.nodes[inviter].disk.rooms.get(&number));
        history.extend(inviters.iter().flat_map(|room| room.soft_failed()).filter(|id| !held.has(id)).cloned());
    }
    let (mut outcome, wanted) = (held.outcome().without(&history), whole.outcome().without(&history));
    // Whether an event was soft-failed depends on the moment at which it came, and who soft-failed it does not name it in what he
    // says: where nobody else has spoken since, its branch is open for some and not for others. Nothing else may make a difference,
    // and none but in the ends and in what they resolve to.
    if branches_open
        && outcome.extremities != wanted.extremities
        && held.unexplained_ends(whole, &history) == 0
        && whole.unexplained_ends(held, &history) == 0
    {
        outcome.extremities.clone_from(&wanted.extremities);
        outcome.current.clone_from(&wanted.current);
    }
    if outcome != wanted {
        return Some(outcome.difference(&wanted));
    }
    if !held.is_current_what_its_ends_resolve_to() {
        return Some("the current state is not what the ends resolve to".to_owned());
    }
    let other = held.other_state(whole)?;
    Some(format!("the state after {other}"))
}

/// To-device messages come in the order in which they were sent, as long as the link was not made anew.
fn order(world: &World, faults: &mut Vec<String>) {
    for node in &world.nodes {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for (from, message) in &node.disk.device {
            let Some(sent) = world.ledger.messages.get(message) else { continue };
            let renewed = node.renewed.contains(from) || world.nodes[*from].renewed.contains(&node.index);
            let before = last.insert(*from, sent.number);
            if !renewed && before.is_some_and(|before| before > sent.number) {
                faults.push(format!("messages from {from} to {} are out of order", node.index));
            }
        }
    }
}

fn messages(world: &World, faults: &mut Vec<String>) {
    let honest = world.honest();
    let mut seen: BTreeMap<(usize, usize, u64), usize> = BTreeMap::new();
    for node in &world.nodes {
        for (from, message) in &node.disk.device {
            *seen.entry((*from, node.index, *message)).or_default() += 1;
        }
    }
    for (id, message) in &world.ledger.messages {
        let count = seen.get(&(message.from, message.to, *id)).copied().unwrap_or(0);
        let both = honest.contains(&message.from) && honest.contains(&message.to);
        if both && (count > 1 || count == 0 && !message.excused) {
            faults.push(format!("message {id:x} from {} to {} is there {count} times", message.from, message.to));
        }
    }
}
