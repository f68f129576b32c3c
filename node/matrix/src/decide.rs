//! What becomes of a checked PDU: the heart of the room protocol, a function of the event and of what the room holds.
//!
//! Server-server spec, "Checks performed on receipt of a PDU", steps 4 to 6 (1 to 3 are in [`crate::check`]), for
//! remote and local events alike.
//!
//! ```text
//! decide --> Duplicate                 stored already
//!        --> Park                      some prev_events or auth_events are not here: fetch them, come again
//!        --> Resolve                   states are to be resolved first (off the writer): do it, come again
//!        --> Reject | SoftFail | Append   write what it says, in one commit
//! ```

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use crate::{
    CheckedPdu, PduFlags, ReadError, RoomReader, RoomRules, StateGroup, StateKey, StateMap,
    state::{Resolution, StateSet},
};

mod auth;
mod dag;
mod view;

pub use auth::{OutlierVerdict, decide_outlier};

use auth::Authority;
use dag::next_extremities;
use view::StateView;

/// What the caller brings beside the event.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// Outcomes of earlier [`Verdict::Resolve`]s; those that do not fit are passed over.
    pub resolutions: &'a [Resolution],
    /// The state before the event, when its prev_events cannot be had and a peer named the state instead
    /// (`/state_ids`).
    pub state_before: Option<Arc<StateMap>>,
    /// Whether the event is our own join into a room that we are not in: what is here of the room is from an earlier stay,
    /// and the state that the resident server named takes its place.
    pub entering: bool,
    /// Whether the event is history: it then changes neither extremities nor current state and is not soft-failed.
    pub backfill: bool,
}

/// What becomes of a PDU.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is part of the timeline.
    Append(Append),
    /// Stored, shown to nobody, followed by none of our events; it may still be a prev event of others.
    SoftFail {
        /// The auth rule of the current state that it breaks.
        why: String,
        /// The states around it.
        placement: Placement,
    },
    /// Stored as rejected; the state after it is the state before it.
    Reject {
        /// The auth rule that it breaks.
        why: String,
        /// The states around it.
        placement: Placement,
    },
    /// Cannot be judged yet.
    Park(Missing),
    /// Stored already, not as an outlier.
    Duplicate,
    /// Judged as soon as these states are resolved against each other: see [`crate::state::resolve`].
    Resolve(Vec<StateSet>),
}

/// The states around an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The state before it.
    pub before: StateSource,
    /// The entry that the event sets in the state after it; `None` when that state is the one before it.
    pub sets: Option<StateKey>,
}

/// Where a state comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum StateSource {
    /// The empty state before the create event.
    Empty,
    /// A stored state.
    Group(StateGroup),
    /// A state to be stored; `near` is a stored state that it differs little from.
    Map {
        /// A good base for the difference.
        near: Option<StateGroup>,
        /// The state.
        state: Arc<StateMap>,
    },
    /// The state after the event that is decided on.
    AfterThis,
}

/// The rows of an accepted event.
#[derive(Clone, Debug)]
pub struct Append {
    /// The states around it.
    pub placement: Placement,
    /// All forward extremities from now on, sorted.
    pub extremities: Vec<OwnedEventId>,
    /// The current state from now on; `None` when it stays.
    pub current: Option<CurrentState>,
}

/// A current state that moves.
#[derive(Clone, Debug)]
pub struct CurrentState {
    /// The state that is current from now on.
    pub to: StateSource,
    /// The entries that this changes.
    pub changes: Vec<StateChange>,
}

/// One changed entry of the current state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateChange {
    /// The entry.
    pub key: StateKey,
    /// The event that holds it from now on; `None` when the entry is gone.
    pub event: Option<OwnedEventId>,
}

/// The events that are needed to judge a parked one. Sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Prev events that are unknown or whose state is.
    pub prev_events: Vec<OwnedEventId>,
    /// Auth events that are unknown.
    pub auth_events: Vec<OwnedEventId>,
}

impl Verdict {
    /// The flags that the event is stored with.
    pub fn flags(&self) -> PduFlags {
        PduFlags { rejected: matches!(self, Self::Reject { .. }), soft_failed: matches!(self, Self::SoftFail { .. }) }
    }
}

/// Decides on an event of the room that `reader` reads. The caller has checked that `pdu.room_id()` is that room.
///
/// # Errors
/// When storage fails; nothing is known about the event then.
pub fn decide(
    pdu: &CheckedPdu,
    reader: &impl RoomReader,
    rules: &RoomRules,
    given: &Given<'_>,
) -> Result<Verdict, ReadError> {
    if reader.state_after(pdu.event_id())?.is_some() {
        return Ok(Verdict::Duplicate);
    }
    let decision = Decision { pdu, reader, rules, given };
    let missing = decision.missing()?;
    if missing != Missing::default() {
        return Ok(Verdict::Park(missing));
    }
    let before = match decision.state_before()? {
        Ok(before) => decision.with_members(before)?,
        Err(sets) => return Ok(Verdict::Resolve(sets)),
    };
    decision.judge(before)
}

struct Decision<'a, R> {
    pdu: &'a CheckedPdu,
    reader: &'a R,
    rules: &'a RoomRules,
    given: &'a Given<'a>,
}

/// States that must be resolved before the work can go on.
type Unresolved = Vec<StateSet>;

impl<R: RoomReader> Decision<'_, R> {
    fn missing(&self) -> Result<Missing, ReadError> {
        let mut missing = Missing::default();
        if self.given.state_before.is_none() {
            for id in self.pdu.prev_events() {
                if self.reader.state_after(id)?.is_none() {
                    missing.prev_events.push(id.clone());
                }
            }
        }
        let create = auth::implied_create(self.rules, self.pdu);
        for id in self.pdu.auth_events().iter().chain(&create) {
            if self.reader.pdu(id)?.is_none() {
                missing.auth_events.push(id.clone());
            }
        }
        for ids in [&mut missing.prev_events, &mut missing.auth_events] {
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(missing)
    }

    /// The state before the event: that of the prev events, resolved when they differ.
    fn state_before(&self) -> Result<Result<StateView, Unresolved>, ReadError> {
        if let Some(state) = &self.given.state_before {
            return Ok(Ok(StateView::Map { near: self.reader.current_state()?, state: state.clone() }));
        }
        if self.follows_all_extremities()? {
            // The usual case: the state before the event is the current one, however many extremities made it.
            return Ok(Ok(self.reader.current_state()?.map_or(StateView::Empty, StateView::Group)));
        }
        let mut groups = BTreeSet::new();
        for id in self.pdu.prev_events() {
            groups.extend(self.reader.state_after(id)?);
        }
        let mut groups = groups.into_iter();
        match (groups.next(), groups.len()) {
            (None, _) => Ok(Ok(StateView::Empty)),
            (Some(group), 0) => Ok(Ok(StateView::Group(group))),
            (Some(group), _) => {
                let sets = std::iter::once(group).chain(groups).map(StateSet::Group).collect();
                Ok(self.resolved(sets).map(|state| StateView::Map { near: Some(group), state }))
            }
        }
    }

    /// In a room whose states lack members, those among the auth events stand in for them (MSC3902: the state before the
    /// event is what is known of it, resolved with the auth events). The room is judged anew when the rest is here.
    fn with_members(&self, before: StateView) -> Result<StateView, ReadError> {
        if !self.reader.is_partial()? {
            return Ok(before);
        }
        let mut added = Vec::new();
        for id in self.pdu.auth_events() {
            let Some(pdu) = self.reader.pdu(id)?.filter(|pdu| !pdu.flags().rejected) else { continue };
            let Some(key) = pdu.state_entry().filter(|(kind, _)| *kind == StateEventType::RoomMember) else { continue };
            if before.entry(self.reader, &key)?.is_none() {
                added.push((key, id.clone()));
            }
        }
        if added.is_empty() {
            return Ok(before);
        }
        let mut state = before.map(self.reader)?;
        state.extend(added);
        let near = before.group().or(self.reader.current_state()?);
        Ok(StateView::Map { near, state: Arc::new(state) })
    }

    fn follows_all_extremities(&self) -> Result<bool, ReadError> {
        let extremities = self.reader.extremities()?;
        let prev_events: BTreeSet<_> = self.pdu.prev_events().iter().collect();
        Ok(!prev_events.is_empty() && prev_events == extremities.iter().collect())
    }

    fn judge(&self, before: StateView) -> Result<Verdict, ReadError> {
        let authority = Authority::new(self.pdu, self.reader, self.rules)?;
        let placement = |sets| Placement { before: before.source(), sets };
        if let Some(why) = self.second_create()? {
            return Ok(Verdict::Reject { why, placement: placement(None) });
        }
        // 4. Passes authorization rules based on the event's auth events, otherwise it is rejected.
        if let Err(why) = authority.by_auth_events()? {
            return Ok(Verdict::Reject { why, placement: placement(None) });
        }
        // 5. Passes authorization rules based on the state before the event, otherwise it is rejected.
        if let Err(why) = authority.by_state(|key| before.entry(self.reader, key))? {
            return Ok(Verdict::Reject { why, placement: placement(None) });
        }
        let placement = placement(self.pdu.state_entry());
        if self.given.backfill {
            return Ok(Verdict::Append(Append { placement, extremities: self.sorted_extremities()?, current: None }));
        }
        // 6. Passes authorization rules based on the current state of the room, otherwise it is "soft failed".
        let current = self.reader.current_state()?;
        // What is current is not known while members are missing: then nothing is soft-failed (MSC3902).
        if !self.given.entering
            && let Some(group) = current
            && before.group() != Some(group)
            && !self.reader.is_partial()?
            && let Err(why) = authority.by_state(|(kind, key)| self.reader.current_entry(kind, key))?
        {
            return Ok(Verdict::SoftFail { why, placement });
        }
        let extremities = match self.given.entering {
            true => vec![self.pdu.owned_event_id()],
            false => next_extremities(self.pdu, self.reader)?,
        };
        match self.current_after(&before, current, &extremities)? {
            Ok(current) => Ok(Verdict::Append(Append { placement, extremities, current })),
            Err(sets) => Ok(Verdict::Resolve(sets)),
        }
    }

    /// Before version 12 nothing but this stops a second create event under the room id of the first.
    fn second_create(&self) -> Result<Option<String>, ReadError> {
        if !self.pdu.is_state(&TimelineEventType::RoomCreate, "") {
            return Ok(None);
        }
        let first = self.reader.current_entry(&StateEventType::RoomCreate, "")?;
        let other = first.is_some_and(|first| first != self.pdu.event_id());
        Ok(other.then(|| "the room has another create event already".to_owned()))
    }

    /// The current state once the extremities are `extremities`.
    fn current_after(
        &self,
        before: &StateView,
        current: Option<StateGroup>,
        extremities: &[OwnedEventId],
    ) -> Result<Result<Option<CurrentState>, Unresolved>, ReadError> {
        let key = self.pdu.state_entry();
        if let [only] = extremities
            && *only == self.pdu.event_id()
        {
            let is_current = current.is_some() && before.group() == current;
            let to = match (&key, is_current) {
                (None, true) => return Ok(Ok(None)),
                _ => StateSource::AfterThis,
            };
            let changes = match (key, is_current) {
                (Some(key), true) => vec![StateChange { key, event: Some(self.pdu.owned_event_id()) }],
                (key, _) => self.changes(current, &self.after(before, key)?)?,
            };
            return Ok(Ok(Some(CurrentState { to, changes })));
        }
        let sets = self.extremity_states(before, key, extremities)?;
        if sets == self.stored_states(&self.reader.extremities()?)? {
            return Ok(Ok(None));
        }
        if let [StateSet::Group(group)] = sets[..] {
            let changes = self.changes(current, &*self.reader.state(group)?)?;
            return Ok(Ok(Some(CurrentState { to: StateSource::Group(group), changes })));
        }
        match self.resolved(sets) {
            Err(sets) => Ok(Err(sets)),
            Ok(state) => {
                let changes = self.changes(current, &state)?;
                Ok(Ok(Some(CurrentState { to: StateSource::Map { near: current, state }, changes })))
            }
        }
    }

    /// The distinct states after these events, one of which may be the event that is decided on.
    fn extremity_states(
        &self,
        before: &StateView,
        key: Option<StateKey>,
        extremities: &[OwnedEventId],
    ) -> Result<Vec<StateSet>, ReadError> {
        let others: Vec<_> = extremities.iter().filter(|id| **id != self.pdu.event_id()).cloned().collect();
        let mut sets = self.stored_states(&others)?;
        if others.len() < extremities.len() {
            let own = match (before, key) {
                (StateView::Group(group), None) => StateSet::Group(*group),
                (StateView::Group(base), Some(key)) => {
                    StateSet::Plus { base: *base, key, event: self.pdu.owned_event_id() }
                }
                (_, key) => StateSet::Map(Arc::new(self.after(before, key)?)),
            };
            if !sets.contains(&own) {
                sets.push(own);
            }
        }
        sets.sort_by_key(|set| match set {
            StateSet::Group(group) => (0, Some(*group)),
            _ => (1, None),
        });
        Ok(sets)
    }

    fn stored_states(&self, ids: &[OwnedEventId]) -> Result<Vec<StateSet>, ReadError> {
        let mut groups = BTreeSet::new();
        for id in ids {
            groups.extend(self.reader.state_after(id)?);
        }
        Ok(groups.into_iter().map(StateSet::Group).collect())
    }

    fn after(&self, before: &StateView, key: Option<StateKey>) -> Result<StateMap, ReadError> {
        let mut state = before.map(self.reader)?;
        if let Some(key) = key {
            state.insert(key, self.pdu.owned_event_id());
        }
        Ok(state)
    }

    fn changes(&self, from: Option<StateGroup>, to: &StateMap) -> Result<Vec<StateChange>, ReadError> {
        let from = match from {
            Some(group) => self.reader.state(group)?,
            None => Arc::default(),
        };
        Ok(changes(&from, to))
    }

    fn resolved(&self, sets: Vec<StateSet>) -> Result<Arc<StateMap>, Unresolved> {
        match self.given.resolutions.iter().find(|resolution| resolution.sets == sets) {
            Some(resolution) => Ok(resolution.state.clone()),
            None => Err(sets),
        }
    }

    fn sorted_extremities(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        let mut extremities = self.reader.extremities()?;
        extremities.sort_unstable();
        Ok(extremities)
    }
}

/// The entries in which two states differ, sorted.
pub fn changes(from: &StateMap, to: &StateMap) -> Vec<StateChange> {
    let set = to.iter().filter(|(key, id)| from.get(*key) != Some(*id));
    let set = set.map(|(key, id)| StateChange { key: key.clone(), event: Some(id.clone()) });
    let gone =
        from.keys().filter(|key| !to.contains_key(*key)).map(|key| StateChange { key: key.clone(), event: None });
    let mut changes: Vec<_> = set.chain(gone).collect();
    changes.sort_unstable();
    changes
}
