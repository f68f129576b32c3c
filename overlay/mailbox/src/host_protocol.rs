//! What travels inside a stream to a mailbox host (overlay.md, sections 3 and 5): requests, many to a stream, and answers.
//!
//! ```text
//! message    length u32 BE | content
//! request    seq u32 BE | kind u8 | fields [| signature 64]      seq: from 1, each greater than the one before
//! answer     seq u32 BE | code u8 | fields                      seq 0: an announcement
//! ```
//!
//! | request | kind | fields | who |
//! |---|---|---|---|
//! | put | 1 | deposit | holder of a stamp |
//! | take | 2 | box id 32, claim 32 | whoever has the contact link |
//! | tokens | 3 | grant 48, blinded 32 each | holder of a grant |
//! | create | 4 | token 96, purpose u8, mailbox id 32, `k_mb` 32, read key 32, signature | holder of a token |
//! | fetch | 16 | mailbox id 32, cursor u64 | owner |
//! | delete | 17 | mailbox id 32, serials u16 each | owner |
//! | announce | 18 | mailbox id 32 | owner |
//! | close | 19 | mailbox id 32 | owner |
//! | quota | 20 | mailbox id 32 | owner |
//! | box | 21 | mailbox id 32, box id 32, L body | owner |
//!
//! The signatures of the owner cover `"millpond/get/1" || host key || nonce || request`, the request from `seq` on: the nonce
//! is the stream's, and `seq` never comes twice on one stream, so nothing signed can be used again.

use bytes::{Buf, BufMut, Bytes, BytesMut};

mod answer;
mod request;

pub use answer::{Answer, AnswerError, Fetched, Quota};
pub use request::{
    BoxId, Claim, Creation, Cursor, MAX_DELETE, OwnerAsk, OwnerRequest, Purpose, Request, RequestError, SignedRequest,
};

/// Numbers the requests of one stream; the answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// What nobody asked for: announcements.
    pub const NONE: Self = Self(0);
}

/// Appends `length u32 BE | content` to what goes into a stream.
///
/// # Panics
/// If the content has 4 GiB; requests and answers are bounded far below.
pub fn write_message(content: &[u8], out: &mut BytesMut) {
    out.put_u32(u32::try_from(content.len()).expect("requests and answers are bounded far below 4 GiB"));
    out.put_slice(content);
}

/// Takes one message off the front of what came out of a stream. `None`: not complete yet, read more.
///
/// # Errors
/// If it announces more than `max` bytes, before they are read; the stream is then to be closed.
pub fn read_message(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, TooLong> {
    let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > max {
        return Err(TooLong { length, max });
    }
    if rest.len() < length {
        return Ok(None);
    }
    input.advance(PREFIX_LEN);
    Ok(Some(input.split_to(length).freeze()))
}

/// A message that announces more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {length} bytes, at most {max} are allowed")]
pub struct TooLong {
    /// Announced length in bytes.
    pub length: usize,
    /// What is allowed.
    pub max: usize,
}

/// Takes fixed fields off the front of a message.
struct Fields(Bytes);

impl Fields {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let head = *self.0.first_chunk::<N>()?;
        self.0.advance(N);
        Some(head)
    }

    /// The last 64 bytes.
    fn take_signature(&mut self) -> Option<[u8; 64]> {
        let signature = *self.0.last_chunk::<64>()?;
        self.0.truncate(self.0.len() - 64);
        Some(signature)
    }

    fn rest(self) -> Bytes {
        self.0
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Length prefix in bytes.
const PREFIX_LEN: usize = 4;
/// Bytes: the longest request, the deposit of a large envelope.
pub const MAX_REQUEST_LEN: usize = 5 + crate::deposit::deposit_len(crate::stamp::Class::L);
/// Bytes that the envelopes of one fetched page have at most: two large ones, or 38 small ones.
pub const MAX_PAGE_LEN: usize = 160 * 1024;
/// Bytes: the longest answer, a page with its head.
pub const MAX_ANSWER_LEN: usize = 5 + 16 + MAX_PAGE_LEN;
