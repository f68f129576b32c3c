//! Gaps of a timeline, for those who read it backward: nothing that is older is shown as if it came right before.

use std::ops::Bound;

use millpond_store::{Error, View, rows::RoomShort, tables};

use super::{reader::RoomReader, select::Select, token::Point, window, window::Window};

/// The newest gap between two points: the position of the event before which history is missing.
fn newest(view: View<'_>, room: RoomShort, from: Point, bound: Option<Point>) -> Result<Option<i64>, Error> {
    let low = bound.map_or(Bound::Included((room, i64::MIN)), |bound| Bound::Excluded((room, bound.0)));
    // A point right before the event is in the gap.
    let high = Bound::Included((room, from.0.saturating_add(1)));
    let row = view.range(tables::GAPS, low, high)?.next_back().transpose()?;
    Ok(row.map(|((_, position), _)| position))
}

/// Whether a gap was filled after a client that knows the room up to a position may have gone past it. Such a client is told that
/// its timeline is not the whole one, as after an absence.
pub(crate) fn was_filled(view: View<'_>, room: RoomShort, since: u64) -> Result<bool, Error> {
    Ok(view.get(tables::FILLED, room)?.is_some_and(|filled| since < filled))
}

/// As [`window::backward`], to the next gap at most: there the window says that there is more, and what the gap is.
pub(crate) fn backward(
    reader: &RoomReader<'_>,
    from: Point,
    bound: Option<Point>,
    limit: usize,
    select: &Select<'_>,
) -> Result<(Window, Option<i64>), Error> {
    let Some(edge) = newest(reader.view, reader.room, from, bound)? else {
        return Ok((window::backward(reader, from, bound, limit, select)?, None));
    };
    let mut window = window::backward(reader, from, Some(Point::before(edge)), limit, select)?;
    if window.more {
        return Ok((window, None));
    }
    window.more = true;
    window.reached = Point::before(edge);
    Ok((window, Some(edge)))
}
