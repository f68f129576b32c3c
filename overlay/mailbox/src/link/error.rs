//! Why a link refuses, and what to do about it.

use crate::{
    bundle::BundleError, contact_link::ContactLinkError, exchange::DoesNotOpen, name::NodeName, olm::OlmError,
    way::WayError,
};

/// Why a link cannot be made, or does not take a message.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The contact link cannot be made.
    #[error("making the contact link: {source}")]
    ContactLink {
        /// What is wrong with it.
        source: ContactLinkError,
    },
    /// The user pasted a link of this node.
    #[error("this contact link was made by this node itself; open it on the other one")]
    OwnLink,
    /// The offer has ended.
    #[error("the contact link has expired; ask for a new one")]
    Expired,
    /// The link was removed, or an alarm closed it.
    #[error("the link is closed")]
    Closed,
    /// A message that a link in this role and phase does not take.
    #[error("a {message} message that this link does not wait for")]
    Unexpected {
        /// Its kind.
        message: &'static str,
    },
    /// A second, different box for one contact link.
    #[error("a second box for one contact link, different from the first")]
    OtherBox,
    /// The bundle is of another node than the contact link or the introduction says.
    #[error("{found} is not the node that this link is for")]
    OtherNode {
        /// Whose bundle it is.
        found: NodeName,
    },
    /// The other side's bundle is refused.
    #[error("the other side's bundle is refused: {source}")]
    Bundle {
        /// What is wrong with it.
        source: BundleError,
    },
    /// The answer does not open.
    #[error("the answer is refused: {source}")]
    Answer {
        /// What is wrong with it.
        source: DoesNotOpen,
    },
    /// The Olm message does not open.
    #[error("the confirmation is refused: {source}")]
    Olm {
        /// What is wrong with it.
        source: OlmError,
    },
    /// The Olm message opens, but is about another exchange.
    #[error("the confirmation is about another exchange than this one")]
    OtherTranscript,
    /// The new ways are not acceptable.
    #[error("the ways are refused: {source}")]
    Ways {
        /// What is wrong with them.
        source: WayError,
    },
    /// The stored row cannot be read.
    #[error("the stored link cannot be read (version {version})")]
    Stored {
        /// Its first byte, 0 if there is none.
        version: u8,
    },
}

/// What a program does about a `LinkError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Show it: the user did something that cannot work.
    TellUser,
    /// The other side is at fault: close the stream, keep the link.
    DropPeer,
    /// Our own state or arguments are wrong.
    Bug,
}

impl LinkError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ContactLink { .. } | Self::OwnLink | Self::Expired => ErrorKind::TellUser,
            Self::Stored { .. } | Self::Olm { source: OlmError::Stored } => ErrorKind::Bug,
            _ => ErrorKind::DropPeer,
        }
    }
}
