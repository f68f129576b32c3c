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
use millpond_mailbox::stamp::{MailboxId, Serial};
use millpond_mailbox::token::{Grant, Token, TokenKey, TokenRequest};
use millpond_mailbox::way::HostAddress;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
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
    owners: Arc<Mutex<HashMap<MailboxId, Owner>>>,
    /// Cuts what is under way.
    cut: Arc<Mutex<CancellationToken>>,
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
            let (depositor, fresh) = match self.depositor(&at).await {
                Ok(depositor) => depositor,
                Err(error) => {
                    tracing::debug!(%error, "a deposit did not leave");
                    return Outcome::Unreachable;
                }
            };
            match depositor.put(&deposit).await {
                Ok(()) => return Outcome::Stored,
                Err(HostError::Full) => return Outcome::Full,
                Err(HostError::Refused | HostError::Malformed { .. }) => return Outcome::Refused,
                Err(error) => {
                    tracing::debug!(%error, "nothing is known of a deposit");
                    self.depositors.lock().remove(&at.host);
                    if fresh || !matches!(error, HostError::Closed) {
                        break;
                    }
                }
            }
        }
        Outcome::Unreachable
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
            let owner = self.owner(at, secret).await?;
            let fetched = owner.fetch(secret, after).await;
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
            let owner = self.owner(at, secret).await?;
            let deleted = owner.delete(secret, serials).await;
            self.keep_or_drop(secret, owner, deleted.is_ok());
            deleted
        };
        self.unless_cut(delete, Err(HostError::Closed)).await
    }

    /// A connection on which only this mailbox is read: the one on which it is listened to, if there is one.
    async fn owner(&self, at: &HostAddress, secret: &MailboxSecret) -> Result<Owner, HostError> {
        let known = self.owners.lock().get(&secret.id()).cloned();
        match known {
            Some(owner) => Ok(owner),
            None => Ok(self.client.owner(&way(at)?).await?.0),
        }
    }

    fn keep_or_drop(&self, secret: &MailboxSecret, owner: Owner, good: bool) {
        drop(owner);
        if !good {
            self.owners.lock().remove(&secret.id());
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
        self.owners.lock().insert(secret.id(), owner.clone());
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

/// A host closes an announcing connection after ten silent minutes.
const ALIVE: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests;
