//! What users do: they say things in bursts, set state that others set at the same time, and send each other to-device messages.

use millpond_matrix::build::EventDraft;
use serde_json::json;

use super::{
    Accepted, Happening, World,
    setup::{START, content, timestamp},
};
use crate::sim::{
    node::member,
    plan::{DAY, HOUR, MINUTE, SECOND},
};

/// One act of a user.
pub(super) enum Act {
    /// Something in a room.
    Say { node: usize, room: usize },
    /// A to-device message to somebody with a link.
    Message { node: usize },
    /// Somebody who is not in the first room is invited.
    Invite { node: usize },
}

impl World {
    pub(super) fn plan_acts(&mut self, end: u64) {
        let plan = self.plan.clone();
        let span = (end - START).saturating_sub(DAY / 2);
        if plan.faults.newcomer {
            let at = START + self.rng.below(span / 2);
            self.at(at, Happening::Act(Act::Invite { node: NEWCOMER }));
        }
        for burst in 0..plan.bursts as u64 {
            let from = START + burst * span / plan.bursts as u64 + self.rng.below(HOUR);
            for _ in 0..plan.events {
                let at = from + self.rng.below(10 * MINUTE);
                let room = self.rng.index(plan.rooms);
                let node = self.rng.index(plan.nodes);
                self.at(at, Happening::Act(Act::Say { node, room }));
            }
            for _ in 0..plan.to_device {
                let (at, node) = (from + self.rng.below(10 * MINUTE), self.rng.index(plan.nodes));
                self.at(at, Happening::Act(Act::Message { node }));
            }
        }
    }

    pub(super) fn act(&mut self, act: Act) {
        // Who finds his node down tries again a little later.
        if let Act::Say { node, .. } | Act::Message { node } = act
            && !self.nodes[node].is_up()
            && !self.away.contains_key(&node)
        {
            let wait = SECOND + self.rng.below(MINUTE);
            return self.at(self.now + wait, Happening::Act(act));
        }
        match act {
            Act::Say { node, room } => {
                if self.fixed.members[room].contains(&node) {
                    self.say(node, room);
                }
            }
            Act::Message { node } => self.message(node),
            Act::Invite { node } => self.invite(node),
        }
    }

    /// After the healing everybody says something in each room, and days later again: it ends all branches. What others have soft-failed
    /// is not passed on by them, and comes to everybody with the next event of who made it.
    pub(super) fn close(&mut self) {
        for room in 0..self.fixed.members.len() {
            for node in self.fixed.members[room].clone() {
                let at = self.now + self.rng.below(3 * MINUTE);
                self.at(at, Happening::Act(Act::Say { node, room }));
            }
        }
        for node in 0..self.nodes.len() {
            self.at(self.now, Happening::Act(Act::Message { node }));
        }
        if self.healed.is_some_and(|healed| self.now < healed + 9 * DAY) {
            self.at(self.now + 5 * DAY, Happening::Close);
        }
    }

    /// Until it is done.
    fn invite(&mut self, to: usize) {
        let linked = self.nodes[to].disk.links.keys().copied().filter(|peer| self.nodes[*peer].is_up());
        let Some(index) = linked.max_by_key(|peer| self.nodes[*peer].byzantine) else {
            return self.at(self.now + 6 * HOUR, Happening::Act(Act::Invite { node: to }));
        };
        let (sender, target) = (&self.fixed.people[index].user, &self.fixed.people[to].user);
        let draft = member(sender, target, "invite", self.nodes[index].clock(self.now).0);
        let mut done = false;
        self.step(index, |node, step| {
            done = node.invite(to, 0, draft, step)?;
            node.tell(step)
        });
        if !done {
            self.at(self.now + 6 * HOUR, Happening::Act(Act::Invite { node: to }));
        }
    }

    fn say(&mut self, index: usize, room: usize) {
        if !self.nodes[index].is_up() {
            return;
        }
        let draft = self.draft(index, room);
        let (mut accepted, now) = (None, self.now);
        self.step(index, |node, step| {
            accepted = node.say(room, draft, step)?.map(|id| Accepted::Event(room, id));
            node.tell(step)
        });
        if let Some(accepted) = accepted {
            self.ledger.accept(index, now, accepted);
        }
    }

    fn message(&mut self, index: usize) {
        let peers: Vec<usize> = self.nodes[index].disk.links.keys().copied().collect();
        let (to, id) = (self.rng.index(peers.len().max(1)), self.rng.below(u64::MAX));
        let Some(peer) = peers.get(to).copied().filter(|_| self.nodes[index].is_up()) else { return };
        let (mut accepted, now) = (None, self.now);
        self.step(index, |node, step| {
            node.send_to_device(peer, id, step)?;
            accepted = Some(Accepted::Message(peer, id));
            node.tell(step)
        });
        if let Some(accepted) = accepted {
            self.ledger.accept(index, now, accepted);
        }
    }

    fn draft(&mut self, index: usize, room: usize) -> EventDraft {
        let sender = self.fixed.people[index].user.clone();
        let creator = self.fixed.members[room].first() == Some(&index);
        let drawn = self.rng.below(100);
        let number = self.rng.below(1_000_000);
        let (kind, key, value) = match drawn {
            0..70 => ("m.room.message", None, json!({"msgtype": "m.text", "body": format!("{number} {}", WORDS)})),
            70..80 => ("m.room.topic", Some(String::new()), json!({"topic": format!("topic {number}")})),
            80..92 => ("org.example.slot", Some(format!("{}", number % 5)), json!({"is": number})),
            _ if creator => {
                let level = if number.is_multiple_of(2) { 0 } else { 50 };
                ("m.room.power_levels", Some(String::new()), json!({"state_default": level, "users": {}}))
            }
            _ => ("m.room.name", Some(String::new()), json!({"name": format!("name {number}")})),
        };
        // Every event is another one, also of one user at one moment.
        let at = self.nodes[index].clock(self.now).0 + number % 1_000;
        let mut draft = EventDraft::new(kind.into(), content(&value), sender, timestamp(at));
        draft.state_key = key;
        draft
    }
}

/// Who is not in the first room from the beginning, where somebody is not.
pub(super) const NEWCOMER: usize = 1;
const WORDS: &str = "and the pond was as still as the mill, which stood there and waited for the water";
