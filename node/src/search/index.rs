//! Writing the index. Events are numbered in the order of their commits, so the number of the last one that was indexed is
//! the cursor: after a crash the indexer goes on behind it.

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{
    Error, Job, View, WriteTxn,
    rows::{EventRow, EventShort, Posting, Postings, RoomShort},
    tables,
};

use super::words::{self, Occurrence, RULES, Words};
use crate::rooms::rows;

/// Up to where events are indexed, if it was by the present rules.
pub(super) fn cursor(view: View<'_>) -> Result<Option<EventShort>, Error> {
    let Some(row) = view.get(tables::META, CURSOR)? else { return Ok(None) };
    let number = |part: Option<&[u8]>| part.and_then(|part| Some(u64::from_be_bytes(part.try_into().ok()?)));
    let (rules, last) = (number(row.get(..8)), number(row.get(8..)));
    Ok(last.filter(|_| rules == Some(RULES)).map(EventShort))
}

fn put_cursor(txn: &mut WriteTxn<'_>, last: EventShort) -> Result<(), Error> {
    let row = [RULES.to_be_bytes(), last.0.to_be_bytes()].concat();
    txn.put(tables::META, CURSOR, &row)
}

/// Whether there are events behind the cursor.
pub(super) fn is_behind(view: View<'_>) -> Result<bool, Error> {
    match cursor(view)? {
        None => Ok(true),
        Some(last) => Ok(view.range(tables::EVENTS, Bound::Excluded(last), END)?.next().is_some()),
    }
}

/// Indexes the next events; refused when there are none.
pub(super) struct Step {
    pub(super) now_ms: u64,
}

/// What a step writes: the postings of each word in each room, and the new cursor.
pub(super) struct Plan {
    anew: bool,
    postings: BTreeMap<(String, RoomShort), Vec<Posting>>,
    last: EventShort,
}

/// There is nothing to index.
#[derive(Debug)]
pub(super) enum Stop {
    UpToDate,
    Failed(Error),
}

impl Job for Step {
    type Plan = Plan;
    type Out = ();
    type Err = Stop;

    fn decide(&mut self, view: View<'_>) -> Result<Plan, Stop> {
        let cursor = cursor(view).map_err(Stop::Failed)?;
        let mut plan =
            Plan { anew: cursor.is_none(), postings: BTreeMap::new(), last: cursor.unwrap_or(EventShort(0)) };
        let rows = view.range(tables::EVENTS, Bound::Excluded(plan.last), END).map_err(Stop::Failed)?;
        for row in rows.take(EVENTS_PER_STEP) {
            let (event, row) = row.map_err(Stop::Failed)?;
            plan.last = event;
            for (word, occurrence) in searchable(&row) {
                let posting = posting(event, &row, occurrence, self.now_ms);
                plan.postings.entry((word, row.meta.room)).or_default().push(posting);
            }
        }
        if !plan.anew && Some(plan.last) == cursor { Err(Stop::UpToDate) } else { Ok(plan) }
    }

    fn write(&mut self, plan: Plan, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        if plan.anew {
            txn.remove_all(tables::SEARCH_WORDS, ())?;
        }
        for ((word, room), postings) in plan.postings {
            add(txn, &word, room, postings)?;
        }
        put_cursor(txn, plan.last)
    }
}

/// The words of an event that has its place in the timeline and its content.
fn searchable(row: &EventRow) -> Words {
    match row.meta.position {
        Some(_) if row.meta.redacted_by.is_none() && !row.meta.purged => words::of_event(row),
        _ => Words::new(),
    }
}

fn posting(event: EventShort, row: &EventRow, occurrence: Occurrence, now_ms: u64) -> Posting {
    let Occurrence { fields, times } = occurrence;
    // A server that dates its events into the future would be first in every list.
    let ts_ms = u64::from(row.header.origin_server_ts.0).min(now_ms);
    Posting { event, ts_ms, fields, times }
}

/// Appends postings, in the order of their events and all newer than those of the word in the room, to its last block.
fn add(txn: &mut WriteTxn<'_>, word: &str, room: RoomShort, postings: Vec<Posting>) -> Result<(), Error> {
    let last = txn.view().scan(tables::SEARCH_WORDS, (word, room))?.next_back().transpose()?;
    let mut block = last.map(|((_, _, first), block)| (first, block));
    for posting in postings {
        match &mut block {
            Some((_, Postings(list))) if list.len() < Postings::MAX => list.push(posting),
            full => {
                if let Some((first, list)) = full {
                    txn.put(tables::SEARCH_WORDS, (word, room, *first), list)?;
                }
                *full = Some((posting.event, Postings(vec![posting])));
            }
        }
    }
    match block {
        Some((first, list)) => txn.put(tables::SEARCH_WORDS, (word, room, first), &list),
        None => Ok(()),
    }
}

/// The block in which an event's posting is, or would be.
fn block_of(
    view: View<'_>,
    word: &str,
    room: RoomShort,
    event: EventShort,
) -> Result<Option<(EventShort, Postings)>, Error> {
    let from = (word, room, EventShort(0));
    let mut rows = view.range(tables::SEARCH_WORDS, Bound::Included(from), Bound::Included((word, room, event)))?;
    Ok(rows.next_back().transpose()?.map(|((_, _, first), block)| (first, block)))
}

/// Indexes an event that got its place in the timeline after its number: the indexer will not come by again.
pub(crate) fn add_late(txn: &mut WriteTxn<'_>, event: EventShort) -> Result<(), Error> {
    if cursor(txn.view())?.is_none_or(|last| last < event) {
        return Ok(());
    }
    let row = rows::event(txn.view(), event)?;
    for (word, occurrence) in searchable(&row) {
        let posting = posting(event, &row, occurrence, u64::MAX);
        let found = block_of(txn.view(), &word, row.meta.room, event)?;
        let (first, Postings(mut list)) = found.unwrap_or((event, Postings::default()));
        let Err(at) = list.binary_search_by_key(&event, |posting| posting.event) else { continue };
        list.insert(at, posting);
        txn.put(tables::SEARCH_WORDS, (&*word, row.meta.room, first), &Postings(list))?;
    }
    Ok(())
}

/// Takes an event out of the lists of its words.
pub(crate) fn forget(txn: &mut WriteTxn<'_>, room: RoomShort, event: EventShort, words: &Words) -> Result<(), Error> {
    for word in words.keys() {
        let Some((first, Postings(mut list))) = block_of(txn.view(), word, room, event)? else { continue };
        list.retain(|posting| posting.event != event);
        if list.is_empty() {
            txn.remove(tables::SEARCH_WORDS, (&**word, room, first))?;
        } else {
            txn.put(tables::SEARCH_WORDS, (&**word, room, first), &Postings(list))?;
        }
    }
    Ok(())
}

const CURSOR: &str = "search";
const END: Bound<EventShort> = Bound::Unbounded;
/// Events of one job: with some ten words each they keep the writer for about two milliseconds.
const EVENTS_PER_STEP: usize = 64;
