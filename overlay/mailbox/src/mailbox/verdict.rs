//! What the owner makes of a fetched envelope: is it from the contact who holds the stamp, or is it the host's doing?

use serde::{Deserialize, Serialize};

use super::{BatchId, MailboxSecret};
use crate::{
    deposit::Deposit,
    host_key::HostKey,
    secrets::LinkId,
    stamp::{Class, StampSeed},
};

/// What the owner keeps about a serial that he gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// To whom.
    pub link: LinkId,
    /// In which batch.
    pub batch: BatchId,
    /// For which size of envelope.
    pub class: Class,
    /// Whether an envelope under it was received.
    pub used: bool,
    /// Whether the contact was revoked since.
    pub revoked: bool,
}

/// What a fetched envelope is. In every case it is then to be deleted at the host.
#[derive(Clone)]
pub enum Verdict {
    /// The contact made it. If the body does not open, that is the contact's doing.
    Contact {
        /// Which contact.
        link: LinkId,
        /// Key material of the envelope.
        seed: StampSeed,
    },
    /// One that was received before: the host was not told to delete it, or told in vain. Nothing is to be done.
    Again,
    /// From a contact who was revoked. Dropped in silence.
    Revoked,
    /// No contact made it.
    Host(HostFault),
}

/// How one knows that an envelope is the host's doing and never the contact's: the host had to check all of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// It lies in another mailbox.
    #[error("the host handed out an envelope of another mailbox")]
    Mailbox,
    /// The owner never gave this serial out, or for the other size.
    #[error("the host handed out an envelope under a stamp that was never issued")]
    NeverIssued,
    /// The key in the header is not the one that the owner derived.
    #[error("the host handed out an envelope under a key that is not the stamp's")]
    Key,
    /// The holder of the stamp did not sign it.
    #[error("the host handed out an envelope that the holder of the stamp did not sign")]
    Signature,
}

impl MailboxSecret {
    /// What is to be kept about a serial of this recovery mailbox of which nothing is kept: it was given to one of these links after the backup that its
    /// owner was set up from. `None`: to none of them. What it costs is one key for each link.
    #[must_use]
    pub fn recognise(&self, fetched: &Deposit, links: impl IntoIterator<Item = LinkId>) -> Option<Issued> {
        let (serial, key) = (fetched.header().serial(), fetched.header().verify_key());
        let of_link =
            |link| Issued { link, batch: self.recovery_batch(link), class: Class::S, used: false, revoked: false };
        let is_under = |issued: &Issued| self.batch_seed(issued.batch).stamp_seed(serial).verify_key() == key;
        links.into_iter().map(of_link).find(is_under)
    }

    /// Judges what this host handed out; `issued` is what the owner keeps about the serial in its header.
    #[must_use]
    pub fn judge(&self, host: &HostKey, fetched: &Deposit, issued: Option<&Issued>) -> Verdict {
        let header = fetched.header();
        if header.mailbox() != self.id() {
            return Verdict::Host(HostFault::Mailbox);
        }
        let Some(issued) = issued.filter(|issued| issued.class == header.class()) else {
            return Verdict::Host(HostFault::NeverIssued);
        };
        let seed = self.batch_seed(issued.batch).stamp_seed(header.serial());
        if seed.verify_key() != header.verify_key() {
            return Verdict::Host(HostFault::Key);
        }
        if !fetched.is_signed_for(host) {
            return Verdict::Host(HostFault::Signature);
        }
        match issued {
            Issued { revoked: true, .. } => Verdict::Revoked,
            Issued { used: true, .. } => Verdict::Again,
            Issued { link, .. } => Verdict::Contact { link: *link, seed },
        }
    }
}
