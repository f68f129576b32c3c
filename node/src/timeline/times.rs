//! `/timestamp_to_event`: which event was said at a time, here or, where history goes on elsewhere, at others.

use std::{sync::OnceLock, time::Duration};

use futures::future::BoxFuture;
use millpond_store::tables;
use ruma::{DeviceId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId, api::Direction};

use super::{Timeline, nearest};
use crate::{Error, rooms::rows};

/// An event and its time.
pub type Timed = (OwnedEventId, MilliSecondsSinceUnixEpoch);

/// What asks other servers for the event of a time.
pub trait Elsewhere: Send + Sync {
    /// The nearest event that others know. Dropping the future is safe.
    fn event_of_time<'a>(
        &'a self,
        room_id: &'a RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        dir: Direction,
    ) -> BoxFuture<'a, Result<Option<Timed>, Error>>;
}

impl Timeline {
    /// The event at or after `ts` that is nearest to it, or at or before it. Dropping the future is safe.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 404 if there is none; storage errors.
    pub async fn event_of_time(
        &self,
        asker: (&UserId, &DeviceId),
        room_id: &RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        dir: Direction,
    ) -> Result<Timed, Error> {
        let (here, gap) = self.here(asker, room_id, ts, dir)?;
        let here = match (here, gap) {
            (Some(here), false) => return Ok(here),
            (here, false) => here,
            (here, true) => self.fetch_time(asker, room_id, (ts, dir), here).await?,
        };
        here.ok_or_else(|| Error::not_found("there is no event of that time that you may see"))
    }

    /// Our nearest event, and whether others may have a nearer one.
    fn here(
        &self,
        asker: (&UserId, &DeviceId),
        room_id: &RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        dir: Direction,
    ) -> Result<(Option<Timed>, bool), Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, room_id)?;
        let (view, room) = (reader.view, reader.room);
        let found = nearest::find(view, room, ts, dir, |row| Ok(reader.shows(row)?))?;
        let found = found.map(|row| (row.header.event_id.clone(), row.header.origin_server_ts));
        if !view.any(tables::BACKWARD, (room,))? {
            return Ok((found, false));
        }
        // What is missing is older than the oldest event here.
        let oldest = view.scan(tables::TIMELINE, (room,))?.next().transpose()?;
        let oldest = oldest.map(|(_, event)| rows::event(view, event)).transpose()?;
        Ok((found, oldest.is_some_and(|oldest| ts < oldest.header.origin_server_ts)))
    }

    /// Asks others, and fetches history up to the event that they name.
    async fn fetch_time(
        &self,
        asker: (&UserId, &DeviceId),
        room_id: &RoomId,
        (ts, dir): (MilliSecondsSinceUnixEpoch, Direction),
        here: Option<Timed>,
    ) -> Result<Option<Timed>, Error> {
        let Some(elsewhere) = self.elsewhere.get() else { return Ok(here) };
        let there = tokio::time::timeout(PATIENCE, elsewhere.event_of_time(room_id, ts, dir)).await;
        let Ok(Ok(Some((event_id, _)))) = there else { return Ok(here) };
        let fetch = async {
            for _ in 0..ROUNDS {
                if self.is_here(room_id, &event_id)? {
                    break;
                }
                self.fetch_older(room_id, None, BATCH).await;
            }
            Ok::<_, Error>(())
        };
        if let Ok(fetched) = tokio::time::timeout(PATIENCE, fetch).await {
            fetched?;
        }
        // Whatever came is judged like all else: what others say of times is not what we answer.
        self.here(asker, room_id, ts, dir).map(|(found, _)| found)
    }

    fn is_here(&self, room_id: &RoomId, event_id: &ruma::EventId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let Some(room) = rows::room_short(snapshot.view(), room_id)? else { return Ok(false) };
        let found = rows::event_in_room(snapshot.view(), room, event_id)?;
        Ok(found.is_some_and(|(_, row)| row.meta.position.is_some()))
    }
}

/// The way to ask others, once it is there.
pub(super) type ElsewhereCell = std::sync::Arc<OnceLock<std::sync::Arc<dyn Elsewhere>>>;

/// How long others may take to answer, and to send their history.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests for older history, and events of each.
const ROUNDS: usize = 10;
const BATCH: u64 = 100;
