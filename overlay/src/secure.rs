//! A stream after its handshake: plain bytes on our side, frames of `millpond_mailbox::stream` on the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use millpond_mailbox::link::Link;
use millpond_mailbox::stream::{
    self, Accepted, Dialer, EphemeralSeed, Frame, HintTable, MAX_FRAME_PLAINTEXT, OPENING_LEN, REPLY_LEN,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::clock;
use crate::transport::BoxIo;

/// A stream whose two ends have proven the same psk.
pub(crate) struct SecureStream {
    io: BoxIo,
    frames: stream::Transport,
    /// Read, not yet opened.
    sealed_in: BytesMut,
    /// Opened, not yet taken.
    plain_in: BytesMut,
    /// Sealed, not yet written.
    sealed_out: BytesMut,
    read_end: bool,
    write_end: bool,
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// The other side closed without an answer, or answered with something else.
    Refused,
    Timeout,
}

/// What a stream to a peer is opened with.
pub(crate) struct Knock {
    pub(crate) link: Link,
    pub(crate) kind: KnockKind,
}

/// What the stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnockKind {
    FirstContact,
    Requests,
}

impl Knock {
    /// A fresh handshake. `None`: the link has no use for such a stream any more.
    fn open(&self) -> Option<(Dialer, [u8; OPENING_LEN])> {
        let (now, seed) = (clock::now(), EphemeralSeed::generate(&mut clock::random()));
        let opened = match self.kind {
            KnockKind::FirstContact => self.link.dial_first_contact(now, seed),
            KnockKind::Requests => self.link.dial_requests(now, seed),
        };
        opened.ok().flatten()
    }
}

/// Opens a stream that we dialled. Dropping the future closes it.
pub(crate) async fn dial(mut io: BoxIo, knock: &Knock, within: Duration) -> Result<SecureStream, HandshakeError> {
    let exchange = async {
        let (dialer, opening) = knock.open()?;
        io.write_all(&opening).await.ok()?;
        io.flush().await.ok()?;
        let mut reply = [0_u8; REPLY_LEN];
        io.read_exact(&mut reply).await.ok()?;
        dialer.finish(&reply).ok()
    };
    let frames = timeout(within, exchange).await.map_err(|_| HandshakeError::Timeout)?;
    frames.map(|frames| SecureStream::new(io, frames)).ok_or(HandshakeError::Refused)
}

/// Reads the opening of a stream that somebody dialled. `None`: it never came. Dropping the future closes the stream.
pub(crate) async fn read_opening(io: &mut BoxIo, within: Duration) -> Option<[u8; OPENING_LEN]> {
    let mut opening = [0_u8; OPENING_LEN];
    timeout(within, io.read_exact(&mut opening)).await.ok()?.ok()?;
    Some(opening)
}

/// Judges an opening. A stranger's stream is closed by the caller without a byte.
pub(crate) fn accept<T: Clone>(table: &HintTable<T>, opening: &[u8; OPENING_LEN]) -> Option<Accepted<T>> {
    stream::accept(table, opening, EphemeralSeed::generate(&mut clock::random())).ok()
}

/// Sends the answer to an opening that was accepted. Dropping the future closes the stream.
pub(crate) async fn reply(
    mut io: BoxIo,
    reply: &[u8; REPLY_LEN],
    frames: stream::Transport,
    within: Duration,
) -> Option<SecureStream> {
    let send = async {
        io.write_all(reply).await?;
        io.flush().await
    };
    timeout(within, send).await.ok()?.ok()?;
    Some(SecureStream::new(io, frames))
}

impl SecureStream {
    pub(crate) fn new(io: BoxIo, frames: stream::Transport) -> Self {
        let empty = BytesMut::new;
        let (read_end, write_end) = (false, false);
        Self { io, frames, sealed_in: empty(), plain_in: empty(), sealed_out: empty(), read_end, write_end }
    }

    /// Writes sealed bytes until at most `keep` are left.
    fn poll_drain(&mut self, cx: &mut Context<'_>, keep: usize) -> Poll<io::Result<()>> {
        while self.sealed_out.len() > keep {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.sealed_out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed_out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Opens one more frame, reading as much as it takes. `false`: the other side has ended its direction.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            match self.frames.open(&mut self.sealed_in).map_err(invalid)? {
                Some(Frame::Data(data)) => {
                    self.plain_in = data;
                    return Poll::Ready(Ok(true));
                }
                Some(Frame::End) => {
                    self.read_end = true;
                    return Poll::Ready(Ok(false));
                }
                None => {}
            }
            self.sealed_in.reserve(READ_BYTES);
            let start = self.sealed_in.len();
            self.sealed_in.resize(start + READ_BYTES, 0);
            let mut buffer = ReadBuf::new(&mut self.sealed_in[start..]);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
            let filled = buffer.filled().len();
            self.sealed_in.truncate(start + filled);
            ready!(read)?;
            if filled == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.plain_in.is_empty() && (this.read_end || !ready!(this.poll_frame(cx))?) {
            return Poll::Ready(Ok(()));
        }
        let take = this.plain_in.len().min(buffer.remaining());
        buffer.put_slice(&this.plain_in.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx, WRITE_AHEAD))?;
        let take = data.len().min(MAX_FRAME_PLAINTEXT);
        this.frames.seal(&data[..take], &mut this.sealed_out).map_err(invalid)?;
        // Bytes that do not fit now leave at the next write or flush.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx, 0) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx, 0))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.write_end {
            this.write_end = true;
            this.frames.seal_end(&mut this.sealed_out).map_err(invalid)?;
        }
        ready!(this.poll_drain(cx, 0))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

fn invalid(error: stream::StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One read from the transport.
const READ_BYTES: usize = 16 * 1024;
/// Sealed bytes that may wait before a writer has to.
const WRITE_AHEAD: usize = 128 * 1024;
