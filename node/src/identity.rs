//! Who this node is (overlay.md, "Names and keys"): the identity key names it and signs nothing but the key document; a
//! separate signing key signs events. "Ours" is asked of [`Identity::is_ours`], never compared with a global.

use std::{collections::BTreeMap, sync::Arc};

use millpond_mailbox::{
    identity::IdentityKey,
    key_document::{DocumentKeys, KeyDocument, build_named},
    name::NodeName,
    signing_key::SigningKey,
    time::UnixMillis,
    xwing::XWingSecret,
};
use millpond_matrix::signing::Ed25519KeyPair;
use ruma::{OwnedServerName, ServerName, UserId};

mod files;

pub(crate) use files::write_private;

pub use files::KeyFileError;

/// The node's name and keys. Cloning is cheap.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    server_name: OwnedServerName,
    identity_key: IdentityKey,
    intro_secret: XWingSecret,
    signing_key: Ed25519KeyPair,
    key_document: KeyDocument,
    /// The same key as `signing_key`, as the key document wants it.
    signing: SigningKey,
}

/// The secret of the PeerId that contacts dial through relays; made at first use, and of no other use.
///
/// # Errors
/// When its file cannot be read or written.
pub fn peer_key(data_dir: &std::path::Path) -> Result<[u8; 32], KeyFileError> {
    files::peer_key(data_dir)
}

/// The key that events are signed with by this node as a policy server; made at first use, and of no other use.
///
/// # Errors
/// When its file cannot be read or written.
pub(crate) fn policy_key(data_dir: &std::path::Path) -> Result<Ed25519KeyPair, KeyFileError> {
    files::policy_key(data_dir)
}

impl Identity {
    /// Reads the keys of a data directory, or makes them at first run. The files are readable by their owner only.
    ///
    /// # Errors
    /// When a file cannot be read or written, or does not hold a key.
    pub fn load_or_create(data_dir: &std::path::Path) -> Result<Self, KeyFileError> {
        Self::load_or_create_named(data_dir, None)
    }

    /// The same, for a node that a name in the DNS may have been chosen for. The name is taken at first run only.
    ///
    /// # Errors
    /// Also when the node has another name.
    pub fn load_or_create_named(data_dir: &std::path::Path, wanted: Option<&ServerName>) -> Result<Self, KeyFileError> {
        let dns_name = files::dns_name(data_dir, wanted)?;
        let (identity, signing, intro) = files::load_or_create(data_dir)?;
        Self::of_keys(identity, signing, intro, dns_name)
    }

    fn of_keys(
        identity_key: IdentityKey,
        signing: SigningKey,
        intro_secret: XWingSecret,
        dns_name: Option<OwnedServerName>,
    ) -> Result<Self, KeyFileError> {
        let key_document = files::document(&identity_key, &signing, &intro_secret, dns_name.as_deref())?;
        let name = key_document.name().as_str();
        let key_name = || OwnedServerName::try_from(name).expect("56 base32 characters and .onion are a server name");
        let server_name = dns_name.unwrap_or_else(key_name);
        let signing_key = files::ruma_key(&signing);
        Ok(Self(Arc::new(Inner { server_name, identity_key, intro_secret, signing_key, key_document, signing })))
    }

    /// Whether the node's name is one of the DNS. Only such a node can be in classic rooms.
    pub fn is_dns_named(&self) -> bool {
        self.0.server_name.as_str() != self.node_name().as_str()
    }

    /// The document for `/_matrix/key/v2/server`, under the server name. That of a key-named node holds until it is
    /// superseded; under a DNS name it runs out at `valid_until`, so that classic servers fetch it again.
    pub fn public_document(&self, valid_until: UnixMillis) -> Vec<u8> {
        if !self.is_dns_named() {
            return self.0.key_document.as_bytes().to_vec();
        }
        let signing = &self.0.signing;
        let keys = DocumentKeys {
            generation: signing.generation(),
            current: &[signing],
            old: &BTreeMap::new(),
            intro_key: Some(&self.0.intro_secret.public()),
        };
        build_named(&self.0.identity_key, &keys, self.0.server_name.as_str(), valid_until)
            .expect("the same keys made the key-form document")
    }

    /// The server name: the part after the colon of our users' ids.
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// The server name as the overlay knows it.
    pub fn node_name(&self) -> &NodeName {
        self.0.key_document.name()
    }

    /// The key that signs events and requests.
    pub fn signing_key(&self) -> &Ed25519KeyPair {
        &self.0.signing_key
    }

    /// The same key in the overlay's type.
    pub fn node_signing_key(&self) -> &SigningKey {
        &self.0.signing
    }

    /// The key that names the node; for the overlay.
    pub fn identity_key(&self) -> &IdentityKey {
        &self.0.identity_key
    }

    /// What introductions are opened with; for the overlay.
    pub fn intro_secret(&self) -> &XWingSecret {
        &self.0.intro_secret
    }

    /// The document that others verify our signatures with.
    pub fn key_document(&self) -> &KeyDocument {
        &self.0.key_document
    }

    /// Whether a server name is this node's.
    pub fn is_ours(&self, server_name: &ServerName) -> bool {
        *server_name == *self.0.server_name
    }

    /// Whether a user lives here.
    pub fn is_our_user(&self, user_id: &UserId) -> bool {
        self.is_ours(user_id.server_name())
    }
}
