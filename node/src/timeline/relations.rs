//! `/relations`: the events that relate to one, page by page.

use std::collections::HashSet;

use millpond_store::{
    rows::{EventShort, Relation},
    tables,
};
use ruma::{DeviceId, OwnedEventId, OwnedRoomId, UserId, api::Direction};

use super::{
    Timeline,
    history::visible,
    reader::{Form, RoomReader},
    token::Point,
};
use crate::{
    Error,
    json::{plain_member, raw, text_member},
    rooms::rows,
};

/// Which relating events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only this `rel_type`.
    pub rel_type: Option<String>,
    /// Only events of this type.
    pub kind: Option<String>,
}

/// What `/relations` asks.
#[derive(Clone, Debug)]
pub struct RelationsRequest {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that others relate to.
    pub event_id: OwnedEventId,
    /// Which of them.
    pub wanted: Wanted,
    /// Where to start: `from`.
    pub from: Option<String>,
    /// Where to end: `to`.
    pub to: Option<String>,
    /// Which way.
    pub dir: Direction,
    /// How many at most.
    pub limit: Option<u64>,
    /// Events that relate to those that relate, too.
    pub recurse: bool,
}

impl Timeline {
    /// The events that relate to one.
    ///
    /// # Errors
    /// 404 for events that are not shown to the user, 400 for tokens that are not ours, storage errors.
    pub fn relations(&self, asker: (&UserId, &DeviceId), request: &RelationsRequest) -> Result<Vec<u8>, Error> {
        let from = request.from.as_deref().map(|token| Point::parse("from", token)).transpose()?;
        let to = request.to.as_deref().map(|token| Point::parse("to", token)).transpose()?;
        let snapshot = self.core.snapshot()?;
        // Who is not in the room learns no more than who may not see the event.
        let hidden = |error: Error| match error {
            Error::Matrix { .. } => Error::not_found(format!("there is no event {} for you to see", request.event_id)),
            other => other,
        };
        let reader = self.enter(snapshot.view(), asker, &request.room_id).map_err(hidden)?;
        visible(&reader, &request.event_id)?;
        let depth = if request.recurse { RECURSION_MAX } else { 1 };
        let mut found = find(&reader, request, depth)?;
        let backward = request.dir == Direction::Backward;
        found.retain(|(position, _)| within(*position, from, to, backward));
        found.sort_unstable();
        if backward {
            found.reverse();
        }
        let limit = request.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE_MAX)).clamp(1, PAGE_MAX);
        write(&reader, request, &found, limit)
    }
}

/// The wanted events that relate to the one in question in up to `depth` steps, with their places in the timeline.
fn find(reader: &RoomReader<'_>, request: &RelationsRequest, depth: usize) -> Result<Vec<(i64, EventShort)>, Error> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut level = vec![request.event_id.clone()];
    for step in 0..depth {
        let mut next = Vec::new();
        for target in &level {
            for row in reader.view.scan(tables::RELATIONS, (&**target,))?.rev() {
                let ((_, position), relation) = row?;
                if seen.len() == SEEN_MAX {
                    return Ok(found);
                }
                if !seen.insert(relation.event) {
                    continue;
                }
                if step + 1 < depth {
                    next.push(rows::event_id(reader.view, relation.event)?);
                }
                if wants(&request.wanted, &relation) {
                    found.push((position, relation.event));
                }
            }
        }
        level = next;
    }
    Ok(found)
}

fn wants(wanted: &Wanted, relation: &Relation) -> bool {
    wanted.kind.as_ref().is_none_or(|kind| *kind == relation.kind)
        && wanted.rel_type.as_ref().is_none_or(|rel_type| *rel_type == relation.rel_type)
}

fn within(position: i64, from: Option<Point>, to: Option<Point>, backward: bool) -> bool {
    let (old, new) = if backward { (to, from) } else { (from, to) };
    old.is_none_or(|old| position > old.0) && new.is_none_or(|new| position <= new.0)
}

fn write(
    reader: &RoomReader<'_>,
    request: &RelationsRequest,
    found: &[(i64, EventShort)],
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let backward = request.dir == Direction::Backward;
    let past = |position: i64| if backward { Point::before(position) } else { Point(position) };
    let mut out = Vec::from(b"{\"chunk\":[");
    let (mut written, mut next) = (0, None);
    let mut reached = None;
    for (position, event) in found {
        let row = rows::event(reader.view, *event)?;
        // An event of another room may name this one.
        if row.meta.room != reader.room || !reader.shows(&row)? {
            continue;
        }
        if written == limit {
            next = reached;
            break;
        }
        reader.write(&mut out, &row, Form::Full)?;
        written += 1;
        reached = Some(past(*position));
    }
    raw(&mut out, "]");
    if let Some(next) = next {
        text_member(&mut out, "next_batch", &next.to_string());
    }
    if let Some(from) = &request.from {
        text_member(&mut out, "prev_batch", from);
    }
    if request.recurse {
        plain_member(&mut out, "recursion_depth", RECURSION_MAX);
    }
    out.push(b'}');
    Ok(out)
}

/// Events of a page unless the request says otherwise.
const PAGE: usize = 50;
/// Events of a page at most.
const PAGE_MAX: usize = 500;
/// Steps of `recurse`.
const RECURSION_MAX: usize = 3;
/// Relations that are looked at in one request.
const SEEN_MAX: usize = 20_000;
