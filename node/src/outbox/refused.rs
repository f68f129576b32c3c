//! What a server refuses for what it is, so that it does not hold up all the rest that is owed to that server.
//!
//! A refused transaction comes again in halves, down to the one item that is refused; that one is passed over, and when the
//! server takes what comes after it, it was the item and not the server. After some such refusals the item is set aside: it is
//! shown by `millpond status`, and owed again at the next start. A server that refuses everything has nothing set aside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millpond_store::{Topic, WriteTxn, job, rows::SetAside, tables};
use ruma::{OwnedServerName, ServerName};

use super::{Delivery, Outbox, batch::Batch};
use crate::{Error, peers::PeerError};

/// Refusals of one item, between which the server took others, after which it is set aside.
const REFUSALS: u32 = 3;
/// Items that are passed over in one attempt; a server that refuses more at once refuses everything.
const MAX_PASSED: usize = 5;

/// What servers refuse, in memory: after a restart it is found out anew. Cloning is cheap.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<BTreeMap<OwnedServerName, Refusal>>>);

#[derive(Clone, Debug)]
struct Refusal {
    /// Items of the next transaction at most.
    most: usize,
    /// Rows that were refused since something was taken.
    passed: BTreeSet<u64>,
    /// How often each row was refused while others were taken.
    counts: BTreeMap<u64, u32>,
    /// The last refusal in words.
    said: (u16, String),
}

/// What the next transaction to a server may hold.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) most: usize,
    pub(super) passed: BTreeSet<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { most: usize::MAX, passed: BTreeSet::new() }
    }
}

impl Refusals {
    pub(super) fn bounds(&self, server: &ServerName) -> Bounds {
        let refusals = self.lock();
        let bounds = |refusal: &Refusal| Bounds { most: refusal.most, passed: refusal.passed.clone() };
        refusals.get(server).map(bounds).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OwnedServerName, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a refusal is about what was sent, rather than about who sends it, when, or where.
pub(super) fn is_about_content(error: &PeerError) -> bool {
    match error {
        PeerError::Refused { status, .. } => {
            (400..500).contains(status) && !matches!(status, 401 | 403 | 404 | 405 | 407 | 408 | 421 | 425 | 429)
        }
        _ => false,
    }
}

impl Outbox {
    /// A batch was refused for what is in it: the next one is smaller, or goes without it.
    pub(super) async fn refused(
        &self,
        server: &ServerName,
        batch: Batch,
        error: &PeerError,
    ) -> Result<Delivery, Error> {
        let PeerError::Refused { status, message, .. } = error else { return Ok(Delivery::Failed) };
        let Batch::Transaction(transaction) = &batch else { return Ok(Delivery::Failed) };
        let (items, most) = (transaction.items(), self.refusals.bounds(server).most);
        // Key packs are of the moment's keys, and of our own kind of node only: they wait.
        if !transaction.packs.edus.is_empty() || (items > 1 && items / 2 >= most) {
            return Ok(Delivery::Failed);
        }
        if items > 1 {
            let mut refusals = self.refusals.lock();
            let refusal = refusals.entry(server.to_owned()).or_insert_with(|| Refusal::new(items));
            refusal.most = items / 2;
            refusal.said = (*status, message.clone());
            return Ok(Delivery::Done);
        }
        let Some(position) = transaction.positions.first().copied() else {
            // It was chosen by a cursor: as a row it can be passed over, and what is of the moment has gone by.
            self.keep_as_row(server, batch).await?;
            return Ok(Delivery::Done);
        };
        let mut refusals = self.refusals.lock();
        let refusal = refusals.entry(server.to_owned()).or_insert_with(|| Refusal::new(1));
        refusal.most = 1;
        refusal.said = (*status, message.clone());
        refusal.passed.insert(position);
        if refusal.passed.len() > MAX_PASSED {
            refusal.passed.clear();
            return Ok(Delivery::Failed);
        }
        Ok(Delivery::Done)
    }

    /// A batch was taken: what was passed over before it was refused for itself. Gives what is to be set aside now.
    pub(super) fn taken(&self, server: &ServerName) -> Vec<(u64, SetAside)> {
        let (mut refusals, at_ms) = (self.refusals.lock(), self.core.clock().now_ms());
        let Some(refusal) = refusals.get_mut(server) else { return Vec::new() };
        let mut aside = Vec::new();
        for position in std::mem::take(&mut refusal.passed) {
            let count = refusal.counts.entry(position).or_default();
            *count += 1;
            if *count >= REFUSALS {
                refusal.counts.remove(&position);
                let (status, said) = refusal.said.clone();
                aside.push((position, SetAside { item: None, status, said, at_ms }));
            }
        }
        refusal.most = refusal.most.saturating_mul(2);
        if refusal.counts.is_empty() && refusal.most >= WHOLE {
            refusals.remove(server);
        }
        aside
    }

    /// Nothing is left but what was passed over: it is tried again later.
    pub(super) fn passed_over(&self, server: &ServerName) -> bool {
        let mut refusals = self.refusals.lock();
        refusals.get_mut(server).is_some_and(|refusal| !std::mem::take(&mut refusal.passed).is_empty())
    }

    async fn keep_as_row(&self, server: &ServerName, batch: Batch) -> Result<(), Error> {
        let Batch::Transaction(transaction) = &batch else { return Ok(()) };
        let (to, kept) = (server.to_owned(), transaction.kept_edus());
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                for json in &kept {
                    let position = txn.next_position().0;
                    txn.put(tables::OUTBOX, (&*to, position), &millpond_store::rows::OutboxItem::Edu(json.clone()))?;
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        self.forget(server, batch, Vec::new()).await
    }

    /// What is set aside: for each server how much, and its last refusal.
    ///
    /// # Errors
    /// Storage errors.
    pub fn set_aside(&self) -> Result<BTreeMap<OwnedServerName, (usize, u16, String)>, Error> {
        let snapshot = self.core.snapshot()?;
        let mut servers = BTreeMap::<_, (usize, u16, String)>::new();
        for row in snapshot.view().scan(tables::SET_ASIDE, ())? {
            let ((server, _), row) = row?;
            let count = servers.get(&server).map_or(0, |(count, ..)| *count);
            servers.insert(server, (count + 1, row.status, row.said));
        }
        Ok(servers)
    }

    /// Owes again what was set aside: servers learn.
    ///
    /// # Errors
    /// Storage errors.
    pub(super) async fn owe_set_aside(&self) -> Result<(), Error> {
        let write = job(
            |view| {
                let rows = view.scan(tables::SET_ASIDE, ())?;
                Ok::<_, Error>(rows.collect::<Result<Vec<_>, _>>()?)
            },
            |rows: Vec<((OwnedServerName, u64), SetAside)>, txn: &mut WriteTxn<'_>| {
                for ((server, position), row) in rows {
                    txn.remove(tables::SET_ASIDE, (&*server, position))?;
                    if let Some(item) = &row.item {
                        txn.put(tables::OUTBOX, (&*server, position), item)?;
                        txn.touch(Topic::Outbox(server));
                    }
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        Ok(())
    }
}

impl Refusal {
    fn new(most: usize) -> Self {
        Self { most, passed: BTreeSet::new(), counts: BTreeMap::new(), said: (0, String::new()) }
    }
}

/// Puts rows of the outbox aside.
pub(super) fn set_aside(
    txn: &mut WriteTxn<'_>,
    server: &ServerName,
    rows: &[(u64, SetAside)],
) -> Result<(), millpond_store::Error> {
    for (position, row) in rows {
        let Some(item) = txn.view().get(tables::OUTBOX, (server, *position))? else { continue };
        txn.remove(tables::OUTBOX, (server, *position))?;
        txn.put(tables::SET_ASIDE, (server, *position), &SetAside { item: Some(item), ..row.clone() })?;
        tracing::warn!("a server refuses something that it is owed: it is set aside, `millpond status` says more");
    }
    Ok(())
}

/// With this many items a transaction is as large as any.
const WHOLE: usize = crate::inbox::MAX_PDUS + crate::inbox::MAX_EDUS;
