//! Stretches of a room's timeline as one reader sees them.

use std::ops::Bound;

use millpond_store::{
    Error,
    rows::{EventRow, EventShort},
    tables,
};

use super::{reader::RoomReader, select::Select, token::Point};
use crate::rooms::rows;

/// An event with its place in the timeline.
pub(crate) struct Placed {
    pub(crate) position: i64,
    pub(crate) event: EventShort,
    pub(crate) row: EventRow,
}

/// A stretch of a timeline.
pub(crate) struct Window {
    /// In the order in which they were met.
    pub(crate) events: Vec<Placed>,
    /// The point up to which the timeline was walked: with `more`, where the next page starts.
    pub(crate) reached: Point,
    /// There is or may be more that the reader wants before the bound.
    pub(crate) more: bool,
}

/// Walks back from `from` as far as `bound` for at most `limit` events.
pub(crate) fn backward(
    reader: &RoomReader<'_>,
    from: Point,
    bound: Option<Point>,
    limit: usize,
    select: &Select<'_>,
) -> Result<Window, Error> {
    let low = bound.map_or(Bound::Included((reader.room, i64::MIN)), |bound| Bound::Excluded((reader.room, bound.0)));
    let rows = reader.view.range(tables::TIMELINE, low, Bound::Included((reader.room, from.0)))?;
    let rows = rows.rev().map(|row| row.map(|((_, position), event)| (position, event)));
    walk(reader, rows, limit, select, from, Point::before)
}

/// Walks forward from `from` as far as `bound` for at most `limit` events.
pub(crate) fn forward(
    reader: &RoomReader<'_>,
    from: Point,
    bound: Option<Point>,
    limit: usize,
    select: &Select<'_>,
) -> Result<Window, Error> {
    let high = Bound::Included((reader.room, bound.unwrap_or(Point::END).0));
    let rows = reader.view.range(tables::TIMELINE, Bound::Excluded((reader.room, from.0)), high)?;
    let rows = rows.map(|row| row.map(|((_, position), event)| (position, event)));
    walk(reader, rows, limit, select, from, Point)
}

/// Takes the events that the reader wants; `past` gives the point beyond an event in the direction of the walk.
fn walk(
    reader: &RoomReader<'_>,
    rows: impl Iterator<Item = Result<(i64, EventShort), Error>>,
    limit: usize,
    select: &Select<'_>,
    from: Point,
    past: impl Fn(i64) -> Point,
) -> Result<Window, Error> {
    let mut window = Window { events: Vec::with_capacity(limit.min(64)), reached: from, more: false };
    for (visited, placed) in rows.enumerate() {
        let (position, event) = placed?;
        if visited == limit.saturating_mul(VISITS_PER_EVENT).saturating_add(VISITS_MIN) {
            window.more = true;
            break;
        }
        let row = rows::event(reader.view, event)?;
        if select.takes(&row) && reader.shows(&row)? {
            if window.events.len() == limit {
                window.more = true;
                break;
            }
            window.events.push(Placed { position, event, row });
        }
        window.reached = past(position);
    }
    Ok(window)
}

/// Events looked at for each that is asked for: a filter that takes nothing must not walk a whole room in one request.
const VISITS_PER_EVENT: usize = 20;
/// Events looked at in any case.
const VISITS_MIN: usize = 1_000;
