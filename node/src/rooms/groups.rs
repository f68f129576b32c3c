//! State groups: the state after an event, kept as differences to a parent, so that a state event costs one short row
//! however large the room is. Every [`MAX_DEPTH`] steps a group is written whole, which bounds the walk of a reader.

use std::collections::HashMap;

use millpond_matrix::StateMap;
use millpond_store::{
    Error, View, WriteTxn,
    rows::{EventShort, StateGroup, StateGroupRow, StateKeyShort},
    tables,
};

use super::rows;

/// A state by interned numbers.
pub type ShortState = HashMap<StateKeyShort, EventShort>;

/// Parents that a reader walks at most.
const MAX_DEPTH: u32 = 64;

fn row(view: View<'_>, group: StateGroup) -> Result<StateGroupRow, Error> {
    view.get(tables::STATE_GROUPS, group)?.ok_or_else(|| rows::dangling("STATE_GROUPS", group.0))
}

/// One entry of a state.
pub fn entry(view: View<'_>, group: StateGroup, key: StateKeyShort) -> Result<Option<EventShort>, Error> {
    let mut next = Some(group);
    while let Some(group) = next {
        let row = row(view, group)?;
        if let Some((_, event)) = row.changes.iter().find(|(changed, _)| *changed == key) {
            return Ok(*event);
        }
        next = row.parent;
    }
    Ok(None)
}

/// A whole state.
pub fn state(view: View<'_>, group: StateGroup) -> Result<ShortState, Error> {
    let mut layers = Vec::new();
    let mut next = Some(group);
    while let Some(group) = next {
        let row = row(view, group)?;
        next = row.parent;
        layers.push(row.changes);
    }
    let mut state = ShortState::new();
    for (key, event) in layers.into_iter().rev().flatten() {
        match event {
            Some(event) => state.insert(key, event),
            None => state.remove(&key),
        };
    }
    Ok(state)
}

/// A whole state in the words of the pure functions.
pub fn state_map(view: View<'_>, group: StateGroup) -> Result<StateMap, Error> {
    let mut map = StateMap::new();
    for (key, event) in state(view, group)? {
        let name = rows::state_key_name(view, key)?;
        map.insert((name.kind.into(), name.state_key), rows::event_id(view, event)?);
    }
    Ok(map)
}

/// Makes the group that is `parent` with some entries changed; without changes it is the parent.
pub(crate) fn derive(
    txn: &mut WriteTxn<'_>,
    parent: Option<StateGroup>,
    changes: Vec<(StateKeyShort, Option<EventShort>)>,
) -> Result<StateGroup, Error> {
    let depth = match parent {
        Some(parent) if changes.is_empty() => return Ok(parent),
        Some(parent) => row(txn.view(), parent)?.depth + 1,
        None => 0,
    };
    let group = StateGroup(txn.next_position().0);
    let row = if depth > MAX_DEPTH {
        let mut whole = parent.map(|parent| state(txn.view(), parent)).transpose()?.unwrap_or_default();
        for (key, event) in changes {
            match event {
                Some(event) => whole.insert(key, event),
                None => whole.remove(&key),
            };
        }
        let changes = whole.into_iter().map(|(key, event)| (key, Some(event))).collect();
        StateGroupRow { parent: None, depth: 0, changes }
    } else {
        StateGroupRow { parent, depth, changes }
    };
    txn.put(tables::STATE_GROUPS, group, &row)?;
    Ok(group)
}

/// Makes a group of a whole state, as a difference to `base` where that is shorter.
pub(crate) fn store(txn: &mut WriteTxn<'_>, base: Option<StateGroup>, map: &StateMap) -> Result<StateGroup, Error> {
    let mut wanted = ShortState::new();
    for ((kind, state_key), event_id) in map {
        let key = rows::intern_state_key(txn, &kind.to_string(), state_key)?;
        let event = rows::event_short(txn.view(), event_id)?;
        wanted.insert(key, event.ok_or_else(|| missing(event_id))?);
    }
    let before = base.map(|base| state(txn.view(), base)).transpose()?.unwrap_or_default();
    let changes = difference(&before, &wanted);
    if changes.len() > wanted.len() {
        let whole = wanted.into_iter().map(|(key, event)| (key, Some(event))).collect();
        return derive(txn, None, whole);
    }
    derive(txn, base, changes)
}

/// What must change in `before` to make it `after`.
pub fn difference(before: &ShortState, after: &ShortState) -> Vec<(StateKeyShort, Option<EventShort>)> {
    let changed = after.iter().filter(|(key, event)| before.get(key) != Some(event));
    let removed = before.keys().filter(|key| !after.contains_key(key));
    changed.map(|(key, event)| (*key, Some(*event))).chain(removed.map(|key| (*key, None))).collect()
}

fn missing(event_id: &ruma::EventId) -> Error {
    Error::Corrupt { table: "EVENT_IDS", why: format!("a state names {event_id}, which is not stored") }
}
