//! Emptying messages: off the writer it is found which, then a few in each commit.

use std::collections::BTreeSet;

use millpond_matrix::{redact::redact, rules::rules};
use millpond_store::{
    Error as StoreError, View, WriteTxn, job,
    rows::{EventMeta, EventRow, EventShort, OutboxItem, RoomShort},
    tables,
};
use ruma::RoomId;

use super::{
    History, Purged, media,
    retention::{is_before, may_end},
};
use crate::{
    Error,
    rooms::{apply::forget_relation, rows},
    search::{index, words},
};

impl History {
    /// Empties the messages of a room (none: of all) that were sent before a time, and removes files that only they
    /// referred to. What is owed to another server waits for its delivery. The text is gone from the disk when the database
    /// was written anew ([`crate::start::rewrite_at_next_start`]). Dropping the future leaves the rest for another time.
    ///
    /// # Errors
    /// 404 for a room that is not here, storage errors.
    pub async fn purge(&self, room_id: Option<&RoomId>, before_ms: u64) -> Result<Purged, Error> {
        let rooms = {
            let snapshot = self.core.snapshot()?;
            rooms(snapshot.view(), room_id)?
        };
        let (mut purged, mut files) = (Purged::default(), BTreeSet::new());
        for room in rooms {
            let found = {
                let snapshot = self.core.snapshot()?;
                find(snapshot.view(), room, before_ms)?
            };
            files.extend(found.files);
            for slice in found.events.chunks(EVENTS_PER_JOB) {
                purged.events += self.empty(slice.to_vec(), before_ms).await?;
            }
        }
        if purged.events > 0 {
            purged.media = self.remove_files(files).await?;
        }
        Ok(purged)
    }

    async fn empty(&self, events: Vec<EventShort>, before_ms: u64) -> Result<u64, Error> {
        let write = job(
            move |view| {
                let mut plan = Vec::new();
                for event in &events {
                    let row = rows::event(view, *event)?;
                    if may_end(&row) && is_before(&row, before_ms) {
                        plan.push((*event, row));
                    }
                }
                Ok::<_, Error>(plan)
            },
            |plan: Vec<(EventShort, EventRow)>, txn| {
                let emptied = plan.len() as u64;
                for (event, row) in plan {
                    empty(txn, event, row)?;
                }
                Ok(emptied)
            },
        );
        Ok(self.core.write(write).await?.0)
    }
}

fn rooms(view: View<'_>, room_id: Option<&RoomId>) -> Result<Vec<RoomShort>, Error> {
    match room_id {
        Some(room_id) => {
            let room = rows::room_short(view, room_id)?;
            Ok(vec![room.ok_or_else(|| Error::not_found(format!("room {room_id} is not here")))?])
        }
        None => Ok(view.scan(tables::ROOMS, ())?.map(|row| row.map(|(room, _)| room)).collect::<Result<_, _>>()?),
    }
}

/// What is to be emptied, and the files that it refers to.
struct Found {
    events: Vec<EventShort>,
    files: BTreeSet<media::File>,
}

fn find(view: View<'_>, room: RoomShort, before_ms: u64) -> Result<Found, Error> {
    let owed = owed(view)?;
    let mut found = Found { events: Vec::new(), files: BTreeSet::new() };
    let mut kept = 0;
    for row in view.scan(tables::TIMELINE, (room,))? {
        let (_, event) = row?;
        let row = rows::event(view, event)?;
        if !may_end(&row) {
            continue;
        }
        if !is_before(&row, before_ms) {
            kept += 1;
            // The timeline is in the order of arrival, which is almost that of time.
            if kept == KEPT_MAX {
                break;
            }
            continue;
        }
        if !owed.contains(&event) {
            found.files.extend(media::files(row.header.content.of(&row.json)));
            found.events.push(event);
        }
    }
    Ok(found)
}

/// Events that some server has not been sent yet.
fn owed(view: View<'_>) -> Result<BTreeSet<EventShort>, Error> {
    let mut owed = BTreeSet::new();
    for row in view.scan(tables::OUTBOX, ())? {
        if let OutboxItem::Pdu(event) | OutboxItem::Invite(event) = row?.1 {
            owed.insert(event);
        }
    }
    Ok(owed)
}

/// Leaves the redacted form of an event, out of the timeline, the relations and the index.
fn empty(txn: &mut WriteTxn<'_>, event: EventShort, row: EventRow) -> Result<(), StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { table: "EVENTS", why };
    let room = txn.view().get(tables::ROOMS, row.meta.room)?;
    let room = room.ok_or_else(|| rows::dangling("ROOMS", row.meta.room.0))?;
    index::forget(txn, row.meta.room, event, &words::of_event(&row))?;
    if let Some(position) = row.meta.position {
        txn.remove(tables::TIMELINE, (row.meta.room, position))?;
        txn.remove(tables::GAPS, (row.meta.room, position))?;
    }
    let (meta, position) = (row.meta.clone(), row.meta.position);
    let before = rows::pdu(&room.room_id, row)?;
    if let Some(position) = position {
        forget_relation(txn, &before, position)?;
    }
    let rules = rules(&room.version).map_err(|e| corrupt(e.to_string()))?;
    let after = redact(&before, rules).map_err(|e| corrupt(e.to_string()))?;
    let meta = EventMeta { purged: true, txn: None, ..meta };
    txn.put(tables::EVENTS, event, &EventRow { meta, header: after.header().clone(), json: after.json().into() })
}

/// Events of one commit: some 200 microseconds of the writer for each.
const EVENTS_PER_JOB: usize = 16;
/// Messages that are young enough, after which the rest of a timeline is taken to be so too.
const KEPT_MAX: usize = 10_000;
