//! Mailbox hosts as the driver uses them: a connection for deposits is kept for a while and never used for polls, and the other way round
//! (overlay.md, section 6).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_mailbox::deposit::Deposit;
use millpond_mailbox::host_key::HostKey;
use millpond_mailbox::host_link::HostWay;
use millpond_mailbox::host_protocol::{BoxId, Claim, Cursor, Fetched, Purpose};
use millpond_mailbox::mailbox::MailboxSecret;
use millpond_mailbox::schedule::CONNECTION_LIFE;
use millpond_mailbox::session::Outcome;
use millpond_mailbox::stamp::{Class, MailboxId, Serial};
use millpond_mailbox::token::{Grant, Token, TokenKey, TokenRequest};
use millpond_mailbox::way::HostAddress;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::host_client::{Depositor, HostClient, HostError, Owner};
use crate::transport::{Address, tor};

/// A connection for deposits, and since when it is open. Whoever comes while it is being opened waits for it instead of opening another.
type Open = Arc<tokio::sync::Mutex<Option<(Instant, Depositor)>>>;

/// The hosts that a node uses. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Hosts {
    client: HostClient,
    depositors: Arc<Mutex<HashMap<HostKey, Open>>>,
    owners: Arc<Mutex<HashMap<MailboxId, Listening>>>,
    /// Cuts what is under way.
    cut: Arc<Mutex<CancellationToken>>,
}

/// A connection on which a mailbox is listened to.
struct Listening {
    host: HostKey,
    owner: Owner,
    /// Ends the listening: nothing is heard any more.
    doubted: CancellationToken,
}

impl Hosts {
    pub(crate) fn new(client: HostClient) -> Self {
        Self { client, depositors: Arc::default(), owners: Arc::default(), cut: Arc::default() }
    }

    /// Ends every connection.
    pub(crate) async fn stop(&self) {
        self.client.stop().await;
    }

    /// Cuts every connection and what is asked on it; what is asked later goes over new ones.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
        self.depositors.lock().clear();
        self.owners.lock().clear();
    }

    async fn unless_cut<T>(&self, work: impl Future<Output = T>, otherwise: T) -> T {
        let cut = self.cut.lock().clone();
        cut.run_until_cancelled(work).await.unwrap_or(otherwise)
    }

    /// Puts a deposit into a mailbox. What is not known is `Outcome::Unreachable`.
    pub(crate) async fn put(&self, at: HostAddress, bytes: Vec<u8>) -> Outcome {
        self.unless_cut(self.try_put(at, bytes), Outcome::Unreachable).await
    }

    async fn try_put(&self, at: HostAddress, bytes: Vec<u8>) -> Outcome {
        let Ok(deposit) = Deposit::parse(&Bytes::from(bytes)) else { return Outcome::Refused };
        // A connection that was open may turn out to be dead; what was asked on it may be asked again.
        for _ in 0..2 {
            let begin = Instant::now();
            let (depositor, fresh) = match self.depositor(&at).await {
                Ok(depositor) => depositor,
                Err(error) => {
                    tracing::debug!(%error, "a deposit did not leave");
                    return Outcome::Unreachable;
                }
            };
            let put = depositor.put(&deposit);
            // A host that was killed says nothing; a connection over UDP then takes ten seconds to end. One over Tor ends by itself.
            let put = match fresh || is_onion(&at) {
                true => put.await,
                false => timeout(quiet(&deposit), put).await.unwrap_or(Err(HostError::Timeout)),
            };
            match put {
                Ok(()) => {
                    tracing::debug!(micros = begin.elapsed().as_micros(), fresh, "a deposit is on a host's disk");
                    return Outcome::Stored;
                }
                Err(HostError::Full) => return Outcome::Full,
                Err(HostError::Refused | HostError::Malformed { .. }) => return Outcome::Refused,
                Err(error) => {
                    tracing::debug!(%error, "nothing is known of a deposit");
                    self.forget(&at.host, &depositor).await;
                    if fresh || !matches!(error, HostError::Closed | HostError::Timeout) {
                        break;
                    }
                    self.doubt(&at.host);
                }
            }
        }
        Outcome::Unreachable
    }

    /// A connection for deposits is of no use any more. Another one, that was made meanwhile, is.
    async fn forget(&self, host: &HostKey, depositor: &Depositor) {
        let place = self.depositors.lock().get(host).cloned();
        if let Some(place) = place {
            place.lock().await.take_if(|(_, open)| open.is(depositor));
        }
    }

    /// A host did not answer on a connection that was open: those on which it is listened to are made anew too.
    fn doubt(&self, host: &HostKey) {
        let owners = self.owners.lock();
        owners.values().filter(|listening| listening.host == *host).for_each(|listening| listening.doubted.cancel());
    }

    /// Whether a host answers at all. The connection is kept for what is deposited next.
    pub(crate) async fn reach(&self, at: &HostAddress) -> bool {
        self.unless_cut(self.depositor(at), Err(HostError::Closed)).await.is_ok()
    }

    /// A connection for deposits, and whether it was made just now.
    async fn depositor(&self, at: &HostAddress) -> Result<(Depositor, bool), HostError> {
        let place = {
            let mut depositors = self.depositors.lock();
            let over = |open: &Open| {
                open.try_lock()
                    .is_ok_and(|open| open.as_ref().is_none_or(|(since, _)| since.elapsed() > CONNECTION_LIFE))
            };
            depositors.retain(|host, open| *host == at.host || !over(open));
            depositors.entry(at.host).or_default().clone()
        };
        let mut open = place.lock().await;
        if let Some((since, depositor)) = open.as_ref()
            && since.elapsed() < CONNECTION_LIFE
            && !depositor.is_closed()
        {
            return Ok((depositor.clone(), false));
        }
        let depositor = self.client.depositor(&way(at)?).await?;
        *open = Some((Instant::now(), depositor.clone()));
        Ok((depositor, true))
    }

    /// A send slot in paced mode begins: what goes in it shares no connection with what went before.
    pub(crate) fn new_slot(&self) {
        self.depositors.lock().clear();
    }

    /// What lies in a mailbox of ours.
    pub(crate) async fn fetch(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        after: Cursor,
    ) -> Result<Fetched, HostError> {
        let fetch = async {
            let (owner, doubted) = self.owner(at, secret).await?;
            let fetched = unless(doubted, owner.fetch(secret, after)).await;
            self.keep_or_drop(secret, owner, fetched.is_ok());
            fetched
        };
        self.unless_cut(fetch, Err(HostError::Closed)).await
    }

    /// Deletes envelopes of ours.
    pub(crate) async fn delete(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        serials: &[Serial],
    ) -> Result<(), HostError> {
        let delete = async {
            let (owner, doubted) = self.owner(at, secret).await?;
            let deleted = unless(doubted, owner.delete(secret, serials)).await;
            self.keep_or_drop(secret, owner, deleted.is_ok());
            deleted
        };
        self.unless_cut(delete, Err(HostError::Closed)).await
    }

    /// A connection on which only this mailbox is read, and what says that it is of no use any more: the one on which it is listened to, if there is one.
    async fn owner(&self, at: &HostAddress, secret: &MailboxSecret) -> Result<(Owner, CancellationToken), HostError> {
        let known = self.owners.lock().get(&secret.id()).map(|open| (open.owner.clone(), open.doubted.clone()));
        match known {
            Some(known) => Ok(known),
            None => Ok((self.client.owner(&way(at)?).await?.0, CancellationToken::new())),
        }
    }

    fn keep_or_drop(&self, secret: &MailboxSecret, owner: Owner, good: bool) {
        drop(owner);
        if !good && let Some(listening) = self.owners.lock().remove(&secret.id()) {
            listening.doubted.cancel();
        }
    }

    /// Says whenever something may have arrived in a mailbox of ours, until the connection ends.
    ///
    /// # Errors
    /// Why it ended.
    pub(crate) async fn listen(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        arrived: mpsc::Sender<()>,
    ) -> Result<(), HostError> {
        self.unless_cut(self.listen_on(at, secret, arrived), Err(HostError::Closed)).await
    }

    async fn listen_on(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        arrived: mpsc::Sender<()>,
    ) -> Result<(), HostError> {
        let (owner, mut arrivals) = self.client.owner(&way(at)?).await?;
        owner.announce(secret).await?;
        let doubted = CancellationToken::new();
        let listening = Listening { host: at.host, owner: owner.clone(), doubted: doubted.clone() };
        self.owners.lock().insert(secret.id(), listening);
        // What came before the host was listening is found by this first look.
        let _ = arrived.try_send(());
        loop {
            tokio::select! {
                some = arrivals.recv() => match some {
                    // Full: somebody is about to look.
                    Some(_) => drop(arrived.try_send(())),
                    None => return Err(HostError::Closed),
                },
                () = owner.closed() => return Err(HostError::Closed),
                () = doubted.cancelled() => return Err(HostError::Timeout),
                () = sleep(ALIVE) => drop(owner.quota(secret).await?),
            }
        }
    }

    /// Nobody listens on the connection of a mailbox any more.
    pub(crate) fn hang_up(&self, secret: &MailboxSecret) {
        self.owners.lock().remove(&secret.id());
    }

    /// Turns an operator's leave into tokens.
    pub(crate) async fn tokens(
        &self,
        way: &HostWay,
        key: &TokenKey,
        grant: &Grant,
        request: &TokenRequest,
    ) -> Result<Vec<Token>, HostError> {
        self.client.tokens(way, key, grant, request).await
    }

    /// Makes a mailbox. The same again is fine.
    pub(crate) async fn create(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        recovery: bool,
        token: &Token,
    ) -> Result<(), HostError> {
        let purpose = if recovery { Purpose::Recovery } else { Purpose::Ordinary };
        self.client.create(&way(at)?, secret, purpose, token).await
    }

    /// Leaves a pickup box beside a mailbox of ours.
    pub(crate) async fn lay_box(
        &self,
        at: &HostAddress,
        secret: &MailboxSecret,
        id: BoxId,
        body: Bytes,
    ) -> Result<(), HostError> {
        let (owner, _) = self.client.owner(&way(at)?).await?;
        owner.lay_box(secret, id, body).await
    }

    /// Takes a pickup box.
    pub(crate) async fn take_box(&self, at: &HostAddress, id: BoxId, claim: Claim) -> Result<Bytes, HostError> {
        self.client.depositor(&way(at)?).await?.take(id, claim).await
    }
}

/// A host's address as the overlay dials it: the bytes after the key are those of a `HostWay`.
pub(crate) fn way(at: &HostAddress) -> Result<HostWay, HostError> {
    let bytes = [at.host.as_bytes().as_slice(), &at.address].concat();
    HostWay::from_bytes(&bytes).map_err(|error| HostError::Malformed { words: error.to_string() })
}

/// Whether a host has an onion service, where it is then reached.
pub(crate) fn is_onion(at: &HostAddress) -> bool {
    way(at).is_ok_and(|way| addresses(&way).iter().any(tor::is_onion))
}

/// The addresses of a host, without those that this version does not know.
pub(crate) fn addresses(way: &HostWay) -> Vec<Address> {
    way.addresses().iter().filter_map(|bytes| Address::from_bytes(bytes).ok()).collect()
}

/// The same the other way.
pub(crate) fn address(way: &HostWay) -> HostAddress {
    HostAddress { host: way.key(), address: way.to_bytes().split_off(32) }
}

/// What is asked, unless the connection turns out to be dead.
async fn unless<T>(
    doubted: CancellationToken,
    asked: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    doubted.run_until_cancelled(asked).await.unwrap_or(Err(HostError::Timeout))
}

/// How long an open connection may be silent about a deposit before a new one is tried: a round trip and a commit, and for a large one its bytes. The host
/// takes the same deposit twice and keeps it once.
fn quiet(deposit: &Deposit) -> Duration {
    match deposit.header().class() {
        Class::S => Duration::from_secs(3),
        Class::L => Duration::from_secs(6),
    }
}

/// A host closes an announcing connection after ten silent minutes.
const ALIVE: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests;
