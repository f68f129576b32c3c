//! Who finds whom: the keys of links, for onion services that show themselves to contacts only.

use std::sync::Arc;

use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};

use super::Driver;
use super::held::{Held, rank};
use crate::clock;
use crate::secure::KnockKind;

impl Driver {
    /// What finds the peer of a link, the likeliest first: before it has our answer it admits the key of the contact link only.
    pub(super) fn keys_to(&self, held: &Held, kind: KnockKind) -> Arc<[DiscoverySecret]> {
        let first_contact = held.link.first_contact_discovery(clock::now());
        let keys = match kind {
            KnockKind::FirstContact => [first_contact, self.of_link(held)],
            KnockKind::Requests => [self.of_link(held), first_contact],
        };
        keys.into_iter().flatten().collect()
    }

    /// Tells the transports who may find us, if that has changed: peers of links, and whoever has a contact link that can still be answered or
    /// will be made next.
    pub(super) fn admit(&mut self) {
        if !self.transports.iter().any(|transport| transport.is_restricted()) {
            return;
        }
        let now = clock::now();
        let mut links: Vec<&Held> = self.links.values().collect();
        links.sort_by_key(|held| std::cmp::Reverse(rank(&held.link)));
        let keys = |held: &&Held| [self.of_link(held), held.link.first_contact_discovery(now)];
        let spare = self.spare.discovery();
        let secrets = [spare].into_iter().chain(links.iter().flat_map(keys).flatten());
        let admitted: Vec<DiscoveryKey> = secrets.map(|secret| secret.public()).collect();
        if admitted == self.admitted {
            return;
        }
        self.transports.iter().for_each(|transport| transport.admit(admitted.clone()));
        self.admitted = admitted;
    }

    fn of_link(&self, held: &Held) -> Option<DiscoverySecret> {
        held.link.discovery().or_else(|| held.link.established_peer().and_then(|_| self.mail.discovery(held.link.id())))
    }
}
