//! What handles and the driver's own tasks ask of it.

use bytes::Bytes;
use millpond_mailbox::contact_link::ContactLink;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostLink;
use millpond_mailbox::introduction::Introduction;
use millpond_mailbox::key_document::KeyDocument;
use millpond_mailbox::message::Message;
use millpond_mailbox::name::NodeName;
use millpond_mailbox::secrets::LinkId;
use millpond_mailbox::session::Offered;
use millpond_mailbox::stamp::MailboxId;
use millpond_mailbox::token::Grant;
use tokio::sync::oneshot;

use super::held::StreamId;
use super::intro::OpenedIntro;
use crate::error::{Error, RouteError};
use crate::event::{LodgingInfo, MailboxInfo};
use crate::hello::Hello;
use crate::http::client::Channel;
use crate::transport::Address;

/// What handles and our own tasks ask of the driver.
pub(crate) enum Command {
    /// A stream to send requests on.
    Lease {
        to: NodeName,
        reply: Waiter,
    },
    /// A stream turned out to be closed.
    Broken {
        to: NodeName,
        stream: StreamId,
    },
    Listen {
        reply: oneshot::Sender<Result<Vec<Address>, Error>>,
    },
    ListenAgain {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Addresses {
        reply: oneshot::Sender<Result<Vec<Address>, Error>>,
    },
    /// Tor works again.
    WayBack,
    /// The device goes to sleep.
    Suspend {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// It is awake.
    Resume {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Offer {
        reply: oneshot::Sender<Result<ContactLink, Error>>,
    },
    Accept {
        link: ContactLink,
        reply: oneshot::Sender<Result<LinkId, Error>>,
    },
    Confirm {
        peer: NodeName,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Remove {
        peer: NodeName,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Forget {
        id: LinkId,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Introduce {
        to: KeyDocument,
        room_id: String,
        reply: oneshot::Sender<Result<Introduction, Error>>,
    },
    OpenIntro {
        intro: Introduction,
        reply: oneshot::Sender<Result<OpenedIntro, Error>>,
    },
    TakeIntro {
        carrier: NodeName,
        opened: OpenedIntro,
        reply: oneshot::Sender<Result<Vec<Introduction>, Error>>,
    },
    SetKeyDocument {
        document: KeyDocument,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    KeyDocument {
        peer: NodeName,
        reply: oneshot::Sender<Result<KeyDocument, Error>>,
    },
    /// Items for a peer's mailboxes.
    Post {
        to: NodeName,
        items: Vec<Offered>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    AddMailbox {
        link: HostLink,
        leave: Grant,
        instead_of: Option<HostKey>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Mailboxes {
        reply: oneshot::Sender<Result<Vec<MailboxInfo>, Error>>,
    },
    /// The hosts that contacts have shown.
    Lodgings {
        reply: oneshot::Sender<Result<Vec<LodgingInfo>, Error>>,
    },
    /// A mailbox at the host of a contact.
    Lodge {
        with: NodeName,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    LeaveHost {
        host: HostKey,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Somebody new is on the local network.
    Nearby,
    /// A host says that something has come.
    Announced {
        mailbox: MailboxId,
    },
    /// A peer has posted stamps on a stream.
    Stamps {
        link: LinkId,
        body: Bytes,
        reply: oneshot::Sender<bool>,
    },
    /// A contact has shown its mailbox host on a stream.
    HostShown {
        link: LinkId,
        body: Bytes,
        reply: oneshot::Sender<bool>,
    },
    /// A peer said hello on a stream that he opened.
    Hello {
        link: LinkId,
        stream: StreamId,
        hello: Hello,
        reply: oneshot::Sender<Hello>,
    },
    /// A message of first contact came in.
    Contact {
        link: LinkId,
        stream: StreamId,
        message: Message,
    },
    /// A stream's task has ended.
    StreamEnded {
        link: LinkId,
        stream: StreamId,
    },
}

/// Somebody who waits for a stream.
pub(crate) type Waiter = oneshot::Sender<Result<Lease, RouteError>>;

/// A stream to send requests on.
pub(crate) struct Lease {
    pub(crate) channel: Channel,
    pub(crate) stream: StreamId,
}
