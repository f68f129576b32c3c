//! What the overlay tells the node: requests of peers, and what happens to links.

use bytes::Bytes;
use http::{Request, Response};
use millpond_mailbox::host_key::HostKey;
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
    /// How it stands over mailboxes; none while it is not carried by them.
    pub mail: Option<MailInfo>,
    /// The peer's addresses are known, but dialling any of them would show ours, which is not to be.
    pub hidden: bool,
}

/// How a link stands over mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailInfo {
    /// Bytes of items that can be offered now.
    pub room: usize,
    /// Frames that the peer has not acknowledged.
    pub unacknowledged: usize,
    /// Something is being put into its mailboxes, or is about to be.
    pub busy: bool,
    /// Stamps that we hold for the peer's mailboxes.
    pub stamps: usize,
    /// Nothing is sent until the peer is heard: 30 days without a word.
    pub dormant: bool,
    /// When the peer was last heard.
    pub last_heard: Option<UnixMillis>,
}

/// A mailbox of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its host.
    pub host: HostKey,
    /// For what comes after a restore, or months.
    pub recovery: bool,
    /// Out of use; read until it closes.
    pub draining: bool,
    /// When it was made.
    pub opened: UnixMillis,
    /// The host announces what comes, on an open connection.
    pub listening: bool,
    /// When it was last read.
    pub read: Option<UnixMillis>,
    /// The host is reached as an onion service.
    pub onion: bool,
}

/// The mailbox host of a contact, who offers to keep a mailbox there for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LodgingInfo {
    /// The contact.
    pub peer: NodeName,
    /// Its host.
    pub host: HostKey,
    /// The host is reached as an onion service.
    pub onion: bool,
    /// A mailbox of this node is there.
    pub in_use: bool,
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
    /// Something of a peer came out of a mailbox and is staged.
    Mail {
        /// The node at the other end.
        peer: NodeName,
    },
    /// What was offered to a peer's mailboxes and is not under way is forgotten: it is to be offered again.
    MailForgotten {
        /// The node at the other end.
        peer: NodeName,
    },
    /// A link was made anew after one side had been set back: what only the earlier line knew is to be told again.
    Restored {
        /// The node at the other end.
        peer: NodeName,
    },
    /// Tor works again after it did not: who was tried in vain meanwhile may be there.
    WayBack,
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
