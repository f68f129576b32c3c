//! `/messages`, `/context`, `/event`: history as one reader sees it.

use std::{collections::BTreeSet, time::Duration};

use millpond_store::{
    View,
    rows::{EventRow, RoomShort},
    tables,
};
use ruma::{
    DeviceId, EventId, OwnedEventId, OwnedRoomId, RoomId, UserId,
    api::{Direction, client::filter::RoomEventFilter},
    events::room::history_visibility::HistoryVisibility,
};

use super::{
    Timeline, gaps,
    reader::{Form, RoomReader, Who, enter, sender},
    select::Select,
    sight::JoinedUntil,
    token::Point,
    window::{self, Placed, Window},
};
use crate::{
    Error,
    json::{key, raw, text_member},
    rooms::{current, rows},
};

/// Who asks: the user and the device.
type Asker<'a> = (&'a UserId, &'a DeviceId);

/// What `/messages` asks.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Where to start: `from`.
    pub from: Option<String>,
    /// Where to end: `to`.
    pub to: Option<String>,
    /// Which way.
    pub dir: Direction,
    /// How many events at most.
    pub limit: u64,
    /// Which events.
    pub filter: RoomEventFilter,
}

/// What `/context` asks.
#[derive(Clone, Debug)]
pub struct Context {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event.
    pub event_id: OwnedEventId,
    /// How many events around it at most.
    pub limit: u64,
    /// Which events around it.
    pub filter: RoomEventFilter,
}

/// One page of history, as a JSON body.
pub type Page = Vec<u8>;

impl Timeline {
    /// A page of a room's history. Asks others for more where ours ends. Dropping the future is safe.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 400 for tokens that are not ours, storage errors.
    pub async fn page(&self, asker: Asker<'_>, request: PageRequest) -> Result<Page, Error> {
        let from = request.from.as_deref().map(|token| Point::parse("from", token)).transpose()?;
        let to = request.to.as_deref().map(|token| Point::parse("to", token)).transpose()?;
        if request.dir == Direction::Backward
            && let Some(end) = self.ends_early(asker, &request, from, to)?
        {
            let gap = if let End::Gap(edge) = end { Some(edge) } else { None };
            self.fetch_older(&request.room_id, gap, request.limit).await;
        }
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, &request.room_id)?;
        let mut page = page(&reader, &request, from, to, Gaps::Stop)?;
        if page.gap.is_some() && page.window.events.is_empty() {
            // Nobody has what is missing, or is there: what is older is better than nothing.
            page = self::page(&reader, &request, from, to, Gaps::Pass)?;
        }
        write_page(&reader, &request, page)
    }

    /// Where a page to the old side meets the end of what is here before it is full, and others have more.
    fn ends_early(
        &self,
        asker: Asker<'_>,
        request: &PageRequest,
        from: Option<Point>,
        to: Option<Point>,
    ) -> Result<Option<End>, Error> {
        if self.backfill.get().is_none() {
            return Ok(None);
        }
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, &request.room_id)?;
        // The cheap question first: most rooms lack nothing, and the page is made again below.
        if !has_older_elsewhere(reader.view, reader.room)? {
            return Ok(None);
        }
        let page = page(&reader, request, from, to, Gaps::Stop)?;
        Ok(match page.gap {
            Some(edge) => Some(End::Gap(edge)),
            None => (to.is_none() && !page.window.more).then_some(End::Oldest),
        })
    }

    /// Asks others for what comes before a gap, or before the oldest event here.
    pub(super) async fn fetch_older(&self, room_id: &RoomId, gap: Option<i64>, limit: u64) {
        let Some(backfill) = self.backfill.get() else { return };
        let limit = usize::try_from(limit).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        // What cannot be fetched in time is left to the next page: the client gets what is here and a token to go on.
        if let Ok(Err(error)) = tokio::time::timeout(BACKFILL_PATIENCE, backfill.backfill(room_id, gap, limit)).await {
            tracing::debug!(%error, "older history could not be fetched");
        }
    }

    /// An event and what happened around it.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 404 for events that are not shown, storage errors.
    pub fn context(&self, asker: Asker<'_>, request: &Context) -> Result<Page, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, &request.room_id)?;
        let (_, row) = visible(&reader, &request.event_id)?;
        let position = row.meta.position.ok_or_else(|| unknown(&request.event_id))?;
        let select = Select::new(&request.filter);
        let around = usize::try_from(request.limit).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let before = window::backward(&reader, Point::before(position), None, around / 2, &select)?;
        let after = window::forward(&reader, Point(position), None, around - around / 2, &select)?;
        write_context(&reader, &row, position, (&before, &after), &select)
    }

    /// One event.
    ///
    /// # Errors
    /// 403 for those who may not look into the room, 404 for events that are not shown, storage errors.
    pub fn event(&self, asker: Asker<'_>, room_id: &RoomId, event_id: &EventId) -> Result<Vec<u8>, Error> {
        let snapshot = self.core.snapshot()?;
        let reader = self.enter(snapshot.view(), asker, room_id)?;
        let (_, row) = visible(&reader, event_id)?;
        let mut out = Vec::new();
        reader.write(&mut out, &row, Form::Full)?;
        Ok(out)
    }

    /// The room as the asker sees it.
    pub(super) fn enter<'v>(
        &self,
        view: View<'v>,
        (user, device): Asker<'v>,
        room_id: &RoomId,
    ) -> Result<RoomReader<'v>, Error> {
        enter(view, Who::new(&self.core, view, user, Some(device))?, room_id)
    }
}

/// An event that is shown to the reader, or 404.
pub(super) fn visible(
    reader: &RoomReader<'_>,
    event_id: &EventId,
) -> Result<(millpond_store::rows::EventShort, EventRow), Error> {
    reader.event(event_id)?.ok_or_else(|| unknown(event_id))
}

fn unknown(event_id: &EventId) -> Error {
    Error::not_found(format!("event {event_id} is not known in this room, or not shown to you"))
}

/// Where what is here ends.
enum End {
    /// Before the event at this position, in the middle of the timeline.
    Gap(i64),
    Oldest,
}

/// What a page does at a gap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gaps {
    Stop,
    Pass,
}

struct Found {
    start: Point,
    window: Window,
    /// The gap that it stopped at.
    gap: Option<i64>,
}

fn page(
    reader: &RoomReader<'_>,
    request: &PageRequest,
    from: Option<Point>,
    to: Option<Point>,
    gaps: Gaps,
) -> Result<Found, Error> {
    let select = Select::new(&request.filter);
    let limit = usize::try_from(request.limit).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let limit = select.limit(limit, limit);
    let (start, (window, gap)) = match request.dir {
        Direction::Backward => {
            let start = match from {
                Some(from) => from,
                None => newest(reader)?,
            };
            match gaps {
                Gaps::Stop => (start, gaps::backward(reader, start, to, limit, &select)?),
                Gaps::Pass => (start, (window::backward(reader, start, to, limit, &select)?, None)),
            }
        }
        Direction::Forward => {
            let start = from.unwrap_or(Point(oldest(reader.view, reader.room)?));
            (start, (window::forward(reader, start, to, limit, &select)?, None))
        }
    };
    Ok(Found { start, window, gap })
}

/// Where a page to the old side starts: at the end, or where the reader left.
fn newest(reader: &RoomReader<'_>) -> Result<Point, Error> {
    match reader.sight.joined_until() {
        JoinedUntil::Position(end) if reader.sight.now()?.visibility != HistoryVisibility::WorldReadable => {
            Ok(Point(end))
        }
        _ => Ok(Point(reader.view.position()?.as_timeline())),
    }
}

/// The point before the oldest event.
fn oldest(view: View<'_>, room: RoomShort) -> Result<i64, Error> {
    let first = view.scan(tables::TIMELINE, (room,))?.next().transpose()?;
    Ok(first.map_or(0, |((_, position), _)| Point::before(position).0))
}

/// Whether events that others have come before those that are here.
fn has_older_elsewhere(view: View<'_>, room: RoomShort) -> Result<bool, Error> {
    Ok(view.any(tables::BACKWARD, (room,))?)
}

fn write_page(
    reader: &RoomReader<'_>,
    request: &PageRequest,
    Found { start, window, .. }: Found,
) -> Result<Page, Error> {
    let more = match request.dir {
        // Where history goes on elsewhere the client may ask again, as long as it can see so far.
        Direction::Backward => {
            window.more
                || (request.to.is_none()
                    && reader.sight.joined_until() != JoinedUntil::Never
                    && has_older_elsewhere(reader.view, reader.room)?)
        }
        Direction::Forward => window.more || !window.events.is_empty(),
    };
    let mut out = Vec::with_capacity(1024 * window.events.len() + 128);
    out.push(b'{');
    key(&mut out, "chunk");
    write_events(reader, &mut out, window.events.iter())?;
    text_member(&mut out, "start", &start.to_string());
    if more {
        text_member(&mut out, "end", &window.reached.to_string());
    }
    let select = Select::new(&request.filter);
    if select.lazy_members() {
        key(&mut out, "state");
        write_members(reader, &mut out, window.events.iter().map(|placed| &placed.row))?;
    }
    out.push(b'}');
    Ok(out)
}

fn write_context(
    reader: &RoomReader<'_>,
    row: &EventRow,
    position: i64,
    (before, after): (&Window, &Window),
    select: &Select<'_>,
) -> Result<Page, Error> {
    let mut out = vec![b'{'];
    key(&mut out, "event");
    reader.write(&mut out, row, Form::Full)?;
    key(&mut out, "events_before");
    write_events(reader, &mut out, before.events.iter())?;
    key(&mut out, "events_after");
    write_events(reader, &mut out, after.events.iter())?;
    let start = before.events.last().map_or(Point::before(position), |first| Point::before(first.position));
    let end = after.events.last().map_or(Point(position), |last| Point(last.position));
    text_member(&mut out, "start", &start.to_string());
    text_member(&mut out, "end", &end.to_string());
    key(&mut out, "state");
    let last = after.events.last().map_or(row, |last| &last.row);
    let shown = before.events.iter().chain(&after.events).map(|placed| &placed.row).chain([row]);
    super::state::write_at(reader, &mut out, last, select, &senders(shown))?;
    out.push(b'}');
    Ok(out)
}

fn write_events<'e>(
    reader: &RoomReader<'_>,
    out: &mut Vec<u8>,
    events: impl Iterator<Item = &'e Placed>,
) -> Result<(), Error> {
    out.push(b'[');
    for placed in events {
        reader.write(out, &placed.row, Form::Full)?;
    }
    out.push(b']');
    Ok(())
}

pub(super) fn senders<'e>(events: impl Iterator<Item = &'e EventRow>) -> BTreeSet<String> {
    events.map(|row| sender(row).into_owned()).collect()
}

/// The member events of those who sent events, as an array.
fn write_members<'e>(
    reader: &RoomReader<'_>,
    out: &mut Vec<u8>,
    events: impl Iterator<Item = &'e EventRow>,
) -> Result<(), Error> {
    raw(out, "[");
    for user in senders(events) {
        if let Some(event) = current::entry(reader.view, reader.room, "m.room.member", &user)? {
            reader.write_state(out, &rows::event(reader.view, event)?, Form::Full)?;
        }
    }
    raw(out, "]");
    Ok(())
}

/// Events of a page at most.
const PAGE_MAX: usize = 1_000;
/// How long a page waits for other servers.
const BACKFILL_PATIENCE: Duration = Duration::from_secs(10);
