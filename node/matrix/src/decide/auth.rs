//! The authorization rules, asked of one event against its auth events and against states.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};

use crate::{CheckedPdu, Pdu, ReadError, RoomReader, RoomRules, StateKey, pdu::create_of_room_id, reader::FirstError};

/// What becomes of an event whose place in the DAG is not known: one of an auth chain, or of the state before a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutlierVerdict {
    /// Store it as an outlier.
    Accept,
    /// Store it as a rejected outlier.
    Reject(String),
    /// These auth events are needed first.
    Park(Vec<OwnedEventId>),
    /// Stored already, as an outlier or with its place.
    Duplicate,
}

/// Step 4 alone: decides on an event by its auth events.
///
/// # Errors
/// When storage fails.
pub fn decide_outlier(
    pdu: &CheckedPdu,
    reader: &impl RoomReader,
    rules: &RoomRules,
) -> Result<OutlierVerdict, ReadError> {
    if reader.pdu(pdu.event_id())?.is_some() {
        return Ok(OutlierVerdict::Duplicate);
    }
    let mut missing = Vec::new();
    for id in pdu.auth_events().iter().chain(&implied_create(rules, pdu)) {
        if reader.pdu(id)?.is_none() && !missing.contains(id) {
            missing.push(id.clone());
        }
    }
    if !missing.is_empty() {
        return Ok(OutlierVerdict::Park(missing));
    }
    Ok(match Authority::new(pdu, reader, rules)?.by_auth_events()? {
        Ok(()) => OutlierVerdict::Accept,
        Err(why) => OutlierVerdict::Reject(why),
    })
}

/// The create event that the room id names, for events that do not name it themselves (version 12).
pub(crate) fn implied_create(rules: &RoomRules, pdu: &Pdu) -> Option<OwnedEventId> {
    (rules.create_is_room_id() && *pdu.kind() != TimelineEventType::RoomCreate)
        .then(|| create_of_room_id(pdu.room_id()))
        .flatten()
}

/// One event and the events that authorise it.
pub(super) struct Authority<'a, R> {
    pdu: &'a CheckedPdu,
    reader: &'a R,
    rules: &'a RoomRules,
    auth_events: Vec<Arc<Pdu>>,
    fetched: RefCell<HashMap<OwnedEventId, Arc<Pdu>>>,
}

/// The rule that is broken, if one is.
type Ruling = Result<(), String>;

impl<'a, R: RoomReader> Authority<'a, R> {
    /// Every auth event must be stored; the caller has looked.
    pub(super) fn new(pdu: &'a CheckedPdu, reader: &'a R, rules: &'a RoomRules) -> Result<Self, ReadError> {
        let mut auth_events = Vec::with_capacity(pdu.auth_events().len() + 1);
        for id in pdu.auth_events().iter().chain(&implied_create(rules, pdu)) {
            auth_events.extend(reader.pdu(id)?);
        }
        Ok(Self { pdu, reader, rules, auth_events, fetched: RefCell::default() })
    }

    /// Step 4.
    pub(super) fn by_auth_events(&self) -> Result<Ruling, ReadError> {
        let rules = &self.rules.room.authorization;
        let by_id = |id: &EventId| self.auth_events.iter().find(|event| event.event_id() == id).cloned();
        Ok(check_state_independent_auth_rules(rules, &**self.pdu.pdu(), by_id).and_then(|()| {
            let by_key = |kind: &StateEventType, key: &str| {
                self.auth_events.iter().find(|event| event.is_state(&kind.to_string().into(), key)).cloned()
            };
            check_state_dependent_auth_rules(rules, &**self.pdu.pdu(), by_key)
        }))
    }

    /// Steps 5 and 6. Assumes that step 4 passed: a state that selects the very same auth events gives the very same
    /// ruling, and is not asked twice.
    pub(super) fn by_state(
        &self,
        entry: impl Fn(&StateKey) -> Result<Option<OwnedEventId>, ReadError>,
    ) -> Result<Ruling, ReadError> {
        if *self.pdu.kind() == TimelineEventType::RoomCreate {
            return Ok(Ok(()));
        }
        let mut keys = match auth_types_for_event(
            self.pdu.kind(),
            self.pdu.sender(),
            self.pdu.state_key(),
            self.pdu.content(),
            &self.rules.room.authorization,
        ) {
            Ok(keys) => keys,
            Err(why) => return Ok(Err(why)),
        };
        if self.rules.create_is_room_id() {
            keys.push((StateEventType::RoomCreate, String::new()));
        }
        let mut selected = HashMap::with_capacity(keys.len());
        for key in keys {
            if let Some(id) = entry(&key)? {
                selected.insert(key, id);
            }
        }
        let same = selected.len() == self.auth_events.len()
            && self.auth_events.iter().all(|event| selected.values().any(|id| *id == event.event_id()));
        if same {
            return Ok(Ok(()));
        }
        let error = FirstError::default();
        let ruling =
            check_state_dependent_auth_rules(&self.rules.room.authorization, &**self.pdu.pdu(), |kind, key| {
                let id = selected.get(&(kind.clone(), key.to_owned()))?;
                error.keep(self.fetch(id))
            });
        error.check()?;
        Ok(ruling)
    }

    /// An event that a state names; that it is not stored is an error of the store.
    fn fetch(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError> {
        if let Some(pdu) = self.auth_events.iter().find(|event| event.event_id() == id) {
            return Ok(Some(pdu.clone()));
        }
        if let Some(pdu) = self.fetched.borrow().get(id) {
            return Ok(Some(pdu.clone()));
        }
        let pdu = self
            .reader
            .pdu(id)?
            .ok_or_else(|| ReadError::new(format!("event {id} is named by a state, but is not stored")))?;
        self.fetched.borrow_mut().insert(id.to_owned(), pdu.clone());
        Ok(Some(pdu))
    }
}
