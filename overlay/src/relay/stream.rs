//! One stream to the host: its handshake, its requests one after the other into the worker's queue, its answers back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millpond_mailbox::host::{InEvent, StreamId};
use millpond_mailbox::host_key::HostSecret;
use millpond_mailbox::host_protocol::{Answer, MAX_REQUEST_LEN, Seq, read_message, write_message};
use millpond_mailbox::mailbox::HostNonce;
use millpond_mailbox::rand_core::Rng;
use millpond_mailbox::stream::{EphemeralSeed, OPENING_LEN, accept_host};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::StreamLimits;
use super::purpose::Purpose;
use super::worker::{Answers, Work};
use crate::clock;
use crate::secure::SecureStream;
use crate::transport::BoxIo;

/// A stream after its handshake.
pub(super) struct AcceptedStream {
    stream: SecureStream,
    nonce: HostNonce,
}

/// Judges the opening and answers it. `None`: closed without a byte, or the other side went away.
pub(super) async fn accept(
    secret: &HostSecret,
    mut io: BoxIo,
    opening: &[u8; OPENING_LEN],
    limits: &StreamLimits,
) -> Option<AcceptedStream> {
    let mut rng = clock::random();
    let mut nonce = HostNonce([0; 32]);
    rng.fill_bytes(&mut nonce.0);
    let accepted = accept_host(secret, opening, &nonce, EphemeralSeed::generate(&mut rng)).ok()?;
    let send = async {
        io.write_all(&accepted.reply).await?;
        io.flush().await
    };
    timeout(limits.handshake, send).await.ok()?.ok()?;
    Some(AcceptedStream { stream: SecureStream::new(io, accepted.transport), nonce })
}

/// Carries requests and answers until the stream ends. Dropping it closes the stream.
pub(super) async fn run(id: StreamId, accepted: AcceptedStream, work: mpsc::Sender<Work>, limits: &StreamLimits) {
    let (queue, answers) = mpsc::channel(ANSWERS);
    let close = CancellationToken::new();
    let opened = Work::Opened { stream: id, nonce: accepted.nonce, answers: Answers { queue, close: close.clone() } };
    if work.send(opened).await.is_err() {
        return;
    }
    let (reader, writer) = split(accepted.stream);
    let room = Semaphore::new(AT_ONCE);
    tokio::select! {
        () = read(id, reader, &work, &room, limits) => {}
        () = write(writer, answers, &room, &close, limits) => {}
    }
    // The worker is gone only when everything ends.
    let _ = work.send(Work::Event(InEvent::Closed { stream: id })).await;
}

async fn read(
    id: StreamId,
    mut reader: ReadHalf<SecureStream>,
    work: &mpsc::Sender<Work>,
    room: &Semaphore,
    limits: &StreamLimits,
) {
    let (mut buffer, mut purpose) = (BytesMut::new(), Purpose::new(id));
    loop {
        // The writer gives the place back when the answer is out.
        let Ok(place) = room.acquire().await else { return };
        let Ok(Some(message)) = timeout(limits.idle, next_message(&mut reader, &mut buffer)).await else { return };
        place.forget();
        purpose.note(&message);
        if work.send(Work::Event(InEvent::Request { stream: id, message })).await.is_err() {
            return;
        }
    }
}

/// The next whole message. `None`: the stream has ended, or does not carry messages of ours.
async fn next_message(reader: &mut ReadHalf<SecureStream>, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        match read_message(buffer, MAX_REQUEST_LEN) {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {}
            Err(_) => return None,
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn write(
    mut writer: WriteHalf<SecureStream>,
    mut answers: mpsc::Receiver<(Seq, Arc<Answer>)>,
    room: &Semaphore,
    close: &CancellationToken,
    limits: &StreamLimits,
) {
    let mut out = BytesMut::new();
    loop {
        let next = tokio::select! {
            biased;
            next = answers.recv() => next,
            () = close.cancelled() => None,
        };
        let Some((seq, answer)) = next else { break };
        out.clear();
        write_message(&answer.to_bytes(seq), &mut out);
        let send = async {
            writer.write_all(&out).await?;
            writer.flush().await
        };
        if !matches!(timeout(limits.write, send).await, Ok(Ok(()))) {
            return;
        }
        if seq != Seq::NONE {
            room.add_permits(1);
        }
    }
    // A peer that is gone already needs no farewell.
    let _ = timeout(limits.write, writer.shutdown()).await;
}

/// Requests of one stream that may be under way at once: bounds what its answers take in memory.
const AT_ONCE: usize = 4;
/// Answers that may wait for the stream: those, and announcements of arrivals.
const ANSWERS: usize = AT_ONCE + 60;
