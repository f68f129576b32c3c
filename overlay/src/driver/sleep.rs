//! A device that goes to sleep and wakes. Asleep nothing is dialled, polled or sent; awake everything is due at once, over new streams: those from before
//! are dead, though nobody may have noticed.

use super::Driver;
use super::held::{Held, Retry};
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
        self.mail.all_due(clock::now());
        let waiting = |held: &&mut Held| !held.retry.dialling;
        self.links.values_mut().filter(waiting).for_each(|held| held.retry = Retry::now());
        self.on_tick().await;
        self.mail_due().await;
    }
}
