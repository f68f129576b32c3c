//! One run, and what came of it.

use super::{
    plan::Plan,
    stats::Stats,
    verdict::{self, When},
    world::World,
};

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Whose.
    pub seed: u64,
    /// What is wrong; nothing if all is well.
    pub faults: Vec<String>,
    /// Counts.
    pub stats: Stats,
    /// Hash of the trace.
    pub digest: String,
    /// Lines of the trace.
    pub lines: u64,
}

/// Runs a plan. `aloud`: the trace is printed.
#[must_use]
pub fn run(plan: Plan, aloud: bool) -> Report {
    let seed = plan.seed;
    let mut world = World::new(plan, aloud);
    let settled = world.run();
    let mut faults = verdict::faults(&world, When::BranchesOpen);
    if faults.is_empty() {
        faults = verdict::faults(&world, When::AllSaid);
    }
    if !settled && faults.is_empty() {
        faults.push("a node does not run".to_owned());
    }
    Report { seed, faults, stats: world.stats, digest: world.trace.digest(), lines: world.trace.lines() }
}
