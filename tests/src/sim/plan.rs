//! What a run is made of: how many, how long, and what goes wrong how often. A seed draws one; a flag changes one thing of it.

use super::random::SimRng;

/// Milliseconds.
pub const SECOND: u64 = 1_000;
/// Milliseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// Milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// Milliseconds.
pub const DAY: u64 = 24 * HOUR;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Nodes, one user each.
    pub nodes: usize,
    /// Mailbox hosts; the last one is Byzantine, if one is.
    pub hosts: usize,
    /// Rooms; everybody is in the first, about half in each other.
    pub rooms: usize,
    /// Links that each node makes, beside the ring that holds all together.
    pub links: usize,
    /// Days with faults; then the network heals.
    pub days: u64,
    /// Days after that until everything has to be everywhere.
    pub heal_days: u64,
    /// Times at which users do something.
    pub bursts: usize,
    /// Events of each burst.
    pub events: usize,
    /// To-device messages of each burst.
    pub to_device: usize,
    /// What goes wrong.
    pub faults: Faults,
}

/// What goes wrong, in thousandths where nothing else is said.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Requests to hosts that are lost.
    pub lose: u32,
    /// Answers of hosts that are lost.
    pub lose_answer: u32,
    /// Deposits that arrive twice.
    pub repeat: u32,
    /// Announcements that are lost.
    pub deaf: u32,
    /// The longest way of a message in milliseconds; the shortest takes a hundredth of it.
    pub delay: u64,
    /// A node is killed at a step: before or after a commit, before a message leaves.
    pub kill: u32,
    /// Milliseconds for which it is down then, on average; one in ten for six hours, unless these are seconds.
    pub down: u64,
    /// Ten-thousandths of commits that fail.
    pub disk: u32,
    /// Whether what may wait for the next commit does.
    pub lazy: bool,
    /// Partitions: a host or a link that some nodes cannot reach for some hours.
    pub partitions: usize,
    /// Times at which a host is down for some hours.
    pub host_down: usize,
    /// Hosts that lose everything.
    pub wipes: usize,
    /// The last host is Byzantine.
    pub byzantine_host: bool,
    /// The last node is Byzantine.
    pub byzantine_member: bool,
    /// Clocks are wrong by up to this many milliseconds.
    pub skew: u64,
    /// A node is away for so many days.
    pub away: Vec<u64>,
    /// Nodes that are set up again from an old backup.
    pub restores: usize,
    /// Direct meetings of linked nodes that are up, a day.
    pub meetings: u64,
    /// Whether members without a link are introduced at meetings.
    pub introductions: bool,
    /// Whether somebody enters the first room later, by an invite and what comes with it; invited by the Byzantine one, if there is one.
    pub newcomer: bool,
}

impl Plan {
    /// The plan of a seed: many kinds of faults together, each seed another mixture.
    #[must_use]
    pub fn of_seed(seed: u64, nodes: usize, hosts: usize) -> Self {
        let mut rng = SimRng::new(seed);
        let often = |rng: &mut SimRng, most: u64| u32::try_from(rng.below(most)).unwrap_or(0);
        let mut faults = Faults {
            lose: often(&mut rng, 120),
            lose_answer: often(&mut rng, 120),
            repeat: often(&mut rng, 100),
            deaf: often(&mut rng, 200),
            delay: [2 * SECOND, 30 * SECOND, 20 * MINUTE][rng.index(3)],
            kill: often(&mut rng, 12),
            down: 3 * MINUTE,
            disk: often(&mut rng, 20),
            lazy: rng.chance(500),
            partitions: rng.index(4),
            host_down: rng.index(4),
            wipes: usize::from(rng.chance(300)),
            byzantine_host: hosts > 2,
            byzantine_member: rng.chance(400),
            skew: [0, 10 * MINUTE, 9 * HOUR][rng.index(3)],
            away: Vec::new(),
            restores: usize::from(rng.chance(250)),
            meetings: u64::from(rng.chance(300)),
            introductions: false,
            newcomer: rng.chance(300),
        };
        // Who loses its disk and then both of its hosts has lost more than is promised.
        faults.wipes *= 1 - faults.restores;
        // A link that is younger than the backup is not in it, and is made anew by hand.
        faults.introductions = faults.restores == 0 && rng.chance(400);
        let mut days = rng.between(6, 16);
        match rng.below(8) {
            0 => faults.away.push(30),
            1 => faults.away.push(60),
            _ => {}
        }
        // Nor is anything promised to who is away while one of his hosts loses everything and the other lies.
        faults.byzantine_host &= faults.wipes == 0 || faults.away.is_empty();
        if let Some(away) = faults.away.iter().max() {
            days = days.max(away + 6);
        }
        Self {
            seed,
            nodes,
            hosts,
            rooms: 1 + rng.index(2),
            links: rng.index(2),
            days,
            heal_days: 60,
            bursts: 2 + rng.index(3),
            events: nodes / 2 + 2,
            to_device: nodes / 2 + 2,
            faults,
        }
    }

    /// Many events through few links, with kills at random and nothing else.
    #[must_use]
    pub fn flood(seed: u64, events: usize) -> Self {
        let (nodes, bursts) = (4, events.div_ceil(2_000).max(1));
        let faults = Faults {
            delay: 2 * SECOND,
            kill: 1,
            down: 2 * SECOND,
            lose: 20,
            lose_answer: 20,
            repeat: 10,
            ..Faults::default()
        };
        let each = events.div_ceil(bursts);
        let days = (bursts as u64).div_ceil(8).max(2);
        Self {
            seed,
            nodes,
            hosts: 3,
            rooms: 1,
            links: 2,
            days,
            heal_days: 40,
            bursts,
            events: each,
            to_device: 50,
            faults,
        }
    }
}
