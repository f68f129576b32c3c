//! Where history is missing in the middle of a timeline: before an event that came while what it refers to did not. Its place is chosen so that what is
//! fetched later finds room before it.

use millpond_matrix::Pdu;
use millpond_store::{
    Error, View, WriteTxn,
    rows::{EventShort, Gap, RoomShort},
    tables,
};
use ruma::{EventId, OwnedEventId};

use crate::rooms::rows;

/// Positions that are kept free in a gap.
const ROOM: u64 = 1 << 24;

/// What an event refers to and has no place here.
pub(super) fn missing(view: View<'_>, pdu: &Pdu) -> Result<Vec<OwnedEventId>, Error> {
    let mut missing = Vec::new();
    for prev in pdu.prev_events() {
        let has_place = match rows::event_short(view, prev)? {
            Some(prev) => rows::head(view, prev)?.meta.state_after.is_some(),
            None => false,
        };
        if !has_place {
            missing.push(prev.clone());
        }
    }
    Ok(missing)
}

/// The position of a new event: with some space before it, if there is a gap.
pub(super) fn next_position(txn: &mut WriteTxn<'_>, room: RoomShort, missing: &[OwnedEventId]) -> Result<i64, Error> {
    if !missing.is_empty() && txn.view().any(tables::TIMELINE, (room,))? {
        txn.leave_out(ROOM);
    }
    Ok(txn.next_position().as_timeline())
}

/// Notes what is missing before an event.
pub(super) fn open(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    (event, position): (EventShort, i64),
    pdu: &Pdu,
    missing: Vec<OwnedEventId>,
) -> Result<(), Error> {
    for id in &missing {
        txn.put(tables::BACKWARD, (room, id), &u64::from(pdu.depth()))?;
        txn.put(tables::SUCCESSORS, (room, id, event), &())?;
    }
    let first = txn.view().scan(tables::TIMELINE, (room,))?.next().transpose()?;
    let in_the_middle = first.is_some_and(|((_, first), _)| first < position);
    if !missing.is_empty() && in_the_middle {
        txn.put(tables::GAPS, (room, position), &Gap { missing })?;
    }
    Ok(())
}

/// An event is here now, or need not come any more.
pub(super) fn close(txn: &mut WriteTxn<'_>, room: RoomShort, event_id: &EventId) -> Result<(), Error> {
    if !txn.remove(tables::BACKWARD, (room, event_id))? {
        return Ok(());
    }
    let later: Vec<_> = txn.view().scan(tables::SUCCESSORS, (room, event_id))?.collect::<Result<_, _>>()?;
    for ((.., later), ()) in later {
        let Some(position) = rows::head(txn.view(), later)?.meta.position else { continue };
        let Some(mut gap) = txn.view().get(tables::GAPS, (room, position))? else { continue };
        gap.missing.retain(|id| id != event_id);
        if gap.missing.is_empty() {
            txn.remove(tables::GAPS, (room, position))?;
        } else {
            txn.put(tables::GAPS, (room, position), &gap)?;
        }
    }
    Ok(())
}

/// Where `count` events of history go: right before the event at `edge`, in their order, or at the old end of the timeline.
pub(crate) fn place(view: View<'_>, room: RoomShort, edge: Option<i64>, count: usize) -> Result<i64, Error> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(edge) = edge {
        let mut below = view.range(
            tables::TIMELINE,
            std::ops::Bound::Included((room, i64::MIN)),
            std::ops::Bound::Excluded((room, edge)),
        )?;
        let below = below.next_back().transpose()?.map_or(i64::MIN, |((_, position), _)| position);
        if edge.saturating_sub(count) > below {
            return Ok(edge - count);
        }
    }
    let first = view.scan(tables::TIMELINE, (room,))?.next().transpose()?;
    Ok(first.map_or(0, |((_, position), _)| position.min(0)) - count)
}
