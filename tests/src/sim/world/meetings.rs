//! Two linked nodes that are up at the same time meet over a direct stream: they compare frontiers, and each fetches what it lacks, as
//! `node/src/inbox/frontiers` does.

use std::collections::BTreeSet;

use millpond_mailbox::{item::Item, time::UnixMillis};
use ruma::OwnedEventId;

use super::{Happening, World};
use crate::sim::{
    node::Node,
    people::introduced,
    plan::{DAY, HOUR},
    room::Room,
};

impl World {
    pub(super) fn plan_meeting(&mut self, at: u64) {
        let one = self.rng.index(self.nodes.len());
        let peers: Vec<usize> = self.nodes[one].disk.links.keys().copied().collect();
        let other = self.rng.index(peers.len().max(1));
        if let Some(other) = peers.get(other).copied() {
            self.at(at, Happening::Meet { one, other });
        }
    }

    /// Once the network has healed, everybody meets his contacts now and then.
    pub(super) fn meet_daily(&mut self) {
        for one in 0..self.nodes.len() {
            let others: Vec<usize> = self.nodes[one].disk.links.keys().copied().filter(|other| *other > one).collect();
            for other in others {
                let at = self.now + HOUR + self.rng.below(DAY);
                self.at(at, Happening::Meet { one, other });
            }
        }
    }

    pub(super) fn meet(&mut self, one: usize, other: usize) {
        if self.healed.is_some() {
            self.at(self.now + DAY, Happening::Meet { one, other });
        }
        for (asks, answers) in [(one, other), (other, one)] {
            if self.nodes[asks].is_up() && self.nodes[answers].is_up() {
                self.catch_up(asks, answers);
            }
        }
        self.introduce(one, other);
    }

    /// The other carries an introduction of the one to a member that the one has no link with: sealed, so that it can withhold it and
    /// no more, which the Byzantine one does.
    fn introduce(&mut self, one: usize, carrier: usize) {
        if !self.plan.faults.introductions || self.nodes[carrier].byzantine || self.nodes[one].byzantine {
            return;
        }
        let linked = |one: usize, other: usize| self.nodes[one].disk.links.contains_key(&other);
        let stranger = |to: &usize| *to != one && self.nodes[*to].is_up() && !linked(one, *to) && !linked(*to, one);
        let Some(to) = self.nodes[carrier].disk.links.keys().copied().find(stranger) else { return };
        if !self.nodes[one].is_up() || !self.nodes[carrier].is_up() {
            return;
        }
        self.trace.note(self.now, format_args!("{carrier} introduces {one} to {to}"));
        let room_id = self.fixed.rooms.keys().next().map(ToString::to_string).unwrap_or_default();
        let people = &self.fixed.people;
        let links = introduced(&people[one], &people[to], &room_id, UnixMillis(self.now), &mut self.rng);
        // Both begin their sessions as after a start.
        for node in [one, to] {
            self.nodes[node].stop();
        }
        self.take_links((one, to), links);
        for node in [one, to] {
            self.step(node, Node::start);
        }
        for (asks, answers) in [(one, to), (to, one)] {
            self.catch_up(asks, answers);
        }
    }

    /// A node asks another what its rooms end with, and fetches what is missing here.
    fn catch_up(&mut self, asks: usize, answers: usize) {
        if self.nodes[answers].byzantine {
            return;
        }
        for room in 0..self.fixed.members.len() {
            self.confirm(asks, answers, room);
            for _ in 0..MAX_ROUNDS {
                let Some(bodies) = self.lacking(asks, answers, room) else { break };
                let stage = bodies.into_iter().map(|body| Item::Transaction { via: Vec::new(), body });
                let stage: Vec<Item> = stage.collect();
                let lived = self.step(asks, |node, step| {
                    step.fate.step()?;
                    stage.into_iter().for_each(|item| node.disk.stage(answers, item));
                    step.fate.step()?;
                    node.work(step)?;
                    node.tell(step)
                });
                if !lived {
                    return;
                }
            }
        }
    }

    /// A second member is asked about a room that was entered by one's word.
    fn confirm(&mut self, asks: usize, answers: usize, room: usize) {
        if self.nodes[asks].disk.told_by.get(&room) == Some(&answers) {
            return;
        }
        if !self.nodes[asks].disk.rooms.get(&room).is_some_and(Room::is_unconfirmed) {
            return;
        }
        let Some(other) = self.nodes[answers].disk.rooms.get(&room).cloned() else { return };
        let Some(held) = self.nodes[asks].disk.rooms.get_mut(&room) else { return };
        if held.confirm(&other) {
            self.trace.note(self.now, format_args!("{answers} confirms room {room} of {asks}"));
        }
    }

    /// Events that the other has and this one lacks, the oldest first; none if there are none.
    fn lacking(&self, asks: usize, answers: usize, room: usize) -> Option<Vec<Vec<u8>>> {
        let (here, there) = (&self.nodes[asks], &self.nodes[answers]);
        let (mine, theirs) = (here.disk.rooms.get(&room)?, there.disk.rooms.get(&room)?);
        let gaps: BTreeSet<OwnedEventId> = here.gaps(room);
        let parked = |id: &OwnedEventId| here.disk.parked.contains_key(&(room, id.clone()));
        let ends = theirs.frontier().into_iter().filter(|id| !mine.has(id) && !parked(id));
        let wanted: Vec<OwnedEventId> = gaps.into_iter().chain(ends).filter(|id| theirs.has(id)).collect();
        let found = theirs.backfill(&wanted, LIMIT);
        let fresh = found.iter().filter(|pdu| !mine.has(pdu.event_id()) && !parked(&pdu.owned_event_id()));
        let bodies: Vec<Vec<u8>> = fresh.map(|pdu| format!("{{\"pdus\":[{}]}}", pdu.json()).into_bytes()).collect();
        (!bodies.is_empty()).then_some(bodies)
    }
}

/// Events of one answer.
const LIMIT: usize = 50;
/// Answers in one meeting.
const MAX_ROUNDS: usize = 100;
