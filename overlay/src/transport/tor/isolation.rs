//! Which streams may share a circuit: those with one and the same isolation, and no others.

use std::fmt;

use arti_client::{IsolationToken, StreamPrefs};
use millpond_mailbox::rand_core::Rng;

use crate::clock;

/// Streams with equal isolations may share circuits. Every [`Isolation::fresh`] differs from all others.
#[derive(Clone)]
pub struct Isolation {
    token: IsolationToken,
    /// The same for a SOCKS proxy, which goes by user names.
    user: [u8; 16],
}

impl Isolation {
    /// One that nothing else has.
    pub fn fresh() -> Self {
        let mut user = [0; 16];
        clock::random().fill_bytes(&mut user);
        Self { token: IsolationToken::new(), user }
    }

    pub(super) fn prefs(&self) -> StreamPrefs {
        let mut prefs = StreamPrefs::new();
        prefs.set_isolation(self.token);
        prefs
    }

    /// A name that tells a proxy no more than that.
    pub(super) fn user(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.user)
    }
}

impl PartialEq for Isolation {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl Eq for Isolation {}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolation(..)")
    }
}
