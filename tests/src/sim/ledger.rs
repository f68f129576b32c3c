//! What users were told is kept: an event or a message that its node has accepted. Kept outside of all nodes, so that no fault of theirs
//! can change it.

use std::collections::BTreeMap;

use ruma::OwnedEventId;

use super::{
    disk::{Disk, Owed},
    node::Node,
    world::Accepted,
};

/// What must be everywhere in the end.
#[derive(Default)]
pub struct Ledger {
    /// Who made it, and when, by room and event.
    pub events: BTreeMap<(usize, OwnedEventId), (usize, u64)>,
    /// From whom, to whom, when.
    pub messages: BTreeMap<u64, Message>,
}

/// A to-device message.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// When.
    pub at: u64,
    /// Counts messages in the order in which they were accepted.
    pub number: usize,
    /// Its sender, or what it had arrived at, was lost and set back to a time before it: it may be there once, or not.
    pub excused: bool,
}

impl Ledger {
    pub(super) fn accept(&mut self, node: usize, at: u64, accepted: Accepted) {
        match accepted {
            Accepted::Event(room, id) => drop(self.events.insert((room, id), (node, at))),
            Accepted::Message(to, id) => {
                let number = self.messages.len();
                self.messages.insert(id, Message { from: node, to, at, number, excused: false });
            }
        }
    }

    /// A node is set back to a backup of this time. What it said after that is lost unless somebody has it; what had arrived there
    /// after that was there.
    pub(super) fn set_back(&mut self, node: usize, at: u64, backup: &Disk, nodes: &[Node]) {
        self.events.retain(|_, (by, when)| *by != node || *when <= at);
        for (id, message) in &mut self.messages {
            let sent_after = message.from == node && message.at > at;
            // Its acknowledgement may be under way still: whoever had it on his disk before has lost it with the disk.
            let lost = &nodes[node].disk;
            let had = lost.taken.contains(&(message.from, *id)) || !lost.staged.is_empty();
            let arrived = message.to == node
                && !backup.taken.contains(&(message.from, *id))
                && (had || !is_owed(&nodes[message.from].disk, node, *id));
            message.excused |= sent_after || arrived;
        }
    }
}

fn is_owed(disk: &Disk, to: usize, message: u64) -> bool {
    disk.outbox.get(&to).is_some_and(|outbox| outbox.values().any(|owed| *owed == Owed::ToDevice(message)))
}
