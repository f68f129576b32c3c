//! Restricted discovery as arti has it: keys that the owner of a service admits, and keys that a dialler has. A dialler's key is in arti's key store only
//! while the dial runs, so that nothing on the disk tells the services of contacts.

use std::collections::{HashMap, HashSet};

use arti_client::{HsId, KeystoreSelector};
use millpond_mailbox::discovery::{DiscoveryKey, DiscoverySecret};
use parking_lot::Mutex;
use tor_hscrypto::pk::{HsClientDescEncKey, HsClientDescEncSecretKey};
use tor_hsservice::config::restricted_discovery::HsClientNickname;
use tor_llcrypto::pk::curve25519;

use super::arti::Client;

/// What is known of services that ask for keys, and which keys are in use.
#[derive(Default)]
pub(super) struct Keys {
    /// Services that asked for a key in this run.
    asking: Mutex<HashSet<String>>,
    /// Dials under way with a key, by service.
    lent: Mutex<HashMap<HsId, usize>>,
}

/// A key in arti's key store; it goes with the last dial that needs it.
pub(super) struct Lent<'a> {
    keys: &'a Keys,
    client: &'a Client,
    to: Option<HsId>,
}

impl Keys {
    /// Whether a service asked for a key.
    pub(super) fn are_asked_for(&self, host: &str) -> bool {
        self.asking.lock().contains(host)
    }

    /// It does.
    pub(super) fn note_asked(&self, host: &str) {
        let mut asking = self.asking.lock();
        if asking.len() >= SERVICES {
            asking.clear();
        }
        asking.insert(host.to_owned());
    }

    /// Lets dials to a service use this key; another one for the same service gives way to it.
    pub(super) fn lend<'a>(
        &'a self,
        client: &'a Client,
        host: &str,
        key: &DiscoverySecret,
    ) -> Result<Lent<'a>, arti_client::Error> {
        // What is no onion service takes no key; arti says so when it is dialled.
        let Ok(id) = host.parse::<HsId>() else { return Ok(Lent { keys: self, client, to: None }) };
        let mut lent = self.lent.lock();
        client.remove_service_discovery_key(KeystoreSelector::Primary, id)?;
        let secret = HsClientDescEncSecretKey::from(curve25519::StaticSecret::from(*key.as_bytes()));
        client.insert_service_discovery_key(KeystoreSelector::Primary, id, secret)?;
        *lent.entry(id).or_default() += 1;
        Ok(Lent { keys: self, client, to: Some(id) })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(id) = self.to else { return };
        let mut lent = self.keys.lent.lock();
        let left = lent.get(&id).map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            lent.insert(id, left);
            return;
        }
        lent.remove(&id);
        if let Err(error) = self.client.remove_service_discovery_key(KeystoreSelector::Primary, id) {
            tracing::debug!(kind = ?arti_client::HasKind::kind(&error), "the key of a contact stays in the key store");
        }
    }
}

/// The keys as a service is configured with them. There is always one more, which nobody has: without any, arti takes the service for open.
pub(super) fn for_service(keys: &[DiscoveryKey]) -> Result<Vec<(HsClientNickname, HsClientDescEncKey)>, String> {
    if keys.len() > MOST {
        tracing::warn!(most = MOST, "so many contacts find the onion service, and the others write to the mailboxes");
    }
    let nobody = DiscoveryKey(NOBODY);
    let mut unique: Vec<&DiscoveryKey> = keys.iter().take(MOST).chain([&nobody]).collect();
    unique.sort();
    unique.dedup();
    unique.into_iter().map(entry).collect()
}

fn entry(key: &DiscoveryKey) -> Result<(HsClientNickname, HsClientDescEncKey), String> {
    let name = format!("k{}", data_encoding::HEXLOWER.encode(&key.0));
    let nickname = name.parse::<HsClientNickname>().map_err(|e| format!("the name of a key: {e}"))?;
    let text = format!("descriptor:x25519:{}", data_encoding::BASE32_NOPAD.encode(&key.0));
    Ok((nickname, text.parse::<HsClientDescEncKey>().map_err(|e| format!("the key of a contact: {e}"))?))
}

/// More do not fit a service's descriptor of 50,000 bytes with room for its introduction points; arti recommends 160.
const MOST: usize = 150;
/// Services that are remembered to ask for a key.
const SERVICES: usize = 512;
/// SHA-256 of nothing as a point: nobody knows its secret.
const NOBODY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_for_nobody_yet_is_still_restricted() {
        assert_eq!(for_service(&[]).unwrap().len(), 1);
        let some = [DiscoveryKey([1; 32]), DiscoveryKey([2; 32]), DiscoveryKey([1; 32])];
        assert_eq!(for_service(&some).unwrap().len(), 3);
    }

    #[test]
    fn no_more_keys_are_admitted_than_fit_and_the_first_are_kept() {
        let many: Vec<DiscoveryKey> = (0..=255).map(|n| DiscoveryKey([n; 32])).collect();
        let admitted = for_service(&many).unwrap();
        assert_eq!(admitted.len(), MOST + 1);
        let names: Vec<String> = admitted.iter().map(|(name, _)| name.to_string()).collect();
        assert!(names.contains(&format!("k{}", "00".repeat(32))) && !names.contains(&format!("k{}", "ff".repeat(32))));
    }
}
