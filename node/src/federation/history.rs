//! `/backfill` and `/get_missing_events`: stretches of the DAG. What the server may not see comes redacted, so that the
//! DAG stays whole; outliers and rejected events do not come.

use std::collections::{BTreeSet, BinaryHeap, HashSet, VecDeque};

use millpond_store::rows::EventRow;
use ruma::{
    EventId, OwnedEventId, RoomId, UInt,
    api::federation::{backfill::get_backfill, event::get_missing_events},
};
use serde_json::value::RawValue;

use super::{Federation, Origin, sight::Sight};
use crate::{Error, rooms::rows};

/// Events to start from in one question.
const MAX_STARTS: usize = 20;
/// Events of one `/backfill`.
const MAX_BACKFILL: usize = 100;
/// Events of one `/get_missing_events`: those of one transaction.
const MAX_MISSING: usize = 50;
/// Events looked at for one answer, rejected ones included.
const MAX_WALK: usize = 1_000;

impl Federation {
    /// Answers `/backfill`: the named events and those before them, the latest first.
    ///
    /// # Errors
    /// 403 for a server that is not in the room, 404 when none of the events is in it, 400 for too many of them.
    pub fn backfill(
        &self,
        origin: &Origin,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: UInt,
    ) -> Result<get_backfill::v1::Response, Error> {
        check_starts(from)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_BACKFILL);
        let snapshot = self.core.snapshot()?;
        let mut sight = self.sight(snapshot.view(), origin, room_id)?;
        let mut queue = BinaryHeap::new();
        for id in from {
            if let Some(row) = placed(&sight, id)? {
                queue.push((row.header.depth, id.clone()));
            }
        }
        if queue.is_empty() {
            return Err(Error::not_found("none of these events is known in this room"));
        }
        let mut seen = HashSet::new();
        let mut pdus = Vec::new();
        while let Some((_, id)) = queue.pop() {
            if pdus.len() >= limit || seen.len() >= MAX_WALK {
                break;
            }
            let Some(row) = placed(&sight, &id)?.filter(|_| seen.insert(id)) else { continue };
            for prev in prevs(&sight, &row)? {
                if let Some(before) = placed(&sight, &prev)? {
                    queue.push((before.header.depth, prev));
                }
            }
            pdus.extend(sight.show(row)?);
        }
        let now = self.core.clock().now();
        Ok(get_backfill::v1::Response::new(self.core.identity().server_name().to_owned(), now, pdus))
    }

    /// Answers `/get_missing_events`: what lies before `latest` and not before `earliest`, the oldest first.
    ///
    /// # Errors
    /// As [`Federation::backfill`].
    pub fn missing_events(
        &self,
        origin: &Origin,
        request: &get_missing_events::v1::Request,
    ) -> Result<get_missing_events::v1::Response, Error> {
        check_starts(&request.latest_events)?;
        check_starts(&request.earliest_events)?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX).min(MAX_MISSING);
        let snapshot = self.core.snapshot()?;
        let mut sight = self.sight(snapshot.view(), origin, &request.room_id)?;
        let mut seen: HashSet<OwnedEventId> =
            request.earliest_events.iter().chain(&request.latest_events).cloned().collect();
        let mut queue = VecDeque::new();
        for id in &request.latest_events {
            if let Some(row) = placed(&sight, id)? {
                queue.extend(prevs(&sight, &row)?);
            }
        }
        let mut found: BTreeSet<(UInt, OwnedEventId)> = BTreeSet::new();
        while let Some(id) = queue.pop_front() {
            if found.len() >= limit || seen.len() >= MAX_WALK {
                break;
            }
            if !seen.insert(id.clone()) {
                continue;
            }
            let Some(row) = placed(&sight, &id)?.filter(|row| row.header.depth >= request.min_depth) else { continue };
            queue.extend(prevs(&sight, &row)?);
            if !row.header.flags.rejected {
                found.insert((row.header.depth, id));
            }
        }
        let mut events: Vec<Box<RawValue>> = Vec::with_capacity(found.len());
        for (_, id) in found {
            let (_, row) = sight.event(&id)?;
            events.extend(sight.show(row)?);
        }
        Ok(get_missing_events::v1::Response::new(events))
    }
}

fn check_starts(ids: &[OwnedEventId]) -> Result<(), Error> {
    if ids.len() > MAX_STARTS {
        return Err(Error::invalid_param(format!("at most {MAX_STARTS} events to start from")));
    }
    Ok(())
}

/// An event of the room that has its place in the DAG.
fn placed(sight: &Sight<'_>, id: &EventId) -> Result<Option<EventRow>, Error> {
    let row = rows::event_in_room(sight.view, sight.room.0, id)?;
    Ok(row.map(|(_, row)| row).filter(|row| row.meta.state_after.is_some()))
}

fn prevs(sight: &Sight<'_>, row: &EventRow) -> Result<Vec<OwnedEventId>, Error> {
    Ok(rows::pdu(&sight.room.1.room_id, row.clone())?.prev_events().to_vec())
}
