//! What a stream to a host is used for, told at debug level: by it a test sees from the host's side that who polls a mailbox on a stream deposits
//! nothing on it, and polls no other. Neither mailboxes nor addresses are named.

use bytes::Bytes;
use millpond_mailbox::host::StreamId;
use millpond_mailbox::host_protocol::Request;
use millpond_mailbox::stamp::MailboxId;

/// What one stream was used for so far.
pub(super) struct Purpose {
    stream: StreamId,
    deposits: bool,
    /// The mailbox that was last asked for.
    mailbox: Option<MailboxId>,
    mailboxes: u32,
}

impl Purpose {
    pub(super) fn new(stream: StreamId) -> Self {
        Self { stream, deposits: false, mailbox: None, mailboxes: 0 }
    }

    /// Takes note of a request; costs nothing unless somebody reads the log at this level.
    pub(super) fn note(&mut self, message: &Bytes) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Ok((_, request)) = Request::parse(message.clone()) else { return };
        let changed = match &request {
            Request::Put(_) | Request::Take { .. } => !std::mem::replace(&mut self.deposits, true),
            Request::Owner(request) => self.is_another(request.content.mailbox),
            Request::Create(request) => self.is_another(request.content.mailbox),
            Request::Tokens { .. } => false,
        };
        if changed {
            let Self { stream, deposits, mailboxes, .. } = self;
            tracing::debug!(stream = stream.0, deposits, mailboxes, "a stream is used");
        }
    }

    fn is_another(&mut self, mailbox: MailboxId) -> bool {
        let another = self.mailbox.replace(mailbox) != Some(mailbox);
        self.mailboxes += u32::from(another);
        another
    }
}
