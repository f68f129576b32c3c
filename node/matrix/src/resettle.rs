//! Correcting the states of a room that was entered by one server's description, when a second server describes it
//! otherwise: the states after the events that followed are worked out anew from the corrected one.

use std::{collections::HashMap, sync::Arc};

use ruma::{EventId, OwnedEventId, state_res::check_state_dependent_auth_rules};

use crate::{
    Pdu, RoomReader, RoomRules, StateMap,
    pdu::create_of_room_id,
    reader::FirstError,
    state::{self, StateError, StateSet},
};

/// The states after some events.
pub type States = HashMap<OwnedEventId, Arc<StateMap>>;

/// The state after each of `events`, which stand in the order of the timeline; `before` is the one before the first. A
/// state event that the corrected state does not allow sets nothing.
///
/// # Errors
/// When storage fails or an event that is needed is not there.
pub fn resettle(
    reader: &impl RoomReader,
    rules: &RoomRules,
    events: &[Arc<Pdu>],
    before: Arc<StateMap>,
) -> Result<States, StateError> {
    let mut states = States::new();
    for (at, pdu) in events.iter().enumerate() {
        let before = match at {
            0 => before.clone(),
            // It was placed by a peer's word on the state before it, which stands.
            _ if is_bridged(reader, &states, pdu)? => {
                if let Some(group) = reader.state_after(pdu.event_id())? {
                    states.insert(pdu.owned_event_id(), reader.state(group)?);
                }
                continue;
            }
            _ => merged(reader, rules, &states, pdu.prev_events())?,
        };
        let after = match pdu.state_entry() {
            Some(key) if !pdu.flags().rejected && is_allowed(reader, rules, pdu, &before)? => {
                let mut after = StateMap::clone(&before);
                after.insert(key, pdu.owned_event_id());
                Arc::new(after)
            }
            _ => before,
        };
        states.insert(pdu.owned_event_id(), after);
    }
    Ok(states)
}

/// Whether the state after one of an event's prev events is not known.
fn is_bridged(reader: &impl RoomReader, states: &States, pdu: &Pdu) -> Result<bool, StateError> {
    for id in pdu.prev_events() {
        if !states.contains_key(id) && reader.state_after(id)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The state after several events together: of those that were worked out anew, and of others as they are stored.
///
/// # Errors
/// As [`resettle`].
pub fn merged(
    reader: &impl RoomReader,
    rules: &RoomRules,
    states: &States,
    ids: &[OwnedEventId],
) -> Result<Arc<StateMap>, StateError> {
    let mut maps: Vec<Arc<StateMap>> = Vec::with_capacity(ids.len());
    for id in ids {
        let map = match (states.get(id), reader.state_after(id)?) {
            (Some(map), _) => map.clone(),
            (None, Some(group)) => reader.state(group)?,
            (None, None) => continue,
        };
        if !maps.contains(&map) {
            maps.push(map);
        }
    }
    match maps.len() {
        0 => Ok(Arc::default()),
        1 => Ok(maps.remove(0)),
        _ => Ok(state::resolve(reader, rules, maps.into_iter().map(StateSet::Map).collect(), None)?.state),
    }
}

/// Whether a state allows an event.
///
/// # Errors
/// When storage fails.
pub fn is_allowed(
    reader: &impl RoomReader,
    rules: &RoomRules,
    pdu: &Arc<Pdu>,
    before: &StateMap,
) -> Result<bool, StateError> {
    let error = FirstError::default();
    let create = rules.create_is_room_id().then(|| create_of_room_id(pdu.room_id())).flatten();
    let find = |id: &EventId| error.keep(reader.pdu(id));
    let ruling = check_state_dependent_auth_rules(&rules.room.authorization, &**pdu, |kind, key| {
        let id = before.get(&(kind.clone(), key.to_owned()));
        let create = create.as_ref().filter(|_| kind.to_string() == "m.room.create");
        id.or(create).and_then(|id| find(id))
    });
    error.check()?;
    Ok(ruling.is_ok())
}
