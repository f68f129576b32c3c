//! State resolution: ruma's algorithm over a [`RoomReader`].
//!
//! The first storage error is kept and checked after `resolve`, and an event that a state or an auth chain names must
//! be there: nothing missing is ever passed over.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{CheckedPdu, Pdu, ReadError, RoomReader, RoomRules, StateGroup, reader::FirstError};

mod graph;

/// Type and state key.
pub type StateKey = (StateEventType, String);

/// A whole state: the event of each entry.
pub type StateMap = state_res::StateMap<OwnedEventId>;

/// One of the states that are resolved against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateSet {
    /// A stored state.
    Group(StateGroup),
    /// A stored state with one entry replaced, by an event that is not stored yet.
    Plus {
        /// The state before the event.
        base: StateGroup,
        /// The entry.
        key: StateKey,
        /// The event.
        event: OwnedEventId,
    },
    /// A state that is not stored yet.
    Map(Arc<StateMap>),
}

/// The outcome of a resolution, with the states that went in: valid wherever the same states are to be resolved.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The states that were resolved.
    pub sets: Vec<StateSet>,
    /// The resolved state.
    pub state: Arc<StateMap>,
}

/// Why a state could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed; try again.
    #[error("cannot read the room: {0}")]
    Read(#[from] ReadError),
    /// A state or an auth chain names an event that the store has not: the store is damaged.
    #[error("event {0} is named by a state or an auth chain, but is not stored")]
    Missing(OwnedEventId),
    /// An auth event is malformed in a way that its checks should have caught.
    #[error("state resolution failed: {0}")]
    Resolve(#[source] state_res::Error),
}

/// Resolves states against each other. `new` is an event that takes part but is not stored yet.
///
/// # Errors
/// When the store fails or is damaged.
pub fn resolve(
    reader: &impl RoomReader,
    rules: &RoomRules,
    sets: Vec<StateSet>,
    new: Option<&CheckedPdu>,
) -> Result<Resolution, StateError> {
    let mut maps = Vec::with_capacity(sets.len());
    for set in &sets {
        let map = match set {
            StateSet::Group(group) => reader.state(*group)?,
            StateSet::Plus { base, key, event } => {
                let mut map = StateMap::clone(&*reader.state(*base)?);
                map.insert(key.clone(), event.clone());
                Arc::new(map)
            }
            StateSet::Map(map) => map.clone(),
        };
        maps.push(map);
    }
    let state = resolve_maps(rules, &maps, |id| match new {
        Some(new) if new.event_id() == id => Ok(Some(new.pdu().clone())),
        _ => reader.pdu(id),
    })?;
    Ok(Resolution { sets, state: Arc::new(state) })
}

/// Resolves states whose events `fetch` finds.
///
/// # Errors
/// When `fetch` fails or an event that is needed is not there.
pub fn resolve_maps(
    rules: &RoomRules,
    maps: &[Arc<StateMap>],
    fetch: impl Fn(&EventId) -> Result<Option<Arc<Pdu>>, ReadError>,
) -> Result<StateMap, StateError> {
    let events = Events { fetch, cache: RefCell::default(), missing: RefCell::default(), error: FirstError::default() };
    let conflict = graph::Conflict::between(maps);
    if conflict.is_empty() {
        return Ok(maps.first().map(|map| StateMap::clone(map)).unwrap_or_default());
    }
    let chains = conflict.auth_chains(&events);
    let resolved = state_res::resolve(
        &rules.room.authorization,
        &rules.state_res,
        maps.iter().map(|map| &**map),
        chains,
        |id| events.get(id),
        |conflicted| Some(graph::conflicted_subgraph(conflicted, &events)),
    );
    // The order matters: with a read error or a hole in the graph, what ruma says about the result means nothing.
    events.error.check()?;
    if let Some(id) = events.missing.into_inner() {
        return Err(StateError::Missing(id));
    }
    resolved.map_err(StateError::Resolve)
}

/// The events of one resolution: each is fetched once, and what goes wrong is kept.
struct Events<F> {
    fetch: F,
    cache: RefCell<HashMap<OwnedEventId, Arc<Pdu>>>,
    missing: RefCell<Option<OwnedEventId>>,
    error: FirstError,
}

impl<F: Fn(&EventId) -> Result<Option<Arc<Pdu>>, ReadError>> Events<F> {
    fn get(&self, id: &EventId) -> Option<Arc<Pdu>> {
        if let Some(pdu) = self.cache.borrow().get(id) {
            return Some(pdu.clone());
        }
        if self.failed() {
            return None;
        }
        let found = self.error.keep((self.fetch)(id));
        match &found {
            Some(pdu) => {
                self.cache.borrow_mut().insert(id.to_owned(), pdu.clone());
            }
            None if !self.error.failed() => {
                self.missing.borrow_mut().get_or_insert(id.to_owned());
            }
            None => {}
        }
        found
    }

    fn failed(&self) -> bool {
        self.error.failed() || self.missing.borrow().is_some()
    }
}

type Ids = EventIdSet<OwnedEventId>;
