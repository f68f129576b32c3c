//! Which addresses a node may dial and tell. One rule: from Tor there is no silent way back to anything that shows an IP address. If Tor is down, what
//! goes over it waits.
//!
//! | | no onion route in use | an onion route in use | Tor only |
//! |---|---|---|---|
//! | onion addresses | by Tor | by Tor | by Tor |
//! | addresses of contacts that show ours | dialled, told | only with `direct = true` | never |
//! | a host that has an onion address too | by Tor | by Tor | by Tor |
//! | HTTP | from here | through exits | through exits |
//!
//! An onion route is in use when a mailbox of this node is at an onion service, or it has a service of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Record, RecordKind};
use crate::transport::Address;
use crate::transport::tor::{Tor, is_onion};

/// The routes of one node.
pub struct Routes {
    tor: Option<Tor>,
    only: bool,
    direct: Option<bool>,
    in_use: AtomicBool,
}

impl Routes {
    /// Without Tor: everything is direct, and onion addresses are not dialled.
    pub fn without_tor() -> Self {
        Self { tor: None, only: false, direct: Some(true), in_use: AtomicBool::new(false) }
    }

    /// With Tor for onion addresses. `direct` is the owner's word about showing his IP address to contacts, if he has given one.
    pub fn with_tor(tor: Tor, direct: Option<bool>) -> Self {
        Self { tor: Some(tor), only: false, direct, in_use: AtomicBool::new(false) }
    }

    /// Nothing leaves but through Tor.
    pub fn tor_only(tor: Tor) -> Self {
        Self { tor: Some(tor), only: true, direct: Some(false), in_use: AtomicBool::new(true) }
    }

    /// None at all.
    pub fn closed() -> Self {
        Self { tor: None, only: true, direct: Some(false), in_use: AtomicBool::new(true) }
    }

    /// Tor, unless it is switched off.
    pub fn tor(&self) -> Option<&Tor> {
        self.tor.as_ref()
    }

    /// Whether there is no other way than Tor, whatever happens.
    pub fn is_tor_only(&self) -> bool {
        self.only
    }

    /// An onion route is in use, from now on.
    pub fn note_onion(&self) {
        if self.tor.is_some() && !self.in_use.swap(true, Ordering::Relaxed) && !self.shows_address() {
            tracing::info!("an onion route is in use: from now on nothing of this node shows its IP address");
        }
    }

    /// Whether HTTP goes through Tor.
    pub fn hides(&self) -> bool {
        self.only || (self.tor.is_some() && self.in_use.load(Ordering::Relaxed))
    }

    /// Whether contacts and hosts may see this node's IP address.
    pub fn shows_address(&self) -> bool {
        !self.only && self.direct.unwrap_or(!self.hides())
    }

    /// Of the addresses of one contact, those that may be dialled.
    pub fn to_contact(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let onion = self.tor.is_some() && addresses.iter().any(is_onion);
        let direct = self.shows_address() && (!onion || self.direct == Some(true));
        addresses.retain(|address| match is_onion(address) {
            true => onion,
            false => direct || !address.is_ip(),
        });
        addresses
    }

    /// Of the addresses of one mailbox host, those that may be dialled: its onion service if there is one.
    pub fn to_host(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let onion = self.tor.is_some() && addresses.iter().any(is_onion);
        let direct = self.shows_address() && !onion;
        addresses.retain(|address| match is_onion(address) {
            true => onion,
            false => direct || !address.is_ip(),
        });
        addresses
    }

    /// Of our own addresses, those that others may be told.
    pub fn told(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        let shown = self.shows_address();
        addresses.retain(|address| shown || !address.is_ip());
        addresses
    }
}

/// Whether stored records say that a mailbox is at an onion service: for a node that has not loaded them yet.
pub fn has_onion_mailbox(records: &[Record]) -> bool {
    let mailboxes = records.iter().filter(|record| record.key.kind == RecordKind::Mailbox);
    mailboxes.into_iter().any(|record| crate::driver::mailbox_is_onion(&record.bytes))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::transport::tor::TorConfig;

    const ONION: &str = "/onion3/duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad:7448";
    const IP: &str = "/ip4/192.0.2.1/udp/4001/quic-v1";
    const CIRCUIT: &str = "/ip4/192.0.2.9/tcp/7448/p2p/12D3KooWJ7xJbBcAMQeNZ6iYKbi9VSbMrdFWSLPmqfRUw5uHUhPd/p2p-circuit/p2p/12D3KooWJ7xJbBcAMQeNZ6iYKbi9VSbMrdFWSLPmqfRUw5uHUhPd";
    /// Over a connection that the peer made; nothing is dialled anew.
    const BACK: &str = "/p2p/12D3KooWJ7xJbBcAMQeNZ6iYKbi9VSbMrdFWSLPmqfRUw5uHUhPd";

    fn tor() -> Tor {
        Tor::new(TorConfig::new(PathBuf::from("/nowhere"))).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).unwrap()).collect()
    }

    fn shown(addresses: Vec<Address>) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn with_an_onion_route_in_use_nothing_that_shows_the_address_is_dialled_or_told() {
        let all = [BACK, IP, CIRCUIT];
        for routes in [Routes::with_tor(tor(), None), Routes::with_tor(tor(), Some(false)), Routes::tor_only(tor())] {
            routes.note_onion();
            assert_eq!(shown(routes.to_contact(addresses(&all))), [BACK]);
            assert_eq!(shown(routes.to_host(addresses(&[IP]))), [""; 0]);
            assert_eq!(shown(routes.told(addresses(&[IP, ONION]))), [ONION]);
            assert!(routes.hides() && !routes.shows_address());
        }
    }

    #[test]
    fn who_has_an_onion_address_is_reached_there_and_nowhere_else() {
        let routes = Routes::with_tor(tor(), None);
        assert_eq!(shown(routes.to_contact(addresses(&[IP, ONION]))), [ONION]);
        assert_eq!(shown(routes.to_host(addresses(&[IP, ONION]))), [ONION]);
        // Before any onion route is in use, the others are as ever.
        assert_eq!(shown(routes.to_contact(addresses(&[IP]))), [IP]);
        assert!(!routes.hides());
    }

    #[test]
    fn the_owners_word_for_direct_links_is_for_contacts_and_not_for_hosts_with_an_onion_address() {
        let routes = Routes::with_tor(tor(), Some(true));
        routes.note_onion();
        assert_eq!(shown(routes.to_contact(addresses(&[IP, ONION]))), [IP, ONION]);
        assert_eq!(shown(routes.to_host(addresses(&[IP, ONION]))), [ONION]);
        assert!(routes.hides(), "HTTP still goes through exits");
    }

    #[test]
    fn without_tor_onion_addresses_are_not_dialled() {
        let routes = Routes::without_tor();
        routes.note_onion();
        assert_eq!(shown(routes.to_contact(addresses(&[IP, ONION]))), [IP]);
        assert_eq!(shown(routes.to_host(addresses(&[IP, ONION]))), [IP]);
        assert!(!routes.hides());
    }
}
