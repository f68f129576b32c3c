//! The bundle: what each side of a first contact tells the other about itself. It is the plaintext of the box and of the
//! answer (overlay.md, section 2). CBOR array
//! `[1, name, key document, olm identity, olm one-time, olm fallback, x-wing, certificate, ways, stamps]`.
//!
//! The certificate is the identity key's signature over `"millpond/olm-cert/1" || olm identity || x-wing`. It says only
//! "these keys are mine", not for whom they were made: the exchange itself is bound by MACs under shared secrets, so that a
//! relation cannot be proven to a third party. A stolen bundle is of no use, because the thief cannot make an Olm message
//! with the certified key. One-time and fallback key need no certificate: an altered one gives the sides different `th`.
//!
//! The ways are here because a link over direct streams needs those of the answerer too, as one over mailboxes needs
//! stamps; the stamps are a list of byte strings, each CBOR of a `frame::Grant`.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf, Bytes};
use vodozemac::Curve25519PublicKey;

use crate::{
    identity::IdentityKey,
    key_document::{KeyDocument, KeyDocumentError},
    labels,
    name::NodeName,
    way::{Way, WayError, check_ways},
    xwing::{XWingKeyError, XWingPublic},
};

/// A bundle that has passed every check.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The node's key document; it also says the name.
    pub key_document: KeyDocument,
    /// The public keys of the Olm account that was made for this link.
    pub olm: OlmKeys,
    /// The X-Wing key that was made for this link.
    pub xwing: XWingPublic,
    /// How to reach the node.
    pub ways: Vec<Way>,
    /// Stamps for the node's mailboxes, see `pickup`.
    pub stamps: Vec<Vec<u8>>,
}

/// Public keys of a fresh Olm account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OlmKeys {
    /// The certified key.
    pub identity: Curve25519PublicKey,
    /// For the one outbound session that the answerer makes.
    pub one_time: Curve25519PublicKey,
    /// For a session after that one.
    pub fallback: Curve25519PublicKey,
}

impl Bundle {
    /// Whose bundle it is.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        self.key_document.name()
    }

    /// Writes our own bundle, with its certificate.
    #[must_use]
    pub fn seal(&self, identity: &IdentityKey) -> Vec<u8> {
        let xwing = self.xwing.to_bytes();
        let certificate = identity.sign(labels::OLM_CERT, &certified(&self.olm, &xwing));
        let stamps: Vec<&Bytes> = self.stamps.iter().map(|stamp| Bytes::new(stamp)).collect();
        let wire = (
            VERSION,
            self.name(),
            Bytes::new(self.key_document.as_bytes()),
            Bytes::new(self.olm.identity.as_bytes()),
            Bytes::new(self.olm.one_time.as_bytes()),
            Bytes::new(self.olm.fallback.as_bytes()),
            Bytes::new(&xwing),
            Bytes::new(&certificate),
            &self.ways,
            stamps,
        );
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }

    /// Reads and checks the bundle of the other side.
    ///
    /// # Errors
    /// If anything in it is not as this module describes.
    pub fn open(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_LEN {
            return Err(BundleError::TooLong { length: bytes.len() });
        }
        let wire: Wire = serde_cbor::from_slice(bytes).map_err(|_| BundleError::Form)?;
        let Wire(version, name, document, identity, one_time, fallback, xwing, certificate, ways, stamps) = wire;
        if version != VERSION {
            return Err(BundleError::Version { version });
        }
        let key_document = KeyDocument::verify_for(&name, &document)
            .map_err(|source| BundleError::KeyDocument { source: Box::new(source) })?;
        let olm = OlmKeys {
            identity: Curve25519PublicKey::from_bytes(identity.into_array()),
            one_time: Curve25519PublicKey::from_bytes(one_time.into_array()),
            fallback: Curve25519PublicKey::from_bytes(fallback.into_array()),
        };
        let signed = certified(&olm, &xwing);
        if !name.identity_key().verifies(labels::OLM_CERT, &signed, &certificate.into_array()) {
            return Err(BundleError::Certificate);
        }
        let xwing = XWingPublic::from_bytes(&xwing).map_err(|source| BundleError::XWing { source })?;
        check_ways(&ways, 0).map_err(|source| BundleError::Ways { source })?;
        if stamps.len() > MAX_STAMPS || stamps.iter().any(|stamp| stamp.len() > MAX_STAMP_LEN) {
            return Err(BundleError::Stamps);
        }
        let stamps = stamps.into_iter().map(ByteBuf::into_vec).collect();
        Ok(Self { key_document, olm, xwing, ways, stamps })
    }
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// More bytes than fit an envelope.
    #[error("the bundle has {length} bytes, more than {MAX_BUNDLE_LEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not the CBOR array that it should be.
    #[error("the bundle cannot be read")]
    Form,
    /// Made by a later version.
    #[error("the bundle has version {version}, this node knows version {VERSION}")]
    Version {
        /// Its version.
        version: u8,
    },
    /// The key document inside is refused, or is of another node.
    #[error("the key document in the bundle is refused: {source}")]
    KeyDocument {
        /// What is wrong with it.
        source: Box<KeyDocumentError>,
    },
    /// The identity key did not certify the Olm and X-Wing keys.
    #[error("the certificate of the bundle's Olm and X-Wing keys does not verify")]
    Certificate,
    /// The X-Wing key is not acceptable.
    #[error("the X-Wing key of the bundle is refused: {source}")]
    XWing {
        /// What is wrong with it.
        source: XWingKeyError,
    },
    /// The ways are not acceptable.
    #[error("the ways in the bundle are refused: {source}")]
    Ways {
        /// What is wrong with them.
        source: WayError,
    },
    /// Too many stamps, or one too long.
    #[error("the stamps in the bundle are too many or too long")]
    Stamps,
}

fn certified(olm: &OlmKeys, xwing: &[u8]) -> Vec<u8> {
    [olm.identity.as_bytes().as_slice(), xwing].concat()
}

#[derive(Serialize, Deserialize)]
struct Wire(
    u8,
    NodeName,
    ByteBuf,
    ByteArray<32>,
    ByteArray<32>,
    ByteArray<32>,
    ByteBuf,
    ByteArray<64>,
    Vec<Way>,
    Vec<ByteBuf>,
);

const VERSION: u8 = 1;
/// Bytes; leaves room for seal and padding in an L envelope of 73,728.
pub const MAX_BUNDLE_LEN: usize = 65_536;
/// One per host; a node has two mailboxes and may be moving.
const MAX_STAMPS: usize = 8;
/// Bytes: a full batch of stamps with its host.
const MAX_STAMP_LEN: usize = 1_024;
