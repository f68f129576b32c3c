//! What can go wrong, and what the caller should do about it.

use millpond_mailbox::name::NodeName;

use crate::store::StoreError;
use crate::transport::TransportError;

/// Why a request got no response. `kind` of each says what to do: only `Unreachable`, `Timeout`, `Closed` and `Refused` are worth another attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no established link to this node.
    #[error("there is no link to this node; exchange a contact link first")]
    NoLink,
    /// Nobody answered at any known address. Try again later, or when `LinkUp` says so.
    #[error("the node does not answer at any address it gave")]
    Unreachable,
    /// The deadline passed. The peer may or may not have acted on the request.
    #[error("the node did not answer before the deadline")]
    Timeout,
    /// Somebody answered at an address and closed the stream without a word: the peer removed the link, or another node has the address now.
    #[error("the node at the address closed the stream without an answer; it may have removed this contact")]
    Refused,
    /// The request, or the response, is over the limit.
    #[error("the {what} is over the limit of {limit} bytes")]
    TooLarge {
        /// "request" or "response".
        what: &'static str,
        /// In bytes.
        limit: usize,
    },
    /// The request cannot be sent as it is: a bug in the caller.
    #[error("the request is malformed: {why}")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// The stream broke, or the overlay is shutting down. The peer may or may not have acted on the request.
    #[error("the stream to the node closed before the response was complete")]
    Closed,
}

impl RouteError {
    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::Refused | Self::Closed)
    }
}

/// Why the overlay did not do what the user or the node asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A transport failed.
    #[error("cannot {doing}")]
    Transport {
        /// What was tried.
        doing: &'static str,
        /// What the transport said.
        source: TransportError,
    },
    /// The link store failed; nothing of the step was done.
    #[error("cannot {doing}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// What the store returned cannot be read.
    #[error("the stored {what} cannot be read: {why}; it was written by another version, or is damaged")]
    Stored {
        /// Which kind of record.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The contact link, introduction or the peer's message is not acceptable.
    #[error("cannot {doing}: {why}")]
    Contact {
        /// What was tried.
        doing: &'static str,
        /// What is wrong.
        why: String,
    },
    /// There is nothing of this name to act on.
    #[error("there is no {what} for {peer}")]
    Unknown {
        /// "link" or "pending contact".
        what: &'static str,
        /// The peer asked for.
        peer: NodeName,
    },
    /// A bound is reached.
    #[error("too many {what}: the limit is {limit}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// First contact could not be carried out now; it can be tried again with the same link.
    #[error("cannot reach the node that made the contact link")]
    Unreachable {
        /// Why the stream did not come about.
        source: RouteError,
    },
    /// The mailbox host cannot run.
    #[error("cannot run the mailbox host: {why}")]
    Host {
        /// What is wrong.
        why: String,
    },
    /// The overlay was shut down.
    #[error("the overlay is shut down")]
    Stopped,
}
