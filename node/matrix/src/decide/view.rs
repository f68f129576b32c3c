//! A state that is looked up entry by entry, so that the usual event never materialises a map.

use std::sync::Arc;

use ruma::OwnedEventId;

use super::StateSource;
use crate::{ReadError, RoomReader, StateGroup, StateKey, StateMap};

/// The state before an event.
pub(super) enum StateView {
    Empty,
    Group(StateGroup),
    Map { near: Option<StateGroup>, state: Arc<StateMap> },
}

impl StateView {
    pub(super) fn entry(&self, reader: &impl RoomReader, key: &StateKey) -> Result<Option<OwnedEventId>, ReadError> {
        match self {
            Self::Empty => Ok(None),
            Self::Group(group) => reader.state_entry(*group, &key.0, &key.1),
            Self::Map { state, .. } => Ok(state.get(key).cloned()),
        }
    }

    pub(super) fn group(&self) -> Option<StateGroup> {
        match self {
            Self::Group(group) => Some(*group),
            _ => None,
        }
    }

    pub(super) fn map(&self, reader: &impl RoomReader) -> Result<StateMap, ReadError> {
        Ok(match self {
            Self::Empty => StateMap::new(),
            Self::Group(group) => StateMap::clone(&*reader.state(*group)?),
            Self::Map { state, .. } => StateMap::clone(state),
        })
    }

    pub(super) fn source(&self) -> StateSource {
        match self {
            Self::Empty => StateSource::Empty,
            Self::Group(group) => StateSource::Group(*group),
            Self::Map { near, state } => StateSource::Map { near: *near, state: state.clone() },
        }
    }
}
