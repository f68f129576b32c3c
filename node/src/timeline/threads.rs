//! `/threads`: the threads of a room, the one with the newest reply first. There is no index: the timeline is walked from
//! its end, and a thread is met at its newest reply.

use std::ops::Bound;

use millpond_store::{rows::EventRow, tables};
use ruma::{DeviceId, EventId, OwnedEventId, OwnedRoomId, UserId};
use serde::Deserialize;

use super::{
    Timeline,
    reader::{Form, RoomReader, sender},
    token::Point,
};
use crate::{
    Error,
    json::{raw, text_member},
    rooms::rows,
};

/// What `/threads` asks.
#[derive(Clone, Debug)]
pub struct ThreadsRequest {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Where to go on.
    pub from: Option<String>,
    /// How many threads at most.
    pub limit: Option<u64>,
    /// Only those in which the user wrote something.
    pub participated: bool,
}

impl Timeline {
    /// The threads of a room, as a JSON body.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 400 for a token that is not ours, storage errors.
    pub fn threads(&self, asker: (&UserId, &DeviceId), request: &ThreadsRequest) -> Result<Vec<u8>, Error> {
        let from = request.from.as_deref().map_or(Ok(Point::END), |token| Point::parse("from", token))?;
        let limit = request.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE_MAX)).clamp(1, PAGE_MAX);
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, &request.room_id)?;
        let (roots, next) = find(&reader, from, limit, request.participated)?;
        let mut out = Vec::from(b"{\"chunk\":[");
        for root in &roots {
            reader.write(&mut out, root, Form::Full)?;
        }
        raw(&mut out, "]");
        if let Some(next) = next {
            text_member(&mut out, "next_batch", &next.to_string());
        }
        out.push(b'}');
        Ok(out)
    }
}

/// The roots of up to `limit` threads whose newest reply is not after `from`, and where to go on.
fn find(
    reader: &RoomReader<'_>,
    from: Point,
    limit: usize,
    participated: bool,
) -> Result<(Vec<EventRow>, Option<Point>), Error> {
    let mut roots = Vec::new();
    let (low, high) = (Bound::Included((reader.room, i64::MIN)), Bound::Included((reader.room, from.0)));
    for (visited, row) in reader.view.range(tables::TIMELINE, low, high)?.rev().enumerate() {
        let ((_, position), event) = row?;
        if visited == VISITS_MAX || roots.len() == limit {
            return Ok((roots, Some(Point(position))));
        }
        let row = rows::event(reader.view, event)?;
        let Some(root) = thread_of(&row) else { continue };
        if !reader.shows(&row)? || newest_reply(reader, &root)? != Some(position) {
            continue;
        }
        let Some((_, root)) = reader.event(&root)? else { continue };
        if !participated || takes_part(reader, &root)? {
            roots.push(root);
        }
    }
    Ok((roots, None))
}

fn thread_of(row: &EventRow) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: RelatesTo,
    }
    #[derive(Deserialize)]
    struct RelatesTo {
        rel_type: String,
        event_id: OwnedEventId,
    }
    let content = row.header.content.of(&row.json);
    // Most events are in no thread: a search of bytes is cheaper than a parse.
    if row.header.state_key.is_some() || !content.contains("\"m.thread\"") {
        return None;
    }
    let relates_to = serde_json::from_str::<Content>(content).ok()?.relates_to;
    (relates_to.rel_type == "m.thread").then_some(relates_to.event_id)
}

/// Where the newest reply in a thread stands that the reader is shown.
fn newest_reply(reader: &RoomReader<'_>, root: &EventId) -> Result<Option<i64>, Error> {
    for row in reader.view.scan(tables::RELATIONS, (root,))?.rev().take(RELATIONS_MAX) {
        let ((_, position), relation) = row?;
        if relation.rel_type != "m.thread" {
            continue;
        }
        let row = rows::event(reader.view, relation.event)?;
        if row.meta.room == reader.room && reader.shows(&row)? {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

fn takes_part(reader: &RoomReader<'_>, root: &EventRow) -> Result<bool, Error> {
    if *reader.who.user == *sender(root) {
        return Ok(true);
    }
    for row in reader.view.scan(tables::RELATIONS, (&*root.header.event_id,))?.rev().take(RELATIONS_MAX) {
        let (_, relation) = row?;
        if relation.rel_type == "m.thread" && relation.sender == reader.who.user {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Threads of a page unless the request says otherwise.
const PAGE: usize = 20;
/// Threads of a page at most.
const PAGE_MAX: usize = 100;
/// Events looked at in one request; the next one goes on.
const VISITS_MAX: usize = 5_000;
/// Relations of one event that are looked at.
const RELATIONS_MAX: usize = 1_000;
