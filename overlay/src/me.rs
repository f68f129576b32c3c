//! Who this node is: what it certifies its links with, and what it tells contacts.

use millpond_mailbox::identity::IdentityKey;
use millpond_mailbox::key_document::{KeyDocument, Verdict};
use millpond_mailbox::name::NodeName;
use millpond_mailbox::signing_key::SigningKey;
use millpond_mailbox::xwing::XWingSecret;

use crate::error::Error;

/// The identity of the node that an overlay runs for.
pub struct Me {
    /// Names the node and certifies the keys of its links.
    pub identity: IdentityKey,
    /// The current key document; its intro key is the public half of `intro_secret`.
    pub key_document: KeyDocument,
    /// Opens introductions to this node.
    pub intro_secret: XWingSecret,
    /// Signs what contacts are told of our hosts; its public half is in the key document.
    pub signing: SigningKey,
}

impl Me {
    /// The node's name.
    pub fn name(&self) -> &NodeName {
        self.key_document.name()
    }

    /// Takes a newer document of the same node.
    pub(crate) fn set_key_document(&mut self, document: KeyDocument) -> Result<(), Error> {
        let doing = "take the new key document";
        if document.name() != self.name() {
            return Err(Error::Contact { doing, why: "it is of another node".to_owned() });
        }
        match document.against(Some(&self.key_document)) {
            Verdict::Alarm | Verdict::Older => {
                Err(Error::Contact { doing, why: "its generation is not above the present one".to_owned() })
            }
            _ => {
                self.key_document = document;
                Ok(())
            }
        }
    }
}
