//! What a backup holds of a session (overlay.md, section 5).

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Session, SessionError, hello::HelloState, state::State};
use crate::{
    name::NodeName,
    secrets::{LinkId, RestoreKey},
    stamp::Stamp,
};

/// What a backup holds of a link: enough to say HELLO, nothing that opens what was said before.
#[derive(Clone, Serialize, Deserialize)]
pub struct Backup {
    link: LinkId,
    me: NodeName,
    peer: NodeName,
    rk: RestoreKey,
    recovery: Vec<Stamp>,
    incarnation: u64,
    peer_incarnation: u64,
}

impl Backup {
    /// Of which link it is.
    #[must_use]
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// With whom.
    #[must_use]
    pub fn peer(&self) -> &NodeName {
        &self.peer
    }

    /// For the backup file, which is encrypted.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let packed = serde_cbor::to_vec(self).expect("writing CBOR to memory does not fail");
        Zeroizing::new([&[VERSION], packed.as_slice()].concat())
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SessionError> {
        let (version, body) = bytes.split_first().ok_or(SessionError::Stored { version: 0 })?;
        let parsed = if *version == VERSION { serde_cbor::from_slice(body).ok() } else { None };
        parsed.ok_or(SessionError::Stored { version: *version })
    }
}

impl Session {
    /// What goes into a backup. Taken anew after every change of `link_secrets`' line or of the recovery stamps: an old one works as
    /// long as its stamp was not used.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let state = &self.state;
        let (incarnation, peer_incarnation) = state.hello.incarnations();
        Backup {
            link: state.link,
            me: state.me.clone(),
            peer: state.peer.clone(),
            rk: state.rk.clone(),
            recovery: state.wallet.recovery().to_vec(),
            incarnation,
            peer_incarnation,
        }
    }

    /// The record of a session as a backup may hold it: at its first slot it says HELLO. `None` if it could not: the link was taken out
    /// of use, or the peer has no recovery mailbox.
    #[must_use]
    pub fn record_for_backup(record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let session = Self::from_record(record).ok()?;
        if session.is_revoked() || session.state.wallet.recovery().is_empty() {
            return None;
        }
        Some(Self::from_backup(session.backup()).state.to_bytes())
    }

    /// The link out of a backup. At its first slot it says HELLO.
    #[must_use]
    pub fn from_backup(backup: Backup) -> Self {
        let Backup { link, me, peer, rk, recovery, incarnation, peer_incarnation } = backup;
        let mut state = State::new(link, me, peer, rk, None);
        state.wallet.set_recovery(recovery);
        state.hello = HelloState::set_back((incarnation, peer_incarnation));
        Self::with_state(state)
    }
}

const VERSION: u8 = 1;
