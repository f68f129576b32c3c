//! Entering a room by what came with an invite, and what a second member says of it, as `memberships/snapshot` and `inbox/confirm` of the
//! node do. A liar can leave something out or tell an old state, and the second member puts it right.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use millpond_matrix::{
    CheckedPdu, Pdu, PduFlags, RoomRules, StateMap, Verdict,
    decide::{Given, decide},
    join::{RoomAnswer, accept_state},
    resettle::{merged, resettle},
    state::{StateSet, resolve},
};
use ruma::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

use super::Room;
use crate::sim::{checks::Checks, random::SimRng};

/// What goes with an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The number of the room, for who enters it.
    pub room: usize,
    /// The invite.
    pub invite: String,
    /// The state before it.
    pub state: Vec<String>,
    /// The auth chain of that.
    pub auth_chain: Vec<String>,
}

/// A room that was entered by one member's word.
#[derive(Clone)]
pub struct Unconfirmed {
    invite: OwnedEventId,
    told: Arc<StateMap>,
}

impl Room {
    /// The room as it is told with an invite that is not written yet. A liar leaves some of it out.
    #[must_use]
    pub fn snapshot(&self, room: usize, invite: &CheckedPdu, liar: Option<&mut SimRng>) -> Snapshot {
        let mut state = self.current_map();
        if let Some(rng) = liar {
            let harmless = ["m.room.topic", "m.room.name", "org.example.slot"];
            state.retain(|(kind, _), _| !harmless.contains(&kind.to_string().as_str()) || rng.chance(400));
        }
        let mut ids: Vec<&OwnedEventId> = state.values().collect();
        ids.sort_unstable();
        let json = |id: &OwnedEventId| self.json(id).unwrap_or_default().to_owned();
        let texts = ids.iter().map(|id| json(id)).collect();
        let chain = self.auth_chain(ids.into_iter().cloned().chain(invite.auth_events().iter().cloned()).collect());
        Snapshot { room, invite: invite.json().to_owned(), state: texts, auth_chain: chain.iter().map(json).collect() }
    }

    fn auth_chain(&self, mut todo: Vec<OwnedEventId>) -> BTreeSet<OwnedEventId> {
        let mut chain = BTreeSet::new();
        while let Some(id) = todo.pop() {
            let Some(pdu) = self.events.get(&id) else { continue };
            if chain.insert(id) {
                todo.extend(pdu.auth_events().iter().cloned());
            }
        }
        chain
    }

    /// Enters a room by its description, if all of it holds.
    #[must_use]
    pub fn enter(snapshot: &Snapshot, rules: &'static RoomRules, checks: &mut Checks) -> Option<Self> {
        let invite = checks.check(&snapshot.invite)?;
        let all = |texts: &[String], checks: &mut Checks| texts.iter().filter_map(|text| checks.check(text)).collect();
        let (state, auth_chain) = (all(&snapshot.state, checks), all(&snapshot.auth_chain, checks));
        let accepted = accept_state(rules, invite.room_id(), RoomAnswer { state, auth_chain }, |_| None).ok()?;
        let mut room = Self::new(rules, invite.room_id().to_owned());
        room.events.extend(accepted.outliers.into_iter().map(|pdu| (pdu.owned_event_id(), pdu)));
        let told = Arc::new(accepted.state);
        let given = Given { state_before: Some(told.clone()), entering: true, ..Given::default() };
        let verdict = decide(&invite, &room, rules, &given).ok()?;
        if !matches!(verdict, Verdict::Append(_)) {
            return None;
        }
        room.apply(&invite, &verdict);
        room.entered = Some(invite.owned_event_id());
        room.unconfirmed = Some(Unconfirmed { invite: invite.owned_event_id(), told });
        Some(room)
    }

    /// Takes another member's word for the state before the invite; `others` has what is named and not here. Says whether the room
    /// stands now as both say.
    ///
    /// # Panics
    /// If a room that both hold whole cannot be resolved.
    pub fn confirm(&mut self, other: &Self) -> bool {
        let Some(Unconfirmed { invite, told }) = self.unconfirmed.clone() else { return true };
        let Some(theirs) = other.before(&invite) else { return false };
        if theirs != *told {
            for id in other.auth_chain(theirs.values().cloned().collect()) {
                if let Some(pdu) = other.events.get(&id) {
                    self.events.entry(id).or_insert_with(|| outlier(pdu));
                }
            }
            let sets = vec![StateSet::Map(told), StateSet::Map(Arc::new(theirs))];
            let resolved = resolve(self, self.rules, sets, None).expect("both states are whole").state;
            self.settle(&invite, resolved);
        }
        self.unconfirmed = None;
        true
    }

    /// Whether only one member has told it so far.
    #[must_use]
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// The state before an event that set an entry anew.
    fn before(&self, id: &EventId) -> Option<StateMap> {
        let mut state = StateMap::clone(&self.states[super::at(*self.after.get(id)?)]);
        let key = self.events.get(id)?.state_entry()?;
        state.remove(&key);
        Some(state)
    }

    /// Works out anew what followed the invite.
    fn settle(&mut self, invite: &EventId, before: Arc<StateMap>) {
        let from = self.timeline.iter().position(|id| id == invite).unwrap_or(0);
        let events: Vec<Arc<Pdu>> = self.timeline[from..].iter().map(|id| self.events[id].clone()).collect();
        let states: HashMap<OwnedEventId, Arc<StateMap>> =
            resettle(self, self.rules, &events, before).expect("a whole room");
        let ends: Vec<OwnedEventId> = self.extremities.iter().cloned().collect();
        let current = merged(self, self.rules, &states, &ends).expect("a whole room");
        for pdu in events {
            if let Some(state) = states.get(pdu.event_id()) {
                let group = self.new_group(state.clone());
                self.after.insert(pdu.owned_event_id(), group);
            }
        }
        self.current = Some(self.new_group(current));
    }

    fn current_map(&self) -> StateMap {
        self.current.map(|group| StateMap::clone(&self.states[super::at(group)])).unwrap_or_default()
    }
}

/// As it is stored by who knows it by a description only.
fn outlier(pdu: &Arc<Pdu>) -> Arc<Pdu> {
    let flags = PduFlags { rejected: pdu.flags().rejected, soft_failed: false };
    if pdu.flags() == flags { pdu.clone() } else { Arc::new(Pdu::clone(pdu).with_flags(flags)) }
}
