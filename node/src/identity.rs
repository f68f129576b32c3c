//! Who this node is: its server name and the key that signs its events. "Ours" is asked of [`Identity::is_ours`], never
//! compared with a global.

use std::sync::Arc;

use ruma::{OwnedServerName, ServerName, UserId, signatures::Ed25519KeyPair};

/// The node's name and signing key. Cloning is cheap.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    server_name: OwnedServerName,
    signing_key: Ed25519KeyPair,
}

impl Identity {
    /// An identity of known parts.
    pub fn new(server_name: OwnedServerName, signing_key: Ed25519KeyPair) -> Self {
        Self(Arc::new(Inner { server_name, signing_key }))
    }

    /// The server name: the part after the colon of our users' ids.
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// The key that signs events and requests.
    pub fn signing_key(&self) -> &Ed25519KeyPair {
        &self.0.signing_key
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
