//! Who shows up on the local network, when the user chose to be visible there. Whose node it is only the secret of a link can tell, so a newcomer is a
//! reason to try every contact that is not connected.

use tokio::time::sleep;

use super::held::Outbound;
use super::{Command, Driver};
use crate::clock;
use crate::transport::Address;

impl Driver {
    /// Follows what the transports see nearby, for as long as the overlay runs.
    pub(super) fn watch_nearby(&self) {
        for transport in &self.transports {
            let (transport, driver, closing) = (transport.clone(), self.to_self.clone(), self.closing.clone());
            let watch = async move {
                loop {
                    transport.nearby_found().await;
                    if driver.send(Command::Nearby).await.is_err() {
                        return;
                    }
                    // Anybody on the network can announce a new address at any time.
                    sleep(BETWEEN).await;
                }
            };
            self.tasks.spawn(async move {
                closing.run_until_cancelled(watch).await;
            });
        }
    }

    /// Somebody new is nearby: whoever is not connected may be it. An attempt that runs already finds the newcomer when it has failed.
    pub(super) fn on_nearby(&mut self) {
        if self.asleep {
            return;
        }
        let now = clock::now();
        let away = self.links.values_mut().filter(|held| held.route().is_none());
        let (mut unfinished, mut apart) = (Vec::new(), Vec::new());
        for held in away {
            if held.link.wants_first_contact(now) {
                unfinished.push(held.link.id());
            } else if held.link.established_peer().is_some() && matches!(held.outbound, Outbound::Closed) {
                held.outbound = Outbound::Opening(Vec::new());
                apart.push(held.link.id());
            }
        }
        unfinished.into_iter().for_each(|id| self.contact_now(id));
        apart.into_iter().for_each(|id| self.open_stream(id));
    }

    /// Addresses of those seen nearby, the newcomers first.
    pub(super) fn nearby(&self) -> impl Iterator<Item = Address> {
        self.transports.iter().flat_map(|transport| transport.nearby().into_iter().rev()).take(MAX_NEARBY)
    }
}

/// Addresses on the local network that are asked whether they are the peer's: a node has about four.
pub(super) const MAX_NEARBY: usize = 32;
/// Newcomers within this time are tried together.
const BETWEEN: std::time::Duration = std::time::Duration::from_secs(3);
