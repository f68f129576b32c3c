//! One node's copy of one room: what `decide` says is written, as the node's funnel does it, into maps. The rules, the decisions and
//! the state resolution are the real ones; only the tables are modelled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use millpond_matrix::{
    CheckedPdu, Pdu, PduFlags, ReadError, RoomReader, RoomRules, StateGroup, StateMap, Verdict,
    build::{self, EventDraft, Signer},
    decide::{Given, Placement, StateSource, decide},
    state::{self, Resolution, StateSet},
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, UserId, events::StateEventType};

use super::people::Person;

mod described;

pub use described::{Snapshot, Unconfirmed};

/// The room of one node.
#[derive(Clone)]
pub struct Room {
    rules: &'static RoomRules,
    room_id: OwnedRoomId,
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    after: HashMap<OwnedEventId, StateGroup>,
    states: Vec<Arc<StateMap>>,
    extremities: BTreeSet<OwnedEventId>,
    current: Option<StateGroup>,
    /// Events that an accepted one follows.
    followed: HashSet<OwnedEventId>,
    /// In the order in which they were appended.
    timeline: Vec<OwnedEventId>,
    /// The invite by which it was entered, if it was: what was before it, nobody owes.
    entered: Option<OwnedEventId>,
    /// It was entered by one member's word, and nobody has confirmed it.
    unconfirmed: Option<Unconfirmed>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in the timeline.
    Appended,
    /// Stored, and shown to nobody: the current state does not allow it.
    SoftFailed,
    /// Stored, and shown to nobody: it was never allowed.
    Rejected,
    /// It was here before.
    Duplicate,
}

impl Room {
    /// An empty room.
    #[must_use]
    pub fn new(rules: &'static RoomRules, room_id: OwnedRoomId) -> Self {
        Self {
            rules,
            room_id,
            events: HashMap::new(),
            after: HashMap::new(),
            states: Vec::new(),
            extremities: BTreeSet::new(),
            current: None,
            followed: HashSet::new(),
            timeline: Vec::new(),
            entered: None,
            unconfirmed: None,
        }
    }

    /// Builds and signs the next event.
    ///
    /// # Panics
    /// If the draft is malformed.
    #[must_use]
    pub fn build(&self, draft: EventDraft, person: &Person) -> CheckedPdu {
        let signer = Signer { server: &person.server, key: &person.key };
        build::next(self, self.rules, &self.room_id, draft, &signer).expect("a well-formed draft")
    }

    /// What is to become of an event, with every state resolved that is asked for.
    ///
    /// # Panics
    /// If a state that is stored cannot be resolved.
    #[must_use]
    pub fn verdict(&self, pdu: &CheckedPdu) -> Verdict {
        let mut resolutions: Vec<Resolution> = Vec::new();
        loop {
            let given = Given { resolutions: &resolutions, ..Given::default() };
            match decide(pdu, self, self.rules, &given).expect("memory does not fail") {
                Verdict::Resolve(sets) => {
                    resolutions.push(state::resolve(self, self.rules, sets, Some(pdu)).expect("a whole room"));
                }
                verdict => return verdict,
            }
        }
    }

    /// Writes a verdict that is neither `Park` nor `Resolve`.
    ///
    /// # Panics
    /// On those two.
    pub fn apply(&mut self, pdu: &CheckedPdu, verdict: &Verdict) -> Applied {
        match verdict {
            Verdict::Append(append) => {
                self.place(pdu, &append.placement, verdict.flags());
                self.extremities = append.extremities.iter().cloned().collect();
                self.followed.extend(pdu.prev_events().iter().cloned());
                self.timeline.push(pdu.owned_event_id());
                if let Some(current) = &append.current {
                    self.current = Some(self.group(&current.to, pdu.event_id()));
                }
                Applied::Appended
            }
            Verdict::SoftFail { placement, .. } => {
                self.place(pdu, placement, verdict.flags());
                Applied::SoftFailed
            }
            Verdict::Reject { placement, .. } => {
                self.place(pdu, placement, verdict.flags());
                Applied::Rejected
            }
            Verdict::Duplicate => Applied::Duplicate,
            Verdict::Park(_) | Verdict::Resolve(_) => unreachable!("the caller deals with these"),
        }
    }

    fn place(&mut self, pdu: &CheckedPdu, placement: &Placement, flags: PduFlags) {
        let before = self.group(&placement.before, pdu.event_id());
        let after = match &placement.sets {
            None => before,
            Some(key) => {
                let mut state = StateMap::clone(&self.states[at(before)]);
                state.insert(key.clone(), pdu.owned_event_id());
                self.new_group(Arc::new(state))
            }
        };
        self.events.insert(pdu.owned_event_id(), pdu.with_flags(flags));
        self.after.insert(pdu.owned_event_id(), after);
    }

    fn group(&mut self, source: &StateSource, this: &EventId) -> StateGroup {
        match source {
            StateSource::Empty => self.new_group(Arc::default()),
            StateSource::Group(group) => *group,
            StateSource::Map { near: Some(near), state } if self.states[at(*near)] == *state => *near,
            StateSource::Map { state, .. } => self.new_group(state.clone()),
            StateSource::AfterThis => self.after[this],
        }
    }

    fn new_group(&mut self, state: Arc<StateMap>) -> StateGroup {
        self.states.push(state);
        StateGroup(self.states.len() as u64 - 1)
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> &OwnedRoomId {
        &self.room_id
    }

    /// Whether the event is here with its place in the DAG.
    #[must_use]
    pub fn has(&self, id: &EventId) -> bool {
        self.after.contains_key(id)
    }

    /// Whether a user is in the room by its current state.
    #[must_use]
    pub fn is_joined(&self, user: &UserId) -> bool {
        let Some(group) = self.current else { return false };
        let member = self.states[at(group)].get(&(StateEventType::RoomMember, user.to_string()));
        let content = member.and_then(|id| self.events.get(id)).map(|pdu| pdu.content().get());
        content.is_some_and(|content| content.contains("\"join\""))
    }

    /// The text of an event that is here.
    #[must_use]
    pub fn json(&self, id: &EventId) -> Option<&str> {
        self.events.get(id).map(|pdu| pdu.json())
    }

    /// What is named when frontiers are compared.
    #[must_use]
    pub fn frontier(&self) -> Vec<OwnedEventId> {
        self.extremities.iter().take(millpond_matrix::frontier::MAX_IDS).cloned().collect()
    }

    /// As `/backfill`: these events and what is before them, the oldest first.
    #[must_use]
    pub fn backfill(&self, ids: &[OwnedEventId], limit: usize) -> Vec<Arc<Pdu>> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut layer: Vec<OwnedEventId> = ids.to_vec();
        while !layer.is_empty() && found.len() < limit {
            let mut next = BTreeSet::new();
            for id in layer {
                let Some(pdu) = self.events.get(&id).filter(|_| self.has(&id)) else { continue };
                if seen.insert(id) && found.len() < limit {
                    next.extend(pdu.prev_events().iter().cloned());
                    found.push(pdu.clone());
                }
            }
            layer = next.into_iter().collect();
        }
        found.reverse();
        found
    }

    /// The order in which events were appended.
    #[must_use]
    pub fn timeline(&self) -> &[OwnedEventId] {
        &self.timeline
    }

    /// The invite by which the room was entered, if it was.
    #[must_use]
    pub fn entered(&self) -> Option<&OwnedEventId> {
        self.entered.as_ref()
    }

    /// What no accepted event follows.
    #[must_use]
    pub fn ends(&self) -> &BTreeSet<OwnedEventId> {
        &self.extremities
    }

    /// Who made an event that is here.
    #[must_use]
    pub fn sender(&self, id: &EventId) -> Option<&UserId> {
        self.events.get(id).map(|pdu| pdu.sender())
    }

    /// What was soft-failed here.
    pub fn soft_failed(&self) -> impl Iterator<Item = &OwnedEventId> {
        self.events.iter().filter(|(_, pdu)| pdu.flags().soft_failed).map(|(id, _)| id)
    }

    /// Whether the current state is the resolution of the states after the ends, and of nothing else.
    ///
    /// # Panics
    /// If a state that is stored cannot be resolved.
    #[must_use]
    pub fn is_current_what_its_ends_resolve_to(&self) -> bool {
        let groups: BTreeSet<StateGroup> =
            self.extremities.iter().filter_map(|id| self.after.get(id)).copied().collect();
        let mut states: Vec<&Arc<StateMap>> = groups.into_iter().map(|group| &self.states[at(group)]).collect();
        states.dedup();
        let resolved = match &states[..] {
            [only] => Arc::clone(only),
            _ => {
                let sets = states.into_iter().map(|state| StateSet::Map(state.clone())).collect();
                state::resolve(self, self.rules, sets, None).expect("a whole room").state
            }
        };
        self.current.is_some_and(|group| self.states[at(group)] == resolved)
    }

    /// The first event that both hold, if there is one, with another state after it here than there.
    #[must_use]
    pub fn other_state(&self, other: &Self) -> Option<&OwnedEventId> {
        let differs = |(id, group): &(&OwnedEventId, &StateGroup)| {
            let there = other.after.get(*id);
            there.is_some_and(|there| self.states[at(**group)] != other.states[at(*there)])
        };
        self.after.iter().filter(differs).map(|(id, _)| id).min()
    }

    /// Everything that an event follows.
    #[must_use]
    pub fn before_event(&self, id: &EventId) -> BTreeSet<OwnedEventId> {
        let (mut before, mut todo) = (BTreeSet::new(), vec![id.to_owned()]);
        while let Some(id) = todo.pop() {
            let Some(pdu) = self.events.get(&id) else { continue };
            todo.extend(pdu.prev_events().iter().filter(|prev| before.insert((*prev).clone())).cloned());
        }
        before
    }

    /// Ends of the other copy that this one has and does not take for ends, although neither has soft-failed what makes the difference:
    /// the event itself here, or there what follows it here. What is soft-failed is no end and ends nothing, until something follows it
    /// that is not. `history` is what was before one of the two was invited: what came to him of it later is an end for him until he speaks,
    /// because he has nothing that followed it.
    #[must_use]
    pub fn unexplained_ends(&self, other: &Self, history: &BTreeSet<OwnedEventId>) -> usize {
        let fails = |room: &Self, id: &EventId| room.events.get(id).is_some_and(|pdu| pdu.flags().soft_failed);
        let followed_here = |id: &OwnedEventId| {
            let mut accepted = self.events.values().filter(|pdu| !pdu.flags().rejected && !pdu.flags().soft_failed);
            accepted.any(|pdu| pdu.prev_events().contains(id) && fails(other, pdu.event_id()))
        };
        let ends = other.extremities.difference(&self.extremities);
        ends.filter(|id| !history.contains(*id) && !fails(self, id) && !followed_here(id)).count()
    }

    /// What must be the same on every node, its ends where the difference is not explained by soft failures.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let current = self.current.map(|group| self.states[at(group)].clone()).unwrap_or_default();
        Outcome {
            events: self.after.keys().cloned().collect(),
            extremities: self.extremities.clone(),
            current: current.iter().map(|(key, id)| (key.clone(), id.clone())).collect(),
            rejected: self.events.values().filter(|pdu| pdu.flags().rejected).map(|pdu| pdu.owned_event_id()).collect(),
        }
    }
}

/// What does not depend on the order of arrival. Soft failures do: they are about the current state at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Everything with a place in the DAG.
    pub events: BTreeSet<OwnedEventId>,
    /// What nothing follows.
    pub extremities: BTreeSet<OwnedEventId>,
    /// The resolved state.
    pub current: BTreeMap<(StateEventType, String), OwnedEventId>,
    /// What the auth rules refuse.
    pub rejected: BTreeSet<OwnedEventId>,
}

impl Outcome {
    /// Without these events, but for the state.
    #[must_use]
    pub fn without(mut self, history: &BTreeSet<OwnedEventId>) -> Self {
        self.events.retain(|id| !history.contains(id));
        self.rejected.retain(|id| !history.contains(id));
        self
    }

    /// What is in one and not in the other, in words: `+` what is only here, `-` what is only there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let entries = |of: &Self| of.current.iter().map(|((kind, key), id)| format!("{kind} {key} {id}")).collect();
        let ids = |of: &BTreeSet<OwnedEventId>| of.iter().map(ToString::to_string).collect();
        let parts = [
            ("events", ids(&self.events), ids(&other.events)),
            ("extremities", ids(&self.extremities), ids(&other.extremities)),
            ("state", entries(self), entries(other)),
            ("rejected", ids(&self.rejected), ids(&other.rejected)),
        ];
        let part = |(name, here, there): (&str, BTreeSet<String>, BTreeSet<String>)| {
            let more = here.difference(&there).map(|what| format!(" +{what}"));
            let less = there.difference(&here).map(|what| format!(" -{what}"));
            let all: String = more.chain(less).collect();
            (!all.is_empty()).then(|| format!("{name}{all}"))
        };
        parts.into_iter().filter_map(part).collect::<Vec<_>>().join("; ")
    }
}

impl RoomReader for Room {
    fn pdu(&self, id: &EventId) -> Result<Option<Arc<Pdu>>, ReadError> {
        Ok(self.events.get(id).cloned())
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateGroup>, ReadError> {
        Ok(self.after.get(id).copied())
    }

    fn state_entry(
        &self,
        group: StateGroup,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<OwnedEventId>, ReadError> {
        Ok(self.states[at(group)].get(&(kind.clone(), key.to_owned())).cloned())
    }

    fn state(&self, group: StateGroup) -> Result<Arc<StateMap>, ReadError> {
        Ok(self.states[at(group)].clone())
    }

    fn current_state(&self) -> Result<Option<StateGroup>, ReadError> {
        Ok(self.current)
    }

    fn extremities(&self) -> Result<Vec<OwnedEventId>, ReadError> {
        Ok(self.extremities.iter().cloned().collect())
    }

    fn has_successors(&self, id: &EventId) -> Result<bool, ReadError> {
        Ok(self.followed.contains(id))
    }
}

fn at(group: StateGroup) -> usize {
    usize::try_from(group.0).expect("groups are counted in memory")
}
