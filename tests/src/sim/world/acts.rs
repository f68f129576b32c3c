//! What users do: they say things in bursts, set state that others set at the same time, and send each other to-device messages.

use millpond_matrix::build::EventDraft;
use serde_json::{Value, json};

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
    /// A text in a room, the last one.
    Close { node: usize, room: usize },
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
        if let Act::Say { node, .. } | Act::Close { node, .. } | Act::Message { node } = act
            && !self.nodes[node].is_up()
            && !self.away.contains_key(&node)
        {
            let wait = SECOND + self.rng.below(MINUTE);
            return self.at(self.now + wait, Happening::Act(act));
        }
        match act {
            Act::Say { node, room } => {
                if self.fixed.members[room].contains(&node) {
                    let draft = self.draft(node, room);
                    self.say(node, room, draft);
                }
            }
            Act::Close { node, room } => {
                let draft = self.text(node);
                self.say(node, room, draft);
            }
            Act::Message { node } => self.message(node),
            Act::Invite { node } => self.invite(node),
        }
    }

    /// After the healing one member of each room says one thing. Nothing that was said before needs it to come to everybody.
    pub(super) fn close(&mut self) {
        let honest = self.honest();
        for room in 0..self.fixed.members.len() {
            let of: Vec<usize> = self.fixed.members[room].intersection(&honest).copied().collect();
            let node = of[self.rng.index(of.len())];
            self.at(self.now, Happening::Act(Act::Close { node, room }));
        }
    }

    /// Everything has come to everybody; for whom a branch is open that is not for others, he says something.
    pub(super) fn say_on(&mut self, open: Vec<(usize, usize)>) {
        self.stats.branches += open.len() as u64;
        for (room, node) in open {
            self.trace.note(self.now, format_args!("a branch of {room} is open for {node}"));
            self.at(self.now, Happening::Act(Act::Close { node, room }));
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

    fn say(&mut self, index: usize, room: usize, draft: EventDraft) {
        if !self.nodes[index].is_up() {
            return;
        }
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

    fn text(&mut self, index: usize) -> EventDraft {
        let number = self.rng.below(1_000_000);
        self.event(
            index,
            "m.room.message",
            None,
            &json!({"msgtype": "m.text", "body": format!("{number} {WORDS}")}),
            number,
        )
    }

    fn draft(&mut self, index: usize, room: usize) -> EventDraft {
        let creator = self.fixed.members[room].first() == Some(&index);
        let drawn = self.rng.below(100);
        let number = self.rng.below(1_000_000);
        let (kind, key, value) = match drawn {
            0..70 => ("m.room.message", None, json!({"msgtype": "m.text", "body": format!("{number} {WORDS}")})),
            70..80 => ("m.room.topic", Some(String::new()), json!({"topic": format!("topic {number}")})),
            80..92 => ("org.example.slot", Some(format!("{}", number % 5)), json!({"is": number})),
            _ if creator => {
                let level = if number.is_multiple_of(2) { 0 } else { 50 };
                ("m.room.power_levels", Some(String::new()), json!({"state_default": level, "users": {}}))
            }
            _ => ("m.room.name", Some(String::new()), json!({"name": format!("name {number}")})),
        };
        self.event(index, kind, key, &value, number)
    }

    fn event(&self, index: usize, kind: &str, key: Option<String>, value: &Value, number: u64) -> EventDraft {
        // Every event is another one, also of one user at one moment.
        let at = self.nodes[index].clock(self.now).0 + number % 1_000;
        let sender = self.fixed.people[index].user.clone();
        let mut draft = EventDraft::new(kind.into(), content(value), sender, timestamp(at));
        draft.state_key = key;
        draft
    }
}

/// Who is not in the first room from the beginning, where somebody is not.
pub(super) const NEWCOMER: usize = 1;
const WORDS: &str = "and the pond was as still as the mill, which stood there and waited for the water";
