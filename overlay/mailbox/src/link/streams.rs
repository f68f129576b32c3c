//! Which streams a link opens and accepts: first-contact streams under `s0`, request streams under `LS[e]`.

use super::{Link, Phase, Role};
use crate::{
    discovery::DiscoverySecret,
    name::NodeName,
    secrets::{Epoch, LinkId},
    stream::{Dialer, EphemeralSeed, HintTable, OPENING_LEN, StreamError, StreamKeys},
    time::UnixMillis,
};

/// What a stream carries; the secret that opened it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Messages of a first contact and nothing else.
    FirstContact,
    /// Requests of an established link, under the secret of this epoch.
    Requests(Epoch),
}

/// What a hint stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOwner {
    /// The link.
    pub link: LinkId,
    /// The other side of an established link; of a first contact nothing is proven yet.
    pub peer: Option<NodeName>,
    /// What the stream carries.
    pub kind: StreamKind,
}

impl Link {
    /// Opens a first-contact stream: the state to keep and the bytes to send first. `None` when the link has no use for
    /// one any more.
    ///
    /// # Errors
    /// Only if the Noise library refuses to work, which is a bug.
    pub fn dial_first_contact(
        &self,
        now: UnixMillis,
        seed: EphemeralSeed,
    ) -> Result<Option<(Dialer, [u8; OPENING_LEN])>, StreamError> {
        let keys = self.first_contact_keys(now);
        keys.map(|keys| Dialer::open(&keys, self.role(), now.day(), seed)).transpose()
    }

    /// Opens a request stream under the newest secret: the state to keep and the bytes to send first. `None` unless the
    /// link is established.
    ///
    /// # Errors
    /// Only if the Noise library refuses to work, which is a bug.
    pub fn dial_requests(
        &self,
        now: UnixMillis,
        seed: EphemeralSeed,
    ) -> Result<Option<(Dialer, [u8; OPENING_LEN])>, StreamError> {
        let newest = self.request_keys().next();
        newest.map(|(_, keys)| Dialer::open(&keys, self.role(), now.day(), seed)).transpose()
    }

    /// What finds the other side's onion service while the first contact is open: whoever has the contact link has it. As long as the offer lives,
    /// even when it was answered: a second answer has to be seen.
    #[must_use]
    pub fn first_contact_discovery(&self, now: UnixMillis) -> Option<DiscoverySecret> {
        if !self.first_contact_live(now) {
            return None;
        }
        self.data.s0.as_ref().map(|s0| s0.discovery())
    }

    /// What finds the other side's onion service from the answer on. `None` also when the link is carried by a session and its first secret is over:
    /// then `Session::discovery` is the same.
    #[must_use]
    pub fn discovery(&self) -> Option<DiscoverySecret> {
        let live = matches!(self.data.phase, Phase::Pending { .. } | Phase::Established);
        let first = self.data.secrets.iter().find(|secret| secret.epoch().0 == 0);
        first.filter(|_| live).map(|first| first.restore_key().discovery())
    }

    fn first_contact_keys(&self, now: UnixMillis) -> Option<StreamKeys> {
        if !self.first_contact_live(now) {
            return None;
        }
        self.data.s0.as_ref().map(|s0| s0.stream_keys())
    }

    /// Newest first.
    fn request_keys(&self) -> impl Iterator<Item = (Epoch, StreamKeys)> {
        let live = if self.data.phase == Phase::Established { self.data.secrets.as_slice() } else { &[] };
        live.iter().map(|secret| (secret.epoch(), secret.stream_keys()))
    }
}

/// The table of every stream that the node answers at the moment. Make it anew when a link changes or the day does.
#[must_use]
pub fn hint_table<'a>(links: impl IntoIterator<Item = &'a Link>, now: UnixMillis) -> HintTable<StreamOwner> {
    let mut table = HintTable::new(now.day());
    for link in links {
        let dialer: Role = link.role().other();
        if let Some(keys) = link.first_contact_keys(now) {
            let kind = StreamKind::FirstContact;
            table.insert(StreamOwner { link: link.id(), peer: None, kind }, keys, dialer);
        }
        for (epoch, keys) in link.request_keys() {
            let peer = link.established_peer().cloned();
            table.insert(StreamOwner { link: link.id(), peer, kind: StreamKind::Requests(epoch) }, keys, dialer);
        }
    }
    table
}
