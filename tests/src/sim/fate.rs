//! Where a node dies: before or after a commit, before a message leaves. Drawn from a stream of its own, so that it can be turned off
//! without changing what else happens until then.

use super::random::SimRng;

/// The node is gone at this step: what it had in memory is lost, what is on its disk is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// Draws kills and failing commits.
pub struct Fate {
    rng: SimRng,
    kill: u32,
    disk: u32,
    /// Kills so far.
    pub kills: u64,
    /// Commits that failed so far.
    pub failures: u64,
}

impl Fate {
    /// Kills in thousandths of steps, failures in ten-thousandths of commits.
    #[must_use]
    pub fn new(rng: SimRng, kill: u32, disk: u32) -> Self {
        Self { rng, kill, disk, kills: 0, failures: 0 }
    }

    /// Between two steps.
    ///
    /// # Errors
    /// When the node dies here.
    pub fn step(&mut self) -> Result<(), Killed> {
        if !self.rng.chance(self.kill) {
            return Ok(());
        }
        self.kills += 1;
        Err(Killed)
    }

    /// Whether this commit fails.
    pub fn disk_fails(&mut self) -> bool {
        let fails = self.disk > 0 && self.rng.below(10_000) < u64::from(self.disk);
        self.failures += u64::from(fails);
        fails
    }

    /// The network heals: nothing goes wrong any more.
    pub fn end(&mut self) {
        (self.kill, self.disk) = (0, 0);
    }
}
