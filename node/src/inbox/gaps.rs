//! Closing gaps, beside the judging: what a room's parked PDUs miss is asked of those who may have it. A few questions at a
//! time, for a bounded time a room; who does not answer is left alone for a while. So a peer that makes gaps, and answers
//! nothing, holds up neither what others send nor other rooms.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millpond_matrix::decide::Missing;
use millpond_store::{
    View,
    rows::{Room, RoomShort},
    tables,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Inbox, backfill::Asked, parked::MAX_PARKED};
use crate::{Error, rooms::rows};

/// The rooms whose gaps are to be closed, and who did not help lately.
#[derive(Clone, Default)]
pub(super) struct Gaps(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    marked: Notify,
}

#[derive(Default)]
struct State {
    rooms: BTreeSet<OwnedRoomId>,
    slow_until: BTreeMap<OwnedServerName, Instant>,
}

impl Gaps {
    /// Something was parked in a room.
    pub(super) fn mark(&self, room_id: &RoomId) {
        self.state().rooms.insert(room_id.to_owned());
        self.0.marked.notify_one();
    }

    /// A server took long and gave nothing that helps.
    fn was_slow(&self, server: &ServerName) {
        let (now, mut state) = (Instant::now(), self.state());
        state.slow_until.retain(|_, until| *until > now);
        state.slow_until.insert(server.to_owned(), now + REST);
    }

    fn is_slow(&self, server: &ServerName) -> bool {
        self.state().slow_until.get(server).is_some_and(|until| *until > Instant::now())
    }

    fn next(&self, busy: &HashSet<OwnedRoomId>) -> Option<OwnedRoomId> {
        let mut state = self.state();
        let next = state.rooms.iter().find(|room| !busy.contains(*room)).cloned()?;
        state.rooms.take(&next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A parked PDU that misses something that nobody has brought yet.
struct Gap {
    event_id: OwnedEventId,
    origin: OwnedServerName,
    missing: Missing,
    lacks_auth: bool,
    /// Since when it waits.
    parked_at_ms: u64,
}

/// When a room is to be looked at again that may settle by itself.
type Settles = Option<Duration>;

fn first_of(settling: &BTreeSet<(Instant, OwnedRoomId)>) -> Instant {
    settling.first().map_or_else(Instant::now, |(at, _)| *at)
}

impl Inbox {
    /// Closes the gaps of marked rooms until told to stop, and looks at all that is parked from time to time.
    pub(super) async fn close_gaps(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut rounds: JoinSet<(OwnedRoomId, Result<Settles, Error>)> = JoinSet::new();
        let mut busy = HashSet::new();
        let mut retry = tokio::time::interval(RETRY);
        // Rooms that may settle by themselves, and when they are looked at again.
        let mut settling: BTreeSet<(Instant, OwnedRoomId)> = BTreeSet::new();
        loop {
            while rounds.len() < ROOMS_AT_ONCE
                && let Some(room_id) = self.gaps.next(&busy)
            {
                busy.insert(room_id.clone());
                let inbox = self.clone();
                rounds.spawn(async move {
                    let outcome = tokio::time::timeout(ROUND, inbox.close_gaps_of(&room_id)).await;
                    (room_id, outcome.unwrap_or(Ok(None)))
                });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.gaps.0.marked.notified(), if rounds.len() < ROOMS_AT_ONCE => {}
                Some(done) = rounds.join_next() => {
                    let (room_id, outcome) = done.map_err(|e| Error::internal(format!("closing gaps: {e}")))?;
                    busy.remove(&room_id);
                    if let Some(wait) = outcome? {
                        settling.insert((Instant::now() + wait, room_id));
                    }
                }
                () = tokio::time::sleep_until(first_of(&settling)), if !settling.is_empty() => {
                    settling.pop_first().into_iter().for_each(|(_, room_id)| self.gaps.mark(&room_id));
                }
                _ = retry.tick() => self.mark_parked()?,
            }
        }
    }

    /// An answer about a room has come out of a mailbox: what waits for it is done again.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn go_on(&self, server: &ServerName, room_id: &RoomId) -> Result<(), Error> {
        self.gaps.mark(room_id);
        self.confirm_rooms(server).await?;
        if let Some(before) = self.peers.history_before(server, room_id)? {
            let gap = self.gap_before(room_id, &before)?;
            self.fetch_history(room_id, gap, (usize::MAX, Asked::Before)).await?;
        }
        Ok(())
    }

    /// The gap of a room's timeline in which these events are missing.
    fn gap_before(&self, room_id: &RoomId, missing: &[String]) -> Result<Option<i64>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some(room) = rows::room_short(view, room_id)? else { return Ok(None) };
        for row in view.scan(tables::GAPS, (room,))? {
            let ((_, position), gap) = row?;
            if gap.missing.iter().any(|id| missing.iter().any(|asked| asked == id)) {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Marks every room with something parked: who was away may be back.
    fn mark_parked(&self) -> Result<(), Error> {
        let snapshot = self.core.snapshot()?;
        for row in snapshot.view().scan(tables::PARKED, ())?.take(ROOMS_AT_ONCE * MAX_PARKED) {
            self.gaps.mark(&row?.0.0);
        }
        Ok(())
    }

    /// One round for a room: asks for its latest gaps.
    async fn close_gaps_of(&self, room_id: &RoomId) -> Result<Settles, Error> {
        let (short, room, gaps, parked) = {
            let snapshot = self.core.snapshot()?;
            let Some((short, room)) = rows::room(snapshot.view(), room_id)? else { return Ok(None) };
            let (gaps, parked) = open_gaps(snapshot.view(), room_id)?;
            (short, room, gaps, parked)
        };
        let mut settles: Settles = None;
        for gap in gaps {
            let wait = self.close((short, &room), &gap, parked > WALK_MAX).await?;
            settles = [settles, wait].into_iter().flatten().min();
        }
        Ok(settles)
    }

    async fn close(&self, room: (RoomShort, &Room), gap: &Gap, many: bool) -> Result<Settles, Error> {
        let age = Duration::from_millis(self.core.clock().now_ms().saturating_sub(gap.parked_at_ms));
        let mut settles = None;
        let servers = self.who_to_ask(room.0, &gap.origin)?;
        for server in servers.into_iter().filter(|server| !self.gaps.is_slow(server)).take(SERVERS_PER_GAP) {
            let begun = Instant::now();
            let by_mail = self.peers.asks_by_mail(&server);
            // Of what came by one mailbox a part is often in the other: a question costs both sides stamps.
            if by_mail && age < SETTLES_WITHIN {
                settles = Some(SETTLES_WITHIN - age);
                continue;
            }
            if gap.lacks_auth && self.fetch_auth(room, &server, &gap.event_id).await? {
                return Ok(None);
            }
            // With much parked, a gap is bridged by the state instead of walked event by event: over mailboxes not at once, where
            // what lies between is most likely on its way, in the mailbox that is read next.
            let bridges = many && !(by_mail && age < COMES_BY_ITSELF);
            let walks = !bridges && !gap.missing.prev_events.is_empty();
            let walked = if walks {
                self.walk(room, &server, &gap.event_id, &gap.missing.prev_events).await?
            } else {
                Some(false)
            };
            match walked {
                Some(true) => return Ok(None),
                Some(false) if self.bridge(room, &server, &gap.event_id).await? => return Ok(None),
                // What lies between may come out of a mailbox: the state is for when it does not.
                Some(false) | None => {}
            }
            if begun.elapsed() >= SLOW {
                self.gaps.was_slow(&server);
            }
        }
        Ok(settles)
    }
}

/// The latest gaps of a room, and how much is parked in it. What waits for another parked PDU comes with that one.
fn open_gaps(view: View<'_>, room_id: &RoomId) -> Result<(Vec<Gap>, usize), Error> {
    let mut parked = Vec::new();
    for row in view.scan(tables::PARKED, (room_id,))?.take(MAX_PARKED) {
        let ((_, id), row) = row?;
        parked.push((id, row));
    }
    let ids: HashSet<_> = parked.iter().map(|(id, _)| id.clone()).collect();
    let count = parked.len();
    parked.retain(|(_, row)| row.missing.iter().any(|id| !ids.contains(id)));
    parked.sort_by_key(|(_, row)| std::cmp::Reverse(row.received_at_ms));
    let gap = |(event_id, row): (OwnedEventId, millpond_store::rows::ParkedPdu)| Gap {
        event_id,
        lacks_auth: lacks_auth(&row),
        origin: row.origin,
        parked_at_ms: row.received_at_ms,
        missing: Missing { prev_events: row.missing, auth_events: Vec::new() },
    };
    Ok((parked.into_iter().take(GAPS_PER_ROUND).map(gap).collect(), count))
}

/// Whether a parked PDU misses auth events, which no walk along prev events brings.
fn lacks_auth(row: &millpond_store::rows::ParkedPdu) -> bool {
    #[derive(serde::Deserialize)]
    struct Head {
        auth_events: Vec<OwnedEventId>,
    }
    let head: Option<Head> = serde_json::from_str(&row.json).ok();
    head.is_some_and(|head| row.missing.iter().any(|id| head.auth_events.contains(id)))
}

/// Rooms whose gaps are closed at the same time: each has one question open.
const ROOMS_AT_ONCE: usize = 4;
/// Gaps of one room that are looked at in a round.
const GAPS_PER_ROUND: usize = 8;
/// Servers that are asked for one gap.
const SERVERS_PER_GAP: usize = 3;
/// How long a round may take: the other rooms wait for their turn.
const ROUND: Duration = Duration::from_secs(60);
/// A server that takes longer to say nothing of use is left alone for a while.
const SLOW: Duration = Duration::from_secs(5);
/// How long.
const REST: Duration = Duration::from_secs(60);
/// How often what is still parked is asked for again.
const RETRY: Duration = Duration::from_secs(60);
/// With more than this parked in a room, gaps are bridged by the state.
const WALK_MAX: usize = 20;
/// How long what is missing over mailboxes is left to come by itself: a host that was gone is tried again well within it.
const COMES_BY_ITSELF: Duration = Duration::from_secs(600);
/// How long mailboxes need at most to hand out what lies in them.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
