//! The receive step: a peer's transaction is staged durably and answered; then its PDUs are judged, per room and in order,
//! off the writer where it is slow, and written by the funnel.
//!
//! ```text
//! receive -> INBOX rows -> 200        work -> check (parallel) -> slices -> [decide + write] -> PARKED -> backfill
//!                                                                   ^ Resolve: off the writer, come again
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use millpond_matrix::check::MAX_RAW_LEN;
use millpond_store::{Topic, View, WriteTxn, job, rows::StagedPdu, tables};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Core, Error, peers::Peers};

mod append;
mod backfill;
mod complete;
mod confirm;
mod fetch;
mod frontiers;
mod gaps;
mod held;
mod judge;
mod parked;
mod recommended;

pub(crate) use complete::Entered;
pub(crate) use fetch::known_pdu;
pub use frontiers::{Exchange, FRONTIERS_PATH};
pub use {complete::Completion, held::Held, parked::MAX_PARKED};

/// The inbox. Cloning is cheap.
#[derive(Clone)]
pub struct Inbox {
    core: Core,
    peers: Peers,
    held: held::HeldRooms,
    gaps: gaps::Gaps,
    backfilling: Arc<tokio::sync::Mutex<()>>,
    described: Arc<tokio::sync::Notify>,
    completing: complete::Completing,
}

/// The body of `PUT /_matrix/federation/v1/send/{txnId}`, with the servers that each PDU's sender serves itself.
#[derive(Debug, Deserialize)]
pub struct Transaction {
    /// The PDUs, at most [`MAX_PDUS`].
    #[serde(default)]
    pub pdus: Vec<Box<RawValue>>,
    /// The EDUs, at most [`MAX_EDUS`].
    #[serde(default)]
    pub edus: Vec<Box<RawValue>>,
    /// For each PDU the member servers that are served directly (overlay.md section 5).
    #[serde(default, rename = "org.millpond.via")]
    pub via: Vec<Vec<OwnedServerName>>,
}

/// PDUs of one transaction (server-server spec, "Transactions").
pub const MAX_PDUS: usize = 50;
/// EDUs of one transaction.
pub const MAX_EDUS: usize = 100;
/// PDUs of one peer that may wait to be judged; more are refused until some are.
pub const MAX_STAGED: u64 = 5_000;
/// When such a peer is told to come again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Servers in a `via` list; longer ones are cut, which costs a duplicate at worst.
const MAX_VIA: usize = 64;
/// Transaction ids of a peer that are remembered, and how often older ones are looked for.
const MAX_TXN_IDS: usize = 1_000;
const PRUNE_EVERY: u32 = 256;
/// Staged PDUs by room, each with its position.
type Staged = BTreeMap<OwnedRoomId, Vec<(u64, StagedPdu)>>;

/// Rooms that are judged at once.
const ROOMS_AT_ONCE: usize = 8;
/// PDUs that are judged in one go.
const BATCH: usize = 512;

impl Inbox {
    /// The service over peers.
    pub fn new(core: Core, peers: Peers) -> Self {
        Self {
            held: held::HeldRooms::new(core.clone()),
            gaps: gaps::Gaps::default(),
            backfilling: Arc::default(),
            described: Arc::default(),
            completing: complete::Completing::default(),
            core,
            peers,
        }
    }

    /// Stages a transaction; on return it is durable. A transaction id of the same origin is taken once. `edus` writes what
    /// must be durable of the EDUs, in the same commit.
    ///
    /// # Errors
    /// `M_BAD_JSON` for too many PDUs or EDUs, `M_LIMIT_EXCEEDED` while too much of this peer waits to be judged.
    pub async fn receive<F>(
        &self,
        origin: &ServerName,
        txn_id: &str,
        transaction: Transaction,
        edus: F,
    ) -> Result<(), Error>
    where
        F: Fn(&mut WriteTxn<'_>) -> Result<(), millpond_store::Error> + Send + 'static,
    {
        if transaction.pdus.len() > MAX_PDUS || transaction.edus.len() > MAX_EDUS {
            return Err(Error::bad_json("a transaction has at most 50 PDUs and 100 EDUs"));
        }
        let mut via = transaction.via.into_iter();
        let staged = transaction.pdus.iter().map(|pdu| staged(origin, pdu, via.next()));
        // What is longer than any PDU is not worth a place.
        let staged: Vec<_> = staged.filter(|pdu| pdu.json.len() <= MAX_RAW_LEN).collect();
        let prune = rand::random_ratio(1, PRUNE_EVERY);
        let key = (origin.to_owned(), txn_id.to_owned());
        let (view_key, now) = (key.clone(), self.core.clock().now_ms());
        let stage = job(
            move |view| {
                if view.contains(tables::INBOX_TXNS, (&*view_key.0, view_key.1.as_str()))? {
                    return Ok(false);
                }
                if waiting(view, &view_key.0)? >= MAX_STAGED {
                    let message = "too many PDUs wait to be judged; send them again later";
                    return Err(Error::limit_exceeded(RETRY_AFTER, message));
                }
                Ok(true)
            },
            move |new: bool, txn| {
                if new {
                    txn.put(tables::INBOX_TXNS, (&*key.0, key.1.as_str()), &now)?;
                    if prune {
                        forget_old(txn, &key.0)?;
                    }
                    stage(txn, &key.0, &staged)?;
                    edus(txn)?;
                }
                Ok(())
            },
        );
        self.core.write(stage).await?;
        Ok(())
    }

    /// Stages PDUs that we asked a peer for.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn stage(&self, origin: &ServerName, pdus: &[Box<RawValue>]) -> Result<(), Error> {
        let staged: Vec<_> = pdus.iter().map(|pdu| staged(origin, pdu, None)).collect();
        let origin = origin.to_owned();
        let write = job(|_| Ok::<_, Error>(()), move |(), txn| stage(txn, &origin, &staged));
        self.core.write(write).await?;
        Ok(())
    }

    /// Keeps what comes for a room staged until the guard is dropped: while we join it, its servers count us in already.
    pub fn hold(&self, room_id: &RoomId) -> held::Held {
        self.held.hold(room_id)
    }

    /// Judges what is staged, and closes the gaps that show, until told to stop. What is left stays staged. Each room is
    /// judged by itself, some at a time.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        tokio::try_join!(self.judge_all(stop.clone()), self.close_gaps(stop)).map(drop)
    }

    async fn judge_all(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut judging = JoinSet::new();
        let mut busy: HashSet<OwnedRoomId> = HashSet::new();
        loop {
            let changed = self.core.notifier().register([Topic::Inbox]);
            if busy.len() < ROOMS_AT_ONCE {
                let (rooms, unplaceable) = self.staged(&busy)?;
                self.discard(unplaceable).await?;
                for (room_id, staged) in rooms.into_iter().take(ROOMS_AT_ONCE - busy.len()) {
                    busy.insert(room_id.clone());
                    let inbox = self.clone();
                    judging.spawn(async move { (inbox.judge_room(&room_id, staged).await, room_id) });
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed.changed() => {}
                Some(ended) = judging.join_next() => {
                    let (judged, room_id) = ended.map_err(|e| Error::internal(format!("judging PDUs died: {e}")))?;
                    busy.remove(&room_id);
                    judged?;
                }
            }
        }
        judging.shutdown().await;
        Ok(())
    }

    /// Judges one batch; says whether there was any.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work_once(&self) -> Result<bool, Error> {
        let (rooms, unplaceable) = self.staged(&HashSet::new())?;
        if rooms.is_empty() && unplaceable.is_empty() {
            return Ok(false);
        }
        self.discard(unplaceable).await?;
        for (room_id, staged) in rooms {
            self.judge_room(&room_id, staged).await?;
        }
        Ok(true)
    }

    /// The first of what is staged, by room but for those that are busy, and the positions of what is of no room.
    fn staged(&self, busy: &HashSet<OwnedRoomId>) -> Result<(Staged, Vec<u64>), Error> {
        let (mut rooms, mut unplaceable, mut found) = (Staged::new(), Vec::new(), 0);
        let snapshot = self.core.snapshot()?;
        for row in snapshot.view().scan(tables::INBOX, ())? {
            let (position, staged) = row?;
            match judge::room_of(&staged.json) {
                Some(room_id) if busy.contains(&room_id) || self.held.contains(&room_id) => continue,
                Some(room_id) => rooms.entry(room_id).or_default().push((position, staged)),
                None => unplaceable.push(position),
            }
            found += 1;
            if found == BATCH {
                break;
            }
        }
        Ok((rooms, unplaceable))
    }

    /// Forgets staged PDUs that can never be judged.
    async fn discard(&self, positions: Vec<u64>) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        tracing::debug!(count = positions.len(), "dropped PDUs that are malformed or of rooms that are not here");
        let remove = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                for position in &positions {
                    if let Some(staged) = txn.view().get(tables::INBOX, *position)? {
                        unstage(txn, *position, &staged.origin)?;
                    }
                }
                Ok(())
            },
        );
        self.core.write(remove).await?;
        Ok(())
    }
}

fn staged(origin: &ServerName, pdu: &RawValue, via: Option<Vec<OwnedServerName>>) -> StagedPdu {
    let mut via = via.unwrap_or_default();
    via.truncate(MAX_VIA);
    StagedPdu { origin: origin.to_owned(), via, json: pdu.get().to_owned() }
}

/// Stages PDUs of a peer.
fn stage(txn: &mut WriteTxn<'_>, origin: &ServerName, staged: &[StagedPdu]) -> Result<(), millpond_store::Error> {
    if staged.is_empty() {
        return Ok(());
    }
    for pdu in staged {
        let position = txn.next_position().0;
        txn.put(tables::INBOX, position, pdu)?;
    }
    let waiting = waiting(txn.view(), origin)? + staged.len() as u64;
    txn.put(tables::INBOX_WAITING, origin, &waiting)?;
    txn.touch(Topic::Inbox);
    Ok(())
}

/// Takes a staged PDU away.
fn unstage(txn: &mut WriteTxn<'_>, position: u64, origin: &ServerName) -> Result<(), millpond_store::Error> {
    if !txn.remove(tables::INBOX, position)? {
        return Ok(());
    }
    match waiting(txn.view(), origin)?.saturating_sub(1) {
        0 => {
            // What came over mailboxes behind it goes on.
            txn.touch(Topic::Mail);
            txn.remove(tables::INBOX_WAITING, origin).map(drop)
        }
        left => txn.put(tables::INBOX_WAITING, origin, &left),
    }
}

/// Forgets all but the newest transaction ids of a peer: it repeats only what we have not answered.
fn forget_old(txn: &mut WriteTxn<'_>, origin: &ServerName) -> Result<(), millpond_store::Error> {
    let known = txn.view().scan(tables::INBOX_TXNS, (origin,))?;
    let mut known: Vec<_> = known.map(|row| row.map(|((_, id), at)| (at, id))).collect::<Result<_, _>>()?;
    known.sort_unstable();
    let old = known.len().saturating_sub(MAX_TXN_IDS);
    for (_, id) in known.into_iter().take(old) {
        txn.remove(tables::INBOX_TXNS, (origin, id.as_str()))?;
    }
    Ok(())
}

/// PDUs of a peer that wait to be judged.
fn waiting(view: View<'_>, origin: &ServerName) -> Result<u64, millpond_store::Error> {
    Ok(view.get(tables::INBOX_WAITING, origin)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn when_all_of_a_peer_is_judged_its_mail_goes_on() {
        let core = testing::core();
        let origin = core.identity().server_name().to_owned();
        let pdu = StagedPdu { origin: origin.clone(), via: Vec::new(), json: "{}".into() };
        let (peer, two) = (origin.clone(), [pdu.clone(), pdu]);
        core.write(job(|_| Ok::<_, Error>(()), move |(), txn| stage(txn, &peer, &two))).await.unwrap();
        let positions: Vec<u64> = {
            let snapshot = core.snapshot().unwrap();
            snapshot.view().scan(tables::INBOX, ()).unwrap().map(|row| row.unwrap().0).collect()
        };
        for (position, woken) in positions.into_iter().zip([false, true]) {
            let changed = core.notifier().register([Topic::Mail]);
            let peer = origin.clone();
            let judged = job(|_| Ok::<_, Error>(()), move |(), txn| unstage(txn, position, &peer));
            core.write(judged).await.unwrap();
            assert_eq!(changed.changed().now_or_never().is_some(), woken);
        }
    }
}
