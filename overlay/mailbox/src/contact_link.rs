//! The contact link: how a node hands out, outside of any network of ours, the right to make a link with it once
//! (overlay.md, section 2). `millpond:` and base64url of the CBOR array `[v, s0, fingerprint, expiry, ways]`.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use serde_bytes::{ByteArray, Bytes};

use crate::{
    identity::{Fingerprint, IdentityPublicKey},
    secrets::{LinkId, S0},
    time::UnixMillis,
    way::{Way, WayError, check_ways},
};

/// A contact link. Whoever reads it can answer it, so it has no `Debug` output.
#[derive(Clone)]
pub struct ContactLink {
    s0: S0,
    fingerprint: Fingerprint,
    expiry: UnixMillis,
    ways: Vec<Way>,
}

impl ContactLink {
    /// Puts a link together. The expiry is rounded up to whole seconds.
    ///
    /// # Errors
    /// If there are no ways or too many, or one is too long.
    pub fn new(
        s0: S0,
        identity: &IdentityPublicKey,
        expiry: UnixMillis,
        ways: Vec<Way>,
    ) -> Result<Self, ContactLinkError> {
        check_ways(&ways, 1).map_err(|source| ContactLinkError::Way { source })?;
        let expiry = UnixMillis(expiry.0.div_ceil(1_000).saturating_mul(1_000));
        Ok(Self { s0, fingerprint: identity.fingerprint(), expiry, ways })
    }

    /// Reads a link as a user pastes it: blanks around it are ignored, anything else is strict.
    ///
    /// # Errors
    /// If the text is not exactly a link of version 1.
    pub fn parse(text: &str) -> Result<Self, ContactLinkError> {
        let text = text.trim();
        if text.len() > MAX_TEXT_LEN {
            return Err(ContactLinkError::TooLong { length: text.len() });
        }
        let encoded = text.strip_prefix(SCHEME).ok_or(ContactLinkError::Scheme)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| ContactLinkError::Base64)?;
        if version(&bytes)? != VERSION {
            return Err(ContactLinkError::Version);
        }
        let (_, s0, fingerprint, expiry_s, ways): WireIn =
            serde_cbor::from_slice(&bytes).map_err(|_| ContactLinkError::Content)?;
        check_ways(&ways, 1).map_err(|source| ContactLinkError::Way { source })?;
        let expiry_ms = expiry_s.checked_mul(1_000).ok_or(ContactLinkError::Content)?;
        let link = Self {
            s0: S0::from_bytes(s0.into_array()),
            fingerprint: Fingerprint(fingerprint.into_array()),
            expiry: UnixMillis(expiry_ms),
            ways,
        };
        // CBOR has several spellings of one value; a link has one, so that what is compared is what was shown.
        if link.to_cbor() != bytes {
            return Err(ContactLinkError::Content);
        }
        Ok(link)
    }

    /// The secret of the offer.
    #[must_use]
    pub fn s0(&self) -> &S0 {
        &self.s0
    }

    /// The name of the link that grows from it. A node that has a row under this name has used the contact link before.
    #[must_use]
    pub fn link_id(&self) -> LinkId {
        self.s0.link_id()
    }

    /// Which identity key the offerer must show.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When the offer ends.
    #[must_use]
    pub fn expiry(&self) -> UnixMillis {
        self.expiry
    }

    /// How the offerer can be reached.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// True from the expiry on.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        now >= self.expiry
    }

    /// The link as text, for the clipboard and the QR code. A secret until it is answered.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{}", BASE64URL_NOPAD.encode(&self.to_cbor()))
    }

    fn to_cbor(&self) -> Vec<u8> {
        let wire = WireOut(
            VERSION,
            Bytes::new(self.s0.as_bytes()),
            Bytes::new(&self.fingerprint.0),
            self.expiry.0 / 1_000,
            &self.ways,
        );
        serde_cbor::to_vec(&wire).expect("writing CBOR to memory does not fail")
    }
}

impl FromStr for ContactLink {
    type Err = ContactLinkError;

    fn from_str(text: &str) -> Result<Self, ContactLinkError> {
        Self::parse(text)
    }
}

impl fmt::Debug for ContactLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContactLink(..)")
    }
}

/// Why a text is not a contact link, in words for the user who pasted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContactLinkError {
    /// Longer than any link.
    #[error("the text has {length} characters; a contact link has at most {MAX_TEXT_LEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Another kind of text.
    #[error("a contact link starts with {SCHEME}")]
    Scheme,
    /// Damaged in transit.
    #[error("the contact link is damaged: copy it whole, from {SCHEME} to its last character")]
    Base64,
    /// Made by a later version.
    #[error("the contact link was made by a newer version of Millpond: update this node")]
    Version,
    /// Damaged in transit, or made by something else.
    #[error("the contact link cannot be read: copy it whole, or ask for a new one")]
    Content,
    /// The ways are not acceptable.
    #[error("the contact link has no usable way to the other node: {source}")]
    Way {
        /// What is wrong with them.
        source: WayError,
    },
}

/// The first element of the array, read before the rest, whose form depends on it.
fn version(bytes: &[u8]) -> Result<u8, ContactLinkError> {
    match bytes {
        // 0x80..=0x97: an array of up to 23 elements; then an unsigned integer below 24.
        [0x80..=0x97, version @ 0..=23, ..] => Ok(*version),
        _ => Err(ContactLinkError::Content),
    }
}

#[derive(Serialize)]
struct WireOut<'a>(u8, &'a Bytes, &'a Bytes, u64, &'a [Way]);

type WireIn = (u8, ByteArray<32>, ByteArray<16>, u64, Vec<Way>);

const VERSION: u8 = 1;
const SCHEME: &str = "millpond:";
/// Characters. Eight ways of the greatest length stay under this.
const MAX_TEXT_LEN: usize = 4_096;
