//! The messages of a first contact, the same over a stream, in an introduction and (box and answer) at a host.

use bytes::{Buf, BufMut, BytesMut};

use crate::{bundle::MAX_BUNDLE_LEN, exchange::ENC_LEN};

/// One message of a first contact.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Offerer to answerer: the offerer's bundle.
    Box(Vec<u8>),
    /// Answerer to offerer: `enc || ciphertext` of the answerer's bundle.
    Answer(Vec<u8>),
    /// Either way: an Olm message that contains `th`.
    Confirm(Vec<u8>),
    /// Answerer to offerer: an Olm message that says that the offerer's `Confirm` was opened.
    Done(Vec<u8>),
}

impl Message {
    /// `kind u8 || body`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, body) = self.parts();
        [&[kind], body].concat()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// # Errors
    /// If the kind is unknown or the body too long for it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let (kind, body) = bytes.split_first().ok_or(MessageError::Empty)?;
        let max = max_body(*kind)?;
        if body.len() > max {
            return Err(MessageError::TooLong { length: body.len(), max });
        }
        let body = body.to_vec();
        Ok(match *kind {
            BOX => Self::Box(body),
            ANSWER => Self::Answer(body),
            CONFIRM => Self::Confirm(body),
            _ => Self::Done(body),
        })
    }

    /// Appends `length u32 BE || kind || body` to what goes into a stream.
    pub fn write(&self, out: &mut BytesMut) {
        let bytes = self.to_bytes();
        out.put_u32(u32::try_from(bytes.len()).expect("bodies are bounded far below 4 GiB"));
        out.put_slice(&bytes);
    }

    /// Takes one message off the front of what came out of a stream. `None`: not complete yet, read more.
    ///
    /// # Errors
    /// If the stream does not carry messages of a first contact; it is then to be closed.
    pub fn read(input: &mut BytesMut) -> Result<Option<Self>, MessageError> {
        let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > 1 + MAX_BODY_LEN {
            return Err(MessageError::TooLong { length, max: 1 + MAX_BODY_LEN });
        }
        if rest.len() < length {
            return Ok(None);
        }
        input.advance(PREFIX_LEN);
        Self::from_bytes(&input.split_to(length)).map(Some)
    }

    /// What kind of message it is, in words for logs and errors.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Box(_) => "box",
            Self::Answer(_) => "answer",
            Self::Confirm(_) => "confirm",
            Self::Done(_) => "done",
        }
    }

    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Box(body) => (BOX, body),
            Self::Answer(body) => (ANSWER, body),
            Self::Confirm(body) => (CONFIRM, body),
            Self::Done(body) => (DONE, body),
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({})", self.kind())
    }
}

/// Why bytes are not a message of a first contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No kind byte.
    #[error("an empty first-contact message")]
    Empty,
    /// A kind of a later version.
    #[error("a first-contact message of the unknown kind {kind}")]
    Kind {
        /// Its number.
        kind: u8,
    },
    /// Longer than the kind allows.
    #[error("a first-contact message of {length} bytes, at most {max} are allowed")]
    TooLong {
        /// Announced or found length in bytes.
        length: usize,
        /// What is allowed.
        max: usize,
    },
}

fn max_body(kind: u8) -> Result<usize, MessageError> {
    match kind {
        BOX => Ok(MAX_BUNDLE_LEN),
        ANSWER => Ok(MAX_BODY_LEN),
        CONFIRM | DONE => Ok(MAX_OLM_LEN),
        kind => Err(MessageError::Kind { kind }),
    }
}

const BOX: u8 = 1;
const ANSWER: u8 = 2;
const CONFIRM: u8 = 3;
const DONE: u8 = 4;
/// Length prefix in bytes.
const PREFIX_LEN: usize = 4;
/// An answer: the bundle, what HPKE puts before it, and its tag.
const MAX_BODY_LEN: usize = MAX_BUNDLE_LEN + ENC_LEN + 16;
/// Bytes; a pre-key message around 51 bytes of plaintext has about 250.
const MAX_OLM_LEN: usize = 1_024;
