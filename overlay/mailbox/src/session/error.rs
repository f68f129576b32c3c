//! Why a session cannot be begun or read.

use crate::{bundle::BundleError, link::LinkError, olm::OlmError};

/// Why a session cannot be begun or read.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The link is not far enough, or closed.
    #[error("the link is not ready for mailboxes")]
    NotReady,
    /// There is no stamp for the peer's mailbox.
    #[error("the other side gave no stamp that an answer could use")]
    NoStamp,
    /// The stored record cannot be read.
    #[error("the stored session cannot be read (version {version})")]
    Stored {
        /// Its first byte, 0 if there is none.
        version: u8,
    },
    /// The Olm part is damaged.
    #[error("the session's keys are unusable: {source}")]
    Olm {
        /// What is wrong.
        source: OlmError,
    },
    /// The link refuses.
    #[error("{source}")]
    Link {
        /// Why.
        source: LinkError,
    },
    /// The other side's bundle does not hold.
    #[error("the other side's bundle is refused: {source}")]
    Bundle {
        /// What is wrong with it.
        source: BundleError,
    },
}
