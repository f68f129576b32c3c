//! Receipts and read markers (client-server API, "Receipts", "Fully read markers"): up to where each user has read, per
//! receipt type and thread. A receipt only ever moves forward in our timeline.

use std::{collections::BTreeMap, ops::Bound};

use millpond_store::{
    Position, Topic, View, WriteTxn, job,
    rows::{EventRow, ReceiptKey, RoomShort},
    tables,
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::federation::transactions::edu::ReceiptContent,
    events::{AnySyncEphemeralRoomEvent, receipt::ReceiptThread},
    serde::Raw,
};
use serde_json::{Value, json};

use crate::{
    Core, Error,
    account_data::{self, FULLY_READ},
    rooms::{current, rows},
    shared_rooms, threads,
};

mod early;
mod owed;

pub(crate) use early::take as take_early;
pub use owed::{ReceiptEdus, receipts_delivered};
pub(crate) use owed::{owes_receipts, receipt_edus};

/// The receipts of all users that we know of. Cloning is cheap.
#[derive(Clone)]
pub struct Receipts {
    core: Core,
}

/// Which kind of receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `m.read`: shown to all members.
    Read,
    /// `m.read.private`: shown to its owner only.
    ReadPrivate,
}

impl Kind {
    /// The receipt type as Matrix writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "m.read",
            Self::ReadPrivate => "m.read.private",
        }
    }
}

/// What a client marks as read in one request.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    /// The event of an `m.read` receipt.
    pub read: Option<OwnedEventId>,
    /// The event of an `m.read.private` receipt.
    pub read_private: Option<OwnedEventId>,
    /// The event of the fully-read marker.
    pub fully_read: Option<OwnedEventId>,
}

impl Receipts {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core }
    }

    /// Sets a receipt of a user of ours. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 403 if the user is not in the room; 400 `M_INVALID_PARAM` for an event that is not in the room's timeline, or not
    /// in the thread; storage errors.
    pub async fn set(
        &self,
        user: &UserId,
        room_id: &RoomId,
        kind: Kind,
        event_id: &EventId,
        thread: ReceiptThread,
    ) -> Result<(), Error> {
        let mark = Mark { kind, event_id: event_id.to_owned(), thread };
        self.write(user, room_id, vec![mark], None).await
    }

    /// Sets unthreaded receipts and the fully-read marker of a user of ours. Dropping the future does not take it back.
    ///
    /// # Errors
    /// As [`Receipts::set`].
    pub async fn set_markers(&self, user: &UserId, room_id: &RoomId, markers: Markers) -> Result<(), Error> {
        let kinds = [(Kind::Read, markers.read), (Kind::ReadPrivate, markers.read_private)];
        let marks = kinds.into_iter().filter_map(|(kind, event_id)| {
            event_id.map(|event_id| Mark { kind, event_id, thread: ReceiptThread::Unthreaded })
        });
        self.write(user, room_id, marks.collect(), markers.fully_read).await
    }

    async fn write(
        &self,
        user: &UserId,
        room_id: &RoomId,
        marks: Vec<Mark>,
        fully_read: Option<OwnedEventId>,
    ) -> Result<(), Error> {
        let (user, room_id, core) = (user.to_owned(), room_id.to_owned(), self.core.clone());
        let now = core.clock().now_ms();
        let (reader, reader_room) = (user.clone(), room_id.clone());
        let write = job(
            move |view| {
                let room = shared_rooms::joined_room(view, &reader, &reader_room)?;
                let mut forward = Vec::new();
                for mark in &marks {
                    if moves_forward(view, room, &reader, mark)? {
                        forward.push(mark.clone());
                    }
                }
                let marker = match &fully_read {
                    Some(event_id) if marker_moves(view, &reader, &reader_room, room, event_id)? => {
                        Some(event_id.clone())
                    }
                    _ => None,
                };
                Ok::<_, Error>((room, forward, marker))
            },
            move |(room, forward, marker): (RoomShort, Vec<Mark>, Option<OwnedEventId>), txn| {
                let before = txn.position().0;
                for mark in &forward {
                    put(txn, room, &user, mark, now)?;
                }
                if forward.iter().any(|mark| mark.kind == Kind::Read) {
                    owed::owe(txn, core.identity(), room, before)?;
                }
                if let Some(event_id) = marker {
                    let content = json!({ "event_id": event_id }).to_string();
                    account_data::put(txn, &user, Some(&room_id), FULLY_READ, &content)?;
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        Ok(())
    }

    /// Takes the receipts of an `m.receipt` EDU of the server `origin`. What is not about its own users, or about rooms that
    /// they are not in, is left out; what is about an event that is not here yet waits for it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn receive(&self, origin: &ruma::ServerName, content: ReceiptContent) -> Result<(), Error> {
        let received = Arrived::of(origin, content);
        let write = job(
            move |view| {
                let mut taken = Vec::new();
                for arrived in &received {
                    let Some(room) = rows::room_short(view, &arrived.room_id)? else { continue };
                    if !current::is_joined(view, room, &arrived.user)? {
                        continue;
                    }
                    if rows::event_short(view, &arrived.mark.event_id)?.is_none() {
                        taken.push((room, When::Early, arrived.clone()));
                        continue;
                    }
                    match moves_forward(view, room, &arrived.user, &arrived.mark) {
                        Ok(true) => taken.push((room, When::Now, arrived.clone())),
                        Ok(false) | Err(Error::Matrix { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(taken)
            },
            move |taken: Vec<(RoomShort, When, Arrived)>, txn| {
                for (room, when, Arrived { user, mark, ts_ms, .. }) in &taken {
                    match when {
                        When::Now => put(txn, *room, user, mark, *ts_ms)?,
                        When::Early => early::keep(txn, *room, user, mark, *ts_ms)?,
                    }
                }
                Ok(())
            },
        );
        self.core.write(write).await?;
        Ok(())
    }
}

/// Whether a receipt counts now, or when its event comes.
#[derive(Clone, Copy)]
enum When {
    Now,
    Early,
}

/// One receipt to set.
#[derive(Clone, Debug)]
struct Mark {
    kind: Kind,
    event_id: OwnedEventId,
    thread: ReceiptThread,
}

/// A receipt that a peer sent.
#[derive(Clone)]
struct Arrived {
    room_id: OwnedRoomId,
    user: OwnedUserId,
    mark: Mark,
    ts_ms: u64,
}

impl Arrived {
    fn of(origin: &ruma::ServerName, content: ReceiptContent) -> Vec<Self> {
        let mut arrived = Vec::new();
        for (room_id, map) in content.receipts {
            for (user, receipt) in map.read {
                let Some(event_id) = receipt.event_ids.into_iter().next() else { continue };
                if user.server_name() != origin || arrived.len() == EDU_MAX {
                    continue;
                }
                let ts_ms = receipt.data.ts.map_or(0, |ts| ts.0.into());
                let mark = Mark { kind: Kind::Read, event_id, thread: receipt.data.thread };
                arrived.push(Self { room_id: room_id.clone(), user, mark, ts_ms });
            }
        }
        arrived
    }
}

/// What of a room's receipts changed after a position and before the view, as the content of one `m.receipt` event for
/// one reader; from position 0 all there is. None if there is nothing.
///
/// # Errors
/// Storage errors.
pub fn since(
    view: View<'_>,
    room: RoomShort,
    since: Position,
    reader: &UserId,
) -> Result<Option<Raw<AnySyncEphemeralRoomEvent>>, Error> {
    let mut content: BTreeMap<OwnedEventId, BTreeMap<String, BTreeMap<OwnedUserId, Value>>> = BTreeMap::new();
    let (from, to) = (Bound::Excluded((room, since.0)), Bound::Included((room, u64::MAX)));
    for entry in view.range(tables::RECEIPT_LOG, from, to)? {
        let (_, key) = entry?;
        if key.kind == Kind::ReadPrivate.as_str() && key.user_id != reader {
            continue;
        }
        let Some(row) = view.get(tables::RECEIPTS, (room, &key.user_id, &key.kind, &key.thread))? else { continue };
        let mut receipt = json!({ "ts": row.ts_ms });
        if !key.thread.is_empty() {
            receipt["thread_id"] = key.thread.clone().into();
        }
        let of_type = content.entry(row.event_id).or_default().entry(key.kind).or_default();
        // One event can have an unthreaded and a threaded receipt of a user, and the format has room for one: the
        // unthreaded one says more.
        if key.thread.is_empty() || !of_type.contains_key(&key.user_id) {
            of_type.insert(key.user_id, receipt);
        }
    }
    if content.is_empty() {
        return Ok(None);
    }
    let event = Raw::new(&json!({ "type": "m.receipt", "content": content }));
    let event = event.map_err(|e| Error::internal(format!("receipts are no JSON: {e}")))?;
    Ok(Some(event.cast_unchecked()))
}

/// Whether a receipt is new; one that would move backwards is not.
fn moves_forward(view: View<'_>, room: RoomShort, user: &UserId, mark: &Mark) -> Result<bool, Error> {
    let (event, at) = in_timeline(view, room, &mark.event_id)?;
    if let ReceiptThread::Thread(root) = &mark.thread {
        let thread = threads::of(view, room, &event)?;
        // The root itself is in the main timeline, yet clients mark threads as read with it.
        if thread.as_ref() != Some(root) && mark.event_id != *root {
            return Err(Error::invalid_param(format!("event {} is not in thread {root}", mark.event_id)));
        }
    }
    let thread = thread_name(&mark.thread)?;
    let Some(old) = view.get(tables::RECEIPTS, (room, user, mark.kind.as_str(), thread))? else { return Ok(true) };
    Ok(position_of(view, room, &old.event_id)?.is_none_or(|old| old < at))
}

fn marker_moves(
    view: View<'_>,
    user: &UserId,
    room_id: &RoomId,
    room: RoomShort,
    event_id: &EventId,
) -> Result<bool, Error> {
    let (_, at) = in_timeline(view, room, event_id)?;
    let Some(row) = account_data::row(view, user, Some(room_id), FULLY_READ)? else { return Ok(true) };
    let old: Option<Value> = serde_json::from_str(&row.content).ok();
    let old = old.as_ref().and_then(|old| EventId::parse(old.get("event_id")?.as_str()?).ok());
    let Some(old) = old else { return Ok(true) };
    Ok(position_of(view, room, &old)?.is_none_or(|old| old < at))
}

fn in_timeline(view: View<'_>, room: RoomShort, event_id: &EventId) -> Result<(EventRow, i64), Error> {
    let row = rows::event_in_room(view, room, event_id)?;
    let found = row.and_then(|(_, row)| row.meta.position.map(|at| (row, at)));
    found.ok_or_else(|| Error::invalid_param(format!("event {event_id} is not in the timeline of this room")))
}

/// Where an event stands in the timeline.
///
/// # Errors
/// Storage errors.
pub(crate) fn position_of(
    view: View<'_>,
    room: RoomShort,
    event_id: &EventId,
) -> Result<Option<i64>, millpond_store::Error> {
    Ok(rows::event_in_room(view, room, event_id)?.and_then(|(_, row)| row.meta.position))
}

fn put(
    txn: &mut WriteTxn<'_>,
    room: RoomShort,
    user: &UserId,
    mark: &Mark,
    ts_ms: u64,
) -> Result<(), millpond_store::Error> {
    let (kind, thread) = (mark.kind.as_str(), mark.thread.as_str().unwrap_or_default());
    let key = (room, user, kind, thread);
    if let Some(old) = txn.view().get(tables::RECEIPTS, key)? {
        txn.remove(tables::RECEIPT_LOG, (room, old.position))?;
    }
    let position = txn.next_position().0;
    let row = millpond_store::rows::Receipt { event_id: mark.event_id.clone(), ts_ms, position };
    txn.put(tables::RECEIPTS, key, &row)?;
    let entry = ReceiptKey { user_id: user.to_owned(), kind: kind.to_owned(), thread: thread.to_owned() };
    txn.put(tables::RECEIPT_LOG, (room, position), &entry)?;
    // Syncs look only at rooms that were touched. A private receipt is nobody else's business: others of this node who are
    // woken by it find nothing and sleep on.
    txn.touch(Topic::Room(room));
    Ok(())
}

/// The thread's name in our keys: empty for an unthreaded receipt.
fn thread_name(thread: &ReceiptThread) -> Result<&str, Error> {
    match thread.as_str() {
        None => Ok(""),
        Some(name) if name == "main" || matches!(thread, ReceiptThread::Thread(_)) => Ok(name),
        Some(_) => Err(Error::invalid_param("thread_id must be \"main\" or the event id of a thread root")),
    }
}

fn thread_of(name: &str) -> ReceiptThread {
    match name {
        "" => ReceiptThread::Unthreaded,
        "main" => ReceiptThread::Main,
        root => EventId::parse(root).map_or(ReceiptThread::Main, ReceiptThread::Thread),
    }
}

/// Receipts taken from one EDU: one per member of many rooms; a peer that sends more is not talking about people.
const EDU_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
