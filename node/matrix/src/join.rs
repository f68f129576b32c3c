//! Taking in a whole room at once: the answer to `send_join` (and to `/state_ids`, which has the same parts).
//!
//! Signatures were checked before; here every event is judged by its auth events in their order, and the join by the
//! state that the answer claims. Nothing is stored before all of it holds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId, RoomId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules, events::RoomCreateEvent},
};

use crate::{CheckedPdu, Pdu, PduFlags, RoomRules, StateMap, pdu::create_of_room_id};

/// A room as a peer describes it, before any of it is believed.
#[derive(Clone, Debug)]
pub struct RoomAnswer {
    /// The state before the event that led here.
    pub state: Vec<CheckedPdu>,
    /// The auth chain of that state.
    pub auth_chain: Vec<CheckedPdu>,
}

/// The part of a [`RoomAnswer`] that holds.
#[derive(Clone, Debug)]
pub struct AcceptedState {
    /// State and auth chain, each event after its auth events, with the rejected flag set where it is due. To be stored
    /// as outliers.
    pub outliers: Vec<Arc<Pdu>>,
    /// The state, without what was rejected.
    pub state: StateMap,
    /// Events that were left out because an auth event of theirs was in neither list, or that are of another room.
    pub left_out: Vec<OwnedEventId>,
}

/// Why a room is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The state has no (or a rejected) create event.
    #[error("the answer holds no valid create event of the room")]
    NoCreate,
    /// The create event says another version than the one that was agreed on.
    #[error("the create event is of room version {found}, not {wanted}")]
    Version {
        /// What the create event says.
        found: RoomVersionId,
        /// What `make_join` said.
        wanted: RoomVersionId,
    },
    /// Two events for one entry, or an entry that is no state event.
    #[error("the answer's state is ambiguous or holds {0}, which is no state event")]
    NotAState(OwnedEventId),
    /// The join breaks the rules of the state that came with it.
    #[error("the answer's state does not allow the join: {0}")]
    Refused(String),
}

/// Judges state and auth chain of a room that this node does not know yet, or of a state it has not seen.
///
/// `known` finds events that are stored already: they count with the flags that they have.
///
/// # Errors
/// When the state cannot be that of this room.
pub fn accept_state(
    rules: &RoomRules,
    room_id: &RoomId,
    answer: RoomAnswer,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<AcceptedState, JoinError> {
    let state_ids: Vec<OwnedEventId> = answer.state.iter().map(|pdu| pdu.owned_event_id()).collect();
    accept_ids(rules, room_id, state_ids, answer.state.into_iter().chain(answer.auth_chain), known)
}

/// As [`accept_state`], of a state that is named by ids; `events` are those of it and of its auth chain that were not here.
///
/// # Errors
/// As [`accept_state`].
pub fn accept_ids(
    rules: &RoomRules,
    room_id: &RoomId,
    state_ids: Vec<OwnedEventId>,
    events: impl IntoIterator<Item = CheckedPdu>,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<AcceptedState, JoinError> {
    let (judged, mut left_out) = judge_all(rules, room_id, events, &known);
    let mut state = StateMap::new();
    for id in state_ids {
        let Some(pdu) = judged.get(&id).filter(|pdu| !pdu.flags().rejected) else { continue };
        let Some(key) = pdu.state_entry() else { return Err(JoinError::NotAState(id)) };
        if state.insert(key, id.clone()).is_some_and(|other| other != id) {
            return Err(JoinError::NotAState(id));
        }
    }
    check_create(rules, &state, |id| judged.get(id))?;
    left_out.sort_unstable();
    left_out.dedup();
    Ok(AcceptedState { outliers: judged.outliers, state, left_out })
}

/// Judges events of an auth chain by theirs: those that are new and whose auth events are all here, each after its auth
/// events. To be stored as outliers.
pub fn accept_outliers(
    rules: &RoomRules,
    room_id: &RoomId,
    events: impl IntoIterator<Item = CheckedPdu>,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Vec<Arc<Pdu>> {
    judge_all(rules, room_id, events, &known).0.outliers
}

/// Checks the join that led to this state: by its auth events, then by the state. The caller appends it with the state
/// as the one before it.
///
/// # Errors
/// When the join is not allowed, and the room must not be entered.
pub fn check_join(
    rules: &RoomRules,
    join: &CheckedPdu,
    accepted: &AcceptedState,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), JoinError> {
    check(rules, join, accepted, known, false)
}

/// As [`check_join`], by a state from which members were left out: for those the auth events of the join stand in.
///
/// # Errors
/// As [`check_join`].
pub fn check_partial_join(
    rules: &RoomRules,
    join: &CheckedPdu,
    accepted: &AcceptedState,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), JoinError> {
    check(rules, join, accepted, known, true)
}

fn check(
    rules: &RoomRules,
    join: &CheckedPdu,
    accepted: &AcceptedState,
    known: impl Fn(&EventId) -> Option<Arc<Pdu>>,
    partial: bool,
) -> Result<(), JoinError> {
    let by_id: HashMap<&EventId, &Arc<Pdu>> = accepted.outliers.iter().map(|pdu| (pdu.event_id(), pdu)).collect();
    let find = |id: &EventId| by_id.get(id).map(|pdu| (*pdu).clone()).or_else(|| known(id));
    by_auth_events(rules, join, find).map_err(JoinError::Refused)?;
    check_state_dependent_auth_rules(&rules.room.authorization, &**join.pdu(), |kind, key| {
        match accepted.state.get(&(kind.clone(), key.to_owned())) {
            Some(id) => find(id),
            None if partial && *kind == StateEventType::RoomMember => {
                let mut auth_events = join.auth_events().iter().filter_map(|id| find(id));
                auth_events.find(|event| event.is_state(&TimelineEventType::RoomMember, key))
            }
            None => None,
        }
    })
    .map_err(JoinError::Refused)
}

/// Judges all events by their auth events; gives the ids of those of which nothing can be said.
fn judge_all<'a, F: Fn(&EventId) -> Option<Arc<Pdu>>>(
    rules: &'a RoomRules,
    room_id: &RoomId,
    events: impl IntoIterator<Item = CheckedPdu>,
    known: &'a F,
) -> (Judged<'a, F>, Vec<OwnedEventId>) {
    let mut left_out = Vec::new();
    let mut pool: HashMap<OwnedEventId, CheckedPdu> = HashMap::new();
    for pdu in events {
        if pdu.room_id() != room_id {
            left_out.push(pdu.owned_event_id());
            continue;
        }
        pool.entry(pdu.owned_event_id()).or_insert(pdu);
    }
    let mut judged = Judged { rules, known, events: HashMap::new(), outliers: Vec::new() };
    for id in auth_order(rules, &pool) {
        if !judged.judge(&pool[&id]) {
            left_out.push(id);
        }
    }
    (judged, left_out)
}

struct Judged<'a, F> {
    rules: &'a RoomRules,
    known: &'a F,
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    outliers: Vec<Arc<Pdu>>,
}

impl<F: Fn(&EventId) -> Option<Arc<Pdu>>> Judged<'_, F> {
    fn get(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(id).cloned().or_else(|| (self.known)(id))
    }

    /// False when an auth event is missing, so that nothing can be said.
    fn judge(&mut self, pdu: &CheckedPdu) -> bool {
        if (self.known)(pdu.event_id()).is_some() {
            return true;
        }
        if pdu.auth_events().iter().any(|id| self.get(id).is_none()) {
            return false;
        }
        let ruling = by_auth_events(self.rules, pdu, |id| self.get(id));
        let stored = pdu.with_flags(PduFlags { rejected: ruling.is_err(), soft_failed: false });
        self.events.insert(stored.owned_event_id(), stored.clone());
        self.outliers.push(stored);
        true
    }
}

/// Step 4 of the checks on receipt.
fn by_auth_events(
    rules: &RoomRules,
    pdu: &CheckedPdu,
    find: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), String> {
    let auth = &rules.room.authorization;
    check_state_independent_auth_rules(auth, &**pdu.pdu(), &find)?;
    let create = rules.create_is_room_id().then(|| create_of_room_id(pdu.room_id())).flatten();
    let events: Vec<_> = pdu.auth_events().iter().chain(&create).filter_map(|id| find(id)).collect();
    check_state_dependent_auth_rules(auth, &**pdu.pdu(), |kind: &StateEventType, key: &str| {
        events.iter().find(|event| event.is_state(&kind.to_string().into(), key))
    })
}

/// All ids of the pool, each after its auth events. Its own stack: chains are as long as the peer that made them
/// wishes.
fn auth_order(rules: &RoomRules, pool: &HashMap<OwnedEventId, CheckedPdu>) -> Vec<OwnedEventId> {
    let mut order = Vec::with_capacity(pool.len());
    let mut begun: HashSet<&EventId> = HashSet::new();
    let mut roots: Vec<&OwnedEventId> = pool.keys().collect();
    roots.sort_unstable();
    // The create event of version 12 stands in no auth_events, but everything is judged by it.
    let create = rules
        .create_is_room_id()
        .then(|| pool.values().next().and_then(|pdu| create_of_room_id(pdu.room_id())))
        .flatten();
    roots.extend(create.as_ref().and_then(|id| pool.get_key_value(id)).map(|(id, _)| id));
    let mut todo: Vec<(&OwnedEventId, bool)> = roots.into_iter().map(|id| (id, false)).collect();
    while let Some((id, children_done)) = todo.pop() {
        if children_done {
            order.push(id.clone());
        } else if begun.insert(id) {
            todo.push((id, true));
            let auth = pool[id].auth_events().iter();
            todo.extend(auth.filter_map(|id| pool.get_key_value(id)).map(|(id, _)| (id, false)));
        }
    }
    order
}

fn check_create(
    rules: &RoomRules,
    state: &StateMap,
    find: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), JoinError> {
    let create =
        state.get(&(StateEventType::RoomCreate, String::new())).and_then(|id| find(id)).ok_or(JoinError::NoCreate)?;
    if *create.kind() != TimelineEventType::RoomCreate {
        return Err(JoinError::NoCreate);
    }
    let found = RoomCreateEvent::new(&*create).room_version().map_err(|_| JoinError::NoCreate)?;
    if found != rules.version {
        return Err(JoinError::Version { found, wanted: rules.version.clone() });
    }
    Ok(())
}
