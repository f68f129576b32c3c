//! What the pure functions ask of storage: one room, read synchronously, with errors that stay errors.

use std::{cell::RefCell, error::Error, sync::Arc};

use ruma::{EventId, OwnedEventId, events::StateEventType};
use serde::{Deserialize, Serialize};

use crate::{Pdu, StateMap};

/// The name that the store gives to a state of a room. Equal groups are equal states; different groups may be equal as
/// well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateGroup(pub u64);

/// Storage failed. It never stands for "not there".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(#[source] Box<dyn Error + Send + Sync>);

impl ReadError {
    /// Wraps the error of a store.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The store's own error.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

/// One room, over a snapshot or an open transaction.
pub trait RoomReader {
    /// An event of this room, outliers and rejected ones included. An event of another room is not there.
    ///
    /// # Errors
    /// When storage fails.
    fn pdu(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError>;

    /// The state after an event; `None` for unknown events and for outliers.
    ///
    /// # Errors
    /// When storage fails.
    fn state_after(&self, id: &EventId) -> Result<Option<StateGroup>, ReadError>;

    /// One entry of a state.
    ///
    /// # Errors
    /// When storage fails.
    fn state_entry(
        &self,
        group: StateGroup,
        kind: &StateEventType,
        state_key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError>;

    /// A whole state.
    ///
    /// # Errors
    /// When storage fails.
    fn state(&self, group: StateGroup) -> Result<Arc<StateMap>, ReadError>;

    /// The current state: the resolution of the states after the forward extremities. `None` before the create event.
    ///
    /// # Errors
    /// When storage fails.
    fn current_state(&self) -> Result<Option<StateGroup>, ReadError>;

    /// The forward extremities, each once, in any order.
    ///
    /// # Errors
    /// When storage fails.
    fn extremities(&self) -> Result<Vec<OwnedEventId>, ReadError>;

    /// Whether a stored event that is not rejected, soft-failed or an outlier names this one among its `prev_events`.
    ///
    /// # Errors
    /// When storage fails.
    fn has_successors(&self, id: &EventId) -> Result<bool, ReadError>;

    /// Whether the states of this room lack members, because it was joined with a part of its state (server-server spec,
    /// `omit_members` of `send_join`) and the rest is not here yet.
    ///
    /// # Errors
    /// When storage fails.
    fn is_partial(&self) -> Result<bool, ReadError> {
        Ok(false)
    }

    /// One entry of the current state; a store that keeps it as rows overrides this.
    ///
    /// # Errors
    /// When storage fails.
    fn current_entry(&self, kind: &StateEventType, state_key: &str) -> Result<Option<OwnedEventId>, ReadError> {
        match self.current_state()? {
            Some(group) => self.state_entry(group, kind, state_key),
            None => Ok(None),
        }
    }
}

/// Keeps the first storage error while ruma, whose closures know only "there" and "not there", is at work.
#[derive(Default)]
pub(crate) struct FirstError(RefCell<Option<ReadError>>);

impl FirstError {
    /// The value, or `None` with the error kept.
    pub(crate) fn keep<T>(&self, result: Result<Option<T>, ReadError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.0.borrow_mut().get_or_insert(error);
            None
        })
    }

    /// Whether an error was kept: the work at hand is void.
    pub(crate) fn failed(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// To be asked before any result is believed.
    pub(crate) fn check(self) -> Result<(), ReadError> {
        self.0.into_inner().map_or(Ok(()), Err)
    }
}
