//! Servers that were away, so that after a long absence each gets the newest event of its rooms first: it asks for what is
//! between when somebody wants to see it, and people read what is said now before what was said yesterday. The rest follows
//! in its order, as nothing is ever left out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use millpond_store::{
    Error as StoreError, View,
    rows::{EventShort, OutboxItem, RoomShort},
    tables,
};
use ruma::{OwnedServerName, ServerName};

use crate::rooms;

/// An absence is long after this time.
const LONG_MS: u64 = 10 * 60_000;
/// Servers that are remembered; with more, the newest absences count as short.
const MAX_KNOWN: usize = 10_000;

/// Since when servers are away, in memory: after a restart what is owed goes in its order.
#[derive(Clone, Default)]
pub(super) struct Absences(Arc<Mutex<BTreeMap<OwnedServerName, u64>>>);

impl Absences {
    /// A server did not answer.
    pub(super) fn began(&self, server: &ServerName, now_ms: u64) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() < MAX_KNOWN || since.contains_key(server) {
            since.entry(server.to_owned()).or_insert(now_ms);
        }
    }

    /// It has taken what it was sent.
    pub(super) fn ended(&self, server: &ServerName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }

    /// Whether a server has been away for long.
    pub(super) fn is_long(&self, server: &ServerName, now_ms: u64) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.get(server).is_some_and(|since| since + LONG_MS <= now_ms)
    }
}

/// The newest event that is owed of each room, in their order, when there is more than `most`; else none: then all of it goes
/// at once. At most `most` rooms, those of which something is newest.
pub(super) fn newest_of_rooms(
    view: View<'_>,
    server: &ServerName,
    most: usize,
) -> Result<Vec<(u64, EventShort)>, StoreError> {
    let mut newest: BTreeMap<RoomShort, (u64, EventShort)> = BTreeMap::new();
    let mut owed = 0;
    for row in view.scan(tables::OUTBOX, (server,))? {
        let ((_, position), item) = row?;
        // An invite must come before what it lets its user see.
        let event = match item {
            OutboxItem::Pdu(event) => event,
            OutboxItem::Invite(_) => return Ok(Vec::new()),
            _ => continue,
        };
        owed += 1;
        newest.insert(rooms::rows::event(view, event)?.meta.room, (position, event));
    }
    if owed <= most {
        return Ok(Vec::new());
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort_unstable_by_key(|(position, _)| *position);
    Ok(newest.split_off(newest.len().saturating_sub(most)))
}

#[cfg(test)]
mod tests {
    use millpond_store::job;
    use ruma::server_name;

    use super::*;
    use crate::testing::Room;

    #[test]
    fn an_absence_is_long_from_its_first_failure_until_something_is_taken() {
        let (absences, server) = (Absences::default(), server_name!("far.example"));
        absences.began(server, 1_000);
        absences.began(server, 500_000);
        assert!(!absences.is_long(server, 1_000 + LONG_MS - 1));
        assert!(absences.is_long(server, 1_000 + LONG_MS));
        absences.ended(server);
        assert!(!absences.is_long(server, u64::MAX));
    }

    #[tokio::test]
    async fn after_a_long_absence_the_newest_of_each_room_goes_first_unless_all_fits_at_once() {
        let room = Room::new().await;
        let far = server_name!("far.example");
        let mut events = Vec::new();
        for text in ["one", "two", "three"] {
            let event = room.say(&room.alice, text).await;
            let snapshot = room.core.snapshot().unwrap();
            events.push(rooms::rows::event_by_id(snapshot.view(), &event).unwrap().unwrap().0);
        }
        let owed = events.clone();
        let write = job(
            |_| Ok::<_, crate::Error>(()),
            move |(), txn| {
                for (at, event) in owed.iter().enumerate() {
                    txn.put(tables::OUTBOX, (far, 10 + at as u64), &OutboxItem::Pdu(*event))?;
                }
                Ok(())
            },
        );
        room.core.write(write).await.unwrap();
        let snapshot = room.core.snapshot().unwrap();
        assert_eq!(newest_of_rooms(snapshot.view(), far, 2).unwrap(), [(12, events[2])]);
        assert!(newest_of_rooms(snapshot.view(), far, 3).unwrap().is_empty());
    }
}
