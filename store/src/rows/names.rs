//! Nodes with a name in the DNS: what each says, and when HTTPS proved it.

use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

use crate::value::cbor_value;

/// The name in the DNS that a node says it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNode {
    /// The name.
    pub server_name: OwnedServerName,
    /// When the key document at that name showed the node's identity last, in milliseconds since the epoch; 0: it did not,
    /// and the node speaks for nobody.
    pub proven_at_ms: u64,
    /// When that was looked for last.
    pub tried_at_ms: u64,
    /// How often it was looked for in vain since.
    pub failures: u32,
}

impl NamedNode {
    /// What a node says, before anybody has looked.
    pub fn claimed(server_name: OwnedServerName) -> Self {
        Self { server_name, proven_at_ms: 0, tried_at_ms: 0, failures: 0 }
    }

    /// Whether the name is the node's.
    pub fn is_proven(&self) -> bool {
        self.proven_at_ms > 0
    }
}

cbor_value!(NamedNode);
