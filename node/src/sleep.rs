//! A device that sleeps. Who knows of it beforehand - the embedding program of a phone, a script of the operating system - says so; a laptop's lid says
//! nothing, but the clocks tell afterwards that time has passed in which nothing ran.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Error, NodeHandle};

/// When the clocks were looked at.
#[derive(Clone, Copy)]
struct Look {
    /// Stands still while a device sleeps, on most systems.
    running: Instant,
    wall: SystemTime,
}

impl Look {
    fn now() -> Self {
        Self { running: Instant::now(), wall: SystemTime::now() }
    }

    /// How long nothing ran between two looks that were to be `EVERY` apart; none for less than what a busy machine takes. A clock that was set
    /// forward looks the same, and waking once too often does no harm.
    fn slept_until(self, now: Self) -> Option<Duration> {
        let running = now.running.saturating_duration_since(self.running);
        let wall = now.wall.duration_since(self.wall).unwrap_or_default();
        let slept = running.max(wall).saturating_sub(EVERY);
        (slept >= SLEEP).then_some(slept)
    }
}

impl NodeHandle {
    /// The device goes to sleep, or the program to where it may not work: streams close, nothing is dialled or polled, and Tor's background work rests.
    /// What is owed stays owed. Clients are answered as ever. Doing it twice changes nothing.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn suspend(&self) -> Result<(), Error> {
        tracing::info!("going to sleep");
        self.links.suspend().await
    }

    /// The device is awake: mailboxes are read and contacts called at once, and what waited for another attempt does not wait any longer.
    ///
    /// # Errors
    /// When the overlay has stopped.
    pub async fn resume(&self) -> Result<(), Error> {
        self.links.wake().await?;
        self.peers.wake();
        Ok(())
    }

    /// Wakes whenever the clocks say that the device has slept.
    pub(crate) async fn watch_clocks(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Look::now();
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let now = Look::now();
            if let Some(slept) = last.slept_until(now) {
                tracing::info!(seconds = slept.as_secs(), "the device has slept: everything is tried anew");
                self.links.suspend().await?;
                self.resume().await?;
            }
            last = now;
        }
        Ok(())
    }
}

/// How often the clocks are looked at.
const EVERY: Duration = Duration::from_secs(5);
/// No machine is so busy that nothing runs for so long.
const SLEEP: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn after(look: Look, running: u64, wall: i64) -> Look {
        let wall = match wall {
            0.. => look.wall + Duration::from_secs(wall.unsigned_abs()),
            _ => look.wall - Duration::from_secs(wall.unsigned_abs()),
        };
        Look { running: look.running + Duration::from_secs(running), wall }
    }

    #[test]
    fn a_sleep_shows_in_the_wall_clock_or_in_a_tick_that_came_late() {
        let look = Look::now();
        for (running, wall, slept) in [
            (5, 5, None),
            (15, 15, None),
            (5, 3_605, Some(3_600)),
            (30, 30, Some(25)),
            // The clock was set back.
            (5, -3_600, None),
        ] {
            assert_eq!(
                look.slept_until(after(look, running, wall)),
                slept.map(Duration::from_secs),
                "{running} {wall}"
            );
        }
    }
}
