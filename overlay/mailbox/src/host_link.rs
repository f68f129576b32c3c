//! Where a mailbox host is. A **way** goes to contacts, in links and boxes: `host key 32 | (length u8 | address)...`. A
//! **link** goes to people who keep a mailbox there: `millpond-host:` and base64url of `1 | token key 32 | way`.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use crate::{host_key::HostKey, token::TokenKey, way::MAX_WAY_LEN};

/// A host's key and addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct HostWay {
    key: HostKey,
    addresses: Vec<Vec<u8>>,
}

impl HostWay {
    /// Puts a way together from binary multiaddrs.
    ///
    /// # Errors
    /// If there is no address, one is empty, or they are too long together.
    pub fn new(key: HostKey, addresses: Vec<Vec<u8>>) -> Result<Self, HostLinkError> {
        let way = Self { key, addresses };
        let fits = way.addresses.iter().all(|address| (1..=usize::from(u8::MAX)).contains(&address.len()));
        if way.addresses.is_empty() || !fits || way.to_bytes().len() > MAX_WAY_LEN {
            return Err(HostLinkError::Addresses);
        }
        Ok(way)
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HostLinkError> {
        let (key, mut rest) = bytes.split_first_chunk::<32>().ok_or(HostLinkError::Form)?;
        let mut addresses = Vec::new();
        while let Some((length, tail)) = rest.split_first() {
            let (address, tail) = tail.split_at_checked(usize::from(*length)).ok_or(HostLinkError::Form)?;
            addresses.push(address.to_vec());
            rest = tail;
        }
        Self::new(HostKey::from_bytes(*key), addresses)
    }

    /// The way as bytes.
    ///
    /// # Panics
    /// Never: the constructors bound every address to 255 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.key.as_bytes().to_vec();
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(address);
        }
        bytes
    }

    /// Who must answer there.
    #[must_use]
    pub fn key(&self) -> HostKey {
        self.key
    }

    /// Binary multiaddrs, the best first.
    #[must_use]
    pub fn addresses(&self) -> &[Vec<u8>] {
        &self.addresses
    }
}

/// Addresses stay out of logs.
impl fmt::Debug for HostWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostWay({} addresses)", self.addresses.len())
    }
}

/// What a host prints for people who want a mailbox there.
#[derive(Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Where it is.
    pub way: HostWay,
    /// What its tokens are checked with. In the link, so that the host cannot show another key to each owner.
    pub tokens: TokenKey,
}

impl HostLink {
    /// Reads a link as a user pastes it.
    ///
    /// # Errors
    /// If the text is not exactly a link of version 1.
    pub fn parse(text: &str) -> Result<Self, HostLinkError> {
        let encoded = text.trim().strip_prefix(SCHEME).ok_or(HostLinkError::Scheme)?;
        if encoded.len() > MAX_TEXT_LEN {
            return Err(HostLinkError::Form);
        }
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| HostLinkError::Form)?;
        let (version, rest) = bytes.split_first().ok_or(HostLinkError::Form)?;
        if *version != VERSION {
            return Err(HostLinkError::Version);
        }
        let (tokens, way) = rest.split_first_chunk::<32>().ok_or(HostLinkError::Form)?;
        let tokens = TokenKey::from_bytes(tokens).map_err(|_| HostLinkError::Form)?;
        Ok(Self { way: HostWay::from_bytes(way)?, tokens })
    }

    /// The link as text.
    #[must_use]
    pub fn to_uri(&self) -> String {
        let bytes = [&[VERSION], self.tokens.as_bytes().as_slice(), &self.way.to_bytes()].concat();
        format!("{SCHEME}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for HostLink {
    type Err = HostLinkError;

    fn from_str(text: &str) -> Result<Self, HostLinkError> {
        Self::parse(text)
    }
}

impl fmt::Debug for HostLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.fmt(f)
    }
}

/// Why a text is no link of a host, in words for the user who pasted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostLinkError {
    /// Another kind of text.
    #[error("the link of a mailbox host starts with {SCHEME}")]
    Scheme,
    /// Made by a later version.
    #[error("the host link was made by a newer version of Millpond: update this node")]
    Version,
    /// Damaged in transit.
    #[error("the host link is damaged: copy it whole, from {SCHEME} to its last character")]
    Form,
    /// None, or too long.
    #[error("a host needs 1 or more addresses, with its key at most {MAX_WAY_LEN} bytes together")]
    Addresses,
}

const VERSION: u8 = 1;
const SCHEME: &str = "millpond-host:";
/// Characters of base64url: version, token key and the longest way.
const MAX_TEXT_LEN: usize = (1 + 32 + MAX_WAY_LEN).div_ceil(3) * 4;
