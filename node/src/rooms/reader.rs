//! One room's rows as the pure functions read them.

use std::sync::Arc;

use millpond_matrix::{Pdu, ReadError, RoomReader, StateMap};
use millpond_store::{
    View,
    rows::{Room, RoomShort, StateGroup},
    tables,
};
use ruma::{EventId, OwnedEventId, events::StateEventType};

use super::{current, groups, rows};

/// A [`RoomReader`] over a snapshot or the open write transaction.
pub struct StoredRoom<'a> {
    view: View<'a>,
    short: RoomShort,
    room: &'a Room,
}

impl<'a> StoredRoom<'a> {
    /// The reader of one room.
    pub fn new(view: View<'a>, short: RoomShort, room: &'a Room) -> Self {
        Self { view, short, room }
    }
}

fn read<T>(result: Result<T, millpond_store::Error>) -> Result<T, ReadError> {
    result.map_err(ReadError::new)
}

impl RoomReader for StoredRoom<'_> {
    fn pdu(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError> {
        let row = read(rows::event_in_room(self.view, self.short, id))?;
        read(row.map(|(_, row)| rows::pdu(&self.room.room_id, row)).transpose())
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateGroup>, ReadError> {
        let head = read(rows::head_in_room(self.view, self.short, id))?;
        Ok(head.and_then(|(_, head)| head.meta.state_after))
    }

    fn state_entry(
        &self,
        group: StateGroup,
        kind: &StateEventType,
        state_key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        if read(self.view.get(tables::ROOM_HEADS, self.short))?.is_some_and(|head| head.group == group) {
            return self.current_entry(kind, state_key);
        }
        let Some(key) = read(rows::state_key_short(self.view, &kind.to_string(), state_key))? else { return Ok(None) };
        let event = read(groups::entry(self.view, group, key))?;
        read(event.map(|event| rows::event_id(self.view, event)).transpose())
    }

    fn state(&self, group: StateGroup) -> Result<Arc<StateMap>, ReadError> {
        read(groups::state_map(self.view, group)).map(Arc::new)
    }

    fn current_state(&self) -> Result<Option<StateGroup>, ReadError> {
        Ok(read(self.view.get(tables::ROOM_HEADS, self.short))?.map(|head| head.group))
    }

    fn extremities(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        let mut ids = Vec::new();
        for row in read(self.view.scan(tables::EXTREMITIES, (self.short,)))? {
            let ((_, event), ()) = read(row)?;
            ids.push(read(rows::event_id(self.view, event))?);
        }
        Ok(ids)
    }

    fn has_successors(&self, id: &EventId) -> Result<bool, ReadError> {
        read(self.view.any(tables::SUCCESSORS, (self.short, id)))
    }

    fn is_partial(&self) -> Result<bool, ReadError> {
        read(self.view.contains(tables::PARTIAL, self.short))
    }

    fn current_entry(&self, kind: &StateEventType, state_key: &str) -> Result<Option<OwnedEventId>, ReadError> {
        let event = read(current::entry(self.view, self.short, &kind.to_string(), state_key))?;
        read(event.map(|event| rows::event_id(self.view, event)).transpose())
    }
}
