//! The event nearest to a point in time. The timeline is in the order in which events came, which is nearly that of their
//! times: a bisection finds the place, and a stretch around it makes up for clocks that are off.

use std::ops::Bound;

use millpond_store::{
    View,
    rows::{EventRow, EventShort, RoomShort},
    tables,
};
use ruma::{MilliSecondsSinceUnixEpoch, api::Direction};

use crate::{Error, rooms::rows};

/// The event at or after `ts` that is nearest to it, or at or before it, among those that `shows` lets through.
///
/// # Errors
/// Those of `shows`; storage errors.
pub(crate) fn find(
    view: View<'_>,
    room: RoomShort,
    ts: MilliSecondsSinceUnixEpoch,
    dir: Direction,
    mut shows: impl FnMut(&EventRow) -> Result<bool, Error>,
) -> Result<Option<EventRow>, Error> {
    let Some(crossing) = crossing(view, room, ts)? else { return Ok(None) };
    let (start, rows) = stretch(view, room, crossing, dir)?;
    let mut best: Option<EventRow> = None;
    let distance = |row: &EventRow| u64::from(row.header.origin_server_ts.0).abs_diff(ts.0.into());
    for (walked, event) in rows.into_iter().enumerate() {
        let row = rows::event(view, event)?;
        let at = row.header.origin_server_ts;
        let eligible = if dir == Direction::Forward { at >= ts } else { at <= ts };
        if eligible && best.as_ref().is_none_or(|best| distance(&row) < distance(best)) && shows(&row)? {
            best = Some(row);
        }
        // Past the stretch where clocks may be off, the first is the nearest.
        if walked >= start && best.is_some() {
            break;
        }
    }
    Ok(best)
}

/// The position of the first event, by bisection, that is not older than `ts`; the end if all are.
fn crossing(view: View<'_>, room: RoomShort, ts: MilliSecondsSinceUnixEpoch) -> Result<Option<i64>, Error> {
    let mut all = view.scan(tables::TIMELINE, (room,))?;
    let (first, last) = (all.next().transpose()?, all.next_back().transpose()?);
    let Some(((_, mut low), _)) = first else { return Ok(None) };
    let mut high = last.map_or(low, |((_, position), _)| position).saturating_add(1);
    while low < high {
        let middle = low + (high - low) / 2;
        let bounds = (Bound::Included((room, middle)), Bound::Excluded((room, high)));
        let next = view.range(tables::TIMELINE, bounds.0, bounds.1)?.next().transpose()?;
        match next {
            None => high = middle,
            Some(((_, position), event)) => match rows::event(view, event)?.header.origin_server_ts < ts {
                true => low = position.saturating_add(1),
                false => high = middle,
            },
        }
    }
    Ok(Some(low))
}

/// The events to look at, in the order of the walk, and the number of them after which the first that fits will do.
fn stretch(view: View<'_>, room: RoomShort, crossing: i64, dir: Direction) -> Result<(usize, Vec<EventShort>), Error> {
    let back = view.range(tables::TIMELINE, Bound::Included((room, i64::MIN)), Bound::Excluded((room, crossing)))?;
    let ahead = view.range(tables::TIMELINE, Bound::Included((room, crossing)), Bound::Included((room, i64::MAX)))?;
    let event = |row: Result<_, millpond_store::Error>| row.map(|(_, event)| event);
    let (near, far): (Vec<_>, Vec<_>) = match dir {
        Direction::Forward => (back.rev().take(SKEW).map(event).collect(), ahead.take(WALK).map(event).collect()),
        Direction::Backward => (ahead.take(SKEW).map(event).collect(), back.rev().take(WALK).map(event).collect()),
    };
    let start = near.len() + SKEW;
    let events = near.into_iter().chain(far).collect::<Result<_, _>>()?;
    Ok((start, events))
}

/// Events on either side of the place that are looked at in any case.
const SKEW: usize = 50;
/// Events that are looked at to find one that is shown.
const WALK: usize = 1_000;
