//! State groups: the state after an event, kept as differences to a parent, so that a state event costs one short row
//! however large the room is. Every [`WHOLE_EVERY`] steps a group is written whole; in between, every [`STRIDE`] steps one is
//! written as the difference to the one a stride before. So a reader walks few rows, and a large state is seldom written out.

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

/// Steps from one whole group to the next.
const WHOLE_EVERY: u32 = 256;
/// Steps from one long difference to the next: a reader walks at most `STRIDE + WHOLE_EVERY / STRIDE` rows.
const STRIDE: u32 = 16;

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
    apply(&mut state, layers.into_iter().rev().flatten());
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
    let row = match parent {
        Some(parent) if depth >= WHOLE_EVERY => {
            let mut whole = state(txn.view(), parent)?;
            apply(&mut whole, changes);
            let changes = whole.into_iter().map(|(key, event)| (key, Some(event))).collect();
            StateGroupRow { parent: None, depth: 0, changes }
        }
        Some(parent) if depth.is_multiple_of(STRIDE) => stride(txn.view(), parent, depth, changes)?,
        parent => StateGroupRow { parent, depth, changes },
    };
    let group = StateGroup(txn.next_position().0);
    txn.put(tables::STATE_GROUPS, group, &row)?;
    Ok(group)
}

/// A group as the difference to the one a stride before.
fn stride(
    view: View<'_>,
    parent: StateGroup,
    depth: u32,
    changes: Vec<(StateKeyShort, Option<EventShort>)>,
) -> Result<StateGroupRow, Error> {
    let mut merged: HashMap<_, _> = changes.into_iter().collect();
    let mut next = parent;
    loop {
        let row = row(view, next)?;
        match row.parent {
            Some(before) if row.depth + STRIDE > depth => {
                for (key, event) in row.changes {
                    // The later change of an entry is the one that counts.
                    merged.entry(key).or_insert(event);
                }
                next = before;
            }
            _ => return Ok(StateGroupRow { parent: Some(next), depth, changes: merged.into_iter().collect() }),
        }
    }
}

fn apply(state: &mut ShortState, changes: impl IntoIterator<Item = (StateKeyShort, Option<EventShort>)>) {
    for (key, event) in changes {
        match event {
            Some(event) => state.insert(key, event),
            None => state.remove(&key),
        };
    }
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

#[cfg(test)]
mod tests {
    use millpond_store::{Options, Store, job};

    use super::*;

    /// A thousand steps that set, change and remove few of many entries, against a map.
    #[tokio::test]
    async fn every_group_has_its_state_in_few_rows() {
        let store = Store::in_memory(Options { inline: true, ..Options::default() }).unwrap();
        let (mut expected, mut groups) = (ShortState::new(), Vec::new());
        for step in 0..1_000_u64 {
            let key = StateKeyShort(1 + step * 7 % 61);
            let event = (step % 5 != 4).then_some(EventShort(10_000 + step));
            let parent = groups.last().map(|(group, _)| *group);
            let made =
                job(|_| Ok::<_, std::convert::Infallible>(()), move |(), txn| derive(txn, parent, vec![(key, event)]));
            let (group, _) = store.write(made).await.unwrap();
            apply(&mut expected, [(key, event)]);
            groups.push((group, expected.clone()));
        }
        let snapshot = store.snapshot().unwrap();
        let mut whole = 0;
        for (group, expected) in groups {
            assert_eq!(state(snapshot.view(), group).unwrap(), expected);
            for key in (1..=61).map(StateKeyShort) {
                assert_eq!(entry(snapshot.view(), group, key).unwrap(), expected.get(&key).copied());
            }
            let mut rows = 1;
            let mut next = row(snapshot.view(), group).unwrap();
            whole += u32::from(next.parent.is_none());
            while let Some(parent) = next.parent {
                let parent = row(snapshot.view(), parent).unwrap();
                assert!(parent.depth < next.depth);
                (rows, next) = (rows + 1, parent);
            }
            assert!(rows <= STRIDE + WHOLE_EVERY / STRIDE, "{rows} rows");
        }
        assert_eq!(whole, 4, "one in 256 is whole");
    }
}
