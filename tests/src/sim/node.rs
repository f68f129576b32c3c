//! One node: its disk, what it has in memory while it runs, and the steps between which it can be killed. What a link is, is decided
//! by the real sessions; the driver and the outbox around them are modelled after `overlay/src/driver/mail` and `node/src/outbox`.

use std::collections::{BTreeMap, BTreeSet};

use millpond_mailbox::{
    host_key::HostKey,
    host_protocol::Cursor,
    mailbox::MailboxSecret,
    name::NodeName,
    schedule::Mode,
    secrets::LinkId,
    session::{DepositId, InEvent, Outcome},
    stamp::{MailboxId, Serial},
    time::UnixMillis,
};
use ruma::OwnedRoomId;

use super::{
    checks::Checks,
    disk::Disk,
    fate::{Fate, Killed},
    people::Person,
    random::SimRng,
    stats::Stats,
    trace::Trace,
};

mod carry;
mod mailboxes;
mod outbox;
mod rooms;

pub use rooms::member;

use carry::Carried;

/// A node.
pub struct Node {
    /// Its number.
    pub index: usize,
    /// What is on its disk.
    pub disk: Disk,
    /// What is in memory; none while it does not run.
    pub memory: Option<Memory>,
    /// How often it was started: what comes for an earlier life is lost.
    pub life: u32,
    /// How far its clock is ahead.
    pub skew: i64,
    /// How it reaches its hosts.
    pub mode: Mode,
    /// Hosts of its mailboxes.
    pub hosts: Vec<usize>,
    /// Peers with whom the link was made anew.
    pub renewed: BTreeSet<usize>,
    /// It lies: it passes nothing on, and says that it has served everybody.
    pub byzantine: bool,
    rng: SimRng,
}

/// What a kill takes away.
pub struct Memory {
    sessions: BTreeMap<usize, Carried>,
    peers: BTreeMap<LinkId, usize>,
    reading: BTreeMap<MailboxId, Reading>,
    /// The next send slot in paced mode, by the node's clock.
    slot: UnixMillis,
    /// Something waited for it when it was last looked at.
    slot_wanted: bool,
    /// When the node is woken next, in true time.
    wake: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        let (sessions, peers, reading) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { sessions, peers, reading, slot: UnixMillis(0), slot_wanted: false, wake: None }
    }
}

impl Memory {
    /// Notes whether something is due by the next slot.
    fn want_slot(&mut self) {
        self.slot_wanted = self.sessions.values().any(|carried| carried.due.is_some_and(|due| due <= self.slot));
    }
}

/// How far a mailbox is read.
#[derive(Clone)]
struct Reading {
    cursor: Cursor,
    /// A poll is under way.
    polling: bool,
    /// Something came meanwhile.
    again: bool,
    /// Serials that the host was told in vain to delete.
    undeleted: Vec<Serial>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { cursor: Cursor(0), polling: false, again: false, undeleted: Vec::new() }
    }
}

/// What a step of a node may use.
pub struct Step<'a> {
    /// True time.
    pub now: u64,
    /// Whether it dies here.
    pub fate: &'a mut Fate,
    /// What happened.
    pub trace: &'a mut Trace,
    /// Checks of events.
    pub checks: &'a mut Checks,
    /// What leaves the node.
    pub out: &'a mut Vec<Out>,
    /// Counts.
    pub stats: &'a mut Stats,
    /// What does not change in a run.
    pub fixed: &'a Fixed,
}

/// What does not change in a run.
pub struct Fixed {
    /// Keys.
    pub people: Vec<Person>,
    /// Numbers of nodes.
    pub names: BTreeMap<NodeName, usize>,
    /// Numbers of rooms.
    pub rooms: BTreeMap<OwnedRoomId, usize>,
    /// Members of each.
    pub members: Vec<BTreeSet<usize>>,
    /// Keys of hosts.
    pub hosts: Vec<HostKey>,
    /// Whether commits that may wait do.
    pub lazy: bool,
}

/// What leaves a node.
pub enum Out {
    /// A deposit.
    Put {
        /// For whom.
        peer: usize,
        /// Names it.
        deposit: DepositId,
        /// Where.
        host: HostKey,
        /// What.
        bytes: Vec<u8>,
    },
    /// A poll.
    Fetch {
        /// Where.
        host: usize,
        /// Of which mailbox.
        secret: Box<MailboxSecret>,
        /// From where on.
        after: Cursor,
    },
    /// A deletion.
    Delete {
        /// Where.
        host: usize,
        /// In which mailbox.
        secret: Box<MailboxSecret>,
        /// What.
        serials: Vec<Serial>,
    },
    /// The node wants to be woken.
    Wake {
        /// When.
        at: u64,
    },
}

impl Node {
    /// A node that does not run.
    #[must_use]
    pub fn new(index: usize, hosts: Vec<usize>, mode: Mode, skew: i64, rng: SimRng) -> Self {
        Self {
            index,
            disk: Disk::default(),
            memory: None,
            life: 0,
            skew,
            mode,
            hosts,
            renewed: BTreeSet::new(),
            byzantine: false,
            rng,
        }
    }

    /// What its clock says.
    #[must_use]
    pub fn clock(&self, now: u64) -> UnixMillis {
        UnixMillis(now.saturating_add_signed(self.skew))
    }

    fn true_time(&self, at: UnixMillis) -> u64 {
        at.0.saturating_add_signed(-self.skew)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether the link with a peer sleeps: nothing came through for 30 days.
    #[must_use]
    pub fn sleeps(&self, peer: usize) -> bool {
        let carried = self.memory.as_ref().and_then(|memory| memory.sessions.get(&peer));
        carried.is_some_and(|carried| carried.session.is_dormant())
    }

    /// What is in memory is gone.
    pub fn stop(&mut self) {
        self.memory = None;
        self.life += 1;
    }

    /// Starts from the disk.
    ///
    /// # Errors
    /// When it dies.
    pub fn start(&mut self, step: &mut Step<'_>) -> Result<(), Killed> {
        let mut memory = Memory::default();
        for (peer, rows) in &self.disk.sessions {
            let carried = Carried::read(rows);
            memory.peers.insert(carried.link(), *peer);
            memory.sessions.insert(*peer, carried);
        }
        self.memory = Some(memory);
        step.trace.note(step.now, format_args!("{} starts", self.index));
        self.work(step)?;
        self.post_all(step)?;
        self.poll_all(step);
        self.set_wake(step);
        Ok(())
    }

    /// Its timer.
    ///
    /// # Errors
    /// When it dies.
    pub fn wake(&mut self, at: u64, step: &mut Step<'_>) -> Result<(), Killed> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        if memory.wake != Some(at) {
            return Ok(());
        }
        memory.wake = None;
        self.slots(step)?;
        self.set_wake(step);
        Ok(())
    }

    /// A host has answered a deposit, or has not.
    ///
    /// # Errors
    /// When it dies.
    pub fn on_outcome(
        &mut self,
        peer: usize,
        deposit: DepositId,
        outcome: Outcome,
        step: &mut Step<'_>,
    ) -> Result<(), Killed> {
        self.feed(peer, InEvent::Outcome { deposit, outcome }, &[], step)?;
        self.set_wake(step);
        Ok(())
    }

    /// Wakes the node when the first session wants it.
    fn set_wake(&mut self, step: &mut Step<'_>) {
        let now = self.clock(step.now);
        let Some(memory) = &self.memory else { return };
        let Some(due) = memory.sessions.values().filter_map(|carried| carried.due).min() else { return };
        let at = millpond_mailbox::schedule::slot_for(self.mode, due, memory.slot);
        let at = self.true_time(at.max(UnixMillis(now.0 + BREATH)));
        if memory.wake.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(memory) = &mut self.memory {
            memory.wake = Some(at);
        }
        step.out.push(Out::Wake { at });
    }
}

/// Between two looks, as in the driver: what a client sends in one go goes in one envelope.
const BREATH: u64 = 50;
