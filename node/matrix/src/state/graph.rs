//! The parts of the auth graph that state resolution looks at: auth chains and the conflicted subgraph.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};

use super::{Events, Ids, StateKey, StateMap};
use crate::{Pdu, ReadError};

/// How some states differ: what only some of them hold, per state, and what all of them hold.
pub(super) struct Conflict<'a> {
    conflicted: Vec<Vec<&'a OwnedEventId>>,
    shared: Vec<&'a OwnedEventId>,
}

impl<'a> Conflict<'a> {
    pub(super) fn between(maps: &'a [Arc<StateMap>]) -> Self {
        let Some(first) = maps.first() else {
            return Self { conflicted: Vec::new(), shared: Vec::new() };
        };
        let is_shared = |key: &StateKey, id: &OwnedEventId| maps.iter().all(|map| map.get(key) == Some(id));
        let shared: HashSet<&OwnedEventId> =
            first.iter().filter(|(key, id)| is_shared(key, id)).map(|(_, id)| id).collect();
        let conflicted = maps.iter().map(|map| map.values().filter(|id| !shared.contains(id)).collect()).collect();
        Self { conflicted, shared: shared.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conflicted.iter().all(Vec::is_empty)
    }

    /// Auth chains, one per state, whose auth difference is that of the full ones.
    ///
    /// The chains of shared events are in every full chain, so they matter only to take events out of the difference.
    /// They are walked once, and not at all when the conflicted events' chains do not differ: a room has thousands of
    /// shared members and few conflicts.
    pub(super) fn auth_chains<F>(&self, events: &Events<F>) -> Vec<Ids>
    where
        F: Fn(&EventId) -> Result<Option<Arc<Pdu>>, ReadError>,
    {
        let mut chains: Vec<HashSet<OwnedEventId>> =
            self.conflicted.iter().map(|ids| auth_chain(ids.iter().copied(), events)).collect();
        let mut counts: HashMap<&OwnedEventId, usize> = HashMap::new();
        for id in chains.iter().flatten() {
            *counts.entry(id).or_default() += 1;
        }
        let differing: HashSet<OwnedEventId> =
            counts.into_iter().filter(|(_, count)| *count < chains.len()).map(|(id, _)| id.clone()).collect();
        if !differing.is_empty() {
            let shared = auth_chain(self.shared.iter().copied(), events);
            for id in differing.iter().filter(|id| shared.contains(*id)) {
                chains.iter_mut().for_each(|chain| chain.extend([id.clone()]));
            }
        }
        chains.into_iter().map(Ids::from_iter).collect()
    }
}

/// Everything that is reached from `roots` along `auth_events`. A root is in it only if another one reaches it.
fn auth_chain<'a, F>(roots: impl Iterator<Item = &'a OwnedEventId>, events: &Events<F>) -> HashSet<OwnedEventId>
where
    F: Fn(&EventId) -> Result<Option<Arc<Pdu>>, ReadError>,
{
    let mut chain = HashSet::new();
    let mut todo: Vec<OwnedEventId> = roots.cloned().collect();
    while let Some(id) = todo.pop() {
        let Some(pdu) = events.get(&id) else { break };
        for auth in pdu.auth_events() {
            if chain.insert(auth.clone()) {
                todo.push(auth.clone());
            }
        }
    }
    chain
}

/// The events on paths along `auth_events` from one conflicted event to another, both ends included (room version 12,
/// "Conflicted state subgraph").
pub(super) fn conflicted_subgraph<F>(conflicted: &state_map::Conflicted, events: &Events<F>) -> Ids
where
    F: Fn(&EventId) -> Result<Option<Arc<Pdu>>, ReadError>,
{
    let ends: HashSet<&OwnedEventId> = conflicted.values().flatten().collect();
    // Does a conflicted event lie at or below this one? Post-order walk with its own stack: chains are as long as the
    // peers that made them wish.
    let mut reaches: HashMap<OwnedEventId, bool> = HashMap::new();
    let mut todo: Vec<(OwnedEventId, bool)> = ends.iter().map(|id| ((*id).clone(), false)).collect();
    while let Some((id, children_done)) = todo.pop() {
        if !children_done && reaches.contains_key(&id) {
            continue;
        }
        let Some(pdu) = events.get(&id) else { break };
        if children_done {
            let below = pdu.auth_events().iter().any(|auth| reaches.get(auth).copied().unwrap_or(false));
            reaches.insert(id.clone(), below || ends.contains(&id));
            continue;
        }
        // Marks the walk as begun; ids are hashes, so there is no way back to an event that is still open.
        reaches.insert(id.clone(), false);
        todo.push((id, true));
        todo.extend(
            pdu.auth_events().iter().filter(|auth| !reaches.contains_key(*auth)).map(|auth| (auth.clone(), false)),
        );
    }
    // Everything here was reached from a conflicted event, so what reaches one is on a path between two.
    reaches.into_iter().filter_map(|(id, reaches)| reaches.then_some(id)).collect()
}

pub(super) mod state_map {
    use ruma::{OwnedEventId, state_res};

    /// The conflicted state set as ruma hands it over.
    pub(crate) type Conflicted = state_res::StateMap<Vec<OwnedEventId>>;
}
