//! An open stream: frames of `length u16 BE | Noise message`. Counters are Noise's; a frame out of order does not open.

use bytes::{Buf, BufMut, BytesMut};
use snow::{HandshakeState, TransportState};

/// Seals and opens the frames of one stream.
pub struct Transport {
    state: TransportState,
    read: Direction,
    write: Direction,
}

impl Transport {
    pub(super) fn new(state: HandshakeState) -> Result<Self, StreamError> {
        let state = state.into_transport_mode().map_err(StreamError::handshake)?;
        Ok(Self { state, read: Direction::Open, write: Direction::Open })
    }

    /// Seals `data` into as many frames as it needs and appends them to `out`.
    ///
    /// # Errors
    /// After `seal_end`, or when the counter is used up.
    pub fn seal(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), StreamError> {
        data.chunks(MAX_FRAME_PLAINTEXT).try_for_each(|chunk| self.seal_frame(chunk, out))
    }

    /// Appends the empty frame that ends our direction: without it the other side knows that the stream was cut.
    ///
    /// # Errors
    /// After an earlier `seal_end`, or when the counter is used up.
    pub fn seal_end(&mut self, out: &mut BytesMut) -> Result<(), StreamError> {
        self.seal_frame(&[], out)?;
        self.write = Direction::Ended;
        Ok(())
    }

    /// Takes one whole frame off the front of `input`. `None`: the frame is not complete yet, read more.
    ///
    /// # Errors
    /// If a frame was altered, or anything follows the end. The stream is then of no use any more.
    pub fn open(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        let Some((prefix, _)) = input.split_first_chunk::<PREFIX_LEN>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*prefix));
        if self.read == Direction::Ended {
            return Err(StreamError::AfterEnd);
        }
        if length < TAG_LEN {
            return Err(StreamError::ShortFrame { length });
        }
        if input.len() < PREFIX_LEN + length {
            input.reserve(PREFIX_LEN + length - input.len());
            return Ok(None);
        }
        input.advance(PREFIX_LEN);
        let message = input.split_to(length);
        let mut plain = BytesMut::zeroed(length - TAG_LEN);
        self.state.read_message(&message, &mut plain).map_err(|source| StreamError::Open { source })?;
        if plain.is_empty() {
            self.read = Direction::Ended;
            return Ok(Some(Frame::End));
        }
        Ok(Some(Frame::Data(plain)))
    }

    fn seal_frame(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), StreamError> {
        if self.write == Direction::Ended {
            return Err(StreamError::AfterEnd);
        }
        let length = chunk.len() + TAG_LEN;
        let prefix = u16::try_from(length).expect("chunks are cut so that a frame fits the Noise limit");
        let start = out.len();
        out.put_u16(prefix);
        out.put_bytes(0, length);
        let written = self.state.write_message(chunk, &mut out[start + PREFIX_LEN..]);
        if let Err(source) = written {
            out.truncate(start);
            return Err(StreamError::Seal { source });
        }
        Ok(())
    }
}

/// What `open` took off the front.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the stream.
    Data(BytesMut),
    /// The other side sends nothing more.
    End,
}

/// Why a stream is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The handshake did not come off: the other side has another secret, or bytes were altered.
    #[error("the stream handshake failed: {source}")]
    Handshake {
        /// What the Noise library says.
        source: snow::Error,
    },
    /// A frame could not be sealed.
    #[error("sealing a stream frame failed: {source}")]
    Seal {
        /// What the Noise library says.
        source: snow::Error,
    },
    /// A frame was altered, repeated or reordered.
    #[error("a stream frame does not open: {source}")]
    Open {
        /// What the Noise library says.
        source: snow::Error,
    },
    /// A frame that cannot even hold its tag.
    #[error("a stream frame announces {length} bytes, fewer than its tag has")]
    ShortFrame {
        /// The announced length in bytes.
        length: usize,
    },
    /// Something after the frame that ends a direction.
    #[error("a frame after the end of the stream")]
    AfterEnd,
}

impl StreamError {
    pub(super) fn handshake(source: snow::Error) -> Self {
        Self::Handshake { source }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    Ended,
}

/// Length prefix in bytes.
const PREFIX_LEN: usize = 2;
/// Of ChaCha20-Poly1305.
const TAG_LEN: usize = 16;
/// Bytes of the stream in one frame: Noise messages have at most 65,535 bytes, tag included.
pub const MAX_FRAME_PLAINTEXT: usize = 65_535 - TAG_LEN;
