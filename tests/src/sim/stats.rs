//! Counts of a run.

use std::ops::AddAssign;

/// How much of everything there was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Events that users made.
    pub events: u64,
    /// Events that were written by nodes that others made.
    pub received: u64,
    /// To-device messages that users sent.
    pub messages: u64,
    /// Deposits that reached hosts.
    pub deposits: u64,
    /// Commits of sessions.
    pub commits: u64,
    /// Nodes killed.
    pub kills: u64,
    /// Commits that failed.
    pub failures: u64,
    /// Links that were made anew.
    pub hellos: u64,
    /// Links that went to sleep.
    pub dormant: u64,
    /// Links that nothing but a new contact link would bring back.
    pub no_way_back: u64,
    /// What the judge found to be a host's doing.
    pub host_faults: u64,
    /// What sessions found to be a peer's doing.
    pub misbehaved: u64,
    /// Events that waited for others.
    pub parked: u64,
    /// Members for whom a branch was open after the healing that was not for others.
    pub branches: u64,
    /// Milliseconds from the healing until everything was everywhere.
    pub healed_ms: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.received += other.received;
        self.messages += other.messages;
        self.deposits += other.deposits;
        self.commits += other.commits;
        self.kills += other.kills;
        self.failures += other.failures;
        self.hellos += other.hellos;
        self.dormant += other.dormant;
        self.no_way_back += other.no_way_back;
        self.host_faults += other.host_faults;
        self.misbehaved += other.misbehaved;
        self.parked += other.parked;
        self.branches += other.branches;
        self.healed_ms = self.healed_ms.max(other.healed_ms);
    }
}
