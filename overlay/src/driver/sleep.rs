//! A device that goes to sleep and wakes. Asleep nothing is dialled, polled or sent; awake everything is due at once, over new streams: those from before
//! are dead, though nobody may have noticed.

use tokio::time::sleep;

use super::held::{Held, Retry};
use super::{Command, Driver};
use crate::clock;
use crate::error::RouteError;

impl Driver {
    pub(super) fn suspend(&mut self) {
        self.asleep = true;
        for held in self.links.values_mut() {
            held.fail_waiters(RouteError::Unreachable);
            held.close();
        }
        self.mail.hang_up();
        if let Some(tor) = self.routes.tor() {
            tor.set_dormant(true);
        }
        self.publish();
    }

    pub(super) async fn resume(&mut self) {
        self.asleep = false;
        if let Some(tor) = self.routes.tor() {
            tor.set_dormant(false);
        }
        self.mail.woken();
        self.everything_due().await;
    }

    /// What waits for a better time does not wait any longer.
    pub(super) async fn everything_due(&mut self) {
        if self.asleep {
            return;
        }
        self.mail.all_due(clock::now());
        let waiting = |held: &&mut Held| !held.retry.dialling;
        self.links.values_mut().filter(waiting).for_each(|held| held.retry = Retry::now());
        self.on_tick().await;
        self.mail_due().await;
    }

    /// Follows Tor, for as long as the overlay runs: after an outage everything else was in vain as well, and waits for its own time.
    pub(super) fn watch_tor(&self) {
        let Some(tor) = self.routes.tor().cloned() else { return };
        let (driver, closing) = (self.to_self.clone(), self.closing.clone());
        let watch = async move {
            loop {
                tor.came_back().await;
                if driver.send(Command::WayBack).await.is_err() {
                    return;
                }
                // A network that comes and goes is not to keep the node busy.
                sleep(BETWEEN).await;
            }
        };
        self.tasks.spawn(async move {
            closing.run_until_cancelled(watch).await;
        });
    }
}

/// Between two outages that are taken for two.
const BETWEEN: std::time::Duration = std::time::Duration::from_secs(15);
