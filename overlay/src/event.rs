//! What the overlay tells the node: requests of peers, and what happens to links.

use bytes::Bytes;
use http::{Request, Response};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::time::UnixMillis;
use tokio::sync::oneshot;

use crate::error::RouteError;

/// What came in from a peer.
pub enum Arrival {
    /// A request over an established link. The peer is proven; headers that claim an origin mean nothing.
    Request {
        /// Who asks.
        peer: NodeName,
        /// What the link allows him.
        class: LinkClass,
        /// The request; its target has no host.
        request: Request<Bytes>,
        /// Takes the answer. Dropping it answers 503; it is closed when the peer gave up waiting.
        reply: oneshot::Sender<Response<Bytes>>,
    },
}

/// How a link came about, and so what it may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkClass {
    /// By a contact link: everything.
    Contact,
    /// By an introduction: what belongs to shared rooms, no invites.
    Room,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// We made a contact link or an introduction; nobody has answered.
    Offered,
    /// The user pasted a contact link; its maker has not been reached yet. The overlay tries again by itself.
    Dialling,
    /// Our contact link was answered: the user has yet to `confirm` the name.
    AwaitsUs,
    /// Our side is done; the peer has yet to confirm, or to hear from us.
    AwaitsPeer,
    /// In use.
    Established,
    /// An alarm closed it. It stays in the list until it is forgotten.
    Closed,
}

/// What is known of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Which link; equal on both sides.
    pub id: LinkId,
    /// The node at the other end, as soon as it has shown itself. Proven only from `AwaitsUs` on.
    pub peer: Option<NodeName>,
    /// How far it is.
    pub state: LinkState,
    /// What it may carry.
    pub class: LinkClass,
    /// When it was offered or added.
    pub created: UnixMillis,
    /// When the peer last proved to be there.
    pub last_seen: Option<UnixMillis>,
    /// Which route the open stream takes; none while nothing is open.
    pub route: Option<&'static str>,
}

impl LinkInfo {
    /// Whether a stream to or from the peer is open.
    pub fn is_connected(&self) -> bool {
        self.route.is_some()
    }
}

/// What happened to a link. After a `Lagged` error of the channel, `Overlay::links` tells the present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stream with the peer is open: what waits for him can go.
    LinkUp {
        /// The node at the other end.
        peer: NodeName,
    },
    /// The last stream with the peer has closed.
    LinkDown {
        /// The node at the other end.
        peer: NodeName,
    },
    /// Somebody answered our contact link: the user is to compare the name and `confirm` or `remove`.
    Pending {
        /// Who answered.
        peer: NodeName,
    },
    /// The maker of a contact link could not be reached, or closed the stream without a word. It is tried again later.
    ContactFailed {
        /// Which link.
        id: LinkId,
        /// Why.
        error: RouteError,
    },
    /// A link is ready for requests.
    Established {
        /// The node at the other end.
        peer: NodeName,
    },
    /// A peer showed a newer key document. `Overlay::key_document` has it.
    KeyDocument {
        /// Whose it is.
        peer: NodeName,
    },
    /// Something that the user must know about.
    Alarm {
        /// What.
        alarm: Alarm,
    },
}

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Two nodes answered one contact link: it was seen by somebody else. Neither was kept; make a new one and hand it over in a safer way.
    TwoAnswers {
        /// Who answered first.
        first: NodeName,
        /// Who answered second.
        second: NodeName,
    },
    /// A peer showed two key documents of one generation: somebody else has his identity key, or he restored a backup badly.
    KeyDocument {
        /// Whose documents they are.
        peer: NodeName,
    },
}
