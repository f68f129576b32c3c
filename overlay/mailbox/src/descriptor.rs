//! The descriptor: a signed, expiring record of how to reach a node: its mailboxes' hosts, its direct addresses, its onion service
//! (overlay.md, section 6). Contacts get it as an item, and the newest holds. CBOR array
//! `[1, name, issued ms, expiry ms, ways, signature]`, signed by a signing key of the node over
//! `"millpond/descriptor/1" || CBOR [1, name, issued, expiry, ways]`.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::{
    key_document::KeyDocument,
    labels,
    name::NodeName,
    signing_key::SigningKey,
    time::UnixMillis,
    way::{Way, WayError, check_ways},
};

/// How to reach a node. Only `verify` makes one out of foreign bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Whose it is.
    pub name: NodeName,
    /// When it was made: the newest holds.
    pub issued: UnixMillis,
    /// From then on it says nothing.
    pub expiry: UnixMillis,
    /// The ways.
    pub ways: Vec<Way>,
}

impl Descriptor {
    /// Signs a descriptor of our own.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let signed = self.signed();
        let wire = Wire(
            VERSION,
            self.name.clone(),
            self.issued,
            self.expiry,
            self.ways.clone(),
            ByteArray::new(key.sign(&signed)),
        );
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }

    /// Reads and checks the descriptor of the node of this key document.
    ///
    /// # Errors
    /// If it is of another node, not signed by it, over, or from a future that no clock explains.
    pub fn verify(bytes: &[u8], of: &KeyDocument, now: UnixMillis) -> Result<Self, DescriptorError> {
        if bytes.len() > MAX_DESCRIPTOR_LEN {
            return Err(DescriptorError::Form);
        }
        let Wire(version, name, issued, expiry, ways, signature) =
            serde_cbor::from_slice(bytes).map_err(|_| DescriptorError::Form)?;
        if version != VERSION {
            return Err(DescriptorError::Form);
        }
        if name != *of.name() {
            return Err(DescriptorError::OtherNode);
        }
        check_ways(&ways, 0).map_err(|source| DescriptorError::Ways { source })?;
        let descriptor = Self { name, issued, expiry, ways };
        let (signed, signature) = (descriptor.signed(), signature.into_array());
        if !of.verify_keys().values().any(|key| key.verifies(&signed, &signature)) {
            return Err(DescriptorError::Signature);
        }
        if now >= expiry || issued > now.after(SKEW) || expiry > issued.after(LONGEST) {
            return Err(DescriptorError::Time);
        }
        Ok(descriptor)
    }

    fn signed(&self) -> Vec<u8> {
        let wire = Signed(VERSION, &self.name, self.issued, self.expiry, &self.ways);
        let mut bytes = labels::DESCRIPTOR.to_vec();
        serde_cbor::to_writer(&mut bytes, &wire).expect("writing CBOR to memory does not fail");
        bytes
    }
}

/// Addresses stay out of logs.
impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Descriptor({} ways)", self.ways.len())
    }
}

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Not the CBOR array that it should be.
    #[error("the descriptor cannot be read")]
    Form,
    /// Of a node other than the one that it is said to be of.
    #[error("the descriptor is of another node")]
    OtherNode,
    /// No signing key of the node made it.
    #[error("the descriptor is not signed by its node")]
    Signature,
    /// Over, too long, or not begun.
    #[error("the descriptor is over, or its times are impossible")]
    Time,
    /// The ways are not acceptable.
    #[error("the ways in the descriptor are refused: {source}")]
    Ways {
        /// What is wrong with them.
        source: WayError,
    },
}

#[derive(Serialize, Deserialize)]
struct Wire(u8, NodeName, UnixMillis, UnixMillis, Vec<Way>, ByteArray<64>);

#[derive(Serialize)]
struct Signed<'a>(u8, &'a NodeName, UnixMillis, UnixMillis, &'a [Way]);

const VERSION: u8 = 1;
/// Clocks of two nodes may be a day apart.
const SKEW: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Of any descriptor: as long as a mailbox is open.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(37 * 86_400);
/// Bytes: the name, eight ways and what CBOR puts around them.
pub const MAX_DESCRIPTOR_LEN: usize = 4_096;
