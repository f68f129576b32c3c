//! What goes wrong at a time of its own: partitions, hosts that are down or wiped, nodes that are away for weeks or set up again from an
//! old backup, clocks that jump. Loss, delay, repetition and kills are drawn where they happen.

use std::collections::BTreeMap;

use millpond_mailbox::session::{Backup, MapRows, OutEvent, RowKey, Session};

use super::{Happening, World, setup::START};
use crate::sim::{
    disk::Disk,
    plan::{DAY, HOUR},
};

/// One thing that goes wrong.
pub(super) enum Fault {
    /// These nodes do not reach this host for so long.
    Cut { nodes: Vec<usize>, host: usize, lasts: u64 },
    /// A host is down for so long.
    Down { host: usize, lasts: u64 },
    /// It is there again.
    Up { host: usize },
    /// It has lost everything.
    Wipe { host: usize },
    /// A node is away for so long.
    Away { node: usize, lasts: u64 },
    /// A backup is taken.
    Backup { node: usize },
    /// The node is lost and set up again from it.
    Restore { node: usize },
    /// A clock is set.
    Clock { node: usize, skew: i64 },
}

/// A backup: the disk, and of the links no more than it takes to say HELLO.
pub(super) struct Kept {
    at: u64,
    disk: Disk,
    links: BTreeMap<usize, Vec<u8>>,
}

impl World {
    pub(super) fn plan_faults(&mut self, end: u64) {
        let (plan, span) = (self.plan.clone(), end - START);
        let faults = plan.faults;
        for _ in 0..faults.partitions {
            let (at, host) = (START + self.rng.below(span), self.rng.index(plan.hosts));
            let nodes = (0..plan.nodes).filter(|_| self.rng.chance(400)).collect();
            let lasts = self.rng.wait(12 * HOUR);
            self.at(at, Happening::Fault(Fault::Cut { nodes, host, lasts }));
        }
        for _ in 0..faults.host_down {
            let (at, host) = (START + self.rng.below(span), self.rng.index(plan.hosts));
            let lasts = self.rng.wait(10 * HOUR);
            self.at(at, Happening::Fault(Fault::Down { host, lasts }));
        }
        for _ in 0..faults.wipes {
            // An honest one: of the Byzantine one nothing is expected anyway.
            let (at, host) = (START + self.rng.below(span), self.rng.index(plan.hosts.saturating_sub(1).max(1)));
            self.at(at, Happening::Fault(Fault::Wipe { host }));
        }
        for days in &faults.away {
            let node = self.rng.index(plan.nodes);
            let at = START + DAY + self.rng.below(3 * DAY);
            self.at(at, Happening::Fault(Fault::Away { node, lasts: days * DAY }));
        }
        for _ in 0..faults.restores {
            let node = self.rng.index(plan.nodes.saturating_sub(1).max(1));
            let backup = START + self.rng.below(span / 2);
            let restore = backup + self.rng.below(span / 2);
            self.at(backup, Happening::Fault(Fault::Backup { node }));
            self.at(restore, Happening::Fault(Fault::Restore { node }));
        }
        if faults.skew > 0 {
            let (at, node) = (START + self.rng.below(span), self.rng.index(plan.nodes));
            self.at(at, Happening::Fault(Fault::Clock { node, skew: 0 }));
        }
        for day in 0..plan.days {
            for _ in 0..faults.meetings {
                let at = START + day * DAY + self.rng.below(DAY);
                self.plan_meeting(at);
            }
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut { nodes, host, lasts } => {
                self.trace.note(self.now, format_args!("{nodes:?} are cut off from host {host}"));
                let until = self.now + lasts;
                self.cuts.extend(nodes.into_iter().map(|node| ((node, host), until)));
            }
            Fault::Down { host, lasts } => {
                self.trace.note(self.now, format_args!("host {host} is down"));
                self.hosts[host].up = false;
                self.at(self.now + lasts, Happening::Fault(Fault::Up { host }));
            }
            Fault::Up { host } => {
                self.hosts[host].up = true;
                self.hosts[host].restart();
            }
            Fault::Wipe { host } => {
                self.trace.note(self.now, format_args!("host {host} is wiped"));
                self.hosts[host].wipe();
            }
            Fault::Away { node, lasts } => {
                self.trace.note(self.now, format_args!("{node} is away"));
                self.nodes[node].stop();
                self.away.insert(node, self.now + lasts);
                self.at(self.now + lasts, Happening::Start { node });
            }
            Fault::Backup { node } => self.back_up(node),
            Fault::Restore { node } => self.restore(node),
            Fault::Clock { node, skew } => self.nodes[node].skew = skew,
        }
    }

    fn back_up(&mut self, node: usize) {
        self.trace.note(self.now, format_args!("{node} is backed up"));
        let disk = self.nodes[node].disk.clone();
        let session = |rows: &MapRows| Session::from_record(rows.0.get(&RowKey::Record)?).ok();
        let backup = |rows: &MapRows| session(rows).map(|session| session.backup().to_bytes().to_vec());
        let links = disk.sessions.iter().filter_map(|(peer, rows)| Some((*peer, backup(rows)?))).collect();
        self.backups.insert(node, Kept { at: self.now, disk, links });
    }

    fn restore(&mut self, node: usize) {
        let Some(kept) = self.backups.remove(&node) else { return };
        self.trace.note(self.now, format_args!("{node} is restored"));
        self.nodes[node].stop();
        self.ledger.set_back(node, kept.at, &kept.disk, &self.nodes);
        let Kept { mut disk, links, .. } = kept;
        disk.mailboxes.retain(|_, own| own.shown.recovery);
        disk.sessions.clear();
        for (peer, bytes) in links {
            let session = Session::from_backup(Backup::from_bytes(&bytes).expect("as it was written"));
            let mut rows = MapRows::default();
            if let OutEvent::Persist(commit) = session.first_commit() {
                rows.apply(&commit);
            }
            disk.sessions.insert(peer, rows);
        }
        self.nodes[node].disk = disk;
        for host in self.nodes[node].hosts.clone() {
            self.nodes[node].open_mailbox(host, &mut self.hosts[host], false, self.now);
        }
        self.owners.extend(self.nodes[node].disk.mailboxes.keys().map(|id| (*id, node)));
        self.at(self.now + HOUR, Happening::Start { node });
    }
}
