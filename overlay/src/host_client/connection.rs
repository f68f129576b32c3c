//! One connection to a host: a task that numbers and writes requests, reads answers and gives each to who asked.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostWay;
use millpond_mailbox::host_protocol::{Answer, MAX_ANSWER_LEN, Seq, read_message, write_message};
use millpond_mailbox::mailbox::HostNonce;
use millpond_mailbox::stamp::MailboxId;
use millpond_mailbox::stream::{EphemeralSeed, HOST_REPLY_LEN, HostDialer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{ClientLimits, HostError};
use crate::clock;
use crate::secure::SecureStream;
use crate::tasks::Tasks;
use crate::transport::{Address, BoxIo, Transport, TransportError};

/// A handle to the task.
#[derive(Clone)]
pub(super) struct Connection {
    host: HostKey,
    limits: ClientLimits,
    asks: mpsc::Sender<Ask>,
    ended: CancellationToken,
}

/// Writes a request once its number is known.
type Build = Box<dyn FnOnce(Seq, &HostNonce) -> Vec<u8> + Send>;

struct Ask {
    build: Build,
    reply: oneshot::Sender<Answer>,
}

impl Connection {
    /// Dials the addresses in their order until the host's key answers.
    pub(super) async fn open(
        transport: Box<dyn Transport>,
        way: &HostWay,
        limits: ClientLimits,
        tasks: &Tasks,
    ) -> Result<(Self, mpsc::Receiver<MailboxId>), HostError> {
        // Nothing listens, so nothing comes in.
        let (incoming, _) = mpsc::channel(1);
        transport.start(incoming).map_err(|source| HostError::Dial { source })?;
        match dial_any(transport.as_ref(), way, limits).await {
            Ok(open) => Ok(Self::run(transport, way.key(), limits, tasks, open)),
            Err(error) => {
                transport.stop().await;
                Err(error)
            }
        }
    }

    fn run(
        transport: Box<dyn Transport>,
        host: HostKey,
        limits: ClientLimits,
        tasks: &Tasks,
        (stream, nonce): (SecureStream, HostNonce),
    ) -> (Self, mpsc::Receiver<MailboxId>) {
        let (asks, queue) = mpsc::channel(ASKS);
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tasks.spawn(async move {
            let _guard = guard;
            let (reader, writer) = split(stream);
            let pending = Pending::default();
            tokio::select! {
                () = write(writer, queue, nonce, &pending) => {}
                () = read(reader, arrived, &pending) => {}
            }
            transport.stop().await;
        });
        (Self { host, limits, asks, ended }, arrivals)
    }

    pub(super) fn host(&self) -> HostKey {
        self.host
    }

    /// Sends one request and waits for its answer. Dropping the future does not take the request back.
    pub(super) async fn ask(
        &self,
        build: impl FnOnce(Seq, &HostNonce) -> Vec<u8> + Send + 'static,
    ) -> Result<Answer, HostError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.asks.send(Ask { build: Box::new(build), reply }).await.map_err(|_| HostError::Closed)?;
            answer.await.map_err(|_| HostError::Closed)
        };
        timeout(self.limits.answer, asked).await.map_err(|_| HostError::Timeout)?
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.asks.same_channel(&other.asks)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.clone().cancelled_owned()
    }
}

/// Who waits for which answer.
#[derive(Clone, Default)]
struct Pending(Arc<parking_lot::Mutex<HashMap<Seq, oneshot::Sender<Answer>>>>);

impl Pending {
    fn insert(&self, seq: Seq, reply: oneshot::Sender<Answer>) {
        let mut waiting = self.0.lock();
        if waiting.len() >= ASKS {
            // Who gave up waiting is not told any more.
            waiting.retain(|_, reply| !reply.is_closed());
        }
        waiting.insert(seq, reply);
    }
}

async fn dial_any(
    transport: &dyn Transport,
    way: &HostWay,
    limits: ClientLimits,
) -> Result<(SecureStream, HostNonce), HostError> {
    let mut last = HostError::Dial { source: TransportError::WrongKind { route: transport.route() } };
    for address in way.addresses() {
        let Ok(address) = Address::from_bytes(address) else { continue };
        if !transport.carries(&address) {
            continue;
        }
        let attempt = async {
            let io = transport.dial(&address).await.map_err(|source| HostError::Dial { source })?;
            handshake(io, &way.key()).await.ok_or(HostError::Handshake)
        };
        let within = transport.patience().unwrap_or(limits.dial);
        match timeout(within, attempt).await.unwrap_or(Err(HostError::Handshake)) {
            Ok(open) => return Ok(open),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn handshake(mut io: BoxIo, host: &HostKey) -> Option<(SecureStream, HostNonce)> {
    let (dialer, opening) = HostDialer::open(host, EphemeralSeed::generate(&mut clock::random())).ok()?;
    io.write_all(&opening).await.ok()?;
    io.flush().await.ok()?;
    let mut reply = [0_u8; HOST_REPLY_LEN];
    io.read_exact(&mut reply).await.ok()?;
    let (frames, nonce) = dialer.finish(&reply).ok()?;
    Some((SecureStream::new(io, frames), nonce))
}

/// Numbers and writes what is asked, until nobody can ask any more.
async fn write(
    mut writer: WriteHalf<SecureStream>,
    mut queue: mpsc::Receiver<Ask>,
    nonce: HostNonce,
    pending: &Pending,
) {
    let (mut seq, mut out) = (Seq::NONE, BytesMut::new());
    while let Some(Ask { build, reply }) = queue.recv().await {
        seq = Seq(seq.0.wrapping_add(1));
        if seq == Seq::NONE {
            return;
        }
        pending.insert(seq, reply);
        out.clear();
        write_message(&build(seq, &nonce), &mut out);
        if writer.write_all(&out).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    // The host may be gone already.
    let _ = writer.shutdown().await;
}

async fn read(mut reader: ReadHalf<SecureStream>, arrived: mpsc::Sender<MailboxId>, pending: &Pending) {
    let mut buffer = BytesMut::new();
    while let Some(message) = next_message(&mut reader, &mut buffer).await {
        let Ok((seq, answer)) = Answer::parse(message) else { return };
        if let Answer::Arrived(mailbox) = answer {
            // Who does not read them fetches later and finds everything.
            let _ = arrived.try_send(mailbox);
        } else if let Some(reply) = pending.0.lock().remove(&seq) {
            let _ = reply.send(answer);
        }
    }
}

async fn next_message(reader: &mut ReadHalf<SecureStream>, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        match read_message(buffer, MAX_ANSWER_LEN) {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {}
            Err(_) => return None,
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Requests that may wait for the connection.
const ASKS: usize = 16;
/// Announcements that may wait for the reader.
const ARRIVALS: usize = 64;
