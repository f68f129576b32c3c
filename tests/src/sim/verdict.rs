//! Whether a run is as it must be: every accepted event in every member's room once, all rooms equal, every to-device message there once
//! and in order, nothing left over.

use std::collections::{BTreeMap, BTreeSet};

use super::world::World;

/// What is wrong, in words; nothing if all is well.
#[must_use]
pub fn faults(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    leftovers(world, &mut faults);
    if !faults.is_empty() {
        return faults;
    }
    rooms(world, &mut faults);
    messages(world, &mut faults);
    order(world, &mut faults);
    faults
}

/// Nothing waits for anything any more.
fn leftovers(world: &World, faults: &mut Vec<String>) {
    let honest = world.honest();
    for index in &honest {
        let disk = &world.nodes[*index].disk;
        for (peer, outbox) in disk.outbox.iter().filter(|(peer, outbox)| honest.contains(peer) && !outbox.is_empty()) {
            let first = outbox.first_key_value();
            faults.push(format!("{index} still owes {peer} {} things, {first:?} first", outbox.len()));
        }
        if !disk.staged.is_empty() || !disk.parked.is_empty() {
            faults.push(format!("{index} has {} staged and {} parked", disk.staged.len(), disk.parked.len()));
        }
    }
}

fn rooms(world: &World, faults: &mut Vec<String>) {
    let honest = world.honest();
    for (room, members) in world.fixed.members.iter().enumerate() {
        let of = members.intersection(&honest);
        let held: Vec<_> =
            of.filter_map(|member| Some((member, world.nodes[*member].disk.rooms.get(&room)?))).collect();
        let Some((first, whole)) = held.iter().find(|(_, held)| held.entered().is_none()) else { continue };
        let wanted = whole.outcome();
        for ((of, id), (by, _)) in
            world.ledger.events.iter().filter(|((of, _), (by, _))| *of == room && honest.contains(by))
        {
            if !wanted.events.contains(id) {
                faults.push(format!("{id} of {by} in room {of} is lost"));
            }
        }
        for (member, held) in &held {
            let timeline: BTreeSet<_> = held.timeline().iter().collect();
            if timeline.len() != held.timeline().len() {
                faults.push(format!("{member} has an event twice in room {room}"));
            }
            let history = held.entered().map(|invite| whole.before_event(invite)).unwrap_or_default();
            let (mut outcome, wanted) = (held.outcome().without(&history), wanted.clone().without(&history));
            // Whether an event was soft-failed depends on the moment at which it came, and who soft-failed it does not name it in what he
            // says: where nobody else has spoken since, its branch is open for some and not for others. Nothing else may make a difference.
            if held.unexplained_ends(whole) + whole.unexplained_ends(held) == 0 {
                outcome.extremities.clone_from(&wanted.extremities);
            }
            if outcome == wanted {
                continue;
            }
            let events = outcome.events.symmetric_difference(&wanted.events).count();
            let state = outcome.current.iter().filter(|(key, id)| wanted.current.get(*key) != Some(*id)).count();
            faults.push(format!(
                "room {room} of {member} and {first} differ: {events} events, {state} entries, extremities {} and {}, rejected {} and {}",
                outcome.extremities.len(),
                wanted.extremities.len(),
                outcome.rejected.len(),
                wanted.rejected.len()
            ));
        }
    }
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
