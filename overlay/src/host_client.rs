//! The other side of a mailbox host: dials it, and asks. Every connection is made by a transport of its own, with a PeerId of
//! its own, and is for one purpose: who polls a mailbox on a connection never deposits on it (overlay.md, sections 1 and 6).

mod connection;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_mailbox::deposit::Deposit;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostWay;
use millpond_mailbox::host_protocol::{Answer, BoxId, Claim, Cursor, Fetched, OwnerAsk, Purpose, Quota, Request, Seq};
use millpond_mailbox::mailbox::{HostNonce, MailboxSecret};
use millpond_mailbox::stamp::{MailboxId, Serial};
use millpond_mailbox::token::{Grant, Token, TokenKey, TokenRequest};
use tokio::sync::mpsc;

use crate::hosts;
use crate::tasks::Tasks;
use crate::transport::{Address, Transport, TransportError};
use connection::Connection;

/// Makes a transport for one connection to a host: for libp2p one without a given PeerId key. It never listens.
pub trait FreshTransport: Send + Sync + 'static {
    /// A transport that nothing else uses, for a host at these addresses. Which of them may be dialled is its affair.
    ///
    /// # Errors
    /// When it cannot be set up, or none of the addresses may be dialled.
    fn fresh(&self, to: &[Address]) -> Result<Box<dyn Transport>, TransportError>;
}

impl<F> FreshTransport for F
where
    F: Fn() -> Result<Box<dyn Transport>, TransportError> + Send + Sync + 'static,
{
    fn fresh(&self, _: &[Address]) -> Result<Box<dyn Transport>, TransportError> {
        self()
    }
}

/// Opens connections to hosts. Clones share them; `stop` ends them all.
#[derive(Clone)]
pub struct HostClient {
    fresh: Arc<dyn FreshTransport>,
    limits: ClientLimits,
    tasks: Tasks,
}

/// How long a host is waited for.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// For dial and handshake, over each address.
    pub dial: Duration,
    /// For one answer.
    pub answer: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { dial: Duration::from_secs(30), answer: Duration::from_secs(60) }
    }
}

impl HostClient {
    /// A client whose connections come from this factory.
    pub fn new(fresh: Arc<dyn FreshTransport>, limits: ClientLimits) -> Self {
        Self { fresh, limits, tasks: Tasks::default() }
    }

    /// Ends every connection and waits for that. Not to be dropped half-way.
    pub async fn stop(&self) {
        self.tasks.end(Duration::ZERO).await;
    }

    /// Opens a connection for depositing and for taking pickup boxes. Dropping the future gives it up.
    ///
    /// # Errors
    /// When the host does not answer at any of its addresses.
    pub async fn depositor(&self, way: &HostWay) -> Result<Depositor, HostError> {
        Ok(Depositor(self.connect(way).await?.0))
    }

    /// Opens a connection for the owner of mailboxes, and the arrivals that the host announces on it: those that come while
    /// 64 are unread are lost, so a reader fetches until nothing more is there. Dropping the future gives it up.
    ///
    /// # Errors
    /// As [`HostClient::depositor`].
    pub async fn owner(&self, way: &HostWay) -> Result<(Owner, mpsc::Receiver<MailboxId>), HostError> {
        let (connection, arrivals) = self.connect(way).await?;
        Ok((Owner(connection), arrivals))
    }

    /// Exchanges an operator's grant for tokens, on a connection of its own. The request must be on disk before; it may be
    /// repeated after any error but a refusal. Dropping the future gives it up.
    ///
    /// # Errors
    /// When the host does not answer, refuses the grant, or used another key than the one in its link.
    pub async fn tokens(
        &self,
        way: &HostWay,
        key: &TokenKey,
        grant: &Grant,
        request: &TokenRequest,
    ) -> Result<Vec<Token>, HostError> {
        let (connection, _) = self.connect(way).await?;
        let (grant, blinded) = (grant.clone(), request.blinded());
        match connection.ask(move |seq, _| Request::tokens(seq, &grant, &blinded)).await? {
            Answer::Tokens(evaluated) => request.finish(key, &evaluated).map_err(|source| HostError::Tokens { source }),
            other => Err(refusal(other)),
        }
    }

    /// Makes a mailbox, on a connection of its own. May be repeated with the same token after a lost answer. Dropping the
    /// future gives it up.
    ///
    /// # Errors
    /// When the host does not answer, or refuses the token.
    pub async fn create(
        &self,
        way: &HostWay,
        secret: &MailboxSecret,
        purpose: Purpose,
        token: &Token,
    ) -> Result<(), HostError> {
        let (connection, _) = self.connect(way).await?;
        let (host, secret, token) = (way.key(), secret.clone(), token.clone());
        done(connection.ask(move |seq, nonce| Request::create(seq, (&host, nonce), &secret, purpose, &token)).await?)
    }

    async fn connect(&self, way: &HostWay) -> Result<(Connection, mpsc::Receiver<MailboxId>), HostError> {
        let transport = self.fresh.fresh(&hosts::addresses(way)).map_err(|source| HostError::Dial { source })?;
        Connection::open(transport, way, self.limits, &self.tasks).await
    }
}

/// A connection to a host for depositing. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Depositor(Connection);

impl Depositor {
    /// Lays a deposit into a mailbox; on return it is on the host's disk. Dropping the future does not take it back.
    ///
    /// # Errors
    /// `Refused`: the stamp is of no use (any more). `Full` and `Busy`: later, or elsewhere. The others: unknown whether it lies there;
    /// the same bytes may be sent again.
    pub async fn put(&self, deposit: &Deposit) -> Result<(), HostError> {
        let deposit = deposit.clone();
        done(self.0.ask(move |seq, _| Request::put(seq, &deposit)).await?)
    }

    /// Takes a pickup box. The claim must be on disk before; with it the box can be read again after a lost answer. Dropping
    /// the future does not take it back.
    ///
    /// # Errors
    /// `NoBox`, and `Taken` when somebody else has read it.
    pub async fn take(&self, id: BoxId, claim: Claim) -> Result<Bytes, HostError> {
        match self.0.ask(move |seq, _| Request::take(seq, &id, &claim)).await? {
            Answer::Box(body) => Ok(body),
            other => Err(refusal(other)),
        }
    }

    /// Ends when the connection has ended. Safe to drop.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.closed()
    }

    /// Whether both are handles to one connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }

    /// Whether the connection has ended, as far as is known.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A connection to a host for the owner of mailboxes. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Owner(Connection);

impl Owner {
    /// A page of envelopes after the cursor. Dropping the future is safe.
    ///
    /// # Errors
    /// `Refused`: the mailbox is closed, or not ours.
    pub async fn fetch(&self, secret: &MailboxSecret, after: Cursor) -> Result<Fetched, HostError> {
        match self.ask(secret, OwnerAsk::Fetch { after }).await? {
            Answer::Page(page) => Ok(page),
            other => Err(refusal(other)),
        }
    }

    /// Forgets envelopes; only those that are staged on our own disk. May be repeated. Dropping the future does not take it
    /// back.
    ///
    /// # Errors
    /// As [`Owner::fetch`].
    pub async fn delete(&self, secret: &MailboxSecret, serials: &[Serial]) -> Result<(), HostError> {
        for some in serials.chunks(millpond_mailbox::host_protocol::MAX_DELETE) {
            done(self.ask(secret, OwnerAsk::Delete { serials: some.to_vec() }).await?)?;
        }
        Ok(())
    }

    /// From now on arrivals in this mailbox are announced on this connection. Dropping the future is safe.
    ///
    /// # Errors
    /// As [`Owner::fetch`].
    pub async fn announce(&self, secret: &MailboxSecret) -> Result<(), HostError> {
        done(self.ask(secret, OwnerAsk::Announce).await?)
    }

    /// Forgets the mailbox and all that is in it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// As [`Owner::fetch`].
    pub async fn close(&self, secret: &MailboxSecret) -> Result<(), HostError> {
        done(self.ask(secret, OwnerAsk::Close).await?)
    }

    /// How full the mailbox is; also keeps an announcing connection open, which a host closes after ten silent minutes.
    /// Dropping the future is safe.
    ///
    /// # Errors
    /// As [`Owner::fetch`].
    pub async fn quota(&self, secret: &MailboxSecret) -> Result<Quota, HostError> {
        match self.ask(secret, OwnerAsk::Quota).await? {
            Answer::Quota(quota) => Ok(quota),
            other => Err(refusal(other)),
        }
    }

    /// Lays down a pickup box of exactly one L body. May be repeated. Dropping the future does not take it back.
    ///
    /// # Errors
    /// `Full`: this mailbox has laid down as many as it may. `Refused`: as above, or the box was there before.
    pub async fn lay_box(&self, secret: &MailboxSecret, id: BoxId, body: Bytes) -> Result<(), HostError> {
        done(self.ask(secret, OwnerAsk::Box { id, body }).await?)
    }

    /// Ends when the connection has ended. Safe to drop.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.closed()
    }

    async fn ask(&self, secret: &MailboxSecret, ask: OwnerAsk) -> Result<Answer, HostError> {
        let (host, id, key): (HostKey, MailboxId, _) = (self.0.host(), secret.id(), secret.read_key());
        let request = move |seq: Seq, nonce: &HostNonce| Request::owner(seq, (&host, nonce), &id, &key, &ask);
        self.0.ask(request).await
    }
}

/// Why a host did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostError {
    /// It cannot be dialled.
    #[error("the mailbox host cannot be reached: {source}")]
    Dial {
        /// What the transport says.
        source: TransportError,
    },
    /// Somebody else answered at its address, or nobody in time.
    #[error("nobody at the mailbox host's addresses answered with the host's key")]
    Handshake,
    /// The connection ended before the answer.
    #[error("the connection to the mailbox host ended before its answer")]
    Closed,
    /// No answer in time.
    #[error("the mailbox host did not answer in time")]
    Timeout,
    /// The stamp, the mailbox or the signature is of no use.
    #[error("the mailbox host refused: the mailbox is closed or the stamp or key is not good for it")]
    Refused,
    /// The mailbox, or the host, is full.
    #[error("the mailbox or its host is full")]
    Full,
    /// Too much at once.
    #[error("the mailbox host is busy; try again later")]
    Busy,
    /// The host cannot read our request.
    #[error("the mailbox host cannot read the request: {words}")]
    Malformed {
        /// Its words.
        words: String,
    },
    /// The box was read by somebody else.
    #[error("the pickup box was taken by somebody else")]
    Taken,
    /// There is no such box.
    #[error("there is no such pickup box, or its time is over")]
    NoBox,
    /// Not the operator's, or used.
    #[error("the mailbox host refused the token: it is another host's, or was used")]
    TokenRefused,
    /// The tokens are not good.
    #[error("the mailbox host's tokens are refused: {source}")]
    Tokens {
        /// Why.
        source: millpond_mailbox::token::TokenError,
    },
    /// An answer to something else than was asked.
    #[error("the mailbox host gave an answer that does not fit the request")]
    Confused,
}

fn done(answer: Answer) -> Result<(), HostError> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(refusal(other)),
    }
}

fn refusal(answer: Answer) -> HostError {
    match answer {
        Answer::Refused => HostError::Refused,
        Answer::Full => HostError::Full,
        Answer::Busy => HostError::Busy,
        Answer::Malformed(words) => HostError::Malformed { words },
        Answer::Taken => HostError::Taken,
        Answer::NoBox => HostError::NoBox,
        Answer::TokenRefused => HostError::TokenRefused,
        _ => HostError::Confused,
    }
}
