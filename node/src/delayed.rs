//! Delayed events (MSC4140): events that the node sends later in their senders' stead, unless they act before. Each waits on
//! the disk with its time; sending it and noting that it was sent is one commit.
//!
//! The delay id is a secret: whoever holds it may restart, send or cancel the event, so that a call's server can be given it.

mod list;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use millpond_matrix::build::{self, EventDraft};
use millpond_store::{
    View, WriteTxn, job,
    rows::{DelayedEnd, DelayedEvent, DelayedOutcome},
    tables,
};
use ruma::{DeviceId, OwnedEventId, RoomId, UserId, api::error::ErrorKind, events::TimelineEventType};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::list::{Dir, Filter, OrderBy, Outcome, Page, Reason, Since, Status};
use crate::{
    Core, Error,
    accounts::Accounts,
    rooms::{Rooms, local, redacts},
};

/// Delayed events. Cloning is cheap.
#[derive(Clone)]
pub struct Delayed {
    core: Core,
    rooms: Rooms,
    sooner: Arc<Notify>,
}

/// An event to be sent later.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    /// Who sends it.
    pub user: &'a UserId,
    /// From which device.
    pub device: &'a DeviceId,
    /// The client's id of this request; the same one again gets the same answer.
    pub txn_id: Option<String>,
    /// The room.
    pub room_id: &'a RoomId,
    /// The event's type.
    pub kind: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content, JSON.
    pub content: &'a str,
    /// How long it is to wait.
    pub delay: Duration,
}

/// What can be done to a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it now.
    Send,
    /// Never send it.
    Cancel,
    /// Wait anew.
    Restart,
}

impl Action {
    /// Reads the name of an action.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "send" => Ok(Self::Send),
            "cancel" => Ok(Self::Cancel),
            "restart" => Ok(Self::Restart),
            _ => Err(Error::invalid_param("the action can be send, cancel or restart")),
        }
    }
}

impl Delayed {
    /// The service over rooms.
    pub fn new(core: Core, rooms: Rooms) -> Self {
        Self { core, rooms, sooner: Arc::default() }
    }

    /// Schedules an event; gives its delay id. Whether the sender may send it is judged when its time comes. Dropping the
    /// future does not take it back.
    ///
    /// # Errors
    /// 400 for content that is no JSON object or a delay of nothing, 413 when it is too large, 429 when too many of the
    /// user's wait; storage errors.
    pub async fn schedule(&self, schedule: Schedule<'_>) -> Result<String, Error> {
        build::content(schedule.content.as_bytes()).map_err(local::build_error)?;
        let delay_ms = u64::try_from(schedule.delay.as_millis()).unwrap_or(u64::MAX);
        if delay_ms == 0 {
            return Err(Error::invalid_param("the delay must be a positive number of milliseconds"));
        }
        if schedule.content.len() > CONTENT_MAX || schedule.kind.len() > NAME_MAX {
            return Err(Error::too_large("no event may be that large"));
        }
        if schedule.state_key.as_ref().is_some_and(|key| key.len() > NAME_MAX) {
            return Err(Error::too_large(format!("a state key may have {NAME_MAX} bytes")));
        }
        let row = DelayedEvent {
            user_id: schedule.user.to_owned(),
            device_id: schedule.device.to_owned(),
            txn_id: schedule.txn_id,
            room_id: schedule.room_id.to_owned(),
            kind: schedule.kind,
            state_key: schedule.state_key,
            content: schedule.content.to_owned(),
            delay_ms,
            running_since_ms: self.core.clock().now_ms(),
            end: None,
        };
        let (id, wanted, fresh) = (Accounts::secret(), row.clone(), row);
        let drawn = id.clone();
        let write = job(
            move |view| admit(view, &wanted),
            move |admitted, txn| match admitted {
                Admitted::Known(id) => Ok(id),
                Admitted::New { stale } => {
                    for id in stale {
                        remove(txn, &id)?;
                    }
                    put(txn, &id, &fresh)?;
                    txn.put(tables::DELAYED_OF, (&*fresh.user_id, id.as_str()), &())?;
                    Ok(id.clone())
                }
            },
        );
        let (id, _) = self.core.write(write).await?;
        if id == drawn {
            self.sooner.notify_one();
        }
        Ok(id)
    }

    /// Acts on a delayed event. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 for one that is not known; 409 where its end was another one; the error of sending; storage errors.
    pub async fn act(&self, id: &str, action: Action) -> Result<(), Error> {
        match action {
            Action::Send => {
                let row = find(self.core.snapshot()?.view(), id)?;
                match ended_as(&row, action)? {
                    true => Ok(()),
                    // Should it be sent by its time meanwhile, then it is sent.
                    false => match self.send(id, row, true).await {
                        Err(error) => {
                            match find(self.core.snapshot()?.view(), id).and_then(|row| ended_as(&row, action)) {
                                Ok(true) => Ok(()),
                                _ => Err(error),
                            }
                        }
                        Ok(_) => Ok(()),
                    },
                }
            }
            Action::Cancel | Action::Restart => {
                let (read, key, now_ms) = (id.to_owned(), id.to_owned(), self.core.clock().now_ms());
                let change = job(
                    move |view| {
                        let row = find(view, &read)?;
                        Ok::<_, Error>((!ended_as(&row, action)?).then_some(row))
                    },
                    move |row: Option<DelayedEvent>, txn| {
                        let Some(mut row) = row else { return Ok(()) };
                        txn.remove(tables::DELAYED_DUE, (row.due_ms(), key.as_str()))?;
                        if action == Action::Restart {
                            row.running_since_ms = now_ms;
                        } else {
                            row.end =
                                Some(DelayedEnd { at_ms: now_ms, by_action: true, outcome: DelayedOutcome::Cancelled });
                        }
                        put(txn, &key, &row)
                    },
                );
                self.core.write(change).await?;
                Ok(())
            }
        }
    }

    /// Sends what is due until it is stopped.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn work(&self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let sooner = self.sooner.notified();
            let now_ms = self.core.clock().now_ms();
            let next = {
                let snapshot = self.core.snapshot()?;
                let first = snapshot.view().scan(tables::DELAYED_DUE, ())?.next().transpose()?;
                first.map(|((due_ms, id), ())| (due_ms, id))
            };
            let wait = match next {
                Some((due_ms, id)) if due_ms <= now_ms => {
                    self.send_due(&id).await?;
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    continue;
                }
                // The computer's clock may be set while this sleeps.
                Some((due_ms, _)) => Duration::from_millis(due_ms - now_ms).min(LOOK_EVERY),
                None => LOOK_EVERY,
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sooner => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is due, or notes why it cannot be sent.
    async fn send_due(&self, id: &str) -> Result<(), Error> {
        // The account may have gone meanwhile, and all that was its.
        let row = self.core.snapshot()?.view().get(tables::DELAYED_EVENTS, id)?;
        let Some(row) = row.filter(|row| row.end.is_none()) else { return Ok(()) };
        let due_ms = row.due_ms();
        let error = match self.send(id, row, false).await {
            Ok(_) => return Ok(()),
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => error,
        };
        let code = error.kind().map_or_else(|| "M_UNKNOWN".to_owned(), |kind| kind.errcode().to_string());
        let told = serde_json::json!({ "errcode": code, "error": error.to_string() }).to_string();
        let (read, key, now_ms) = (id.to_owned(), id.to_owned(), self.core.clock().now_ms());
        let fail = job(
            move |view| {
                let row = view.get(tables::DELAYED_EVENTS, read.as_str())?;
                // Restarted, cancelled or sent meanwhile: then there was nothing to fail.
                Ok::<_, Error>(row.filter(|row| row.end.is_none() && row.due_ms() == due_ms))
            },
            move |row: Option<DelayedEvent>, txn| {
                let Some(mut row) = row else { return Ok(()) };
                txn.remove(tables::DELAYED_DUE, (row.due_ms(), key.as_str()))?;
                let outcome = DelayedOutcome::Failed(told.clone());
                row.end = Some(DelayedEnd { at_ms: now_ms, by_action: false, outcome });
                put(txn, &key, &row)
            },
        );
        self.core.write(fail).await?;
        Ok(())
    }

    async fn send(&self, id: &str, row: DelayedEvent, by_action: bool) -> Result<OwnedEventId, Error> {
        let now_ms = self.core.clock().now_ms();
        let (draft, room_id) = (draft(&row, self.core.clock().now())?, row.room_id.clone());
        let (read, key, due_ms) = (id.to_owned(), id.to_owned(), row.due_ms());
        let still = move |view: View<'_>| {
            let row = find(view, &read)?;
            match row.end.is_none() && row.due_ms() == due_ms {
                true => Ok(()),
                false => Err(conflict("it was restarted, sent or cancelled meanwhile")),
            }
        };
        let note = move |txn: &mut WriteTxn<'_>, event_id: OwnedEventId| {
            txn.remove(tables::DELAYED_DUE, (row.due_ms(), key.as_str()))?;
            let end = DelayedEnd { at_ms: now_ms, by_action, outcome: DelayedOutcome::Sent(event_id) };
            put(txn, &key, &DelayedEvent { end: Some(end), ..row.clone() })
        };
        self.rooms.send_scheduled(&room_id, draft, format!("{MARK}{id}").into(), still, note).await
    }
}

enum Admitted {
    Known(String),
    New { stale: Vec<String> },
}

/// The answer that this request got before, or a place for it: what ended long ago makes room.
fn admit(view: View<'_>, wanted: &DelayedEvent) -> Result<Admitted, Error> {
    let (mut waiting, mut ended) = (Vec::new(), Vec::new());
    for row in view.scan(tables::DELAYED_OF, (&*wanted.user_id,))? {
        let ((_, id), ()) = row?;
        let row = find(view, &id)?;
        let same = |row: &DelayedEvent| {
            row.txn_id.is_some()
                && (&row.txn_id, &row.device_id, &row.room_id, &row.kind)
                    == (&wanted.txn_id, &wanted.device_id, &wanted.room_id, &wanted.kind)
        };
        if same(&row) {
            return Ok(Admitted::Known(id));
        }
        match &row.end {
            Some(end) => ended.push((end.at_ms, id)),
            None => waiting.push(row.due_ms()),
        }
    }
    if waiting.len() >= WAITING_MAX {
        let next = waiting.into_iter().min().unwrap_or_default();
        let wait = Duration::from_millis(next.saturating_sub(wanted.running_since_ms).max(1));
        return Err(Error::limit_exceeded(wait, format!("{WAITING_MAX} delayed events of yours wait already")));
    }
    ended.sort_unstable();
    let beyond = ended.len().saturating_sub(ENDED_MAX);
    let old = |at_ms: u64| at_ms.saturating_add(ENDED_FOR_MS) < wanted.running_since_ms;
    let stale = ended.into_iter().enumerate().filter(|(at, (at_ms, _))| *at < beyond || old(*at_ms));
    Ok(Admitted::New { stale: stale.map(|(_, (_, id))| id).collect() })
}

fn draft(row: &DelayedEvent, now: ruma::MilliSecondsSinceUnixEpoch) -> Result<EventDraft, Error> {
    let mut content = build::content(row.content.as_bytes()).map_err(local::build_error)?;
    let kind = TimelineEventType::from(row.kind.clone());
    let redacts = redacts(&kind, &mut content);
    let draft = EventDraft::new(kind, content, row.user_id.clone(), now);
    Ok(EventDraft { state_key: row.state_key.clone(), redacts, ..draft })
}

/// Whether a delayed event has ended as the action wants it.
///
/// # Errors
/// 409 when it has ended otherwise.
fn ended_as(row: &DelayedEvent, action: Action) -> Result<bool, Error> {
    match (row.end.as_ref().map(|end| &end.outcome), action) {
        (None, _) => Ok(false),
        (Some(DelayedOutcome::Sent(_)), Action::Send) => Ok(true),
        (Some(DelayedOutcome::Cancelled | DelayedOutcome::Failed(_)), Action::Cancel) => Ok(true),
        (Some(DelayedOutcome::Sent(_)), _) => Err(conflict("it is sent already")),
        (Some(_), _) => Err(conflict("it is cancelled already")),
    }
}

fn conflict(why: &str) -> Error {
    Error::matrix(StatusCode::CONFLICT, ErrorKind::Unknown, format!("nothing can be done to this delayed event: {why}"))
}

fn find(view: View<'_>, id: &str) -> Result<DelayedEvent, Error> {
    view.get(tables::DELAYED_EVENTS, id)?.ok_or_else(|| Error::not_found("there is no such delayed event"))
}

fn put(txn: &mut WriteTxn<'_>, id: &str, row: &DelayedEvent) -> Result<(), millpond_store::Error> {
    if row.end.is_none() {
        txn.put(tables::DELAYED_DUE, (row.due_ms(), id), &())?;
    }
    txn.put(tables::DELAYED_EVENTS, id, row)
}

fn remove(txn: &mut WriteTxn<'_>, id: &str) -> Result<(), millpond_store::Error> {
    if let Some(row) = txn.view().get(tables::DELAYED_EVENTS, id)? {
        txn.remove(tables::DELAYED_DUE, (row.due_ms(), id))?;
        txn.remove(tables::DELAYED_OF, (&*row.user_id, id))?;
        txn.remove(tables::DELAYED_EVENTS, id)?;
    }
    Ok(())
}

/// An account was deactivated: it sends nothing more.
pub(crate) fn user_deactivated(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), millpond_store::Error> {
    let rows = txn.view().scan(tables::DELAYED_OF, (user,))?;
    let ids: Vec<String> = rows.map(|row| row.map(|((_, id), ())| id)).collect::<Result<_, _>>()?;
    ids.iter().try_for_each(|id| remove(txn, id))
}

/// Begins what an event's row keeps of the transaction it came by, where that was a delay; no device has such a name.
pub(crate) const MARK: &str = "\u{1}delay\0";

/// The longest delay.
pub const DELAY_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Delayed events of one user that wait.
const WAITING_MAX: usize = 100;
/// Those that have ended are kept for so long, and so many of them.
const ENDED_FOR_MS: u64 = 7 * 86_400_000;
const ENDED_MAX: usize = 200;
/// Bytes of a content, and of a type and a state key: what an event may have.
const CONTENT_MAX: usize = 65_536;
const NAME_MAX: usize = 255;
/// How long the loop sleeps at most.
const LOOK_EVERY: Duration = Duration::from_secs(60);
