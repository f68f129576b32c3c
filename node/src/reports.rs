//! Reports (client-server API, "Reporting Content"): kept for the node's owner, who reads them with `millpond report list`.

use millpond_store::{
    job,
    rows::{Reported, UserReport},
    tables,
};
use ruma::{EventId, RoomId, UserId};

use crate::{
    Core, Error,
    rooms::{current, rows},
    timeline::Timeline,
};

/// Reports of this node's users. Cloning is cheap.
#[derive(Clone)]
pub struct Reports {
    core: Core,
    timeline: Timeline,
}

impl Reports {
    /// The service over `core`.
    pub fn new(core: Core, timeline: Timeline) -> Self {
        Self { core, timeline }
    }

    /// Reports a room. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 for a room that is not here, 400 for too long a reason; storage errors.
    pub async fn room(&self, reporter: &UserId, room_id: &RoomId, reason: String) -> Result<(), Error> {
        let known = rows::room_short(self.core.snapshot()?.view(), room_id)?.is_some();
        if !known {
            return Err(Error::not_found(format!("room {room_id} is not known here")));
        }
        self.keep(reporter, Reported::Room(room_id.to_owned()), reason).await
    }

    /// Reports an event that its reporter sees. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 404 for an event that is not here or not shown to him, and for rooms that he is not in; 400 for too long a reason;
    /// storage errors.
    pub async fn event(
        &self,
        (reporter, device): (&UserId, &ruma::DeviceId),
        room_id: &RoomId,
        event_id: &EventId,
        reason: String,
    ) -> Result<(), Error> {
        let hidden = || Error::not_found(format!("event {event_id} is not known in that room, or not shown to you"));
        let joined = {
            let snapshot = self.core.snapshot()?;
            let room = rows::room_short(snapshot.view(), room_id)?.ok_or_else(hidden)?;
            current::is_joined(snapshot.view(), room, reporter)?
        };
        let shown = self.timeline.event((reporter, device), room_id, event_id);
        match shown {
            Ok(_) if joined => {}
            Ok(_) | Err(Error::Matrix { .. }) => return Err(hidden()),
            Err(error) => return Err(error),
        }
        self.keep(reporter, Reported::Event(room_id.to_owned(), event_id.to_owned()), reason).await
    }

    /// Reports a user. Whether he is known here is not told. Dropping the future does not take it back.
    ///
    /// # Errors
    /// 400 for too long a reason; storage errors.
    pub async fn user(&self, reporter: &UserId, user: &UserId, reason: String) -> Result<(), Error> {
        self.keep(reporter, Reported::User(user.to_owned()), reason).await
    }

    /// All reports with their numbers, the oldest first.
    ///
    /// # Errors
    /// Storage errors.
    pub fn list(&self) -> Result<Vec<(u64, UserReport)>, Error> {
        let snapshot = self.core.snapshot()?;
        Ok(snapshot.view().scan(tables::REPORTS, ())?.collect::<Result<_, _>>()?)
    }

    /// Removes a report that was dealt with. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 for no such report; storage errors.
    pub async fn remove(&self, number: u64) -> Result<(), Error> {
        let remove = job(
            move |view| match view.contains(tables::REPORTS, number)? {
                true => Ok(()),
                false => Err(Error::not_found(format!("there is no report {number}"))),
            },
            move |(), txn| txn.remove(tables::REPORTS, number).map(drop),
        );
        self.core.write(remove).await?;
        Ok(())
    }

    async fn keep(&self, reporter: &UserId, about: Reported, reason: String) -> Result<(), Error> {
        if reason.len() > REASON_MAX {
            return Err(Error::invalid_param(format!("a reason has {REASON_MAX} bytes at most")));
        }
        let at_ms = self.core.clock().now_ms();
        let row = UserReport { reporter: reporter.to_owned(), about, reason, at_ms };
        let keep = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                let number = txn.next_position().0;
                txn.put(tables::REPORTS, number, &row)
            },
        );
        self.core.write(keep).await?;
        Ok(())
    }
}

/// Bytes of a reason.
const REASON_MAX: usize = 4 << 10;
